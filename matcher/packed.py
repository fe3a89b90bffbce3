"""Arrays and a header in one file: what was measured or learned, and ships with the package."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def packed(header: Mapping[str, object], **arrays: Any) -> bytes:
    """Serialise a header and arrays; `unpacked` gives both back."""
    file = io.BytesIO()
    np.savez_compressed(file, header=np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8), **arrays)
    return file.getvalue()


def unpacked(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read what `packed` wrote; of damaged bytes numpy's reader raises whatever its parsers do."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = dict(file)
    header: dict[str, Any] = json.loads(arrays.pop("header").tobytes())
    return header, arrays

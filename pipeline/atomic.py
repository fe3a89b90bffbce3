"""Small files that are either as they were or as they are to be, whatever kills the process."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write a file beside the wanted one, readable by its owner alone, and put it in its place.

    Raises:
        OSError: the folder cannot be written to.

    """
    growing = path.with_name(f".{path.name}.partial")
    with os.fdopen(os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    growing.replace(path)

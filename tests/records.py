"""Records of the audio topic for tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.messages.hushword_pb2 import PCM_S16LE, AudioChunk

EPOCH_US = 1_800_000_000_000_000
RATE_HZ = 16_000


def noise(seed: int, samples: int) -> npt.NDArray[np.int16]:
    """White noise, int16 (samples,)."""
    return np.random.default_rng(seed).normal(0, 3000, samples).astype(np.int16)


def record(**fields: Any) -> AudioChunk:
    """Give a good record of 100 ms at 16 kHz; `fields` replace some of it."""
    good: dict[str, Any] = {
        "request_id": "request-1",
        "household_id": "household-1",
        "device_id": "device-1",
        "wake_word": "alexa",
        "locale": "en-US",
        "seq": 0,
        "sample_rate_hz": RATE_HZ,
        "encoding": PCM_S16LE,
        "audio": noise(0, RATE_HZ // 10).tobytes(),
        "capture_time_us": EPOCH_US,
        "final": False,
    }
    return AudioChunk(**{**good, **fields})


@dataclass(frozen=True)
class Piece:
    """One chunk on its way: what is sent, and the capture times of its ends."""

    request_id: str
    seq: int
    start_us: int
    end_us: int
    value: bytes


def pieces(
    request_id: str,
    start_us: int,
    lengths_ms: Sequence[int],
    *,
    samples: npt.NDArray[np.int16] | None = None,
    rate_hz: int = RATE_HZ,
    **fields: Any,
) -> list[Piece]:
    """Cut a request of a device of its own into chunks; its audio is noise of its own unless given."""
    total = sum(lengths_ms) * rate_hz // 1000
    if samples is None:
        samples = noise(int.from_bytes(request_id.encode(), "little") % 2**32, total)
    own = {"household_id": f"home of {request_id}", "device_id": f"device of {request_id}", **fields}
    cut, first = [], 0
    for seq, length_ms in enumerate(lengths_ms):
        last = first + length_ms * rate_hz // 1000
        at_us = start_us + first * 1_000_000 // rate_hz
        message = record(
            request_id=request_id,
            seq=seq,
            sample_rate_hz=rate_hz,
            audio=samples[first:last].tobytes(),
            capture_time_us=at_us,
            final=seq == len(lengths_ms) - 1,
            **own,
        )
        end_us = at_us + (last - first) * 1_000_000 // rate_hz
        cut.append(Piece(request_id, seq, at_us, end_us, message.SerializeToString()))
        first = last
    return cut

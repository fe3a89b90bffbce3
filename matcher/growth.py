"""What a route hears of a request."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matcher.known import KnownMatch


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """A request's fingerprint at one of its looks.

    Attributes:
        request_id: the request.
        household: counted once, however many devices.
        device: the one that listens.
        start_us: capture time of the request's first sample.
        end_us: capture time of the last sample heard.
        words: uint64 (n,), all words so far.
        level_range_db: how far its loud frames stand above its quiet ones so far, as `Fingerprint` has it.
        audio_ms: audio of the request that had arrived.
        appended_us: broker's append time of the chunk that brought it to this look.
        leaning: what known media it agrees with, if not enough to be recognised.
        known: what the request was recognised as: then nothing more of it comes.

    """

    request_id: str
    household: str
    device: str
    start_us: int
    end_us: int
    words: npt.NDArray[np.uint64]
    level_range_db: float
    audio_ms: int
    appended_us: int
    known: KnownMatch | None = None
    leaning: KnownMatch | None = None

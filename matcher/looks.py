"""Whole requests as they are at each of their looks: what a null is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matcher.bits import Bits, frame_count, word_count
from matcher.fingerprint import FIRST_LOOK_MS, FULL_MS, LOOK_MS, Fingerprint
from matcher.grid import SAMPLE_RATE_HZ


@dataclass(frozen=True, eq=False)
class Looks:
    """Fingerprints of R full requests at each of their L looks.

    Attributes:
        words: uint64 (L, R, width), of which look l fills `look_words`[l].
        ranges_db: float32 (L, R), the range of their levels by then.

    """

    words: npt.NDArray[np.uint64]
    ranges_db: npt.NDArray[np.float32]

    @staticmethod
    def of_all(each: "Sequence[Looks]") -> "Looks":
        """Give the looks of all of several."""
        return Looks(
            np.concatenate([one.words for one in each], axis=1), np.concatenate([one.ranges_db for one in each], axis=1)
        )

    @property
    def full(self) -> npt.NDArray[np.uint64]:
        """The fingerprints at their last look, uint64 (R, width)."""
        full: npt.NDArray[np.uint64] = self.words[-1]
        return full


def look_words(bits: Bits) -> list[int]:
    """Words that a request has at each of its looks."""
    return [word_count(frame_count(ms), bits) for ms in range(FIRST_LOOK_MS, FULL_MS + 1, LOOK_MS)]


def every_look(samples: npt.NDArray[np.int16] | npt.NDArray[np.float32], request_id: str, bits: Bits) -> Looks | None:
    """One request at each of its looks.

    Args:
        samples: (n,) at 16 kHz.
        request_id: the request's.
        bits: the kind of bits.

    Returns:
        The looks of this one; None when the request ends before its last look.

    """
    lengths = look_words(bits)
    out = Looks(np.zeros((len(lengths), 1, lengths[-1]), np.uint64), np.zeros((len(lengths), 1), np.float32))
    fingerprint, at = Fingerprint(request_id, bits), 0
    for look, n in enumerate(lengths):
        end = (FIRST_LOOK_MS + look * LOOK_MS) * SAMPLE_RATE_HZ // 1000
        words = fingerprint.grow(samples[at:end])
        if words is None:
            return None
        out.words[look, 0, :n], out.ranges_db[look], at = words, fingerprint.level_range_db, end
    return out

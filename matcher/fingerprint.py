"""One request's fingerprint, growing while its audio streams in."""

import hashlib

import numpy as np
import numpy.typing as npt

from matcher.bits import Bits, frame_count
from matcher.grid import BANDS, HOP_MS, SAMPLE_RATE_HZ, FilterBank

# At the first look some of the clearest cases are sure already. What follows the last is silence after the command,
# which only dilutes a match.
FIRST_LOOK_MS = 720
LOOK_MS = 80
FULL_MS = 2160
# No kind of bits gives more words than one a word's time.
MAX_WORDS = FULL_MS // (2 * HOP_MS)


def look_due_ms(audio_ms: int) -> int:
    """Give the look that so much audio suffices for: a multiple of LOOK_MS up to FULL_MS, 0 before the first."""
    due_ms = min(audio_ms, FULL_MS) // LOOK_MS * LOOK_MS
    return due_ms if due_ms >= FIRST_LOOK_MS else 0


def seed_of(request_id: str) -> int:
    """Give the number that a request's dither and its draws of partners begin with: no two requests share theirs."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "little")


class Fingerprint:
    """Keeps the energies of up to FULL_MS of audio, and gives all words so far whenever a look is due.

    Looks at the same audio give the same words, whatever the sizes of the chunks that brought it.
    """

    def __init__(self, request_id: str, bits: Bits) -> None:
        """`request_id` seeds the dither."""
        self._bank = FilterBank(seed_of(request_id))
        self._bits = bits
        self._energies = np.empty((frame_count(FULL_MS), BANDS), np.float32)
        self._frames = 0
        self._words = np.empty(0, np.uint64)
        self._samples = 0
        self._looked_ms = 0

    def grow(self, samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]) -> npt.NDArray[np.uint64] | None:
        """Take the next samples.

        Args:
            samples: (n,) at 16 kHz, int16 or float32 on the int16 scale.

        Returns:
            uint64 (n,), all words so far, when these samples bring the request to its next look; None otherwise.

        """
        if self.full:
            return None
        new = self._bank.push(samples)[: len(self._energies) - self._frames]
        self._energies[self._frames : self._frames + len(new)] = new
        self._frames += len(new)
        self._samples += len(samples)
        due_ms = look_due_ms(self._samples * 1000 // SAMPLE_RATE_HZ)
        if due_ms <= self._looked_ms:
            return None
        self._looked_ms = due_ms
        self._words = np.concatenate((self._words, self._bits.words(self._energies[: self._frames], len(self._words))))
        return self._words

    @property
    def full(self) -> bool:
        """Whether more audio would add nothing."""
        return self._looked_ms == FULL_MS


def whole_fingerprint(
    samples: npt.NDArray[np.int16] | npt.NDArray[np.float32], request_id: str, bits: Bits
) -> npt.NDArray[np.uint64]:
    """All words of a request, up to FULL_MS: (n,) at 16 kHz to uint64 (words,), none before the first look."""
    words = Fingerprint(request_id, bits).grow(samples)
    return np.empty(0, np.uint64) if words is None else words

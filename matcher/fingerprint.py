"""One request's fingerprint, growing while its audio streams in."""

import hashlib

import numpy as np
import numpy.typing as npt

from matcher.bits import GRADIENT, Bits
from matcher.grid import BANDS, FilterBank

# 2.2 s of audio: the wake word and the command. What follows is silence, which only dilutes a match.
MAX_WORDS = 206


class Fingerprint:
    """Grows by whole words; keeps no audio but the last unfinished frame.

    Whatever the sizes of the chunks, the words are those of the whole audio at once.
    """

    def __init__(self, request_id: str, bits: Bits = GRADIENT) -> None:
        """`request_id` seeds the dither, so that no two requests share theirs."""
        digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
        self._bank = FilterBank(int.from_bytes(digest, "little"))
        self._bits = bits
        self._recent = np.empty((0, BANDS), np.float32)
        self.words = 0

    def grow(self, samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
        """Take the next samples and give the words that they complete, until the fingerprint is full.

        Args:
            samples: (n,) at 16 kHz, int16 or float32 on the int16 scale.

        Returns:
            uint32 (new words,); never more than MAX_WORDS over the whole request.

        """
        if self.full:
            return np.empty(0, np.uint32)
        energies = np.concatenate((self._recent, self._bank.push(samples)))
        new = self._bits.words(energies)[: MAX_WORDS - self.words]
        self._recent = energies[max(0, len(energies) - self._bits.frames_per_word + 1) :].copy()
        self.words += len(new)
        return new

    @property
    def full(self) -> bool:
        """Whether more audio would add nothing."""
        return self.words >= MAX_WORDS

"""Log energies to sub-fingerprints: one word of bits a hop.

A kind of bits is an object with the attributes of `GradientBits`; others (learned filters) take their place beside
it, and a fingerprint is only ever compared with one of its own kind.
"""

from typing import Protocol

import numba as nb
import numpy as np
import numpy.typing as npt

from matcher.grid import BANDS, HOP_MS, WINDOW_MS

BITS_PER_WORD = 32


@nb.njit(nb.void(nb.types.Array(nb.float32, 2, "C", readonly=True), nb.int64, nb.uint32[::1]), cache=True, nogil=True)
def gradient_words(energies: npt.NDArray[np.float32], span: int, out: npt.NDArray[np.uint32]) -> None:
    """Compare each frame's slopes over frequency with those `span` frames later.

    Args:
        energies: float32 (words + span, 33).
        span: frames between the two.
        out: uint32 (words,), overwritten.

    """
    for n in range(len(out)):
        word = np.uint32(0)
        for band in range(BITS_PER_WORD):
            later = energies[n + span, band] - energies[n + span, band + 1]
            word |= np.uint32(later > energies[n, band] - energies[n, band + 1]) << np.uint32(band)
        out[n] = word


class Bits(Protocol):
    """What turns energies into words of bits."""

    name: str
    frames_per_word: int

    def words(self, energies: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
        """Words of every run of `frames_per_word` frames: float32 (frames, BANDS) to uint32 (words,)."""
        ...


class GradientBits:
    """The sign of the energy's gradient over frequency and time (Haitsma & Kalker 2002), over 80 ms of time.

    Over one hop the gradient is decided by the room; over 80 ms by the sound.
    """

    name = "gradient32"
    span_frames = 8
    frames_per_word = span_frames + 1

    def words(self, energies: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
        """Bit b of word n is E(n+8, b) - E(n+8, b+1) > E(n, b) - E(n, b+1).

        Args:
            energies: float32 (frames, BANDS).

        Returns:
            uint32 (max(0, frames - 8),), bit b in the b-th lowest place.

        """
        words = np.empty(max(0, len(energies) - self.span_frames), np.uint32)
        gradient_words(energies, self.span_frames, words)
        return words


GRADIENT = GradientBits()
assert BANDS - 1 == BITS_PER_WORD


def audio_ms(words: int, bits: Bits = GRADIENT) -> int:
    """Milliseconds of audio that `words` words take, from the request's first sample."""
    return (words + bits.frames_per_word - 2) * HOP_MS + WINDOW_MS if words > 0 else 0

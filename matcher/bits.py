"""Log energies to sub-fingerprints: a word of 64 bits every 20 ms.

A kind of bits is an object with the attributes of `Bits`; a fingerprint is only ever compared with one of its own kind.
"""

import functools
import hashlib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numba as nb
import numpy as np
import numpy.typing as npt

from matcher.grid import BANDS, HOP_MS, WINDOW_MS
from matcher.packed import packed, unpacked

BITS_PER_WORD = 64
HOPS_PER_WORD = 2
WORD_MS = HOPS_PER_WORD * HOP_MS

_energies_in = nb.types.Array(nb.float32, 2, "C", readonly=True)


class BitsError(ValueError):
    """Bits that nobody has, or a file of filters that cannot be used."""


class Bits(Protocol):
    """What turns energies into words of bits."""

    @property
    def name(self) -> str:
        """Stands in calibrations and in entries of the catalogue."""
        ...

    @property
    def frames_per_word(self) -> int:
        """Frames that one word is made of."""
        ...

    @property
    def frames_before(self) -> int:
        """Frames before its own that a word looks at."""
        ...

    def words(self, energies: npt.NDArray[np.float32], start: int = 0) -> npt.NDArray[np.uint64]:
        """Words from the start-th on: float32 (frames, BANDS) to uint64 (word_count(frames, bits) - start,)."""
        ...

    def marked_words(
        self, energies: npt.NDArray[np.float32], start: int, clear: float
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Words from the start-th on, and which of their bits are clear: those that are not nearly the other."""
        ...


def word_count(frames: int, bits: Bits) -> int:
    """Words that so many frames give."""
    return max(0, (frames - bits.frames_per_word) // HOPS_PER_WORD + 1)


def frame_count(audio_ms: int) -> int:
    """Whole frames in so many milliseconds of audio."""
    return max(0, (audio_ms - WINDOW_MS) // HOP_MS + 1)


@nb.njit(nb.void(_energies_in, nb.int64, nb.int64, nb.uint64[::1]), cache=True, nogil=True)
def gradient_words(energies: npt.NDArray[np.float32], span: int, start: int, out: npt.NDArray[np.uint64]) -> None:
    """Compare each frame's slopes over frequency with those `span` frames later.

    Args:
        energies: float32 (frames, 33), frames >= 2 * (start + words) + span.
        span: frames between the two.
        start: the first word wanted.
        out: uint64 (words,), overwritten: two hops a word, the earlier one in the low half.

    """
    for n in range(len(out)):
        word = np.uint64(0)
        for half in range(2):
            at = 2 * (start + n) + half
            for band in range(32):
                later = energies[at + span, band] - energies[at + span, band + 1]
                bit = np.uint64(later > energies[at, band] - energies[at, band + 1])
                word |= bit << np.uint64(32 * half + band)
        out[n] = word


@dataclass(frozen=True)
class GradientBits:
    """The sign of the energy's gradient over frequency and time (Haitsma & Kalker 2002), over 80 ms of time.

    Over one hop the gradient is decided by the room; over 80 ms by the sound.
    """

    name: str = "gradient64"
    span_frames: int = 8

    @property
    def frames_per_word(self) -> int:
        """Two hops, and the span of the second."""
        return self.span_frames + HOPS_PER_WORD

    @property
    def frames_before(self) -> int:
        """None."""
        return 0

    def words(self, energies: npt.NDArray[np.float32], start: int = 0) -> npt.NDArray[np.uint64]:
        """Bit 32 h + b of word n is E(k+8, b) - E(k+8, b+1) > E(k, b) - E(k, b+1), where k = 2 n + h.

        Args:
            energies: float32 (frames, BANDS).
            start: the first word wanted.

        Returns:
            uint64 (word_count(frames) - start,).

        """
        words = np.empty(max(0, word_count(len(energies), self) - start), np.uint64)
        gradient_words(np.ascontiguousarray(energies), self.span_frames, start, words)
        return words

    def marked_words(
        self,
        energies: npt.NDArray[np.float32],
        start: int,
        clear: float,  # noqa: ARG002
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Words from the start-th on, uint64 (n,), and all of their bits, uint64 (n,): float32 (frames, BANDS) in."""
        words = self.words(energies, start)
        return words, np.full(len(words), ~np.uint64(0))


@nb.njit(
    nb.void(_energies_in, nb.types.Array(nb.float32, 3, "C", readonly=True), nb.types.Array(nb.float32, 1, "C",
            readonly=True), nb.int64, nb.int64, nb.float32, nb.float32, nb.int64, nb.uint64[::1], nb.uint64[::1]),
    cache=True,
    nogil=True,
)  # fmt: skip
def filtered_words(
    powers: npt.NDArray[np.float32],
    filters: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.float32],
    tap_frames: int,
    mean_frames: int,
    exponent: float,
    clear: float,
    start: int,
    out: npt.NDArray[np.uint64],
    out_clear: npt.NDArray[np.uint64],
) -> None:
    """Signs of 64 filters, in one fixed order of summation, so that a word never depends on its batch.

    Args:
        powers: float32 (frames, BANDS), band energies.
        filters: float32 (taps, BANDS, 64).
        offsets: float32 (64,), what a response must exceed for a 1.
        tap_frames: frames between two taps.
        mean_frames: frames, up to a word's last or from the first on, whose mean is the measure of its loudness.
        exponent: of the loudness.
        clear: how far from its offset the response of a clear bit is.
        start: the first word wanted.
        out: uint64 (words,), overwritten: filter b in bit b.
        out_clear: uint64 (words,), overwritten: which bits are clear.

    """
    taps, bands, count = filters.shape
    scale = np.empty(bands, np.float32)
    response = np.empty(count, np.float32)
    for n in range(len(out)):
        first = 2 * (start + n)
        end = max(first + (taps - 1) * tap_frames + 1, mean_frames)
        scale[:] = 0
        for frame in range(end - mean_frames, end):
            for band in range(bands):
                scale[band] += powers[frame, band]
        for band in range(bands):
            scale[band] = np.float32(mean_frames) / scale[band]
        response[:] = 0
        for tap in range(taps):
            for band in range(bands):
                loudness = (powers[first + tap * tap_frames, band] * scale[band]) ** exponent
                weights = filters[tap, band]
                for b in range(count):
                    response[b] += loudness * weights[b]
        word = certain = np.uint64(0)
        for b in range(count):
            over = response[b] - offsets[b]
            word |= np.uint64(over > 0) << np.uint64(b)
            certain |= np.uint64(abs(over) > clear) << np.uint64(b)
        out[n] = word
        out_clear[n] = certain


@dataclass(frozen=True, eq=False)
class LearnedBits:
    """Signs of filters that were learned to agree between homes which hear the same recording.

    The input is loudness, (E / mean)^exponent, relative to the band's mean over the last third of a second: a home's
    level and colour cancel, loud moments count more than in a logarithm, and silence gives every home bits of its own.
    `matcher.learn` finds the filters by canonical correlation.

    Attributes:
        name: of this set of filters.
        filters: float32 (taps, BANDS, 64).
        offsets: float32 (64,), the filters' responses to average loudness.
        tap_frames: frames between two taps.
        mean_frames: frames of the mean: those up to a word's last, or the first ones for a word that ends earlier.
        exponent: of the loudness.
        provenance: what they were learned from.

    """

    name: str
    filters: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.float32]
    tap_frames: int
    mean_frames: int
    exponent: float
    provenance: Mapping[str, object]

    def __post_init__(self) -> None:
        """Refuse what would give no bits.

        Raises:
            BitsError: shapes that do not fit each other, or what is no number.

        """
        taps, bands, count = self.filters.shape if self.filters.ndim == 3 else (0, 0, 0)
        if not taps or (bands, count) != (BANDS, BITS_PER_WORD) or self.offsets.shape != (BITS_PER_WORD,):
            raise BitsError(f"filters of shape {self.filters.shape} and offsets of shape {self.offsets.shape}")
        if not (np.isfinite(self.filters).all() and np.isfinite(self.offsets).all()):
            raise BitsError("filters must be numbers")
        if self.tap_frames < 1 or self.mean_frames < 1 or not 0 < self.exponent <= 1:
            raise BitsError(
                f"taps every {self.tap_frames} frames of (loudness over {self.mean_frames} frames)^{self.exponent:g}"
            )

    @property
    def digest(self) -> str:
        """Tells these filters from all others, whatever their name is."""
        shape = f"{self.filters.shape} {self.tap_frames} {self.mean_frames} {self.exponent!r}".encode()
        weights = self.filters.tobytes() + self.offsets.tobytes()
        return hashlib.blake2b(shape + weights, digest_size=8).hexdigest()

    @property
    def frames_per_word(self) -> int:
        """Frames from the first tap to the last."""
        return (len(self.filters) - 1) * self.tap_frames + 1

    @property
    def frames_before(self) -> int:
        """Frames of the mean that lie before the first tap."""
        return max(0, self.mean_frames - self.frames_per_word)

    def words(self, energies: npt.NDArray[np.float32], start: int = 0) -> npt.NDArray[np.uint64]:
        """Bit b of word n is the sign of filter b over the frames from 2 n on.

        Args:
            energies: float32 (frames, BANDS), natural logarithms.
            start: the first word wanted.

        Returns:
            uint64 (word_count(frames) - start,); none while there are fewer than `mean_frames` frames.

        """
        return self.marked_words(energies, start, 0.0)[0]

    def marked_words(
        self, energies: npt.NDArray[np.float32], start: int, clear: float
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Words from the start-th on, and which of their bits are clear.

        Args:
            energies: float32 (frames, BANDS), natural logarithms.
            start: the first word wanted.
            clear: how far from its offset the response of a clear bit is; a response has a standard deviation of 1.2.

        Returns:
            Words and clear bits, uint64 (n,) both, as `words` gives them.

        """
        count = word_count(len(energies), self) if len(energies) >= self.mean_frames else 0
        words, certain = np.empty((2, max(0, count - start)), np.uint64)
        if len(words):
            filtered_words(
                np.exp(energies), self.filters, self.offsets, self.tap_frames, self.mean_frames, self.exponent,
                clear, start, words, certain,
            )  # fmt: skip
        return words, certain

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` gives it back."""
        header = {
            "name": self.name,
            "tap_frames": self.tap_frames,
            "mean_frames": self.mean_frames,
            "exponent": self.exponent,
            "provenance": dict(self.provenance),
        }
        return packed(header, filters=self.filters, offsets=self.offsets)

    @classmethod
    def from_bytes(cls, data: bytes) -> "LearnedBits":
        """Read what `to_bytes` wrote.

        Raises:
            BitsError: it is damaged or incomplete.

        """
        try:
            header, arrays = unpacked(data)
            return cls(
                name=str(header["name"]),
                filters=np.ascontiguousarray(arrays["filters"], np.float32),
                offsets=np.ascontiguousarray(arrays["offsets"], np.float32),
                tap_frames=int(header["tap_frames"]),
                mean_frames=int(header["mean_frames"]),
                exponent=float(header["exponent"]),
                provenance=header["provenance"],
            )
        except Exception as error:  # see `unpacked`
            raise BitsError(f"not a file of filters: {error}") from error


GRADIENT = GradientBits()
assert 2 * (BANDS - 1) == BITS_PER_WORD


@functools.cache
def bits_named(name: str) -> Bits:
    """Give the bits of this name, from the files that ship with the package where they are learned.

    Raises:
        BitsError: there are none.

    """
    if name == GRADIENT.name:
        return GRADIENT
    file = importlib.resources.files("matcher") / "filters" / f"{name}.npz"
    if not file.is_file():
        raise BitsError(f"no bits are called {name!r}")
    bits = LearnedBits.from_bytes(file.read_bytes())
    if bits.name != name:
        raise BitsError(f"the file of {name!r} holds {bits.name!r}")
    return bits

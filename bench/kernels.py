"""The library's two hot loops beside plain numpy and scipy that do the same."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from bench.sounds import babble
from matcher.bits import BITS_PER_WORD, GRADIENT, HOPS_PER_WORD, bits_named, frame_count
from matcher.evidence import ALIGNMENTS, MIN_WORDS
from matcher.fingerprint import FULL_MS, MAX_WORDS, Fingerprint
from matcher.grid import BANDS, HOP, SAMPLE_RATE_HZ, WINDOW, band_weights
from matcher.kernels import one_against_many
from pipeline.recordings.departures import chunk

REQUEST_S = 2.3  # what fills a fingerprint, and a little more
REQUESTS = 64
ROWS = 1000
ROUNDS = 9

_U8 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Against:
    """What the library does in a second of one core, and what the baseline does; the best of alternating rounds."""

    ours: float
    baseline: float

    @property
    def ratio(self) -> float:
        """Times the baseline."""
        return self.ours / self.baseline


def fingerprint_speed(name: str, *, by_chunks: bool) -> Against:
    """Times real time of fingerprints of these bits, grown by chunks of 80-250 ms or at once.

    The baseline has them at once, and always gradient bits.
    """
    rng = np.random.default_rng(1)
    size = int(REQUEST_S * SAMPLE_RATE_HZ)
    sounds = babble(REQUESTS * REQUEST_S, rng)[: REQUESTS * size].reshape(REQUESTS, size).astype(np.int16)
    cut = [[sound] for sound in sounds]
    if by_chunks:
        cut = [[sound[p.first : p.last] for p in chunk(str(i), size, SAMPLE_RATE_HZ)] for i, sound in enumerate(sounds)]

    bits = bits_named(name)

    def ours() -> None:
        for index, parts in enumerate(cut):
            fingerprint = Fingerprint(str(index), bits)
            for part in parts:
                fingerprint.grow(part)

    weights = _dense_weights()

    def baseline() -> None:
        for sound in sounds:
            plain_fingerprint(sound, weights)

    return _race(ours, baseline, REQUESTS * FULL_MS / 1000)


def plain_fingerprint(samples: npt.NDArray[np.int16], weights: npt.NDArray[np.float32]) -> _U8:
    """Gradient bits of a whole request as a textbook has them: int16 (n,) to uint64 (words,), without dither."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), WINDOW)[::HOP]
    frames = frames[: frame_count(FULL_MS)]
    spectra: Any = scipy.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1)
    energies = np.log((spectra.real**2 + spectra.imag**2) @ weights.T + np.float32(1e-6))
    slope = energies[:, :-1] - energies[:, 1:]
    bits = slope[GRADIENT.span_frames :] > slope[: -GRADIENT.span_frames]
    pairs = bits[: len(bits) // HOPS_PER_WORD * HOPS_PER_WORD].reshape(-1, BITS_PER_WORD)
    words: _U8 = np.packbits(pairs, axis=1, bitorder="little").view(np.uint64)[:, 0]
    return words


def scan_speed() -> Against:
    """Million pairs a second, each at 21 alignments, of one full fingerprint against many."""
    rng = np.random.default_rng(2)
    many = rng.integers(0, 2**64, (ROWS, MAX_WORDS), dtype=np.uint64)
    query = rng.integers(0, 2**64, MAX_WORDS, dtype=np.uint64)
    lengths, rows = np.full(ROWS, MAX_WORDS, np.int32), np.arange(ROWS)
    rates, alignments, words = np.empty(ROWS, np.float32), *np.empty((2, ROWS), np.int32)

    def ours() -> None:
        one_against_many(query, many, lengths, rows, ALIGNMENTS, MIN_WORDS, rates, alignments, words)

    def baseline() -> None:
        plain_scan(query, many)

    return _race(ours, baseline, ROWS / 1e6)


def plain_scan(query: _U8, many: _U8) -> npt.NDArray[np.float32]:
    """Lowest bit error rate over the alignments, alignment by alignment: float32 (R,)."""
    n = len(query)
    best = np.ones(len(many), np.float32)
    for a in ALIGNMENTS:
        start, count = max(0, -int(a)), n - abs(int(a))
        differ = many[:, start + a : start + a + count] ^ query[start : start + count]
        errors = np.bitwise_count(differ).sum(axis=1, dtype=np.int32)
        best = np.minimum(best, errors.astype(np.float32) / np.float32(BITS_PER_WORD * count))
    return best


def _dense_weights() -> npt.NDArray[np.float32]:
    first, end, weights = band_weights()
    dense = np.zeros((BANDS, WINDOW // 2 + 1), np.float32)
    for band in range(BANDS):
        dense[band, first[band] : end[band]] = weights[band, : end[band] - first[band]]
    return dense


def _race(ours: Callable[[], None], baseline: Callable[[], None], amount: float) -> Against:
    """Run both in turn, so that whatever else the machine does hits both alike."""
    ours()  # compiles
    baseline()
    rounds = [(_timed(ours), _timed(baseline)) for _ in range(ROUNDS)]
    return Against(amount / min(first for first, _ in rounds), amount / min(second for _, second in rounds))


def _timed(work: Callable[[], None]) -> float:
    """CPU seconds of all threads: numpy's products use every core, and others may be busy on them."""
    began_s = time.process_time()
    work()
    return time.process_time() - began_s

"""Chooses and quantises a device's filters, and measures what its decisions take: `python -m bench.device_fit`.

Weights are rounded one after the other, and what each rounding does to a response is made up for by the weights that
are not rounded yet (Frantar et al. 2022, after LeCun's optimal brain surgeon): loudness in neighbouring bands and
frames goes together, so most of it can be. That halves the bits that plain rounding flips.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.optimize

from matcher.bits import LearnedBits
from matcher.device import (
    CUT,
    ENTRY_WORDS,
    FILTERS,
    FIRST_LOOK,
    LEAST_ENTRIES,
    LOOK_STEP,
    LOOKS,
    RATE_ONE,
)
from matcher.device_twin import lowest_rates
from matcher.evidence import Tail
from matcher.grid import BANDS, SAMPLE_RATE_HZ, WINDOW, band_weights
from matcher.null import NORMAL_1E5, PAIR_TAIL_SHARE, fit_tail

# Coefficients on one side of the decimator's middle one.
PAIRS = 24
# Below this the decimator is to leave everything alone; above it, it may fold what the bands' weights hardly show.
_KEPT_HZ = 3500.0
_LARGEST = 127


def triangles() -> npt.NDArray[np.float64]:
    """Weights of every FFT bin in every band: (BANDS, WINDOW // 2 + 1)."""
    first, end, weights = band_weights()
    table = np.zeros((BANDS, WINDOW // 2 + 1))
    for band in range(BANDS):
        table[band, first[band] : end[band]] = weights[band, : end[band] - first[band]]
    return table


def gain(half_band: npt.NDArray[np.float64], hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Amplitude of a half-band filter: float64 (pairs,) and (n,) to (n,)."""
    odd = 2 * np.arange(len(half_band)) + 1
    response: npt.NDArray[np.float64] = 0.5 + 2 * np.cos(2 * np.pi * np.outer(hz, odd) / SAMPLE_RATE_HZ) @ half_band
    return response


def design_half_band(pairs: int = PAIRS) -> npt.NDArray[np.float32]:
    """A decimator that folds as little power as can be into the bands, beside what they hold of their own.

    Returns:
        float32 (pairs,), of distances 1, 3, 5 ... from the middle coefficient, which is a half.

    """
    hz = np.arange(WINDOW // 4 + 1) * SAMPLE_RATE_HZ / WINDOW
    upper = triangles()[-2:, : len(hz)].sum(axis=0) * (hz >= _KEPT_HZ - 200)
    upper /= upper.sum()
    kept = hz < _KEPT_HZ

    def folded(half_band: npt.NDArray[np.float64]) -> float:
        own = gain(half_band, hz)
        ratio = ((1 - own) / own) ** 2  # a half-band filter's gain at 8 kHz - f is what is left at f
        return float((upper * ratio).sum() + 200 * (ratio * kept).mean())

    distance = 2 * np.arange(pairs) + 1
    windowed = np.sinc(distance / 2) / 2 * np.hamming(4 * pairs + 1)[2 * pairs + distance]
    found = scipy.optimize.minimize(folded, windowed, method="BFGS", options={"maxiter": 2000})
    return found.x.astype(np.float32)


def halved_energies(samples: npt.NDArray[np.float32], half_band: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log energies as a device computes them, at half the rate: float32 (n,), dithered, to (frames, BANDS)."""
    middle = 2 * len(half_band) - 1
    impulse = np.zeros(2 * middle + 1)
    impulse[middle] = 0.5
    impulse[middle + 1 :: 2], impulse[middle - 1 :: -2] = half_band, half_band
    halved = np.convolve(samples, impulse)[middle : middle + len(samples) : 2]
    count = max(0, (len(samples) - WINDOW - middle) // 160 + 1)
    window = np.hanning(WINDOW // 2 + 1)[:-1]
    frames = np.stack([halved[80 * f : 80 * f + WINDOW // 2] for f in range(count)]) * window
    hz = np.arange(WINDOW // 4 + 1) * SAMPLE_RATE_HZ / WINDOW
    power = 4 * np.abs(scipy.fft.rfft(frames, axis=1)) ** 2 / gain(half_band.astype(np.float64), hz) ** 2
    energies: npt.NDArray[np.float32] = np.log(power @ triangles()[:, : len(hz)].T + 1e-6).astype(np.float32)
    return energies


def stretches(energies: npt.NDArray[np.float32], bits: LearnedBits, step: int = 2) -> npt.NDArray[np.float32]:
    """What the filters of every `step`-th word see: float32 (frames, BANDS) to (words, taps * BANDS)."""
    powers = np.exp(energies.astype(np.float64))
    out = []
    for first in range(0, len(powers) - bits.frames_per_word + 1, 2 * step):
        end = max(first + bits.frames_per_word, bits.mean_frames)
        if end > len(powers):
            break
        mean = powers[end - bits.mean_frames : end].mean(axis=0)
        taps = powers[first : first + bits.frames_per_word : bits.tap_frames]
        out.append(((taps / mean) ** bits.exponent).ravel())
    return np.array(out, np.float32).reshape(len(out), -1)


@dataclass(frozen=True, eq=False)
class Quantised:
    """Filters in 8 bits: int8 (F, taps, BANDS), float32 scales (F, taps) and offsets (F,)."""

    weights: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.float32]

    def bits(self, seen: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Bits of stretches: float32 (words, taps * BANDS) to bool (words, F)."""
        filters = (self.weights * self.scales[..., None]).reshape(len(self.weights), -1)
        bits: npt.NDArray[np.bool_] = seen @ filters.T > self.offsets
        return bits

    def chosen(self, columns: npt.NDArray[np.int64]) -> "Quantised":
        """Give some of the filters."""
        return Quantised(self.weights[columns], self.scales[columns], self.offsets[columns])


def quantise(bits: LearnedBits, seen: npt.NDArray[np.float32]) -> Quantised:
    """Round all filters to 8 bits, each tap of each with a scale of its own.

    Args:
        bits: whose filters.
        seen: float32 (n, taps * BANDS), stretches of real traffic.

    """
    taps, bands, count = bits.filters.shape
    filters = bits.filters.reshape(taps * bands, count).astype(np.float64)
    scales = np.abs(bits.filters).max(axis=1) / _LARGEST  # (taps, filters)
    of_weight = np.repeat(scales, bands, axis=0)
    covariance = np.cov(seen.T.astype(np.float64))
    covariance += 1e-4 * np.mean(np.diag(covariance)) * np.eye(len(covariance))
    order = np.argsort(-np.diag(covariance))
    upper = np.linalg.cholesky(np.linalg.inv(covariance[np.ix_(order, order)])).T
    left, rounded = filters[order], np.zeros_like(filters)
    for i, weight in enumerate(order):
        rounded[weight] = np.clip(np.round(left[i] / of_weight[weight]), -_LARGEST, _LARGEST)
        error = (left[i] - rounded[weight] * of_weight[weight]) / upper[i, i]
        left[i + 1 :] -= np.outer(upper[i, i + 1 :], error)
    offsets = bits.offsets + seen.mean(axis=0) @ (rounded * of_weight - filters)
    return Quantised(
        np.ascontiguousarray(rounded.T.reshape(count, taps, bands), np.int8),
        np.ascontiguousarray(scales.T, np.float32),
        offsets.astype(np.float32),
    )


def most_faithful(flips: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Columns of the FILTERS filters whose bits flip least, rising: float64 (filters,) to int64 (FILTERS,)."""
    return np.sort(np.argsort(flips, kind="stable")[:FILTERS])


@dataclass(frozen=True, eq=False)
class Thresholds:
    """As `DeviceBits` keeps them."""

    caps: npt.NDArray[np.float64]
    deviations: npt.NDArray[np.float64]
    floor: npt.NDArray[np.float64]
    whole: Tail
    parts: Tail


# Words that a request has at each of its looks.
HEARD = [FIRST_LOOK + LOOK_STEP * look for look in range(LOOKS)]
# Over fewer words from CUT on nothing is decided; and what of the broadcasts that are recognised may be given up.
_LEAST_AFTER = 6
_GIVEN_UP = 0.002


def rates_by_look(words: Sequence[npt.NDArray[np.uint32]], many: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """`lowest_rates` of R full requests with m full entries at every look: float64 (LOOKS, 3, R, m)."""
    return np.stack([lowest_rates(request, many, HEARD) / RATE_ONE for request in words], axis=2)


def measure_thresholds(
    people: npt.NDArray[np.float64],
    strangers: npt.NDArray[np.bool_],
    media: npt.NDArray[np.float64],
    own: npt.NDArray[np.int64],
    seed: int,
) -> Thresholds:
    """Measure margins of strangers and of media.

    A margin is taken against the mean of LEAST_ENTRIES - 1 other entries, drawn for each pair: a full pack's mean is
    steadier, so what holds for the least one holds for all.

    Args:
        people: float64 (LOOKS, 3, R, m), rates of requests by people against entries.
        strangers: bool (R, m), pairs by different voices.
        media: float64 (LOOKS, 3, M, m), rates of requests that heard an entry.
        own: int64 (M,), which.
        seed: of the draws.

    """
    margins = _margins(people, strangers, np.random.default_rng(seed))[:, :, strangers]
    of_media = _margins(media, np.ones(media.shape[2:], bool), np.random.default_rng(seed))
    of_media = of_media[:, :, np.arange(len(own)), own]
    deviations = np.full((LOOKS, 3), math.inf)
    deviations[:, 0] = [_tail_deviation(look[0]) for look in margins]
    for look, heard in enumerate(HEARD):
        if heard - CUT >= _LEAST_AFTER:
            spread = margins[look, 1:].std(axis=1)
            deviations[look, 1:] = spread * _tail_deviation((margins[look, 1:] / spread[:, None]).min(axis=0))
    scores, of_media_scores = margins / deviations[..., None], of_media / deviations[..., None]
    whole, parts = fit_tail(scores[:, 0].max(axis=0)), fit_tail(scores[:, 1:].min(axis=1).max(axis=0))
    found = (of_media_scores[:, 0].max(axis=0) > whole.threshold(5e-7, 100)) | (
        of_media_scores[:, 1:].min(axis=1).max(axis=0) > parts.threshold(5e-7, 100)
    )
    floor = np.quantile(of_media[:, 0, found], _GIVEN_UP, axis=1)
    of_strangers = people[:, :, strangers]
    return Thresholds(of_strangers.mean(axis=2) + of_strangers.std(axis=2), deviations, floor, whole, parts)


def _margins(
    rates: npt.NDArray[np.float64], usable: npt.NDArray[np.bool_], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Mean rate of some other entries, drawn for each request and entry, less the entry's: (LOOKS, 3, R, m)."""
    means = np.empty_like(rates)
    for i, mine in enumerate(usable):
        drawn = rng.choice(np.flatnonzero(mine), (usable.shape[1], LEAST_ENTRIES - 1))
        means[:, :, i] = rates[:, :, i][:, :, drawn].mean(axis=3)
    return means - rates


def _tail_deviation(margins: npt.NDArray[np.float64]) -> float:
    """As that of `matcher.null`: of the normal distribution with the same share of 1e-5."""
    over = float(np.quantile(margins, 1 - PAIR_TAIL_SHARE))
    scale = float(np.mean(margins[margins > over] - over))
    return (over + scale * math.log(PAIR_TAIL_SHARE / 1e-5)) / NORMAL_1E5


assert HEARD[-1] == ENTRY_WORDS

"""Sounds shaped in the frequency domain: smooth gains, and the octaves of a room."""

from collections.abc import Sequence

import numpy as np
import scipy.fft

from pipeline.simulate.clips import SAMPLE_RATE_HZ, Samples

OCTAVES_HZ = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)


def shape(samples: Samples, points_hz: Sequence[float], gains_db: Sequence[float]) -> Samples:
    """Filter without delay by a gain that is linear in dB over log frequency between points, and flat outside.

    Args:
        samples: float64 (n,).
        points_hz: ascending, at least two.
        gains_db: one for each point.

    Returns:
        Float64 (n,).

    """
    n = scipy.fft.next_fast_len(len(samples) + SAMPLE_RATE_HZ // 4, real=True)
    bins_hz = np.maximum(scipy.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ), 1.0)
    gain_db = np.interp(np.log(bins_hz), np.log(points_hz), gains_db)
    return np.asarray(scipy.fft.irfft(scipy.fft.rfft(samples, n) * 10 ** (gain_db / 20), n)[: len(samples)])


def octaves(samples: Samples) -> Samples:
    """Split into the bands of OCTAVES_HZ, which add up to what was split: float64 (7, n).

    The bands overlap as raised cosines in log frequency, without delay.
    """
    n = scipy.fft.next_fast_len(len(samples) + SAMPLE_RATE_HZ // 8, real=True)
    spectrum = scipy.fft.rfft(samples, n)
    octave = np.log2(np.maximum(scipy.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ), 1.0) / OCTAVES_HZ[0])
    # Each bin belongs to the two bands next to it, in shares that add up to one.
    place = np.clip(octave, 0, len(OCTAVES_HZ) - 1)
    shares = np.clip(1 - np.abs(place - np.arange(len(OCTAVES_HZ))[:, None]), 0, 1)
    shares = np.sin(np.pi / 2 * shares) ** 2
    return np.asarray(scipy.fft.irfft(spectrum * shares, n)[:, : len(samples)])

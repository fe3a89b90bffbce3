"""Sounds for the load: cheap to make, unlike each other, and alike where households hear one recording."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from matcher.grid import SAMPLE_RATE_HZ

Samples = npt.NDArray[np.float32]

_FRAME = 1024
_HOP = _FRAME // 2
_SYLLABLE_S = 0.12
_BANDS = 40


def babble(seconds: float, rng: np.random.Generator) -> Samples:
    """Noise whose bands come and go as syllables do: float32 (n,), about 2000 units of 16 bit loud.

    Two stretches of it that do not overlap are as unlike as two people's requests.
    """
    frames = int(seconds * SAMPLE_RATE_HZ / _HOP) + 2
    syllables = int(frames * _HOP / SAMPLE_RATE_HZ / _SYLLABLE_S) + 2
    loud_db = rng.normal(0.0, 3.0, (syllables, _BANDS)).astype(np.float32)
    at = np.linspace(0, syllables - 1, frames)
    bins_hz = np.arange(_FRAME // 2 + 1) * SAMPLE_RATE_HZ / _FRAME
    band = np.clip(np.searchsorted(np.geomspace(150, 7000, _BANDS), bins_hz), 0, _BANDS - 1)
    tilt = 1.0 / np.sqrt(1.0 + (bins_hz / 500.0) ** 2)
    out = np.zeros((frames + 1) * _HOP, np.float32)
    window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    for first in range(0, frames, 4096):  # in blocks: minutes of spectra at once would be gigabytes
        block = at[first : first + 4096]
        low = block.astype(np.int64)
        high = np.minimum(low + 1, syllables - 1)
        part = (block - low).astype(np.float32)[:, None]
        gains = 10 ** (((1 - part) * loud_db[low] + part * loud_db[high]) / 20)
        noise: Any = rng.standard_normal((2, len(block), len(bins_hz)), np.float32)
        spectra = (noise[0] + 1j * noise[1]) * (gains[:, band] * tilt)
        pieces = scipy.fft.irfft(spectra.astype(np.complex64), axis=1)[:, :_FRAME] * window
        for half in range(2):
            rows = pieces[:, half * _HOP : (half + 1) * _HOP].ravel()
            start = (first + half) * _HOP
            out[start : start + len(rows)] += rows
    out *= 2000.0 / float(np.std(out))
    return out[: int(seconds * SAMPLE_RATE_HZ)]


def heard(recording: Samples, noise: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Give a recording as a microphone in some home hears it: three echoes, and that home's own noise.

    Args:
        recording: float32 (n,).
        noise: float32 (n,), as loud as the recording.
        snr_db: of the recording over the noise.
        rng: draws the echoes.

    """
    out = recording.copy()
    for delay_ms, gain in zip(rng.integers(5, 60, 3), rng.uniform(0.1, 0.5, 3), strict=True):
        delay = int(delay_ms) * SAMPLE_RATE_HZ // 1000
        out[delay:] += np.float32(gain) * recording[:-delay]
    out += np.float32(10 ** (-snr_db / 20)) * noise
    return out

"""What else sounds in a home, up to 8 kHz: a noise that ends below makes the band above it free evidence."""

from collections.abc import Sequence

import numpy as np
import scipy.fft
import soxr

from pipeline.simulate.clips import SAMPLE_RATE_HZ, Clip, Samples, read
from pipeline.simulate.music import music
from pipeline.simulate.spectra import shape

NOISES = ("pink", "fan", "kitchen", "babble", "music")
STEADY = ("pink", "fan")  # their level in one second is their level in the next

_TALKERS = 7
_AFTER_WAKE_WORD_S = 0.9  # babble is made of what follows the wake word, so that no noise wakes anybody


def make_noise(kind: str, rng: np.random.Generator, duration_s: float, talkers: Sequence[Clip]) -> Samples:
    """Make a noise as heard where it arises, without a room.

    Args:
        kind: one of NOISES.
        rng: of this noise.
        duration_s: its length.
        talkers: the clips that babble is made of.

    Returns:
        Float64 (n,), unit power.

    """
    n = round(duration_s * SAMPLE_RATE_HZ)
    if kind == "pink":
        noise = _coloured(rng, n, 1.0)
    elif kind == "fan":
        noise = _fan(rng, n)
    elif kind == "kitchen":
        noise = _kitchen(rng, n)
    elif kind == "babble":
        noise = _babble(rng, n, talkers)
    elif kind == "music":
        # The room hears some second of it, not always its first.
        start = int(rng.integers(8 * SAMPLE_RATE_HZ))
        noise = music(rng, duration_s + start / SAMPLE_RATE_HZ + 0.01)[start : start + n]
    else:
        raise AssertionError(kind)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def _coloured(rng: np.random.Generator, n: int, exponent: float) -> Samples:
    """Noise whose power falls with frequency to the given exponent, from 50 Hz on."""
    bins_hz = np.maximum(scipy.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ), 50.0)
    spectrum = rng.standard_normal(len(bins_hz)) + 1j * rng.standard_normal(len(bins_hz))
    return np.asarray(scipy.fft.irfft(spectrum * bins_hz ** (-exponent / 2), n))


def _hum(rng: np.random.Generator, n: int) -> Samples:
    """Mains hum: the harmonics of 50 or 60 Hz, unit power."""
    mains_hz = float(rng.choice([50.0, 60.0]))
    time_s = np.arange(n) / SAMPLE_RATE_HZ
    hum = np.zeros(n)
    for harmonic in range(1, 13):
        level = rng.uniform(0.3, 1) / harmonic
        hum += level * np.sin(2 * np.pi * harmonic * mains_hz * time_s + rng.uniform(0, 2 * np.pi))
    return np.asarray(hum / np.sqrt(np.mean(hum**2)))


def _fan(rng: np.random.Generator, n: int) -> Samples:
    """Air and a motor: a broad slope, resonances of its housing, the tone of its blades."""
    air = _coloured(rng, n, rng.uniform(0.6, 1.4))
    points_hz = np.geomspace(80, 8000, 9)
    air = shape(air, list(points_hz), list(rng.uniform(-4, 4, len(points_hz))))
    air /= np.sqrt(np.mean(air**2))
    time_s = np.arange(n) / SAMPLE_RATE_HZ
    blades_hz = rng.uniform(90, 400)
    tone = sum(np.sin(2 * np.pi * blades_hz * k * time_s + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    return np.asarray(air + 0.25 * tone)


def _kitchen(rng: np.random.Generator, n: int) -> Samples:
    """Hum of a refrigerator, running water, and now and then something that rings when it is put down."""
    water = _coloured(rng, n, 0.3) * (1 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * np.arange(n) / SAMPLE_RATE_HZ))
    out = 0.5 * _hum(rng, n) + rng.uniform(0.5, 1) * water / np.sqrt(np.mean(water**2))
    for _ in range(rng.poisson(2.5 * n / SAMPLE_RATE_HZ)):
        length = int(rng.uniform(0.05, 0.4) * SAMPLE_RATE_HZ)
        time_s = np.arange(length) / SAMPLE_RATE_HZ
        ring = rng.standard_normal(length) * np.exp(-time_s * rng.uniform(60, 200))
        for _ in range(int(rng.integers(2, 6))):
            pitch_hz = rng.uniform(700, 7500)
            ring += rng.uniform(0.2, 1) * np.sin(2 * np.pi * pitch_hz * time_s) * np.exp(-time_s * rng.uniform(15, 60))
        at = int(rng.integers(n))
        end = min(n, at + length)
        out[at:end] += rng.uniform(0.5, 2.5) * ring[: end - at]
    return np.asarray(out)


def _babble(rng: np.random.Generator, n: int, talkers: Sequence[Clip]) -> Samples:
    """Several people at once, each at another pitch and level, saying what follows a wake word again and again."""
    out = np.zeros(n)
    for _ in range(_TALKERS):
        level = 10 ** (rng.uniform(-6, 0) / 20)
        at = -int(rng.integers(SAMPLE_RATE_HZ))
        while at < n:
            clip = talkers[int(rng.integers(len(talkers)))]
            words = read(clip.file)[round((clip.wake_word_start_s + _AFTER_WAKE_WORD_S) * SAMPLE_RATE_HZ) :]
            if len(words) > SAMPLE_RATE_HZ // 4:
                words = soxr.resample(words, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * rng.uniform(0.95, 1.12))
                first, end = max(0, -at), min(len(words), n - at)
                if end > first:
                    out[at + first : at + end] += level * words[first:end]
                at += len(words)
            at += int(rng.integers(SAMPLE_RATE_HZ // 20, SAMPLE_RATE_HZ // 4))
    # What lies between words in the clips is silence; a crowd has a floor.
    return np.asarray(out + 0.03 * np.sqrt(np.mean(out**2)) * rng.standard_normal(n))

"""Music that nobody wrote: chords, a bass and drums, for the beds of advertisements and for radios in other rooms."""

import numpy as np

from pipeline.simulate.clips import SAMPLE_RATE_HZ, Samples

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10))  # major, minor, Dorian
_PROGRESSIONS = ((0, 4, 5, 3), (0, 3, 4, 4), (5, 3, 0, 4), (0, 5, 1, 4), (0, 2, 3, 3))


def music(rng: np.random.Generator, duration_s: float) -> Samples:
    """Play a random piece: float64 (n,), unit power, energy up to 8 kHz by its cymbals."""
    n = round(duration_s * SAMPLE_RATE_HZ)
    beat = round(60 / rng.uniform(80, 140) * SAMPLE_RATE_HZ)
    scale = _SCALES[rng.integers(len(_SCALES))]
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    root_hz = 110.0 * 2 ** (rng.integers(12) / 12)
    timbre = rng.uniform(0.4, 1.6)  # how fast the overtones fall off
    out = np.zeros(n + 4 * beat)
    arpeggio, drums = rng.random() < 0.5, rng.random() < 0.8
    for bar, start in enumerate(range(0, n, 4 * beat)):
        degree = progression[bar % len(progression)]
        chord = [_pitch(root_hz * 2, scale, degree + step) for step in (0, 2, 4)]
        for i in range(4):
            at = start + i * beat
            notes = [chord[i % 3]] if arpeggio else chord if i == 0 else []
            for pitch_hz in notes:
                _add(out, at, 0.25 * _note(pitch_hz, (1.2 if arpeggio else 4) * beat, timbre, rng))
            if i % 2 == 0:
                _add(out, at, 0.5 * _note(_pitch(root_hz / 2, scale, degree), 1.5 * beat, 1.5, rng))
            if drums:
                _add(out, at, _drum(rng, low=i % 2 == 0))
                for half in (0, beat // 2):
                    _add(out, at + half, 0.3 * _cymbal(rng))
    out = out[:n]
    return np.asarray(out / np.sqrt(np.mean(out**2)))


def _pitch(root_hz: float, scale: tuple[int, ...], degree: int) -> float:
    octave, step = divmod(degree, len(scale))
    return float(root_hz * 2 ** (octave + scale[step] / 12))


def _note(pitch_hz: float, length: float, timbre: float, rng: np.random.Generator) -> Samples:
    time_s = np.arange(int(length)) / SAMPLE_RATE_HZ
    overtones = np.arange(1, max(2, int(7500 / pitch_hz)))[:30]
    phases = rng.uniform(0, 2 * np.pi, len(overtones))[:, None]
    weights = overtones[:, None] ** -timbre * np.exp(-time_s * overtones[:, None] ** 0.5 * 1.5)
    tone = np.sum(weights * np.sin(2 * np.pi * pitch_hz * overtones[:, None] * time_s + phases), axis=0)
    attack = np.minimum(time_s / 0.01, 1)
    release = np.clip((length / SAMPLE_RATE_HZ - time_s) / 0.05, 0, 1)
    return np.asarray(tone * attack * release)


def _drum(rng: np.random.Generator, *, low: bool) -> Samples:
    time_s = np.arange(SAMPLE_RATE_HZ // 4) / SAMPLE_RATE_HZ
    if low:
        return np.asarray(1.2 * np.sin(2 * np.pi * 55 * time_s + 6 * np.exp(-time_s * 40)) * np.exp(-time_s * 18))
    return np.asarray(0.5 * rng.standard_normal(len(time_s)) * np.exp(-time_s * 25))


def _cymbal(rng: np.random.Generator) -> Samples:
    time_s = np.arange(SAMPLE_RATE_HZ // 10) / SAMPLE_RATE_HZ
    return np.asarray(np.diff(rng.standard_normal(len(time_s) + 1)) * np.exp(-time_s * 60))


def _add(out: Samples, at: int, sound: Samples) -> None:
    end = min(len(out), at + len(sound))
    out[at:end] += sound[: end - at]

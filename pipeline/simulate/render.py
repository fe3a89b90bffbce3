"""From a planned request to the samples that its device sends."""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.signal
import soxr

from pipeline.simulate.beside import OVER_NOISE_DB, talk
from pipeline.simulate.broadcast import colour, transmitted
from pipeline.simulate.clips import SAMPLE_RATE_HZ, Clip, Samples, choose, read
from pipeline.simulate.noise import STEADY, make_noise
from pipeline.simulate.randomness import rng_for
from pipeline.simulate.rooms import LEAD, diffuse_response, impulse_response
from pipeline.simulate.scene import Heard
from pipeline.simulate.settings import Settings
from pipeline.simulate.stretch import stretch

SNR_WINDOW_S = 0.6  # from the wake word's start: where the signal's power is measured
SELF_NOISE_DBFS = -78.0  # of microphone and converter
_SPARE_S = 1.0  # heard before the request, so that its first sample already has echoes in it
_SPARE = round(_SPARE_S * SAMPLE_RATE_HZ)


def render(heard: Heard, settings: Settings) -> npt.NDArray[np.int16]:
    """Make one request sound: int16 (n,) at SAMPLE_RATE_HZ, n its duration."""
    signal, noise = stems(heard, settings)
    rng = _rng(heard, settings, "converter")
    n = round(heard.duration_s * SAMPLE_RATE_HZ)
    both = signal + noise + 10 ** (SELF_NOISE_DBFS / 20) * rng.standard_normal(len(signal))
    # A clock that runs fast takes more samples of the same second.
    rate_hz = SAMPLE_RATE_HZ * (1 + heard.home.ppm[heard.device] * 1e-6)
    sampled = soxr.resample(both, SAMPLE_RATE_HZ, rate_hz, quality="VHQ")[:n]
    dither = rng.uniform(-0.5, 0.5, n) + rng.uniform(-0.5, 0.5, n)
    return np.asarray(np.clip(np.round(sampled * 32767 + dither), -32768, 32767).astype(np.int16))


def stems(heard: Heard, settings: Settings) -> tuple[Samples, Samples]:
    """Give what is meant to be heard and what disturbs it, as the microphone has them before its converter.

    The ratio of their powers is the request's snr_db: the signal's over SNR_WINDOW_S from the wake word's start, the
    noise's over the whole request, both behind the microphone's high-pass.

    Returns:
        Two float64 (n,), full scale 1, a little longer than the request.

    """
    n = round(heard.duration_s * SAMPLE_RATE_HZ) + 64
    microphone = heard.home.microphones[heard.device]
    response = impulse_response(heard.home.room, heard.sources, heard.home.room.devices_m[heard.device])
    played = _said(heard, n) if heard.talker is not None else _broadcast(heard, n)
    signal = colour(scipy.signal.fftconvolve(played, response)[LEAD:], microphone)[_SPARE : _SPARE + n]
    noise = _disturbance(heard, settings, n)
    if heard.beside is not None:
        beside = talk(heard.beside, heard.home, heard.device, len(noise))
        noise = beside / np.sqrt(np.mean(beside**2)) + 10 ** (-OVER_NOISE_DB / 20) * noise / np.sqrt(np.mean(noise**2))
    noise = colour(noise, microphone)[_SPARE : _SPARE + n]

    start = round(heard.wake_word_start_s * SAMPLE_RATE_HZ)
    window = signal[start : start + round(SNR_WINDOW_S * SAMPLE_RATE_HZ)]
    level_dbfs = -23 - 10 * np.log10(heard.distance_m) + _rng(heard, settings, "level").normal(0, 4)
    gain = 10 ** (min(level_dbfs, -9.0) / 20) / np.sqrt(np.mean(window**2))
    noise_gain = 10 ** (-heard.snr_db / 20) * gain * np.sqrt(np.mean(window**2) / np.mean(noise**2))
    return gain * signal, noise_gain * noise


def _said(heard: Heard, n: int) -> Samples:
    """Lay a person's words, at the mouth, so that the wake word is where it belongs: float64 (_SPARE + n,)."""
    higher = heard.tempo * heard.pitch
    words = soxr.resample(read(heard.clip.file), SAMPLE_RATE_HZ * higher, SAMPLE_RATE_HZ, quality="VHQ")
    if heard.pitch != 1.0:
        words = stretch(words, heard.pitch)
    return _placed(words, heard.clip.wake_word_start_s / heard.tempo, heard, n)


def _broadcast(heard: Heard, n: int) -> Samples:
    """Lay an advertisement, as the loudspeaker plays it, likewise: float64 (_SPARE + n,)."""
    programme = transmitted(heard.clip, heard.home.path)
    samples = programme.samples
    if heard.tempo != 1.0:
        samples = soxr.resample(samples, SAMPLE_RATE_HZ * heard.tempo, SAMPLE_RATE_HZ, quality="VHQ")
    return colour(_placed(samples, programme.wake_word_start_s / heard.tempo, heard, n), heard.home.loudspeaker)


def _placed(samples: Samples, wake_word_start_s: float, heard: Heard, n: int) -> Samples:
    first = round((wake_word_start_s - heard.wake_word_start_s) * SAMPLE_RATE_HZ) - _SPARE
    cut = samples[max(first, 0) : max(first + _SPARE + n, 0)]
    before = max(-first, 0)
    return np.pad(cut, (before, _SPARE + n - before - len(cut)))


def _disturbance(heard: Heard, settings: Settings, n: int) -> Samples:
    rng = _rng(heard, settings, "noise")
    noise = make_noise(heard.noise, rng, (_SPARE + n) / SAMPLE_RATE_HZ, _talkers(settings.split, settings.wake_words))
    if heard.noise in STEADY:
        return noise
    return np.asarray(scipy.signal.fftconvolve(noise, diffuse_response(heard.home.room, rng))[: len(noise)])


@functools.cache
def _talkers(split: str, wake_words: Sequence[str]) -> list[Clip]:
    return choose("live", split, wake_words)


def _rng(heard: Heard, settings: Settings, what: str) -> np.random.Generator:
    return rng_for(settings.seed, what, heard.request_id)

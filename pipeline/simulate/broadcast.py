"""From the studio to the room: an advertisement's mix, the codec it travels by, loudspeakers and microphones."""

import functools
import io
from dataclasses import dataclass

import numpy as np
import scipy.fft
import soxr

from pipeline.simulate.clips import SAMPLE_RATE_HZ, Clip, Samples, read
from pipeline.simulate.music import music
from pipeline.simulate.noise import make_noise
from pipeline.simulate.randomness import rng_for
from pipeline.simulate.spectra import shape

LEAD_S = 0.8  # music before the first word
TAIL_S = 0.7
BEDS, LONG_BED_S = 48, 20.0  # of other cuts

# Format, subtype and libsndfile's compression level of each way to a home; with 16 kHz mono this is 30 to 80 kbit/s.
PATHS = {
    "cable": ("MP3", "MPEG_LAYER_III", 0.5),
    "antenna": ("MP3", "MPEG_LAYER_III", 0.8),
    "stream": ("OGG", "OPUS", 0.85),
    "web": ("OGG", "VORBIS", 0.9),
}


@dataclass(frozen=True)
class Mix:
    """An advertisement as its maker delivers it."""

    samples: Samples  # float64 (n,) at SAMPLE_RATE_HZ, full scale 1
    wake_word_start_s: float


@functools.lru_cache(maxsize=64)
def mix(clip: Clip) -> Mix:
    """Lay the speech over music or noise; the same for every scene, because an advertisement is the same everywhere."""
    rng, speech = rng_for(0, "mix", clip.file), read(clip.file)
    pads = round(LEAD_S * SAMPLE_RATE_HZ) + round(TAIL_S * SAMPLE_RATE_HZ)
    bed = _bed(rng, (len(speech) + pads) / SAMPLE_RATE_HZ)
    return _laid_over(bed, rng, speech, clip.wake_word_start_s, LEAD_S)


def other_cut(clip: Clip, number: int) -> Mix:
    """Make another advertisement of a clip: another tempo (and pitch), one of BEDS beds, from anywhere in it."""
    rng = rng_for(0, "cut", clip.file, number)
    tempo, lead_s = float(rng.uniform(0.85, 1.15)), float(rng.uniform(0.55, 1.2))
    speech = soxr.resample(read(clip.file), SAMPLE_RATE_HZ * tempo, SAMPLE_RATE_HZ, quality="HQ")
    return _laid_over(_long_bed(int(rng.integers(BEDS))), rng, speech, clip.wake_word_start_s / tempo, lead_s)


@functools.lru_cache(maxsize=BEDS)
def _long_bed(number: int) -> Samples:
    return _bed(rng_for(0, "bed", number), LONG_BED_S)


def _bed(rng: np.random.Generator, seconds: float) -> Samples:
    kind = str(rng.choice(["music", "music", "music", "music", "pink", "fan", "kitchen"]))
    bed = music(rng, seconds) if kind == "music" else make_noise(kind, rng, seconds, ())
    return shape(bed, [60, 120, 6000, 7500], [-12, 0, 0, -3])


def _laid_over(bed: Samples, rng: np.random.Generator, speech: Samples, wake_word_start_s: float, lead_s: float) -> Mix:
    """Lay speech over a bed that is long enough, from any place in it."""
    speech = np.pad(speech, (round(lead_s * SAMPLE_RATE_HZ), round(TAIL_S * SAMPLE_RATE_HZ)))
    spare = len(bed) - len(speech)
    bed = np.roll(bed, -int(rng.integers(spare)))[: len(speech)] if spare else bed.copy()
    fade = np.minimum(np.arange(len(bed)) / (0.2 * SAMPLE_RATE_HZ), 1)
    loud = speech[np.abs(speech) > 0.01 * np.abs(speech).max()]
    bed *= fade * fade[::-1] * np.sqrt(np.mean(loud**2)) * 10 ** (-rng.uniform(8, 18) / 20)
    both = speech + bed
    # Advertisements are pressed against full scale.
    both = np.tanh(1.5 * both / np.abs(both).max()) * 0.9
    both.setflags(write=False)
    return Mix(both, wake_word_start_s + lead_s)


@functools.lru_cache(maxsize=64)
def transmitted(clip: Clip, path: str) -> Mix:
    """Send the mix by one of PATHS, and take its codec's delay out again."""
    import soundfile

    sent = mix(clip)
    container, subtype, level = PATHS[path]
    constant = {"bitrate_mode": "CONSTANT"} if container == "MP3" else {}
    coded = io.BytesIO()
    soundfile.write(
        coded, sent.samples, SAMPLE_RATE_HZ, format=container, subtype=subtype, compression_level=level, **constant
    )
    coded.seek(0)
    heard, rate_hz = soundfile.read(coded)
    if rate_hz != SAMPLE_RATE_HZ:
        heard = soxr.resample(heard, rate_hz, SAMPLE_RATE_HZ)
    heard = np.roll(np.pad(heard, (0, max(0, len(sent.samples) - len(heard)))), -_delay(sent.samples, heard))
    heard = heard[: len(sent.samples)]
    heard.setflags(write=False)
    return Mix(heard, sent.wake_word_start_s)


def _delay(sent: Samples, heard: Samples) -> int:
    """By how many samples `heard` lags, from the peak of the cross-correlation."""
    n = scipy.fft.next_fast_len(len(sent) + len(heard), real=True)
    correlation = scipy.fft.irfft(scipy.fft.rfft(heard, n) * np.conj(scipy.fft.rfft(sent, n)), n)
    at = int(np.argmax(correlation))
    return at if at < n // 2 else at - n


@dataclass(frozen=True)
class Colour:
    """What a loudspeaker or a microphone does to the spectrum, and how hard it is driven."""

    points_hz: tuple[float, ...]
    gains_db: tuple[float, ...]
    drive: float  # of a loudspeaker: peak over the level at which it begins to press


def draw_loudspeaker(rng: np.random.Generator) -> Colour:
    """Draw a television's loudspeaker: little bass, a bumpy middle, some lose their treble."""
    low_hz = rng.uniform(90, 220)
    middle = np.geomspace(2 * low_hz, 5000, 7)
    points = (low_hz / 4, low_hz, *middle, 8000.0)
    gains = (-36.0, -6.0, *rng.uniform(-4, 4, 7), -rng.uniform(0, 12))
    return Colour(tuple(map(float, points)), tuple(map(float, gains)), float(rng.uniform(0.2, 1.0)))


def draw_microphone(rng: np.random.Generator) -> Colour:
    """Draw a device's microphone: nearly flat, with a high-pass against rumble."""
    low_hz = rng.uniform(50, 110)
    points = (low_hz / 4, low_hz, *np.geomspace(2 * low_hz, 6500, 5), 8000.0)
    gains = (-36.0, -3.0, *rng.uniform(-2, 2, 5), -rng.uniform(0, 5))
    return Colour(tuple(map(float, points)), tuple(map(float, gains)), 0.0)


def colour(samples: Samples, by: Colour) -> Samples:
    """Send samples through a loudspeaker or a microphone: float64 (n,), full scale 1 in and out."""
    shaped = shape(samples, by.points_hz, by.gains_db)
    if by.drive == 0.0:
        return shaped
    peak = max(float(np.abs(shaped).max()), 1e-9)
    return np.asarray(np.tanh(by.drive * shaped / peak) * peak / by.drive)

"""Who else talks: a person over the television that woke the device, or a television beside the person who did."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.signal

from pipeline.simulate.broadcast import colour, transmitted
from pipeline.simulate.clips import SAMPLE_RATE_HZ, Clip, Samples, read
from pipeline.simulate.homes import Home
from pipeline.simulate.rooms import LEAD, Source, draw_talker, impulse_response

AFTER_WAKE_WORD_S = 0.9  # only what follows a wake word is said, so that no talk wakes anybody
OVER_NOISE_DB = 6.0  # of the talk over the noise that is there as well


@dataclass(frozen=True)
class Beside:
    """Somebody who talks during a request, and is not what woke the device."""

    clips: tuple[Clip, ...]  # of one voice; what follows their wake words, one after the other, over and over
    talker: Source | None  # None: the television
    from_s: float  # how far into the talk the request begins


def draw_person(rng: np.random.Generator, home: Home, device: int, clips: Sequence[Clip]) -> Beside:
    """Draw somebody who talks in the room, in one of the clips' voices."""
    voices = sorted({clip.voice for clip in clips})
    voice = voices[int(rng.integers(len(voices)))]
    said = tuple(clip for clip in clips if clip.voice == voice)
    return Beside(said, draw_talker(rng, home.room, device), round(float(rng.uniform(0, 3)), 3))


def draw_television(rng: np.random.Generator, clips: Sequence[Clip]) -> Beside:
    """Draw what is on while a person wakes the device: an advertisement, from after its wake word on."""
    return Beside((clips[int(rng.integers(len(clips)))],), None, round(float(rng.uniform(0, 3)), 3))


def talk(beside: Beside, home: Home, device: int, n: int) -> Samples:
    """Give what the device's place in the room gets of it: float64 (n,)."""
    sources = home.room.television if beside.talker is None else (beside.talker,)
    response = impulse_response(home.room, sources, home.room.devices_m[device])
    first = round(beside.from_s * SAMPLE_RATE_HZ)
    pieces = [_after_wake_word(clip, home, on_television=beside.talker is None) for clip in beside.clips]
    said = np.resize(np.concatenate(pieces), first + n)[first:]
    if beside.talker is None:
        said = colour(said, home.loudspeaker)
    return np.asarray(scipy.signal.fftconvolve(said, response)[LEAD : LEAD + n])


def _after_wake_word(clip: Clip, home: Home, *, on_television: bool) -> Samples:
    if on_television:
        programme = transmitted(clip, home.path)
        return programme.samples[round((programme.wake_word_start_s + AFTER_WAKE_WORD_S) * SAMPLE_RATE_HZ) :]
    return read(clip.file)[round((clip.wake_word_start_s + AFTER_WAKE_WORD_S) * SAMPLE_RATE_HZ) :]

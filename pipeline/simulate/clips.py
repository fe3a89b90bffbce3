"""The clips that ship with the package: synthetic voices that say wake words, and advertisements."""

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

SAMPLE_RATE_HZ = 16_000

Samples = npt.NDArray[np.float64]
Role = Literal["live", "advert"]
SPLITS = ("calibration", "evaluation", "all")


@dataclass(frozen=True)
class Clip:
    """One line of the index: dry speech, without room, music or noise."""

    file: str
    role: Role
    split: str  # "calibration" or "evaluation": no voice is in both
    voice: str
    synthesiser: str
    text: str
    wake_word: str
    locale: str  # BCP 47
    wake_word_start_s: float
    licence: str


@functools.cache
def all_clips() -> tuple[Clip, ...]:
    """Read the index, in its own order."""
    rows = [dict(row) for row in csv.DictReader((_folder() / "index.csv").read_text(encoding="utf-8").splitlines())]
    clips = []
    for row in rows:
        start_s = float(row.pop("wake_word_start_s"))
        role: Role = "advert" if row.pop("role") == "advert" else "live"
        clips.append(Clip(role=role, wake_word_start_s=start_s, **row))
    return tuple(clips)


def choose(role: Role, split: str, wake_words: Sequence[str]) -> list[Clip]:
    """Clips of a role that say one of the wake words; `split` "all" takes both splits.

    Raises:
        InputError: there is no such split, or no clip says one of the wake words.

    """
    if split not in SPLITS:
        raise InputError(f"--split {split} is none of {', '.join(SPLITS)}")
    found = [c for c in all_clips() if c.role == role and split in (c.split, "all") and c.wake_word in wake_words]
    for word in wake_words:
        if not any(clip.wake_word == word for clip in found):
            known = ", ".join(sorted({clip.wake_word for clip in all_clips()}))
            raise InputError(f"no clip says the wake word {word!r}: there are {known}")
    return found


@functools.lru_cache(maxsize=512)
def read(file: str) -> Samples:
    """Read one clip: float64 (n,) at SAMPLE_RATE_HZ, full scale 1; shared, so not writable."""
    import soundfile

    with resources.as_file(_folder() / file) as path:
        samples, rate_hz = soundfile.read(path)
    assert rate_hz == SAMPLE_RATE_HZ
    samples.setflags(write=False)
    return np.asarray(samples)


def _folder() -> Traversable:
    return resources.files("pipeline.simulate") / "clips"

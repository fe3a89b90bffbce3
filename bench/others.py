"""Other recordings: advertisements that nobody airs, to fill a catalogue with.

The advertisements of the simulator in any number of cuts (other tempo, pitch and bed), without the voices that are not
wanted. `python -m bench.others FILE.csv` writes them as recordings; bench/known.py takes their fingerprints.
"""

import itertools
import json
import multiprocessing
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matcher.bits import bits_named
from matcher.known import entry_words
from pipeline.simulate.broadcast import Mix, other_cut
from pipeline.simulate.clips import Clip, choose

Marked = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]
_PART = 50


def others(count: int, bits: str, without: Collection[str] = ()) -> Iterator[Marked]:
    """Give words and clear bits of so many recordings, uint64 (n,) each, by voices that are not among some."""
    clips = [clip for clip in choose("advert", "all", ["alexa"]) if clip.voice not in without]
    tasks = [(clip, 1 + number) for number in range(-(-count // len(clips))) for clip in clips][:count]
    parts = [tasks[i : i + _PART] for i in range(0, count, _PART)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from itertools.chain.from_iterable(pool.map(_marked, parts, itertools.repeat(bits)))


def voices_of_people(recording: Path) -> set[str]:
    """Voices of the people in a labelled recording: truth, which the product has no use for."""
    lines = (recording / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["voice"] for entry in map(json.loads, lines) if entry.get("kind") == "live"}


def marked(recording: Mix, bits: str) -> Marked:
    """Fingerprint a recording around its wake word."""
    samples = (recording.samples * 32767).astype(np.float32)
    return entry_words(samples, recording.wake_word_start_s * 1000, bits_named(bits))


def _marked(tasks: list[tuple[Clip, int]], bits: str) -> list[Marked]:
    return [marked(other_cut(clip, number), bits) for clip, number in tasks]

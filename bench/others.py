"""Other recordings: advertisements that nobody airs, to fill a catalogue with.

The advertisements of the simulator in any number of cuts (other tempo, pitch and bed). `python -m bench.others
FILE.jsonl --unlike RECORDING` writes entries of them, by voices that none of the recording's people have, as `hushword
media export` does: for `hushword evaluate --media` and `hushword media import`. Ten thousand take three minutes.
"""

import itertools
import multiprocessing
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from bench.calibrate import truth_of
from matcher.bits import bits_named
from matcher.known_entry import entry_words
from pipeline.media.entries import media_id_of
from pipeline.media.file import write_entries
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.recordings.recording import Recording
from pipeline.simulate.broadcast import Mix, other_cut
from pipeline.simulate.clips import Clip, choose

WAKE_WORD, LOCALE = "alexa", "en-US"

Marked = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]
_PART = 50


def main(
    out: Annotated[Path, typer.Argument(help="The catalogue, a .jsonl.")],
    unlike: Annotated[Path | None, typer.Option(help="A labelled recording: no voice of its people is used.")] = None,
    count: Annotated[int, typer.Option(help="Recordings.")] = 10_000,
    bits: Annotated[str, typer.Option(help="The kind of bits.")] = "learned64",
) -> None:
    """Write a catalogue of other recordings."""
    without = set() if unlike is None else voices_of_people(unlike)
    made = track(others(count, bits, without), "recordings", total=count)
    entries = {(entry := _entry(words, clear, bits, i)).media_id: entry for i, (words, clear) in enumerate(made)}
    write_entries(out, bits, list(entries.values()))
    print(f"{out}: {len(entries)} entries, without {len(without)} voices")


def _entry(words: npt.NDArray[np.uint64], clear: npt.NDArray[np.uint64], bits: str, number: int) -> MediaFingerprint:
    return MediaFingerprint(
        media_id=media_id_of(words, WAKE_WORD, LOCALE),
        kind=MediaFingerprint.KNOWN,
        wake_word=WAKE_WORD,
        locale=LOCALE,
        bits=bits,
        words=words.astype("<u8").tobytes(),
        clear=clear.astype("<u8").tobytes(),
        title=f"other {number}",
        source=f"other-{number}",
    )


def others(count: int, bits: str, without: Collection[str] = ()) -> Iterator[Marked]:
    """Give words and clear bits of so many recordings, uint64 (n,) each, by voices that are not among some."""
    clips = [clip for clip in choose("advert", "all", [WAKE_WORD]) if clip.voice not in without]
    tasks = [(clip, 1 + number) for number in range(-(-count // len(clips))) for clip in clips][:count]
    parts = [tasks[i : i + _PART] for i in range(0, count, _PART)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from itertools.chain.from_iterable(pool.map(_marked, parts, itertools.repeat(bits)))


def voices_of_people(recording: Path) -> set[str]:
    """Voices of the people in a labelled recording."""
    loaded = Recording.load(recording)
    voices = truth_of(loaded, "voice")
    return {voices[request_id] for request_id, truth in loaded.truth.items() if truth.kind == "live"}


def marked(recording: Mix, bits: str) -> Marked:
    """Fingerprint a recording around its wake word."""
    samples = (recording.samples * 32767).astype(np.float32)
    return entry_words(samples, recording.wake_word_start_s * 1000, bits_named(bits))


def _marked(tasks: list[tuple[Clip, int]], bits: str) -> list[Marked]:
    return [marked(other_cut(clip, number), bits) for clip, number in tasks]


if __name__ == "__main__":
    typer.run(main)

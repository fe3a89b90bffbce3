"""Known media at scale: `python -m bench.known` fills a catalogue and holds requests against it, beside faiss.

The catalogue is made of cuts of the simulator's advertisements (bench/others.py); beyond CUTS, of their parts: the
wake word of one, the rest of another with its filters in another order. The requests are simulated (evaluation split).
CPU is that of one thread; a request's is for its whole life, from its first look to the one that decides or the last.

faiss's IndexBinaryFlat holds the same words, all of them, and gives the nearest entry to what a request has after 2.16
seconds at each of the 15 alignments: one search of all entries for each. What is compared is naming the entry.

"Read from the topic" is what a reader's start takes, from a Kafka broker on this machine that has one message for each.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import psutil
import typer
from rich.progress import track

from bench.calibrate import simulate
from bench.calibrate_known import long_words, sources
from bench.others import Marked, marked, others
from matcher.bits import bits_named, frame_count, word_count
from matcher.fingerprint import FULL_MS, LOOK_MS
from matcher.known import FIRST_KNOWN_LOOK_MS, FULL_KNOWN_MS, KnownMedia
from matcher.known_entry import Entry
from matcher.known_null import LEAD_WORDS, MAX_ALIGNMENT, SLOT_WORDS, known_calibration
from pipeline.kafka.topics import create_topics, delete_topics
from pipeline.known import KnownCatalogue, KnownFollower
from pipeline.local.kafka import LocalKafka
from pipeline.media.topic import MediaWriter
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.simulate.broadcast import mix
from pipeline.simulate.clips import choose
from pipeline.trial import trial_settings

SIMULATION = {
    "minutes": 10, "homes": 200, "events": 16, "event_size": "1-12", "live_per_minute": 12, "split": "evaluation",
    "seed": 43, "request_s": "4.3-4.5",
}  # fmt: skip
BITS = "learned64"
CUTS = 10_000
SECONDS = 4.0
HEAD = """| entries | memory, MB | added, µs each | read from the topic, s | CPU a request, ms | media recognised | people ignored | faiss: CPU, ms | named |
|---|---|---|---|---|---|---|---|---|"""  # noqa: E501
# Words of an entry before the wake word has been said, and after it.
WAKE_WORD_ENDS = 52
BUDGET = 1e-6


@dataclass(frozen=True)
class Asked:
    """A request: its words and their clear bits, when it starts, and the advertisement that it heard, if it did."""

    request_id: str
    household: str
    start_us: int
    words: npt.NDArray[np.uint64]
    clear: npt.NDArray[np.uint64]
    source: str | None


def main(
    entries: Annotated[list[int] | None, typer.Option(help="Sizes of the catalogue.")] = None,
    with_faiss: Annotated[bool, typer.Option("--faiss/--no-faiss", help="Also ask faiss.")] = True,
) -> None:
    """Measure upkeep, memory, CPU and recall of catalogues of some sizes."""
    sizes = sorted(entries or [100, 10_000, 100_000])
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "requests"
        simulate(recording, SIMULATION)
        asked = requests(Recording.load(recording))
    aired = {Path(c.file).stem: marked(mix(c), BITS) for c in choose("advert", "evaluation", ["alexa"])}
    filling = list(fill(sizes[-1] - len(aired)))
    people = sum(one.source is None for one in asked)
    print(f"{len(asked) - people} requests of media, {people} of people; entries of {SECONDS:g} s\n")
    print(HEAD)
    measure(aired, asked[:20])  # kernels are loaded, arrays mapped
    with LocalKafka() as kafka:
        for size in sizes:
            catalogue = dict(aired) | {f"other-{i}": one for i, one in enumerate(filling[: size - len(aired)])}
            memory, added, *row = measure(catalogue, asked)
            row = [memory, added, f"{start_up_s(catalogue, kafka.bootstrap_servers):.1f}", *row]
            row += measure_faiss(catalogue, asked) if with_faiss else ["-", "-"]
            print(f"| {size:,} | " + " | ".join(row) + " |", flush=True)


def requests(recording: Recording) -> list[Asked]:
    """Fingerprint the requests of a recording that are long enough, in the order of their start."""
    heard, bits = sources(recording), bits_named(BITS)
    asked = []
    for request in sorted(recording.requests, key=lambda request: request.start_s):
        words = long_words(recording.audio(request)[0], request.request_id, bits)
        if words is not None:
            asked.append(
                Asked(
                    request.request_id,
                    request.household,
                    round(request.start_s * 1e6),
                    words[0],
                    words[1],
                    heard.get(request.request_id),
                )
            )
    return asked


def fill(count: int) -> list[Marked]:
    """Make other recordings, SECONDS long; those beyond CUTS of parts of them."""
    length = LEAD_WORDS + round((SECONDS * 1000 - 64 - 240) / 20)
    cuts = min(count, CUTS)
    # Another cut of an advertisement that airs is nearly the same: nobody could tell which it was.
    without = {clip.voice for clip in choose("advert", "evaluation", ["alexa"])}
    made = [(w[:length], c[:length]) for w, c in track(others(cuts, BITS, without), "recordings", total=cuts)]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(64) for _ in range(-(-count // CUTS))]
    for number in track(range(len(made), count), "made of parts"):
        order, first = orders[number // CUTS], made[number % CUTS]
        rest = made[int(rng.integers(CUTS))]
        words, clear = (
            np.concatenate((a[:WAKE_WORD_ENDS], reordered(b[WAKE_WORD_ENDS:], order)))
            for a, b in zip(first, rest, strict=True)
        )
        made.append((words, clear))
    return made


def reordered(words: npt.NDArray[np.uint64], order: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Words as other filters would have given them: uint64 (n,)."""
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, order]
    return np.packbits(np.ascontiguousarray(bits), axis=1, bitorder="little").view(np.uint64)[:, 0]


def look_times() -> range:
    """Audio that a request has at each look, ms."""
    return range(FIRST_KNOWN_LOOK_MS, FULL_KNOWN_MS + 1, LOOK_MS)


def words_at(audio_ms: int) -> int:
    """Words that so much audio gives."""
    return word_count(frame_count(audio_ms), bits_named(BITS))


def measure(catalogue: dict[str, Marked], asked: list[Asked]) -> list[str]:
    """Memory, time to add an entry, CPU of a request, and what came of them."""
    before_bytes = psutil.Process().memory_info().rss
    media = KnownMedia(known_calibration(BITS), BUDGET)
    began_s = time.process_time()
    for name, (words, clear) in catalogue.items():
        media.put(Entry(name, words, clear))
    added_us = (time.process_time() - began_s) / len(catalogue) * 1e6
    memory_mb = (psutil.Process().memory_info().rss - before_bytes) / 1e6
    looks = sorted((one.start_us + 1000 * ms, i, ms) for i, one in enumerate(asked) for ms in look_times())
    listening = {}
    recognised: dict[str, str] = {}
    began_s = time.process_time()
    for at_us, i, ms in looks:
        one = asked[i]
        if i not in listening:
            listening[i] = media.listen(one.request_id, one.household, one.start_us)
        n = words_at(ms)
        found = listening[i].look(one.words[:n], one.clear[:n], at_us)
        if found is not None:
            recognised[one.request_id] = found.media_id
        recognised.update((other.request_id, match.media_id) for other, match in media.swept())
    cpu_ms = (time.process_time() - began_s) / len(asked) * 1000
    right = sum(one.source is not None and recognised.get(one.request_id) == one.source for one in asked)
    wrong = sum(one.source is None and one.request_id in recognised for one in asked)
    of = sum(one.source is not None for one in asked)
    return [
        f"{memory_mb:.0f} ({media.index.memory_bytes / 1e6:.0f} of arrays)", f"{added_us:.0f}", f"{cpu_ms:.2f}",
        f"{right / of:.1%}", f"{wrong} of {len(asked) - of}",
    ]  # fmt: skip


def start_up_s(catalogue: dict[str, Marked], bootstrap_servers: str) -> float:
    """Time until a reader that starts has all entries of a topic."""
    settings = trial_settings(Settings(bits=BITS, known_entries=len(catalogue)), bootstrap_servers)
    create_topics(settings, 1)
    with MediaWriter(settings) as writer:
        for name, (words, clear) in catalogue.items():
            writer.put(
                MediaFingerprint(
                    media_id=name, kind=MediaFingerprint.KNOWN, wake_word="alexa", locale="en-US", bits=BITS,
                    words=words.astype("<u8").tobytes(), clear=clear.astype("<u8").tobytes(),
                )
            )  # fmt: skip
        writer.flush()
    read = KnownCatalogue.of_settings(settings)
    assert read is not None
    follower = KnownFollower(settings, read)
    began_s = time.monotonic()
    follower.start()
    took_s = time.monotonic() - began_s
    follower.stop()
    delete_topics(settings)
    assert len(read) == len(catalogue)
    return took_s


def measure_faiss(catalogue: dict[str, Marked], asked: list[Asked]) -> list[str]:
    """CPU of faiss for one look at 2.16 s, and the share of media whose entry is the nearest."""
    import faiss

    faiss.omp_set_num_threads(1)
    # From so far into an entry on that a request which begins as early, or as late, as can be has all of it.
    skipped = LEAD_WORDS + MAX_ALIGNMENT + 1
    used = (words_at(FULL_MS) - 2 * MAX_ALIGNMENT) // SLOT_WORDS
    rows = np.stack([words[skipped::SLOT_WORDS][:used] for words, _ in catalogue.values()])
    index: Any = faiss.IndexBinaryFlat(64 * used)
    index.add(np.ascontiguousarray(rows).view(np.uint8))
    names = list(catalogue)
    sample = [one for one in asked if one.source is not None]
    began_s, named = time.process_time(), 0
    for one in sample:
        starts = [one.words[start:][::SLOT_WORDS][:used] for start in range(1, 2 * MAX_ALIGNMENT + 2)]
        distances, nearest = index.search(np.stack(starts).view(np.uint8), 1)
        named += names[int(nearest[int(np.argmin(distances)), 0])] == one.source
    return [f"{(time.process_time() - began_s) / len(sample) * 1000:.0f}", f"{named / len(sample):.1%}"]


if __name__ == "__main__":
    typer.run(main)

"""Measures the null of known media that ships: `python -m bench.calibrate_known` makes the traffic and writes the file.

People and homes come from SIMULATION (the simulator's calibration split, requests of more than four seconds); the
recordings are the advertisements of that split in CUTS cuts each: other tempo, other bed. docs/known-media.md explains
each step.
"""

import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from bench.calibrate import simulate, truth_of
from bench.others import marked
from matcher.bits import Bits, bits_named
from matcher.fingerprint import Fingerprint
from matcher.known import FIRST_KNOWN_LOOK_MS, FULL_KNOWN_MS
from matcher.known_measure import Unheard, measure_known
from pipeline.recordings.recording import Recording
from pipeline.simulate.broadcast import mix, other_cut
from pipeline.simulate.clips import choose

SIMULATION = {
    "minutes": 60, "homes": 400, "events": 60, "live_per_minute": 12.5, "split": "calibration", "seed": 41,
    "request_s": "4.3-4.5",
}  # fmt: skip
CUTS = 24
# The weights are for homes that are not clear anyway.
WEAK_DB = 5.0
THRESHOLDS_FOR = (1, 10, 1000, 100_000)


def main(
    recording: Annotated[Path | None, typer.Option(help="Simulated traffic; made anew when not given.")] = None,
    bits_name: Annotated[str, typer.Option("--bits", help="The kind of bits.")] = "learned64",
    out: Annotated[Path | None, typer.Option(help="The calibration file; the one that ships by default.")] = None,
    version: Annotated[str, typer.Option(help="Stamped on every decision, after the bits' name.")] = "2026.11.1",
    seed: Annotated[int, typer.Option(help="Of the cohort.")] = 0,
) -> None:
    """Measure the null of known media on simulated traffic, and write it with its provenance."""
    bits = bits_named(bits_name)
    out = out or Path("matcher/calibration") / f"{bits.name}-known.npz"
    with ExitStack() as stack:
        if recording is None:
            recording = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "calibration"
            simulate(recording, SIMULATION)
        unheard, what = people_and_recordings(Recording.load(recording), bits, "calibration", CUTS)
    provenance = {"measured": datetime.now(UTC).date().isoformat(), "simulated": SIMULATION} | what
    calibration = measure_known(unheard, bits, f"{bits.name}-known-{version}", provenance, seed=seed)
    out.write_bytes(calibration.to_bytes())
    print(f"{out}: {calibration.version}, {provenance}")
    print(calibration.tail, *(f"n={n}: {calibration.tail.threshold(5e-7, n):.2f}" for n in THRESHOLDS_FOR))


def people_and_recordings(recording: Recording, bits: Bits, split: str, cuts: int) -> tuple[Unheard, dict[str, object]]:
    """Sort a recording by its truth, and make entries of the advertisements of its split; and what to say of it."""
    long = {}
    for request in track(recording.requests, "fingerprints", transient=True):
        words = long_words(recording.audio(request)[0], request.request_id, bits)
        if words is not None:
            long[request.request_id] = words
    adverts = [(clip, number) for clip in choose("advert", split, ["alexa"]) for number in range(cuts)]
    entries = [
        marked(mix(c) if n == 0 else other_cut(c, n), bits.name) for c, n in track(adverts, "entries", transient=True)
    ]
    original = {Path(clip.file).stem: row for row, (clip, number) in enumerate(adverts) if number == 0}
    source = sources(recording)
    people = [i for i in long if recording.truth[i].kind == "live"]
    media = [i for i in long if recording.truth[i].kind != "live" and (recording.truth[i].snr_db or 0.0) <= WEAK_DB]
    return Unheard(
        people=np.stack([long[i] for i in people]),
        entries=entries,
        media=np.stack([long[i] for i in media]),
        heard=np.array([original[source[i]] for i in media]),
    ), {"people": len(people), "homes": len(media), "recordings": len(entries), "advertisements": len(original)}


def long_words(samples: npt.NDArray[np.int16], request_id: str, bits: Bits) -> npt.NDArray[np.uint64] | None:
    """All words of a request up to FULL_KNOWN_MS and their clear bits, uint64 (2, n); None when it ends before."""
    fingerprint = Fingerprint(request_id, bits, FULL_KNOWN_MS)
    fingerprint.grow(samples)
    words = list(fingerprint.looks(FIRST_KNOWN_LOOK_MS))
    return np.stack(words[-1][1:]) if fingerprint.full else None


def sources(recording: Recording) -> dict[str, str]:
    """Which advertisement each request is of, by request id."""
    return {request_id: Path(source).stem for request_id, source in truth_of(recording, "source").items() if source}


if __name__ == "__main__":
    typer.run(main)

"""Measures the calibration that ships: `python -m bench.calibrate` makes the traffic and writes the file.

SIMULATION below is the traffic; `--recording` takes a simulated one that is there already.
docs/calibration.md explains each step and says what its figures rest on.
"""

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from matcher.bits import GRADIENT
from matcher.event import Event
from matcher.evidence import MIN_WORDS, Calibration, compare
from matcher.fingerprint import MAX_WORDS, Fingerprint
from matcher.null import Unrelated, measure
from pipeline.recording import Recording, Request
from pipeline.simulate.clips import all_clips

SIMULATION = {"minutes": 60, "homes": 400, "events": 60, "live_per_minute": 12.5, "split": "calibration", "seed": 41}
AVERAGE_SIZES = (3, 6, 12, 30)
AIRING_HOMES = 16


def main(
    recording: Annotated[Path | None, typer.Option(help="Simulated traffic; made anew when not given.")] = None,
    out: Annotated[Path, typer.Option(help="The calibration file.")] = Path("matcher/calibration/gradient32.npz"),
    version: Annotated[str, typer.Option(help="Stamped on every decision.")] = "gradient32-2026.11",
    seed: Annotated[int, typer.Option(help="Of the cohort, the windows and the averages' homes.")] = 0,
) -> None:
    """Measure the null of unrelated requests on simulated traffic, and write it with its provenance."""
    if recording is None:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "calibration"
            _simulate(made)
            calibration = calibrate(Recording.load(made), version, seed, {"simulated": SIMULATION})
    else:
        calibration = calibrate(Recording.load(recording), version, seed, {"recording": recording.name})
    out.write_bytes(calibration.to_bytes())
    print(f"{out}: {calibration.version}, {calibration.provenance}")
    for name in ("triple", "beside", "template"):
        tail = getattr(calibration, name)
        print(name, tail, *(f"n={n}: {tail.threshold(1e-6 / 3, n):.2f}" for n in (1, 10, 100, 1000)))


def calibrate(recording: Recording, version: str, seed: int, traffic: dict[str, object]) -> Calibration:
    """Measure a calibration on a labelled recording of the simulator."""
    fingerprints = {
        request.request_id: Fingerprint(request.request_id).grow(recording.audio(request)[0])
        for request in track(recording.requests, "fingerprints", transient=True)
    }
    people = [
        r for r in recording.requests
        if recording.truth[r.request_id].kind == "live" and len(fingerprints[r.request_id]) == MAX_WORDS
    ]  # fmt: skip
    synthesiser = {clip.voice: clip.synthesiser for clip in all_clips()}
    voices = _voices(recording)
    words = np.array([fingerprints[r.request_id] for r in people])
    rng = np.random.default_rng(seed)

    # A triple takes three people, so people are told apart as strictly as synthetic voices allow: by synthesiser.
    # The voices of one synthesiser share their prosody, as people do not.
    makers = np.array([synthesiser[voices[r.request_id]] for r in people])
    strangers = makers[:, None] != makers[None]
    airings, announcers = _airings(recording, fingerprints)
    beside = makers[:, None] != np.array([synthesiser[voice] for voice in announcers])[None]
    nothing = np.ones((len(people), 1), np.bool_)
    draft = measure(
        Unrelated(words, strangers, [words[0]], nothing, airings[:1], nothing), GRADIENT, version, {}, seed=seed
    )
    # An average decides about one person alone, so there every other voice counts, kin of the advertisement's too.
    averages, speakers = _averages(recording, fingerprints, draft, rng)
    apart = np.array([[_components(voices[r.request_id]).isdisjoint(s) for s in speakers] for r in people])
    provenance: dict[str, object] = {
        "measured": datetime.now(UTC).date().isoformat(),
        **traffic,
        "seed": seed,
        "people": len(people),
        "voices": len({voices[r.request_id] for r in people}),
        "synthesisers": sorted(set(makers.tolist())),
        "averages": len(averages),
    }
    unrelated = Unrelated(words, strangers, averages, apart, airings, beside)
    return measure(unrelated, GRADIENT, version, provenance, seed=seed)


def _airings(
    recording: Recording, fingerprints: dict[str, npt.NDArray[np.uint32]]
) -> tuple[list[npt.NDArray[np.uint32]], list[str]]:
    """Fingerprints of some homes of every media event, and the voice that speaks in each."""
    voices = _voices(recording)
    airings, announcers = [], []
    for homes in _by_event(recording).values():
        full = [r for r in homes.values() if len(fingerprints[r.request_id]) == MAX_WORDS][:AIRING_HOMES]
        if len(full) >= 2:
            airings.append(np.array([fingerprints[r.request_id] for r in full]))
            announcers.append(voices[full[0].request_id])
    return airings, announcers


def _by_event(recording: Recording) -> dict[str, dict[str, Request]]:
    """One request a household of every media event."""
    by_event: dict[str, dict[str, Request]] = {}
    for request in recording.requests:
        truth = recording.truth[request.request_id]
        if truth.expect == "ignore" and truth.event is not None:
            by_event.setdefault(truth.event, {}).setdefault(request.household, request)
    return by_event


def _averages(
    recording: Recording,
    fingerprints: dict[str, npt.NDArray[np.uint32]],
    draft: Calibration,
    rng: np.random.Generator,
) -> tuple[list[npt.NDArray[np.uint32]], list[set[str]]]:
    """Averages of several sizes of every media event, and the voices that speak in each."""
    averages, speakers = [], []
    voices = _voices(recording)
    for homes in _by_event(recording).values():
        for size in AVERAGE_SIZES:
            if len(homes) < size:
                continue
            chosen = [list(homes.values())[i] for i in rng.permutation(len(homes))[:size]]
            event = Event("calibration", 0)
            first = fingerprints[chosen[0].request_id]
            for request in chosen:
                words = fingerprints[request.request_id]
                event.join(request.request_id, request.household, _alignment(first, words, draft), words, 0)
            average, _ = event.average(draft)
            if len(average) >= MIN_WORDS:
                averages.append(average)
                speakers.append(_components(voices[chosen[0].request_id]))
    return averages, speakers


def _alignment(first: npt.NDArray[np.uint32], other: npt.NDArray[np.uint32], draft: Calibration) -> int:
    lengths, none = np.array([len(other)], np.int32), np.zeros(1, np.float32)
    return compare(draft, first, 0.0, other[None], lengths, none, np.zeros(1, np.int64)).at(0).alignment


def _voices(recording: Recording) -> dict[str, str]:
    """Read the voices from the manifest: they are the simulator's truth, which the product has no use for."""
    import json

    lines = (recording.folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["request_id"]: entry["voice"] for entry in map(json.loads, lines)}


def _components(voice: str) -> set[str]:
    """Voices that a mixed voice is made of; espeak's plus sign is no mixture."""
    return set(voice.split("+")) if re.match(r"[a-z][fm]_", voice) else {voice}


def _simulate(folder: Path) -> None:
    from pipeline.simulate.scene import plan
    from pipeline.simulate.settings import settings_from
    from pipeline.simulate.write import write_recording

    settings = settings_from(None, SIMULATION)
    write_recording(plan(settings), folder, None, lambda _done, _total: None)


if __name__ == "__main__":
    typer.run(main)

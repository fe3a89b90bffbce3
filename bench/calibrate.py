"""Measures the calibration that ships: `python -m bench.calibrate` makes the traffic and writes the file.

SIMULATION below is the traffic; `--recording` takes a simulated one that is there already. Unlike `hushword calibrate`,
which takes anybody's traffic, this knows who spoke. docs/calibration.md explains each step.
"""

import json
import re
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from matcher.bits import Bits, bits_named
from matcher.evidence import Calibration
from matcher.looks import Looks, every_look
from matcher.null import Unrelated, measure
from matcher.search import AIRING_HOMES
from matcher.traffic import averages_of
from pipeline.recordings.recording import Recording, Request
from pipeline.simulate.clips import all_clips

SIMULATION = {"minutes": 60, "homes": 400, "events": 60, "live_per_minute": 12.5, "split": "calibration", "seed": 41}
# Two synthesisers learned from one person's recordings.
SAME_SPEAKER = {"flite_slt": "cmu_us_slt", "festival_cmu_us_slt_arctic_hts": "cmu_us_slt"}


def main(
    recording: Annotated[Path | None, typer.Option(help="Simulated traffic; made anew when not given.")] = None,
    bits_name: Annotated[str, typer.Option("--bits", help="The kind of bits.")] = "learned64",
    out: Annotated[Path | None, typer.Option(help="The calibration file; the one that ships by default.")] = None,
    version: Annotated[str, typer.Option(help="Stamped on every decision, after the bits' name.")] = "2026.11.3",
    seed: Annotated[int, typer.Option(help="Of the cohort and the averages' homes.")] = 0,
) -> None:
    """Measure the null of unrelated requests on simulated traffic, and write it with its provenance."""
    bits = bits_named(bits_name)
    out = out or Path("matcher/calibration") / f"{bits.name}.npz"
    with ExitStack() as stack:
        if recording is None:
            recording = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "calibration"
            simulate(recording, SIMULATION)
        calibration = calibrate(Recording.load(recording), bits, f"{bits.name}-{version}", seed)
    out.write_bytes(calibration.to_bytes())
    print(f"{out}: {calibration.version}, {calibration.provenance}")
    for name in ("triple", "beside", "template"):
        tail = getattr(calibration, name)
        print(name, tail, *(f"n={n}: {tail.threshold(1e-6, n):.2f}" for n in (1, 10, 100, 1000)))


def calibrate(recording: Recording, bits: Bits, version: str, seed: int) -> Calibration:
    """Measure a calibration on a labelled recording of the simulator."""
    unrelated, _, sorted_out = people_and_airings(recording, bits, seed)
    provenance: dict[str, object] = {"measured": datetime.now(UTC).date().isoformat(), "simulated": SIMULATION}
    return measure(unrelated, bits, version, provenance | sorted_out, seed=seed)


def people_and_airings(
    recording: Recording, bits: Bits, seed: int
) -> tuple[Unrelated, npt.NDArray[np.str_], dict[str, object]]:
    """Sort a recording by its truth: who is a stranger to whom, what aired; who speaks; and what to say of it."""
    looks = {
        request.request_id: every_look(recording.audio(request)[0], request.request_id, bits)
        for request in track(recording.requests, "fingerprints", transient=True)
    }
    whole = {request_id: words for request_id, words in looks.items() if words is not None}
    people = [r for r in recording.requests if recording.truth[r.request_id].kind == "live" and r.request_id in whole]
    voices = truth_of(recording, "voice")
    airings, announcers = [], []
    for homes in _by_event(recording).values():
        heard = [request_id for request_id in homes if request_id in whole]
        if len(heard) > 1:
            airings.append([whole[request_id] for request_id in heard])
            announcers.append(voices[heard[0]])
    averages, of_airing = averages_of(
        [[h.full[0] for h in homes] for homes in airings], bits, np.random.default_rng(seed)
    )

    # A triple takes three people, so people are told apart as strictly as synthetic voices allow: by synthesiser.
    # The voices of one synthesiser share their prosody, as people do not.
    synthesiser = {clip.voice: clip.synthesiser for clip in all_clips()}
    makers = np.array([synthesiser[voices[r.request_id]] for r in people])
    speakers = np.array([SAME_SPEAKER.get(voice, voice) for voice in (voices[r.request_id] for r in people)])
    beside = makers[:, None] != np.array([synthesiser[voice] for voice in announcers])[None]
    # An average decides about one person alone, so there every other voice counts, kin of the advertisement's too.
    apart = _disjoint([voice_parts(voices[r.request_id]) for r in people], [voice_parts(voice) for voice in announcers])
    unrelated = Unrelated(
        people=Looks.of_all([whole[r.request_id] for r in people]),
        strangers=(makers[:, None] != makers[None]) & (speakers[:, None] != speakers[None]),
        averages=averages,
        average_strangers=apart[:, of_airing],
        airings=[Looks.of_all(homes[:AIRING_HOMES]) for homes in airings],
        airing_strangers=beside,
    )
    return (
        unrelated,
        speakers,
        {
            "people": len(people),
            "voices": len({voices[r.request_id] for r in people}),
            "synthesisers": sorted(set(makers.tolist())),
            "airings": len(airings),
            "averages": len(averages),
            "seed": seed,
        },
    )


def simulate(folder: Path, settings: dict[str, object]) -> None:
    """Make a recording."""
    from pipeline.simulate.scene import plan
    from pipeline.simulate.settings import settings_from
    from pipeline.simulate.write import write_recording

    write_recording(plan(settings_from(None, settings)), folder, None, lambda _done, _total: None)


def _by_event(recording: Recording) -> dict[str, list[str]]:
    """One request a household of every media event."""
    by_event: dict[str, dict[str, Request]] = {}
    for request in recording.requests:
        truth = recording.truth[request.request_id]
        if truth.expect == "ignore" and truth.event is not None:
            by_event.setdefault(truth.event, {}).setdefault(request.household, request)
    return {event: [request.request_id for request in homes.values()] for event, homes in by_event.items()}


def truth_of(recording: Recording, name: str) -> dict[str, str]:
    """Read a field of the manifest, such as the voice: the simulator's truth, which the product has no use for."""
    lines = (recording.folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["request_id"]: entry[name] for entry in map(json.loads, lines)}


def voice_parts(voice: str) -> set[str]:
    """Voices that a mixed voice is made of; espeak's plus sign is no mixture."""
    return set(voice.split("+")) if re.match(r"[a-z][fm]_", voice) else {voice}


def _disjoint(first: list[set[str]], second: list[set[str]]) -> npt.NDArray[np.bool_]:
    return np.array([[one.isdisjoint(other) for other in second] for one in first])


if __name__ == "__main__":
    typer.run(main)

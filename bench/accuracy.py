"""Makes docs/accuracy.md: recordings of voices that no threshold was fitted on, through a real Kafka and the real job.

`python -m bench.accuracy` simulates three recordings, runs the job over each at 20x and writes the table; any
labelled recordings given as arguments are added to it. About four minutes on two cores.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.evaluate.score import Recall, Report, score
from pipeline.local.kafka import LocalKafka
from pipeline.options import Settings
from pipeline.progress import PhaseProgress
from pipeline.recordings.recording import Recording
from pipeline.simulate.scene import plan
from pipeline.simulate.settings import settings_from
from pipeline.simulate.write import write_recording
from pipeline.trial import run_trial

SEEDS = (1001, 1002, 1003)
SIMULATION = {"minutes": 10, "events": 12, "split": "evaluation"}
SPEED = 20.0

HEAD = f"""# Accuracy

Made by `python -m bench.accuracy`: each recording is replayed at {SPEED:g}x through a real Kafka and the real job with
default settings. The simulated ones are ten minutes of the *evaluation* split each (`hushword simulate street --split
evaluation --events 12 --seed N`). No null, tail or filter was fitted on the voices and advertisements of that split; a
few choices, named in [calibration.md](calibration.md), were made while looking at recordings of it, of these for the
shares of averages and the widths of nulls. A sixth of the requests is at each of 0, 5, 10, 15, 20 and 25 dB.

| recording | requests | media ignored | at 0 dB | re-runs, alone | people ignored | audio from the wake word on |
|---|---|---|---|---|---|---|
"""

FURTHER = """
Rows without a seed are of labelled recordings given as arguments, which are not in the repository. They are no held-out
ones: they were looked at all along.
"""
TAIL = """
"Media" are requests of three or more households. "People" are all that must be accepted: live voices, and media
heard in one or two households only. "Audio from the wake word on" is what had been heard when a request was ignored:
median and 90 %. None ignored of n says that the rate is at most about 3/n with 95 % confidence; the budget of one in a
million rests on the tails described in [calibration.md](calibration.md), not on these counts.
"""


def main(
    recordings: Annotated[list[Path] | None, typer.Argument(help="Further labelled recordings.")] = None,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("docs/accuracy.md"),
) -> None:
    """Run the job over recordings that no threshold was fitted on, and write the table."""
    err = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory() as folder, LocalKafka() as kafka:
        lines = []
        for name, recording in [*_simulated(Path(folder)), *((r.name, Recording.load(r)) for r in recordings or ())]:
            err.print(name)
            with PhaseProgress(err) as progress:
                trial = run_trial(recording, Settings(), kafka.bootstrap_servers, speed=SPEED, progress=progress)
            lines.append(_line(name, score(recording, trial.decisions)))
    out.write_text(HEAD + "".join(lines) + (FURTHER if recordings else "") + TAIL, encoding="utf-8")
    print("".join(lines))


def _simulated(folder: Path) -> Iterator[tuple[str, Recording]]:
    for seed in SEEDS:
        made = folder / f"seed-{seed}"
        scene = plan(settings_from(None, {**SIMULATION, "seed": seed}))
        write_recording(scene, made, None, lambda _done, _total: None)
        yield f"simulated, seed {seed}", Recording.load(made)


def _line(name: str, report: Report) -> str:
    quietest = next((recall for recall in report.recall_by_snr if recall.label == "0 dB"), None)
    wrong, used = report.false_ignores, report.audio_used_after_wake_word_ms
    cells = [
        name,
        str(report.requests),
        _share(report.recall),
        _share(quietest) if quietest else "-",
        _share(report.recall_rerun),
        f"{len(wrong.request_ids)} of {wrong.accepted_expected}",
        f"{used.p50:.0f}, {used.p90:.0f} ms" if used.p50 is not None and used.p90 is not None else "-",
    ]
    return f"| {' | '.join(cells)} |\n"


def _share(recall: Recall) -> str:
    return "-" if recall.rate is None else f"{recall.ignored} of {recall.expected} ({recall.rate:.1%})"


if __name__ == "__main__":
    typer.run(main)

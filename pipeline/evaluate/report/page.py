"""The page of a report: one file, nothing from elsewhere, light and dark, no script."""

import importlib.resources
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matcher.bits import BITS_PER_WORD, WORD_MS
from pipeline.decisions import DecisionLine
from pipeline.errors import InputError
from pipeline.evaluate.against import Comparison
from pipeline.evaluate.near import Kind, Near, Watch
from pipeline.evaluate.offline import Heard, decide
from pipeline.evaluate.report.cases import ILLUSTRATED, SOUND_S, Teller
from pipeline.evaluate.score import Report
from pipeline.evaluate.sweep import Operation, budget_text
from pipeline.recordings.recording import Recording


class ReportError(InputError):
    """The report cannot be written, or what draws it is not installed."""


@dataclass(frozen=True)
class Run:
    """A run over a recording: what it decided, and what that was worth."""

    decisions: Sequence[DecisionLine]
    report: Report
    source: str  # in words: what made the decisions


def write_report(
    path: Path,
    recording: Recording,
    run: Run,
    heard: Heard,
    operations: Sequence[Operation],
    other: Run | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the page.

    Args:
        path: of the file; overwritten.
        recording: labelled, its audio at hand.
        run: what is reported on.
        heard: the recording's growths, to tell misses by.
        operations: from the sweep.
        other: a run to hold beside it.
        progress: called with the number of growths that have been decided about again.

    Raises:
        ReportError: the file cannot be written.
        RecordingError: a request's audio cannot be read.

    """
    from jinja2 import Environment, StrictUndefined

    template = importlib.resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(template).render(_content(recording, run, heard, operations, other, progress))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportError(f"the report {path} cannot be written: {error}") from error


def require_report(path: Path) -> None:
    """Raise ReportError when a report cannot be drawn or has nowhere to go: before minutes are spent on it."""
    for name in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise ReportError(f"a report takes {name}: pip install 'hushword[report]'")
    if not path.parent.is_dir():
        raise ReportError(f"the report {path} cannot be written: there is no folder {path.parent}")


def _content(
    recording: Recording,
    run: Run,
    heard: Heard,
    operations: Sequence[Operation],
    other: Run | None,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    ignored = {decision.request_id for decision in run.decisions}
    watched = {
        label.request_id
        for label in recording.truth.values()
        if label.expect == "accept" or label.request_id not in ignored
    }
    watch = Watch(watched)
    alone = decide(heard, observe=watch.of, progress=progress)
    alone_ignored = {decision.request_id for decision in alone}
    teller = Teller(recording, watch, alone)
    people = heard.calibration.provenance.get("people")
    last_s = max(request.start_s for request in recording.requests)
    return {
        "name": recording.folder.resolve().name,
        "minutes": round(last_s / 60, 1),
        "run": run,
        "other": other,
        "comparison": None
        if other is None
        else Comparison.of(recording, (run.report, run.decisions), (other.report, other.decisions)),
        "settings": heard.settings,
        "calibration": heard.calibration,
        "differs_alone": len(ignored ^ alone_ignored),
        "missed": teller.missed(run.decisions),
        "wrong": teller.wrong(run.decisions),
        "closest": teller.closest(run.decisions),
        "bits_per_word": BITS_PER_WORD,
        "word_ms": WORD_MS,
        "illustrated": ILLUSTRATED,
        "sound_s": SOUND_S,
        "operations": operations,
        "budget_text": budget_text,
        "people": people,
        "charts": _charts(recording, run, heard, operations, other, watch, len({found.media_id for found in alone})),
    }


def _charts(
    recording: Recording,
    run: Run,
    heard: Heard,
    operations: Sequence[Operation],
    other: Run | None,
    watch: Watch,
    averages: int,
) -> dict[str, Any]:
    from markupsafe import Markup

    from pipeline.evaluate.report import charts

    people = heard.calibration.provenance.get("people")
    measured = people if isinstance(people, int) else None
    live = [label.request_id for label in recording.truth.values() if label.expect == "accept" and label.event is None]

    def nears(kind: Kind) -> list[Near]:
        return [watch.nearest[request_id, kind] for request_id in live if (request_id, kind) in watch.nearest]

    used_ms, expected = _used_ms(recording, run), run.report.recall.expected
    others_ms = None if other is None else _used_ms(recording, other)
    made = {
        "snr": charts.recall_bars(
            "snr", run.report.recall_by_snr, None if other is None else other.report.recall_by_snr
        ),
        "households": charts.recall_bars(
            "households", run.report.recall_by_households, None if other is None else other.report.recall_by_households
        ),
        "audio": charts.by_audio(used_ms, expected, None if others_ms is None else (others_ms, expected)),
        "times": charts.time_to_decide(used_ms, others_ms),
        "trade_off": charts.trade_off(operations, heard.settings.false_ignore_budget, measured),
        "null": charts.null_tails(
            heard.calibration,
            heard.settings.budget_concurrency,
            averages,
            len(live),
            nears("triple"),
            nears("average"),
            measured,
        ),
    }
    # Our own drawings: the numbers and labels in them went through matplotlib, which escapes.
    return {name: Markup(svg) for name, svg in made.items()}  # noqa: S704


def _used_ms(recording: Recording, run: Run) -> list[float]:
    """Audio from the wake word on of each ignored request that should have been."""
    first = {decision.request_id: decision for decision in reversed(list(run.decisions))}
    return [
        first[label.request_id].audio_used_ms - 1000 * label.wake_word_start_s
        for label in recording.truth.values()
        if label.expect == "ignore" and label.request_id in first and label.wake_word_start_s is not None
    ]

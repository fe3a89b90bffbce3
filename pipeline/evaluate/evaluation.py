"""`hushword evaluate`, once there are decisions: the score, and what was asked for beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from pipeline.decisions import DecisionLine, read_file
from pipeline.evaluate.against import Comparison
from pipeline.evaluate.offline import Heard
from pipeline.evaluate.score import Report, score
from pipeline.evaluate.sweep import Operation, sweep, sweep_table
from pipeline.recordings.recording import Recording
from pipeline.trial import Progress


@dataclass(frozen=True)
class Evaluation:
    """What is said about decisions; parts that nobody asked for are None."""

    report: Report
    budget: float
    operations: list[Operation] | None
    comparison: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """Give plain values for `json.dumps`."""
        plain = self.report.to_json()
        if self.operations is not None:
            plain["sweep"] = [operation.to_json() for operation in self.operations]
        if self.comparison is not None:
            plain["against"] = self.comparison.to_json()
        return plain

    def table(self) -> RenderableType:
        """Draw it for people."""
        parts = [self.report.table()]
        if self.operations is not None:
            parts += ["", sweep_table(self.operations, self.budget)]
        if self.comparison is not None:
            parts += ["", self.comparison.table()]
        return Group(*parts)


def evaluate(
    recording: Recording,
    decisions: Sequence[DecisionLine],
    source: str,
    heard: Heard | None,
    *,
    with_sweep: bool,
    page: Path | None,
    against: Path | None,
    progress: Progress,
) -> Evaluation:
    """Score decisions, and compare, sweep and report as asked.

    Args:
        recording: labelled.
        decisions: to be scored.
        source: where they are from, in words.
        heard: the recording's growths; a sweep or a page takes them.
        with_sweep: whether to try other budgets.
        page: where to write a report, or None.
        against: decisions of another run, or None.
        progress: told about every phase.

    Raises:
        DecisionsError: the other run's file cannot be read.
        RecordingError: a request's audio cannot be read.
        ReportError: the page cannot be written, or what draws it is not installed.

    """
    report = score(recording, decisions)
    others = None if against is None else read_file(against)
    comparison = operations = None
    if others is not None:
        comparison = Comparison.of(recording, (report, decisions), (score(recording, others), others))
    if heard is not None and (with_sweep or page is not None):
        operations = sweep(recording, heard, lambda done, total: progress("trying other budgets", done, total))
    if heard is not None and operations is not None and page is not None:
        from pipeline.evaluate.report.page import Run, write_report

        other = None
        if comparison is not None and others is not None and against is not None:
            other = Run(others, comparison.other, against.name)
        write_report(
            page,
            recording,
            Run(decisions, report, source),
            heard,
            operations,
            other,
            lambda done: progress("finding out why", done, len(heard.growths)),
        )
    budget = 0.0 if heard is None else heard.settings.false_ignore_budget
    return Evaluation(report, budget, operations if with_sweep else None, comparison)

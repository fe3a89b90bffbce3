"""Two runs over one recording, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from pipeline.decisions import DecisionLine
from pipeline.evaluate.score import Recall, Report, Spread
from pipeline.recordings.recording import Recording


@dataclass(frozen=True)
class Changed:
    """A labelled request that only one of two runs ignores."""

    request_id: str
    expect: str
    ignored_here: bool

    @property
    def better(self) -> bool:
        """Whether this run is right about it, and the other one wrong."""
        return self.ignored_here == (self.expect != "accept")


@dataclass(frozen=True)
class Comparison:
    """Two reports, and the requests that the runs disagree about."""

    here: Report
    other: Report
    changed: tuple[Changed, ...]

    @classmethod
    def of(
        cls,
        recording: Recording,
        here: tuple[Report, Sequence[DecisionLine]],
        other: tuple[Report, Sequence[DecisionLine]],
    ) -> "Comparison":
        """Compare two runs, each given by its report and its decisions."""
        mine, theirs = ({decision.request_id for decision in run[1]} for run in (here, other))
        changed = [
            Changed(label.request_id, label.expect, label.request_id in mine)
            for label in recording.truth.values()
            if (label.request_id in mine) != (label.request_id in theirs)
        ]
        changed.sort(key=lambda change: (change.better, change.request_id))
        return cls(here[0], other[0], tuple(changed))

    def measures(self) -> list[tuple[str, str, str]]:
        """Give rows for people: measure, this run, the other."""
        found = [
            (mine.label, _share(mine), _share(theirs))
            for mine, theirs in zip(_recalls(self.here), _recalls(self.other), strict=True)
        ]
        found += zip(
            ("false ignores", "audio used, median", "audio used, 90 %", "pipeline latency, 99 %"),
            *map(_others, (self.here, self.other)),
            strict=True,
        )
        return found

    def to_json(self) -> dict[str, Any]:
        """Give plain values for `json.dumps`."""
        changed = [{**vars(change), "better": change.better} for change in self.changed]
        return {"report": self.other.to_json(), "changed": changed}

    def table(self) -> RenderableType:
        """Draw it for people."""
        side = Table("measure", title="Side by side", title_justify="left")
        for heading in ("this run", "the other"):
            side.add_column(heading, justify="right")
        for row in self.measures():
            side.add_row(*row)
        changed = Table("request", "expected", "ignored by", "better", title="Differences", title_justify="left")
        for change in self.changed:
            ignored_by = "this run" if change.ignored_here else "the other"
            better = "this run" if change.better else "the other"
            changed.add_row(change.request_id, change.expect, ignored_by, better)
        return Group(side, "", changed if self.changed else "Both runs ignore the same labelled requests.")


def _recalls(report: Report) -> list[Recall]:
    return [report.recall, *report.recall_by_snr, *report.recall_by_households, report.recall_rerun]


def _share(recall: Recall) -> str:
    return "-" if recall.rate is None else f"{recall.rate:.1%} ({recall.ignored} of {recall.expected})"


def _others(report: Report) -> tuple[str, str, str, str]:
    used, latency = report.audio_used_after_wake_word_ms, report.latency_ms
    return str(len(report.false_ignores.request_ids)), _ms(used, "p50"), _ms(used, "p90"), _ms(latency, "p99")


def _ms(spread: Spread, name: str) -> str:
    value = getattr(spread, name)
    return "-" if value is None else f"{value:.0f} ms"

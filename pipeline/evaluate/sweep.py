"""What other false-ignore budgets would have come to: recall, time to decide and false ignores at each of them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from pipeline.evaluate.offline import Heard, decide
from pipeline.evaluate.score import FalseIgnores, Recall, Spread, score
from pipeline.recordings.recording import Recording

BUDGETS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


@dataclass(frozen=True)
class Operation:
    """What one budget comes to."""

    budget: float
    recall: Recall
    audio_used_after_wake_word_ms: Spread
    false_ignores: FalseIgnores

    def to_json(self) -> dict[str, Any]:
        """Give plain values for `json.dumps`."""
        return {**asdict(self), "recall": {**asdict(self.recall), "rate": self.recall.rate}}


def sweep(
    recording: Recording, heard: Heard, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> list[Operation]:
    """Decide about a recording at each of BUDGETS, and at the one that is set.

    Args:
        recording: labelled.
        heard: its growths.
        progress: called with the number of budgets that have been tried, and of all.

    Raises:
        RecordingError: the recording has no labels.

    """
    operations = []
    budgets = sorted({*BUDGETS, heard.settings.false_ignore_budget})
    for number, budget in enumerate(budgets, start=1):
        found = score(recording, decide(heard, budget))
        operations.append(Operation(budget, found.recall, found.audio_used_after_wake_word_ms, found.false_ignores))
        progress(number, len(budgets))
    return operations


def budget_text(budget: float) -> str:
    """Write a budget as all of them are written: 1e-06, 2.5e-06."""
    return f"{budget:.1e}".replace(".0e", "e")


def sweep_table(operations: list[Operation], budget: float) -> RenderableType:
    """Draw it for people; the budget that is set is pointed at."""
    table = Table(title="By false-ignore budget (one process, no broker)", title_justify="left")
    for heading in ("budget", "ignored", "of", "share", "median", "90 %", "false ignores", "of", "rate at most (95 %)"):
        table.add_column(heading, justify="right")
    for at in operations:
        bound = at.false_ignores.upper_bound_95
        table.add_row(
            f"{'> ' if at.budget == budget else ''}{budget_text(at.budget)}",
            str(at.recall.ignored),
            str(at.recall.expected),
            "-" if at.recall.rate is None else f"{at.recall.rate:.1%}",
            *(
                "-" if value is None else f"{value:.0f} ms"
                for value in (at.audio_used_after_wake_word_ms.p50, at.audio_used_after_wake_word_ms.p90)
            ),
            str(len(at.false_ignores.request_ids)),
            str(at.false_ignores.accepted_expected),
            "-" if bound is None else f"{bound:.2%}",
        )
    return table

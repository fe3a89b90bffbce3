"""Progress on standard error: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_LINE_EVERY_S = 5.0


class PhaseProgress:
    """Show phases that follow each other: call it with the phase, how much is done, and the total (0: no measure)."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._phase = ""
        self._said_s = 0.0
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self._finish()
        self._bars.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show `done` of `total`; a new phase ends the one before."""
        new = phase != self._phase
        if new:
            self._finish()
            self._phase = phase
            self._bars.add_task(phase, total=total or None)
        self._bars.update(self._bars.task_ids[-1], completed=done)
        if not self._console.is_terminal and (new or done == total or self._clock() - self._said_s > _LINE_EVERY_S):
            if new or total:
                self._console.print(f"{phase}: {done} of {total}" if total else phase)
            self._said_s = self._clock()

    def _finish(self) -> None:
        for task in self._bars.tasks:
            if not task.finished:
                total = task.total or 1
                self._bars.update(task.id, total=total, completed=total)

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


class RateProgress:
    """Show requests, their rate and the time left of work that may have no end."""

    def __init__(self, console: Console, phase: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._phase, self._clock = console, phase, clock
        self._began_s = self._said_s = clock()
        self._first: tuple[int, float] | None = None  # requests and share done when it began
        self._last = ""
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self._bars.add_task(phase, total=None, said="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._bars.stop()
        if kind is None and self._last and not self._console.is_terminal:
            self._console.print(f"{self._phase}: {self._last}")

    def __call__(self, requests: int, total: int | None = None, share: float | None = None) -> None:
        """Show `requests` of `total`, and how long the rest takes when `share` of the work, 0 to 1, is done.

        What was done at the first call was done by somebody before, and does not count for the rate.
        """
        if total:
            share = requests / total
        if self._first is None:
            self._first = requests, share or 0.0
        elapsed_s = max(self._clock() - self._began_s, 1e-6)
        said = f"{requests} of {total} requests" if total else f"{requests} requests"
        said += f", {(requests - self._first[0]) / elapsed_s:.1f}/s"
        if share is not None and self._first[1] < share < 1:
            said += f", {_duration(elapsed_s * (1 - share) / (share - self._first[1]))} left"
        self._last = said
        self._bars.update(self._bar, total=None if share is None else 1.0, completed=share or 0.0, said=said)
        if not self._console.is_terminal and self._clock() - self._said_s > _LINE_EVERY_S:
            self._console.print(f"{self._phase}: {said}")
            self._said_s = self._clock()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

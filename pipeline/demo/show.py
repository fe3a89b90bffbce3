"""Keeps the show current: a thread that reads decisions as they come, and draws or prints what goes on."""

import threading
import time
from typing import Protocol

from rich.console import Console
from rich.live import Live

from pipeline.decisions import TopicFollower
from pipeline.demo.console import can_be_drawn_on, say
from pipeline.demo.lines import happened
from pipeline.demo.picture import picture
from pipeline.demo.stage import Stage, Step

TICK_MS = 80


class Page(Protocol):
    """A way to show the stage."""

    def update(self, stage: Stage) -> None:
        """Show how it is now."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


class LivePage:
    """A picture that is drawn over itself."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()

    def update(self, stage: Stage) -> None:
        """Draw it anew."""
        self._live.update(picture(stage, stage.now_s(), self._console.width, self._console.height), refresh=True)

    def close(self) -> None:
        """Leave the last picture standing."""
        self._live.stop()


class LinesPage:
    """A line for each thing that happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said_s = -1.0
        self._begun: set[str] = set()
        self._done: set[str] = set()

    def update(self, stage: Stage) -> None:
        """Print what is new."""
        for step in stage.steps:
            self._step(step)
        now_s = stage.now_s()
        if now_s is None:
            return
        # A decision gets its time when it is read: all that happened by the last line's time has been said.
        for line in happened(stage.street, self._said_s, now_s):
            say(self._console, line, 22)
        self._said_s = now_s

    def close(self) -> None:
        """Everything is printed."""

    def _step(self, step: Step) -> None:
        if step.began_s is not None and step.text not in self._begun:
            self._begun.add(step.text)
            say(self._console, f"set-up   {step.text}", 9)
        if step.took_s is not None and step.text not in self._done:
            self._done.add(step.text)
            say(self._console, f"set-up   done in {step.took_s:.1f} s: {step.text}", 9)


class Show(threading.Thread):
    """The thread. It owns the terminal between `start` and `stop`."""

    def __init__(self, stage: Stage, console: Console) -> None:
        super().__init__(name="show", daemon=True)
        self._stage, self._console = stage, console
        self._follower: TopicFollower | None = None
        self._stopped = threading.Event()
        self._failure: BaseException | None = None

    def follow(self, follower: TopicFollower) -> None:
        """Hand over the decisions topic, before the scene plays."""
        self._follower = follower

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Show the end and give the terminal back."""
        self._stopped.set()
        if self.is_alive():
            self.join(5.0)

    def run(self) -> None:
        """Show and listen in turns until told to stop."""
        page: Page = LivePage(self._console) if can_be_drawn_on(self._console) else LinesPage(self._console)
        try:
            while not self._stopped.is_set():
                page.update(self._stage)
                self._listen()
            page.update(self._stage)
        except Exception as error:  # noqa: BLE001  for the main thread to raise
            self._failure = error
        finally:
            page.close()
            if self._follower is not None:
                self._follower.close()

    def _listen(self) -> None:
        epoch_s = self._stage.epoch_s
        if self._follower is None or epoch_s is None:
            time.sleep(TICK_MS / 1000)
            return
        for line in self._follower.poll(epoch_s, TICK_MS):
            self._stage.street.hear(line, time.time() - epoch_s)

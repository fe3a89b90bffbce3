"""Asks every other second whether the broker answers, and how far the job's commits are behind."""

import threading
import time
from collections.abc import Callable, Mapping

from kafka.errors import KafkaError

from pipeline.kafka.topics import admin_client
from pipeline.monitor.model import Model
from pipeline.options import ConfigError, Settings
from pipeline.trial import Group

EVERY_S = 2.0


class Watch(threading.Thread):
    """The thread; `ends` gives the audio topic's end offsets by partition, as far as they are known."""

    def __init__(self, settings: Settings, model: Model, ends: Callable[[], Mapping[int, int]]) -> None:
        super().__init__(name="monitor-watch", daemon=True)
        self._settings, self._model, self._ends = settings, model, ends
        self._stopped = threading.Event()
        self._silent_since: int | None = None

    def stop(self) -> None:
        """Stop it."""
        self._stopped.set()
        if self.is_alive():
            self.join(10.0)

    def run(self) -> None:
        """Ask until told to stop."""
        while not self._stopped.is_set():
            asked_ms = round(time.time() * 1000)
            try:
                with admin_client(self._settings) as admin:
                    self._ask(Group(admin, self._settings), admin)
            except (KafkaError, ConfigError, OSError):
                self._silent_since = self._silent_since or asked_ms
                self._model.set_status(silent_since=self._silent_since, behind=None)
                self._stopped.wait(EVERY_S / 2)

    def _ask(self, group: Group, admin: object) -> None:
        while not self._stopped.is_set():
            asked_ms = round(time.time() * 1000)
            try:
                admin.list_topics()  # type: ignore[attr-defined]
            except (KafkaError, OSError):
                self._silent_since = asked_ms
                raise
            self._silent_since = None
            self._model.set_status(silent_since=None, behind=behind(self._ends(), group.committed()))
            self._stopped.wait(EVERY_S)


def behind(ends: Mapping[int, int], committed: Mapping[int, int]) -> int | None:
    """Give how many records of the audio topic the job has not committed; None while it has committed nothing."""
    if not committed:
        return None
    return sum(max(0, end - committed[partition]) for partition, end in ends.items() if partition in committed)

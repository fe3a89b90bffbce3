"""Whether the job is alive, and whether it is ready: told from what its processes have counted, and from the broker.

Alive means that restarting would not help: its loop comes round, whatever the broker does. Ready means that a request
sent now would be decided.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from pipeline.errors import InputError
from pipeline.kafka.topics import a_broker_listens, admin_client, topic_names
from pipeline.options import Settings

# Beam's imports and, the first time, the compilation of the kernels on a busy machine.
START_S = 300.0
# The loop comes round twenty times a second; a bundle may wait a minute for a broker's acknowledgement.
ROUND_S = 90.0
ASK_S = 2.0
ANSWER_S = 15.0


@dataclass(frozen=True)
class Verdict:
    """The answer to a probe: it is well when nothing is missing."""

    missing: Sequence[str] = field(default_factory=tuple)

    @property
    def well(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    def to_json(self) -> str:
        """Give the body of the answer."""
        return json.dumps({"status": "ok" if self.well else "failing", "reasons": list(self.missing)}) + "\n"


class Broker:
    """Asks the broker for its topics, again and again, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-probe", daemon=True)
        self._answered_s: float | None = None
        self._absent: tuple[str, ...] = ()

    def start(self) -> None:
        """Start asking."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join(ANSWER_S)

    def missing(self) -> list[str]:
        """Say what stands between the job and its topics."""
        if self._answered_s is None or time.monotonic() > self._answered_s + ANSWER_S:
            return [f"no broker at {self._settings.bootstrap_servers} has answered within {ANSWER_S:g} s"]
        return [f"topic {topic!r} does not exist" for topic in self._absent]

    def _run(self) -> None:
        needed = set(topic_names(self._settings).values())
        while not self._stop.is_set():
            # That nobody answers is no error here: `missing` says so when it has lasted.
            with suppress(InputError):
                if a_broker_listens(self._settings.bootstrap_servers):
                    with admin_client(self._settings) as admin:
                        self._ask(admin, needed)
            self._stop.wait(ASK_S)

    def _ask(self, admin: Any, needed: set[str]) -> None:
        """Ask until stopped, with the same client: it finds a broker that comes back by itself."""
        while not self._stop.is_set():
            with suppress(KafkaError, OSError):
                self._absent = tuple(sorted(needed - set(admin.list_topics())))
                self._answered_s = time.monotonic()
            self._stop.wait(ASK_S)


class Health:
    """Holds what the processes have told against the time.

    Args:
        registry: collects the metrics of all processes.
        broker_missing: says what stands between the job and its topics.
        now_s: Unix time, as the metrics have it.

    """

    def __init__(
        self,
        registry: CollectorRegistry,
        broker_missing: Callable[[], Sequence[str]],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._registry, self._broker_missing, self._now_s = registry, broker_missing, now_s
        self._started_s = now_s()

    def alive(self) -> Verdict:
        """Tell whether the loop comes round: polls return, and what they bring is decided, be it only a mark."""
        missing = [
            *self._round("hushword_last_poll_timestamp_seconds", "the reader has not polled"),
            *self._round("hushword_last_batch_timestamp_seconds", "no bundle has been decided"),
        ]
        return Verdict(missing)

    def ready(self) -> Verdict:
        """Tell whether a request that is sent now would be decided."""
        missing = list(self._broker_missing())
        if not self._value("hushword_catalogue_ready"):
            missing.append("the media topic has not been read to its end")
        if not self._value("hushword_assigned_partitions"):
            missing.append("no partition of the audio topic is assigned")
        return Verdict([*missing, *self.alive().missing])

    def _round(self, metric: str, what: str) -> list[str]:
        last_s = self._value(metric)
        if last_s is None:
            over_s = self._now_s() - self._started_s
            return [f"{what} since the start {over_s:.0f} s ago"] if over_s > START_S else []
        over_s = self._now_s() - last_s
        return [f"{what} for {over_s:.0f} s"] if over_s > ROUND_S else []

    def _value(self, name: str) -> float | None:
        return self._registry.get_sample_value(name)

"""What the topics alone tell, for Prometheus: latency from append to append, what was decided, how far the job is.

It knows nothing of the runner, and nothing of it is in the job's way. docs/metrics.md has the table.
"""

import logging
import threading
import time
from collections.abc import Collection
from typing import Any, Self

from google.protobuf.message import DecodeError
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
)
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline.chunks import LETTER_STAGES
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.topics import a_broker_listens, topic_names
from pipeline.messages.hushword_pb2 import Decision
from pipeline.metrics import DECISION_LABELS, decision_labels
from pipeline.options import Settings

log = logging.getLogger(__name__)

LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0)
OTHER = "other"
POLL_MS = 200
ASK_S = 5.0
ANSWER_MS = 5_000
RETRY_S = 1.0
# Decisions told again are recognised among so many of the newest: a restart tells those of some ten seconds.
REMEMBERED_DECISIONS = 100_000


class Exporter:
    """Follows decisions and dead letters from their ends at its start on, and asks the broker for offsets.

    With `follow_decisions` False decisions come through `observe` alone, from whoever follows them already.
    """

    def __init__(self, settings: Settings, registry: CollectorRegistry, *, follow_decisions: bool = True) -> None:
        self._settings = settings
        self._followed = [settings.dead_letter_topic, *([settings.decisions_topic] if follow_decisions else [])]
        self._positions: dict[TopicPartition, int] = {}
        self._away = False
        self._found = False  # whether the broker has ever told where the topics end
        self._lock = threading.Lock()
        self._seen: dict[str, None] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exporter", daemon=True)

        def counter(name: str, what: str, labels: Collection[str] = ()) -> Counter:
            return Counter(f"hushword_{name}", what, labels, registry=registry)

        def gauge(name: str, what: str, labels: Collection[str] = ()) -> Gauge:
            return Gauge(f"hushword_{name}", what, labels, registry=registry, multiprocess_mode="mostrecent")

        self._latency = Histogram(
            "hushword_decision_latency_seconds",
            "Append of the decision less append of the audio that sufficed.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._decisions = counter("topic_decisions", "Decisions on the topic, each once.", ("reason", "late", "shadow"))
        self._duplicates = counter("topic_duplicate_decisions", "Decisions told again.")
        self._malformed = counter("topic_malformed_decisions", "Records of the decisions topic that are none.")
        self._letters = counter("topic_dead_letters", "Records on the dead-letter topic.", ("reason",))
        self._lag = gauge(
            "consumer_lag_records", "End of a partition less the group's committed offset.", ("topic", "partition")
        )
        self._ends = gauge("topic_end_offset", "End of a partition.", ("topic", "partition"))
        self._media_records = gauge("media_topic_records", "Records of the media topic, before compaction.")
        self._media_bytes = gauge("media_topic_bytes", "Size of the media topic on one broker's disk.")
        self._answered = gauge("exporter_answer_timestamp_seconds", "When the broker last answered.")
        # An alert on a rate needs the zero before the first one.
        for labels in DECISION_LABELS:
            self._decisions.labels(*labels)
        for stage in (*LETTER_STAGES, OTHER):
            self._letters.labels(stage)

    def start(self) -> None:
        """Start the thread; a broker that is away is waited for there."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and leave the broker."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * ANSWER_MS / 1000)

    def observe(self, decision: Decision, appended_ms: int) -> bool:
        """Count a record of the decisions topic; from any thread.

        Args:
            decision: the record's value.
            appended_ms: when the broker appended the record, milliseconds of Unix time.

        Returns:
            Whether it was new; a decision told again is only counted as such.

        """
        with self._lock:
            if decision.decision_id in self._seen:
                self._duplicates.inc()
                return False
            self._seen[decision.decision_id] = None
            if len(self._seen) > REMEMBERED_DECISIONS:
                del self._seen[next(iter(self._seen))]
        self._decisions.labels(*decision_labels(decision)).inc()
        if decision.audio_appended_us:
            # Two brokers' clocks may differ by more than the job takes.
            self._latency.observe(max(0.0, appended_ms / 1e3 - decision.audio_appended_us / 1e6))
        return True

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._stop.is_set() or a_broker_listens(self._settings.bootstrap_servers)):
            self._say_away("nobody listens there")
            self._stop.wait(RETRY_S)
        while not self._stop.is_set():
            try:
                with _Clients(self._settings) as clients:
                    self._follow(clients)
            except (KafkaError, OSError) as error:
                self._say_away(error)
                self._stop.wait(RETRY_S)

    def _follow(self, clients: "_Clients") -> None:
        """Follow until stopped, with the same consumer: it finds a broker that comes back by itself."""
        ask_s = 0.0
        while not self._stop.is_set():
            try:
                if time.monotonic() >= ask_s:
                    self._ask(clients)
                    self._assign(clients.consumer)
                    ask_s = time.monotonic() + ASK_S
                    self._say_back()
                if not self._positions:  # poll would not wait
                    self._stop.wait(POLL_MS / 1000)
                for at, records in clients.consumer.poll(POLL_MS).items():
                    for record in records:
                        self._take(record)
                    self._positions[at] = records[-1].offset + 1
            except (KafkaError, OSError) as error:
                self._say_away(error)
                self._stop.wait(RETRY_S)
                if a_broker_listens(self._settings.bootstrap_servers):
                    clients.renew_admin()

    def _say_away(self, why: object) -> None:
        if not self._away:
            log.warning("the topics at %s cannot be followed: %s", self._settings.bootstrap_servers, why)
        self._away = True

    def _say_back(self) -> None:
        if self._away:
            log.info("the topics at %s are followed again", self._settings.bootstrap_servers)
        self._away = False

    def _assign(self, consumer: Any) -> None:
        """Read on where it was left, in partitions that were added from their beginning."""
        if set(self._positions) != consumer.assignment():
            consumer.assign(list(self._positions))
            for at, offset in self._positions.items():
                consumer.seek(at, offset)

    def _take(self, record: Any) -> None:
        if record.topic == self._settings.dead_letter_topic:
            reason = dict(record.headers).get("stage", b"").decode(errors="replace")
            self._letters.labels(reason if reason in LETTER_STAGES else OTHER).inc()
            return
        try:
            decision = Decision.FromString(record.value or b"")
            decision_labels(decision)  # a reason that this version does not know
        except (DecodeError, ValueError) as error:
            self._malformed.inc()
            log.warning("%s-%d offset %d is no decision: %s", record.topic, record.partition, record.offset, error)
            return
        self.observe(decision, record.timestamp)

    def _ask(self, clients: "_Clients") -> None:
        """Ask for ends, committed offsets and sizes; notes new partitions of what is followed."""
        topics = topic_names(self._settings)
        partitions = [
            TopicPartition(topic, number)
            for topic in topics.values()
            for number in clients.consumer.partitions_for_topic(topic)
        ]
        ends = clients.consumer.end_offsets(partitions, timeout_ms=ANSWER_MS)
        for at, end in ends.items():
            self._ends.labels(at.topic, str(at.partition)).set(end)
            if at.topic in self._followed and at not in self._positions:
                self._positions[at] = 0 if self._found else end
        self._found = True
        for at, offset in _committed(clients.admin, self._settings.group_id).items():
            if at in ends and at.topic == topics["audio"]:
                self._lag.labels(at.topic, str(at.partition)).set(max(0, ends[at] - offset))
        media = [at for at in partitions if at.topic == topics["media"]]
        begins = clients.consumer.beginning_offsets(media, timeout_ms=ANSWER_MS)
        self._media_records.set(sum(ends[at] - begins[at] for at in media))
        sizes = _bytes_on_disk(clients.admin, topics["media"])
        if sizes:  # none where describing log directories is not allowed
            self._media_bytes.set(max(sizes))
        self._answered.set_to_current_time()


def _committed(admin: Any, group: str) -> dict[TopicPartition, int]:
    try:
        found = admin.list_group_offsets(group)[group]
    except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError):
        return {}  # a broker that has just come is still making one
    return {at: entry.offset for at, entry in found.items() if entry.offset >= 0}


def _bytes_on_disk(admin: Any, topic: str) -> list[int]:
    """Give the topic's bytes on each broker that has some."""
    sizes = [
        sum(partition["partition_size"] for entry in folder["topics"] for partition in entry["partitions"])
        for broker in admin.describe_log_dirs([topic])
        for folder in broker["log_dirs"]
    ]
    return [size for size in sizes if size]


class _Clients:
    """A consumer and an administrator, for the length of a `with`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> Self:
        self.consumer = Consumer(
            **client_arguments(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=POLL_MS,
            bootstrap_timeout_ms=ANSWER_MS,
            request_timeout_ms=2 * ANSWER_MS,
            metadata_max_age_ms=5_000,
        )
        try:
            self.admin = self._new_admin()
        except BaseException:
            self.consumer.close()
            raise
        return self

    def renew_admin(self) -> None:
        """Make another administrator: one asks the same broker for ever who coordinates a group (kafka-python 3.0.12).

        Raises:
            KafkaError: no broker answered; the old one stays.

        """
        renewed = self._new_admin()
        self.admin.close()
        self.admin = renewed

    def _new_admin(self) -> Any:
        return KafkaAdminClient(
            **client_arguments(self._settings), bootstrap_timeout_ms=ANSWER_MS, request_timeout_ms=ANSWER_MS
        )

    def __exit__(self, *_: object) -> None:
        self.admin.close()
        self.consumer.close()

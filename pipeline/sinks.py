"""Writes decisions, averages and dead letters, and commits what all of them have acknowledged.

A bundle ends when the broker has every record of it (acks=all); only then does its progress go on to the commit.
"""

import logging
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue
from kafka import KafkaAdminClient
from kafka.errors import AuthorizationError, KafkaConnectionError, KafkaError, NoError
from kafka.structs import OffsetAndMetadata, TopicPartition

from pipeline import metrics
from pipeline.kafka.clients import REQUEST_TIMEOUT_MS, client_arguments
from pipeline.kafka.producer import Producer
from pipeline.kafka.topics import a_broker_listens
from pipeline.messages.hushword_pb2 import Decision, MediaFingerprint
from pipeline.messages.internal_pb2 import DeadLetter, Progress, Verdicts
from pipeline.options import Settings
from pipeline.source import DEAD_LETTERS
from pipeline.wire import REDRIVEN

log = logging.getLogger(__name__)

DELIVERY_S = 60
# A broker that is there takes a decision within milliseconds, on a busy machine within this.
PROMPT_MS = 2000


class WriteVerdicts(beam.DoFn):
    """(route, Verdicts) in; decisions, averages and dead letters to their topics; ('reader', (route, Progress)) out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def setup(self) -> None:
        """Connect."""
        self._producer = Producer(
            **client_arguments(self._settings),
            acks="all",
            linger_ms=0,
            enable_idempotence=True,
            delivery_timeout_ms=DELIVERY_S * 1000,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_request_size=2 << 20,
        )
        # For decisions, which say whether they are late: nobody can take back what waits in a producer.
        prompt_ms = max(PROMPT_MS, self._settings.deadline_ms)
        self._prompt = Producer(
            **client_arguments(self._settings),
            acks="all",
            linger_ms=0,
            enable_idempotence=False,  # a decision has an id
            delivery_timeout_ms=prompt_ms,
            request_timeout_ms=prompt_ms,
        )

    def teardown(self) -> None:
        """Leave the broker."""
        try:
            self._prompt.close(5)
        finally:
            self._producer.close(5)

    def start_bundle(self) -> None:
        """Nothing is under way yet."""
        self._sent: list[Any] = []
        self._decisions: list[tuple[Decision, Any]] = []
        self._verdicts: list[Verdicts] = []
        self._progress: dict[str, bytes] = {}

    def process(self, element: tuple[str, bytes]) -> None:
        """Send what one batch came to."""
        route, data = element
        verdicts = Verdicts.FromString(data)
        for encoded in verdicts.decisions:
            decision = Decision.FromString(encoded)
            sent = self._prompt.send(self._settings.decisions_topic, key=decision.request_id.encode(), value=encoded)
            self._decisions.append((decision, sent))
        for average in verdicts.averages:
            self._send(self._settings.media_topic, MediaFingerprint.FromString(average).media_id.encode(), average)
        for media_id in verdicts.dropped_averages:
            self._send(self._settings.media_topic, media_id.encode(), None)
        if verdicts.HasField("order"):
            self._send(self._settings.control_topic, verdicts.order.key.encode(), verdicts.order.value)
        for letter in verdicts.dead_letters:
            key = letter.key if letter.has_key else None
            self._send(self._settings.dead_letter_topic, key, letter.value, _headers(letter))
        self._verdicts.append(verdicts)
        self._progress[route] = verdicts.progress.SerializeToString()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Wait for the broker, then let the progress go on."""
        self._mark_those_delayed()
        if self._sent:
            self._producer.flush(DELIVERY_S)
        for future in self._sent:
            future.get(DELIVERY_S)  # raises what went wrong: the bundle fails, and is tried again
        self._tell()
        for route, progress in self._progress.items():
            yield WindowedValue(("reader", (route, progress)), MIN_TIMESTAMP, [GlobalWindow()])

    def _mark_those_delayed(self) -> None:
        """Send again, marked late, what the broker has not taken in time; it may have both then, with one id."""
        if self._decisions:
            self._prompt.flush(DELIVERY_S)
        for decision, sent in self._decisions:
            try:
                sent.get(DELIVERY_S)
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("decision %s was not taken in time and goes on as late: %s", decision.decision_id, error)
                decision.late = True
                self._send(self._settings.decisions_topic, decision.request_id.encode(), decision.SerializeToString())

    def _tell(self) -> None:
        """Count and log what the broker has: only that has happened."""
        for verdicts in self._verdicts:
            metrics.AVERAGES.inc(len(verdicts.averages))
            metrics.AVERAGES_DROPPED.inc(len(verdicts.dropped_averages))
            for letter in verdicts.dead_letters:
                metrics.DEAD_LETTERS.labels(letter.stage).inc()
        for decision, _ in self._decisions:
            reason, late, shadow = labels = metrics.decision_labels(decision)
            metrics.DECISIONS.labels(*labels).inc()
            log.info(
                "decision %s: ignore request %s, %s, media %s, %d households, late %s, shadow %s",
                decision.decision_id,
                decision.request_id,
                reason,
                decision.media_id,
                decision.households,
                late,
                shadow,
                extra={"decision_id": decision.decision_id, "request_id": decision.request_id},
            )

    def _send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]] | None = None
    ) -> None:
        self._sent.append(self._producer.send(topic, key=key, value=value, headers=headers or []))


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Say where a dead letter came from and what was wrong with it."""
    headers = {
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "timestamp": str(letter.timestamp_ms),
        "stage": letter.stage,
        "error": letter.error,
        **({REDRIVEN: str(letter.redriven)} if letter.redriven else {}),
    }
    return [(name, text.encode()) for name, text in headers.items()]


class CommitOffsets(beam.DoFn):
    """('reader', (route, Progress)) in: commits the oldest offset that some route may still need.

    Keyed, so that one worker sees all routes; what it knows may be lost, since every route reports once a second.
    """

    # Never read: it makes the step keyed.
    KEYED = ReadModifyWriteStateSpec("keyed", BytesCoder())

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def setup(self) -> None:
        """Connect when there is something to commit."""
        self._admin: Any = None
        self._needed: dict[str, dict[int, int]] = {}
        self._media: dict[int, int] = {}
        self._committed: dict[TopicPartition, int] = {}

    def teardown(self) -> None:
        """Leave the broker."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def process(self, element: tuple[str, tuple[str, bytes]], keyed: Any = beam.DoFn.StateParam(KEYED)) -> None:  # noqa: ARG002, B008
        """Take one route's progress."""
        _, (route, data) = element
        progress = Progress.FromString(data)
        self._needed[route] = dict(progress.needed)
        if route == DEAD_LETTERS:  # what came of the media topic has gone the way of this one
            self._media = dict(progress.media)
        self._needed = {name: self._needed[name] for name in progress.routes if name in self._needed}
        if len(self._needed) < len(progress.routes):
            return
        partitions = set.intersection(*(set(needed) for needed in self._needed.values()))
        audio, media = self._settings.audio_topic, self._settings.media_topic
        oldest = {TopicPartition(audio, p): min(needed[p] for needed in self._needed.values()) for p in partitions}
        told = {TopicPartition(media, p): offset for p, offset in self._media.items()}
        if oldest | told != self._committed:
            self._commit(oldest | told)

    def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        try:
            if self._admin is None:
                if not a_broker_listens(self._settings.bootstrap_servers):
                    raise KafkaConnectionError("no broker takes a connection")
                self._admin = KafkaAdminClient(
                    **client_arguments(self._settings),
                    bootstrap_timeout_ms=REQUEST_TIMEOUT_MS,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                )
            answers = self._admin.alter_group_offsets(
                self._settings.group_id,
                {at: OffsetAndMetadata(offset, "", -1) for at, offset in offsets.items()},
            )
        except KafkaError as error:  # a broker that does not answer is no reason to end
            if not error.retriable:
                raise
            refused = dict.fromkeys(offsets, type(error))
        else:
            refused = {at: error for at, error in answers.items() if error is not NoError}
        for at, refusal in refused.items():
            if issubclass(refusal, AuthorizationError):  # nobody mends that by waiting
                raise refusal(f"group {self._settings.group_id!r} may not commit the offsets of {at.topic!r}")
        if refused:
            # Not lost: the next progress, within a second, commits what this one would have. By another client: this
            # one would ask the same broker for ever, whoever coordinates the group by now (kafka-python 3.0.12).
            self.teardown()
            metrics.COMMITS_REFUSED.inc()
            log.warning("the commit of offsets was refused: %s", next(iter(refused.values())).__name__)
            return
        self._committed = offsets

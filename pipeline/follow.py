"""Follows a compacted topic: every worker holds the newest of each key, and hears of changes as they come."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError
from kafka import TopicPartition
from kafka.errors import KafkaError, UnknownTopicOrPartitionError

from matcher.catalogue import Average
from pipeline.kafka.clients import REQUEST_TIMEOUT_MS, client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.topics import a_broker_listens
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.options import Settings
from pipeline.wire import BadMediaError, average_from_message

log = logging.getLogger(__name__)

POLL_MS = 200
READ_TO_END_S = 60.0
RETRY_S = 1.0
# How often one that need not insist asks whether the broker is still there, and how long it waits for the answer.
ASK_S = 2.0
ANSWER_MS = 10_000
WAIT_S = 0.05

T = TypeVar("T")


class Following(ABC):
    """A thread with a consumer of a whole topic, from its beginning on."""

    def __init__(self, settings: Settings, topic: str, *, insists: bool, group_id: str | None = None) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: name the broker.
            topic: read from its beginning.
            insists: whether a topic that cannot be followed is an error for whoever asks; if not, it is tried again
                for ever, and `is_current` is False meanwhile.
            group_id: whose committed offsets are of interest.

        """
        self._settings, self._topic, self._insists, self._group_id = settings, topic, insists, group_id
        self._stop = threading.Event()
        self._at_end = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, name=f"follower of {topic}", daemon=True)

    def start(self, within_s: float = READ_TO_END_S) -> None:
        """Start, and return when the topic has been read to its end, or when one that does not insist has waited.

        Raises:
            TimeoutError: the end was not reached in this time.
            RuntimeError: the topic cannot be read.

        """
        self._thread.start()
        deadline_s = time.monotonic() + within_s
        while not self._at_end.wait(WAIT_S):
            self._take_in()
            if time.monotonic() > deadline_s:
                if self._insists:
                    raise TimeoutError(f"{self._topic} was not read to its end within {within_s:.0f} s")
                break
        self._raise_failure()
        self._take_in()

    def stop(self) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    @property
    def is_current(self) -> bool:
        """Whether the topic has been read to its end, and the broker was there a moment ago."""
        return self._at_end.is_set()

    @abstractmethod
    def _hear(self, record: Any) -> None:
        """Take a record, in the thread."""

    def _begin(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:  # noqa: B027
        """Look at the group, in the thread, before the first record."""

    def _polled(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:  # noqa: B027
        """Take note, in the thread, that all records of a poll were heard."""

    def _take_in(self) -> None:  # noqa: B027
        """Take, in the thread of whoever asks, what was heard so far."""

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise RuntimeError(f"{self._topic} cannot be followed any more") from self._failure

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except (KafkaError, OSError, ValueError) as error:
                if self._insists:
                    self._failure = error
                    self._at_end.set()
                    return
                self._at_end.clear()
                log.warning("%s cannot be followed, trying again: %s", self._topic, error)
                self._stop.wait(RETRY_S)
                while not self._stop.is_set() and not a_broker_listens(self._settings.bootstrap_servers):
                    self._stop.wait(RETRY_S)

    def _read(self) -> None:
        consumer = Consumer(
            **client_arguments(self._settings),
            group_id=self._group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=POLL_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            allow_auto_create_topics=False,
        )
        try:
            partitions = [TopicPartition(self._topic, p) for p in sorted(consumer.partitions_for_topic(self._topic))]
            if not partitions:
                raise UnknownTopicOrPartitionError(f"there is no topic {self._topic!r}")
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            self._begin(consumer, partitions)
            asked_s = time.monotonic()
            while not self._stop.is_set():
                polled = consumer.poll(POLL_MS)
                for records in polled.values():
                    for record in records:
                        self._hear(record)
                if polled or not self._at_end.is_set():
                    self._polled(consumer, partitions)
                if not self._at_end.is_set() and all(consumer.position(p) >= ends[p] for p in partitions):
                    self._at_end.set()
                    log.info("%s has been read to its end and is followed", self._topic)
                if not self._insists and time.monotonic() > asked_s + ASK_S:
                    # A poll says nothing of a broker that is gone; this raises.
                    consumer.end_offsets(partitions, timeout_ms=ANSWER_MS)
                    asked_s = time.monotonic()
        finally:
            consumer.close()


class Follower(Following, Generic[T]):
    """Keeps what comes in the order in which it came, the newest of each key only."""

    def __init__(
        self, settings: Settings, topic: str, read: Callable[[Any], tuple[str, T | None] | None], *, insists: bool
    ) -> None:
        """Prepare; `read` makes a record a key and what it says, None for what was withdrawn; None leaves it alone."""
        super().__init__(settings, topic, insists=insists)
        self._take = read
        self._lock = threading.Lock()
        self._news: dict[str, tuple[int, T | None]] = {}
        self._number = 0

    def newest(self, key: str) -> T | None:
        """Give what was said last of a key; None where nothing was, or it was withdrawn."""
        with self._lock:
            return self._news[key][1] if key in self._news else None

    def since(self, number: int) -> tuple[list[tuple[str, T | None]], int]:
        """Give what has come after news number `number`, None for a key that was withdrawn, and the number now."""
        self._raise_failure()
        if number == self._number:
            return [], number
        with self._lock:
            news = sorted((at, key) for key, (at, _) in self._news.items() if at > number)
            return [(key, self._news[key][1]) for _, key in news], self._number

    def _hear(self, record: Any) -> None:
        said = self._take(record)
        if said is not None:
            with self._lock:
                self._number += 1
                self._news[said[0]] = self._number, said[1]


def media_follower(settings: Settings, bits: str) -> Follower[Average]:
    """Follow the averages on the media topic, words of these bits: without it nothing is decided."""
    return Follower(settings, settings.media_topic, partial(_read_average, bits=bits), insists=True)


def _read_average(record: Any, *, bits: str) -> tuple[str, Average | None] | None:
    """Leave alone what is no average; the reader, who reads everything on this topic, says what is wrong with it."""
    media_id = (record.key or b"").decode(errors="replace")
    if not record.value:
        return media_id, None
    try:
        message = MediaFingerprint.FromString(record.value)
        if message.kind != MediaFingerprint.DISCOVERED or message.bits != bits:
            return None
        return media_id, average_from_message(message)
    except (DecodeError, BadMediaError):
        return None

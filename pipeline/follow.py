"""Follows the media topic: every worker holds all discovered averages, and hears of new ones as they come."""

import logging
import threading
from typing import Any

from google.protobuf.message import DecodeError
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from matcher.bits import GRADIENT
from matcher.catalogue import Average
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.metrics import MEDIA_RECORDS_LEFT_OUT
from pipeline.options import Settings
from pipeline.wire import BadMediaError, average_from_message

log = logging.getLogger(__name__)

POLL_MS = 200
READ_TO_END_S = 60.0

News = tuple[str, Average | None]


class MediaFollower:
    """A thread with a consumer of the whole topic.

    News are kept in the order in which they came, the newest of each media id only.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._news: dict[str, tuple[int, Average | None]] = {}
        self._number = 0
        self._stop = threading.Event()
        self._at_end = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, name="media-follower", daemon=True)

    def start(self) -> None:
        """Start, and return when the topic has been read to its end.

        Raises:
            TimeoutError: the end was not reached in a minute.

        """
        self._thread.start()
        if not self._at_end.wait(READ_TO_END_S):
            raise TimeoutError(f"{self._settings.media_topic} was not read to its end within {READ_TO_END_S:.0f} s")
        self._raise_failure()

    def stop(self) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def since(self, number: int) -> tuple[list[News], int]:
        """Give what has come after news number `number`, None for a media id that was withdrawn, and the number now."""
        self._raise_failure()
        if number == self._number:
            return [], number
        with self._lock:
            news = sorted((at, media_id) for media_id, (at, _) in self._news.items() if at > number)
            return [(media_id, self._news[media_id][1]) for _, media_id in news], self._number

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise RuntimeError("the media topic cannot be followed any more") from self._failure

    def _follow(self) -> None:
        try:
            self._read()
        except (KafkaError, OSError, ValueError) as error:
            self._failure = error
        finally:
            self._at_end.set()

    def _read(self) -> None:
        topic = self._settings.media_topic
        consumer = KafkaConsumer(
            bootstrap_servers=self._settings.bootstrap_servers.split(","),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=POLL_MS,
        )
        try:
            partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            while not self._stop.is_set():
                for records in consumer.poll(POLL_MS).values():
                    for record in records:
                        self._take(record)
                if not self._at_end.is_set() and all(consumer.position(p) >= ends[p] for p in partitions):
                    self._at_end.set()
        finally:
            consumer.close()

    def _take(self, record: Any) -> None:
        media_id = (record.key or b"").decode(errors="replace")
        average = None
        if record.value:
            try:
                message = MediaFingerprint.FromString(record.value)
                if message.kind != MediaFingerprint.DISCOVERED or message.bits != GRADIENT.name:
                    MEDIA_RECORDS_LEFT_OUT.labels("other_kind").inc()
                    return
                average = average_from_message(message)
            except (DecodeError, BadMediaError) as error:
                MEDIA_RECORDS_LEFT_OUT.labels("malformed").inc()
                log.warning(
                    "%s-%d offset %d is no fingerprint: %s", record.topic, record.partition, record.offset, error
                )
                return
        with self._lock:
            self._number += 1
            self._news[media_id] = self._number, average

"""Publishes the records of a replay: nothing is lost without being said."""

import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Self

from kafka.errors import KafkaError

from pipeline.errors import FailedError
from pipeline.kafka.broker_faults import why
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.producer import Producer
from pipeline.options import Settings

_IN_FLIGHT = 2000  # unacknowledged records: 16 MB of the longest chunks
_ACKNOWLEDGED_WITHIN_S = 60.0


class ReplayError(FailedError):
    """The broker did not take a record."""


class Sender:
    """A producer that waits when too much is unacknowledged and raises when anything was refused."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._room = threading.Semaphore(_IN_FLIGHT)
        self._refused: list[BaseException] = []
        try:
            self._producer = Producer(
                **client_arguments(settings),
                acks="all",
                linger_ms=5,
                batch_size=256 * 1024,
                compression_type=None,  # PCM hardly shrinks
                allow_auto_create_topics=False,
                max_block_ms=10_000,
                delivery_timeout_ms=int(_ACKNOWLEDGED_WITHIN_S * 1000),
            )
        except (KafkaError, OSError) as error:
            raise ReplayError(why(settings, error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._producer.close(timeout=10)
        else:
            with suppress(KafkaError):  # what is in flight may never arrive: the error that led here is the one to tell
                self._producer.close(timeout=3)

    def send(self, value: bytes, key: bytes | None = None, partition: int | None = None) -> Any:
        """Hand one record over, and give its future; blocks while too many are unacknowledged.

        Raises:
            ReplayError: the broker does not answer, or refused this or an earlier record.

        """
        if not self._room.acquire(timeout=_ACKNOWLEDGED_WITHIN_S):
            raise ReplayError(f"the broker acknowledged nothing for {_ACKNOWLEDGED_WITHIN_S:.0f} s")
        try:
            sent = self._producer.send(self._topic, value, key=key, partition=partition)
        except KafkaError as error:
            raise ReplayError(f"topic {self._topic!r} did not take a record: {error}") from error
        sent.add_callback(self._acknowledged)
        sent.add_errback(self._failed)
        self._check()
        return sent

    def mark(self, mark: bytes) -> dict[int, Any]:
        """Send a low mark to every partition, behind all that it got before; give the futures."""
        return {partition: self.send(mark, partition=partition) for partition in self._partitions()}

    def end_partitions(self, mark: bytes) -> dict[int, int]:
        """Send the mark to every partition after all that went before; give the offsets behind the marks."""
        self.flush()
        marks = self.mark(mark)
        self.flush()
        return {
            partition: int(sent.get(timeout=_ACKNOWLEDGED_WITHIN_S).offset) + 1 for partition, sent in marks.items()
        }

    def flush(self) -> None:
        """Wait until everything is acknowledged.

        Raises:
            ReplayError: something is not.

        """
        try:
            self._producer.flush(timeout=_ACKNOWLEDGED_WITHIN_S)
        except KafkaError as error:
            raise ReplayError(f"topic {self._topic!r} did not acknowledge what was sent: {error}") from error
        self._check()

    def _partitions(self) -> Iterable[int]:
        return sorted(self._producer.partitions_for(self._topic))

    def _check(self) -> None:
        if self._refused:
            raise ReplayError(f"topic {self._topic!r} did not take a record: {self._refused[0]}") from self._refused[0]

    def _acknowledged(self, _: object) -> None:
        self._room.release()

    def _failed(self, error: BaseException) -> None:
        self._refused.append(error)
        self._room.release()

"""Topics read from outside the job: a stretch of one, to its end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from pipeline.errors import InputError
from pipeline.kafka.broker_faults import check_reachable, why
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.options import Settings

_NO_RECORD_FOR_S = 30.0
_BROKER_TIMEOUT_MS = 5000


class TopicError(InputError):
    """A topic cannot be read; the message says which, and why."""


def records(
    settings: Settings, topic: str, *, since_ms: int | None = None, until_ms: int | None = None
) -> Iterator[Any]:
    """Give a topic's records, each partition's in order.

    Args:
        settings: say how to reach the brokers.
        topic: its name.
        since_ms: append time of the first, milliseconds of Unix time; None for the topic's beginning.
        until_ms: records appended at or after this time are left out; None for where the topic ends now.

    Raises:
        TopicError: there is no such topic, or no answer.

    """
    with connected(settings, topic) as (consumer, partitions):
        ends = consumer.end_offsets(partitions)
        if until_ms is not None:
            ends |= _offsets_at(consumer, partitions, until_ms)
        consumer.assign(partitions)
        seek(consumer, partitions, since_ms)
        open_ones = {at for at in partitions if consumer.position(at) < ends[at]}
        deadline_s = time.monotonic() + _NO_RECORD_FOR_S
        while open_ones:
            batches = consumer.poll(timeout_ms=500)
            if batches:
                deadline_s = time.monotonic() + _NO_RECORD_FOR_S
            elif time.monotonic() > deadline_s:
                raise TopicError(f"topic {topic!r} gave no record for {_NO_RECORD_FOR_S:.0f} s before its end")
            for at, batch in batches.items():
                yield from (record for record in batch if record.offset < ends[at])
            open_ones = {at for at in open_ones if consumer.position(at) < ends[at]}


def follow(settings: Settings, topic: str, *, since_ms: int | None) -> Iterator[Any]:
    """Give a topic's records as they come, for ever, from an append time on; None for from now on.

    Raises:
        TopicError: there is no such topic, or no answer.

    """
    with connected(settings, topic) as (consumer, partitions):
        consumer.assign(partitions)
        if since_ms is None:
            consumer.seek_to_end(*partitions)
        else:
            seek(consumer, partitions, since_ms)
        while True:
            for batch in consumer.poll(timeout_ms=200).values():
                yield from batch


def seek(consumer: Any, partitions: list[TopicPartition], since_ms: int | None) -> None:
    """Put a consumer where a time begins in each partition, or where the topic does."""
    consumer.seek_to_beginning(*partitions)
    if since_ms is not None:
        starts = consumer.end_offsets(partitions) | _offsets_at(consumer, partitions, since_ms)
        for at in partitions:
            consumer.seek(at, starts[at])


@contextmanager
def connected(settings: Settings, topic: str) -> Iterator[tuple[Any, list[TopicPartition]]]:
    """Connect a consumer without a group for the length of a `with`; gives it and the topic's partitions.

    Raises:
        ConfigError: no broker takes us.
        TopicError: there is no such topic, or no answer; also for what goes wrong within the `with`.

    """
    check_reachable(settings)
    try:
        consumer = Consumer(
            **client_arguments(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=_BROKER_TIMEOUT_MS,
        )
        try:
            partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            if not partitions:
                raise TopicError(
                    f"there is no topic {topic!r} at {settings.bootstrap_servers}: `hushword topics create` makes it"
                )
            yield consumer, partitions
        finally:
            consumer.close()
    except (KafkaError, OSError) as error:
        raise TopicError(f"topic {topic!r} cannot be read: {why(settings, error)}") from error


def _offsets_at(consumer: Any, partitions: list[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
    """Offsets of the first records appended at this time or later, for the partitions that have one."""
    found = consumer.offsets_for_times(dict.fromkeys(partitions, at_ms))
    return {at: entry.offset for at, entry in found.items() if entry is not None and entry.offset >= 0}

"""A broker in memory, with a clock of its own: what the job's steps ask of kafka-python, and nothing more.

Every answer depends on the seed alone. What the real one does is held against in the tests that start it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaTimeoutError, NoError


@dataclass(frozen=True)
class Record:
    """A record as kafka-python gives it: `timestamp` is the append time, milliseconds of Unix time."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Clock:
    """Stands where the module `time` stands."""

    now_us: int

    def time(self) -> float:
        return self.now_us / 1e6

    monotonic = perf_counter = time


@dataclass
class Broker:
    """Topics, committed offsets, and how ill-mannered it is.

    Attributes:
        rng: draws every answer.
        clock: records of the audio topic are there once their append time has come.
        audio_topic: the only one with partitions, and the only one that `log` fills.
        log: of the audio topic, by partition, rising append times.
        slow: partitions that give out a record or two a fetch.
        silent: how often a partition's leader does not answer a fetch, not even with where its log ends.
        refused: how often a write is not acknowledged, though it may have happened.
        topics: the others, of one partition each.
        heard: how much of its topic each follower has heard.
        happened: how often what went wrong.

    """

    rng: Random
    clock: Clock
    audio_topic: str
    log: Mapping[int, Sequence[Record]]
    slow: frozenset[int] = frozenset()
    silent: float = 0.0
    refused: float = 0.0
    topics: dict[str, list[Record]] = field(default_factory=dict)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    heard: dict[Any, int] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)

    def end(self, partition: int) -> int:
        """Give the offset after the newest record that is there by now."""
        records, now_ms = self.log[partition], self.clock.now_us // 1000
        low, high = 0, len(records)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if records[middle].timestamp <= now_ms else (low, middle)
        return low

    def of(self, topic: str) -> list[Record]:
        """Give the records of another topic, which has one partition."""
        return self.topics.setdefault(topic, [])


class Consumer:
    """Of the audio topic: in every poll each partition that answers gives some of what it has."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._at: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == self._broker.audio_topic
        return set(self._broker.log)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._at = dict.fromkeys(partitions, 0)

    def seek(self, at: TopicPartition, offset: int) -> None:
        self._at[at] = offset

    def position(self, at: TopicPartition) -> int:
        return self._at[at]

    def highwater(self, at: TopicPartition) -> int | None:
        return self._ends.get(at)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def pause(self, at: TopicPartition) -> None:
        self._broker.happened["paused"] += 1
        self._paused.add(at)

    def resume(self, at: TopicPartition) -> None:
        self._paused.discard(at)

    def poll(self, _wait_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        broker, polled = self._broker, {}
        for at in sorted(set(self._at) - self._paused):
            if broker.rng.random() < broker.silent:
                broker.happened["silent"] += 1
                continue
            self._ends[at] = broker.end(at.partition)
            most = min(broker.rng.randint(1, 2 if at.partition in broker.slow else 40), max_records)
            records = broker.log[at.partition][self._at[at] : self._ends[at]][:most]
            if records:
                polled[at] = list(records)
                self._at[at] += len(records)
        return polled

    def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {at: self._broker.end(at.partition) for at in partitions}

    def committed(self, at: TopicPartition) -> int | None:
        return self._broker.committed.get(at)

    def close(self) -> None:
        self._at = {}


class Acknowledged:
    """What a producer gives for a record; `get` raises when the broker did not say that it has it."""

    def __init__(self, refused: bool) -> None:
        self._refused = refused

    def get(self, _timeout_s: float) -> None:
        if self._refused:
            raise KafkaTimeoutError("not acknowledged")


class Producer:
    """To all topics but the audio topic."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Acknowledged:
        broker = self._broker
        refused = broker.rng.random() < broker.refused
        if not refused or broker.rng.random() < 0.5:
            records = broker.of(topic)
            records.append(Record(topic, 0, len(records), broker.clock.now_us // 1000, key, value, tuple(headers)))
        broker.happened["refused"] += refused
        return Acknowledged(refused)

    def flush(self, _timeout_s: float) -> None:
        pass

    def close(self, _timeout_s: float) -> None:
        pass


class Admin:
    """Commits."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def alter_group_offsets(
        self, _group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, Any]:
        broker = self._broker
        if broker.rng.random() < broker.refused:
            broker.happened["commits_refused"] += 1
            raise KafkaTimeoutError("no answer")
        broker.committed |= {at: entry.offset for at, entry in offsets.items()}
        return dict.fromkeys(offsets, NoError)

    def close(self) -> None:
        pass

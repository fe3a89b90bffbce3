"""Record: read a topic's requests from some time on, and write them as a recording, each once and whole."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from pipeline.chunks import BadRecordError, Chunk
from pipeline.errors import FailedError, InputError
from pipeline.gather import Gatherer, GatherLimits, LeftOut
from pipeline.growing import GrowingRecording
from pipeline.kafka.broker_faults import why
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.options import Settings
from pipeline.pseudonyms import share_of

POLL_MS = 200
POLL_BYTES = 8 << 20
KEPT_EVERY_S = 1.0
# Records that were appended before a time are there so long after it.
_SETTLED_MS = 1000
_ANSWERED_WITHIN_MS = 10_000
METADATA_MAX_AGE_MS = 5_000

# Requests written, share of the work that is done where that is known.
Progress = Callable[[int, float | None], None]


class RecordError(FailedError):
    """The topic cannot be read any more."""


@dataclass(frozen=True)
class Ended:
    """How a recording ended."""

    complete: bool  # nothing is left to be resumed
    still_open: int  # requests that were being spoken when it was stopped
    wall_s: float


def first_offsets(settings: Settings, topic: str, begin: str | int, from_ms: int | None) -> dict[int, int]:
    """Give the offset in each partition at which a recording begins.

    Args:
        settings: say how to reach the brokers.
        topic: of the audio.
        begin: "earliest", "latest", or an offset, the same in every partition; without meaning with `from_ms`.
        from_ms: append time in ms of Unix time; None: as `begin` says.

    Raises:
        InputError: no partition has that offset.
        RecordError: the broker does not answer.

    """
    consumer = _consumer(settings)
    try:
        partitions = _partitions(consumer, topic)
        earliest = consumer.beginning_offsets(partitions)
        latest = consumer.end_offsets(partitions)
        if from_ms is not None:
            found = consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
            return {at.partition: latest[at] if found[at] is None else found[at].offset for at in partitions}
        if isinstance(begin, int):
            if all(not earliest[at] <= begin <= latest[at] for at in partitions):
                has = ", ".join(f"{at.partition}: {earliest[at]}-{latest[at]}" for at in partitions)
                raise InputError(f"no partition of {topic!r} has offset {begin}: they have {has}")
            return {at.partition: min(max(begin, earliest[at]), latest[at]) for at in partitions}
        return {at.partition: (earliest if begin == "earliest" else latest)[at] for at in partitions}
    except (KafkaError, OSError) as error:
        raise RecordError(f"topic {topic!r} cannot be read: {why(settings, error)}") from error
    finally:
        consumer.close()


def record(
    settings: Settings,
    growing: GrowingRecording,
    limits: GatherLimits,
    stop: threading.Event,
    progress: Progress = lambda _requests, _share: None,
) -> Ended:
    """Read the topic from where the recording stands, until it is complete or stopped.

    Args:
        settings: say how to reach the brokers.
        growing: its state says topic, filters, offsets and end; it is closed when this returns.
        limits: of the gathering.
        stop: set to stop early.
        progress: called about five times a second.

    Raises:
        RecordError: the topic cannot be read, or no longer has what was not read yet.
        FailedError: the recording cannot be written.

    """
    began_s = time.monotonic()
    recorder = _Recorder(settings, growing, limits)
    try:
        kept_s = time.monotonic()
        complete = False
        while not (complete := recorder.complete()) and not stop.is_set():
            recorder.poll()
            if time.monotonic() >= kept_s + KEPT_EVERY_S:
                recorder.keep()
                kept_s = time.monotonic()
            progress(growing.counts["requests"], recorder.share())
        recorder.keep()
    except (KafkaError, OSError) as error:
        where = f"topic {growing.state.topic!r} at {settings.bootstrap_servers}"
        raise RecordError(f"{where} cannot be read any more, and --resume goes on when it can: {error}") from error
    finally:
        recorder.close()
    growing.close(complete=complete)
    return Ended(complete, recorder.still_open, time.monotonic() - began_s)


class _Recorder:
    def __init__(self, settings: Settings, growing: GrowingRecording, limits: GatherLimits) -> None:
        self._growing, self._state = growing, growing.state
        self._timeout_ms = limits.timeout_us // 1000
        self._gatherer = Gatherer(limits, self._state.next, self._wanted)
        self._consumer = _consumer(settings)
        self._assigned = [TopicPartition(self._state.topic, partition) for partition in self._state.needed]
        self._consumer.assign(self._assigned)
        for at in self._assigned:
            self._consumer.seek(at, self._state.needed[at.partition])
        self._counted = dict(self._state.counts)
        self._newest_ms: dict[int, int] = {}
        self._heard_s = time.monotonic()
        self._ends: dict[TopicPartition, int] | None = None  # once no record before the end can come any more
        self._new = True

    @property
    def still_open(self) -> int:
        return self._gatherer.still_open

    def poll(self) -> None:
        """Read what there is, and write the requests that are over by that."""
        try:
            polled = self._consumer.poll(POLL_MS, max_records=1_000_000)
        except OffsetOutOfRangeError as error:
            raise RecordError(
                f"{self._state.topic} no longer has what comes next in the recording: its retention has deleted it"
                f" ({error})"
            ) from error
        if polled:
            self._heard_s = time.monotonic()
            if self._state.from_ms is None:
                self._state.from_ms = min(records[0].timestamp for records in polled.values())
            if self._state.until_ms is None and self._state.for_ms is not None:
                self._state.until_ms = self._state.from_ms + self._state.for_ms
        for at, records in polled.items():
            for one in records:
                self._take(at.partition, one)
        for at in self._assigned:
            if self._at_end(at):
                self._gatherer.idle(at.partition)
        silent = self._all_at_end() and time.monotonic() > self._heard_s + self._timeout_ms / 1000
        for over in self._gatherer.release(everything=silent):
            if isinstance(over, LeftOut):
                self._growing.leave_out(over.request_id)
            else:
                self._growing.add(over)

    def keep(self) -> None:
        """Put down how far everything is; after `poll`, when all that is over is written."""
        self._add_new_partitions()
        self._state.next, self._state.needed = self._gatherer.positions(), self._gatherer.needed()
        counts = self._gatherer.counts
        self._state.counts = {
            name: self._counted.get(name, 0) + counts[name] for name in sorted({*self._counted, *counts})
        }
        self._growing.keep()

    def complete(self) -> bool:
        """Tell whether all that was asked for is written."""
        return self._nothing_begins() and not self._gatherer.still_open

    def share(self) -> float | None:
        """Say how much of the work is done, where an end is known."""
        state = self._state
        if state.requests is not None:
            return self._growing.counts["requests"] / state.requests
        if state.until_ms is None or state.from_ms is None or not self._newest_ms:
            return None
        # A partition that has been read to its end is where the clock is.
        now_ms = time.time() * 1000
        reached = [now_ms if self._at_end(at) else self._newest_ms.get(at.partition, 0) for at in self._assigned]
        return min(1.0, max(0.0, (min(reached) - state.from_ms) / max(1, state.until_ms - state.from_ms)))

    def close(self) -> None:
        self._consumer.close()

    def _take(self, partition: int, one: Any) -> None:
        self._newest_ms[partition] = one.timestamp
        state = self._state
        self._new = one.offset >= state.next.get(partition, 0)
        try:
            self._gatherer.take(partition, one.offset, one.timestamp * 1000, one.value)
        except BadRecordError:
            self._gatherer.counts["unreadable_chunks"] += 1

    def _wanted(self, chunk: Chunk, appended_us: int) -> bool:
        state, counts = self._state, self._gatherer.counts
        if state.until_ms is not None and appended_us >= state.until_ms * 1000:
            return False
        if (state.locales and chunk.locale not in state.locales) or (
            state.wake_words and chunk.wake_word not in state.wake_words
        ):
            counts["chunks_of_others"] += self._new
            return False
        if share_of(chunk.request_id) >= state.sample:
            counts["chunks_not_sampled"] += self._new
            return False
        if self._growing.has(chunk.request_id):
            if not self._growing.had(chunk.request_id) and self._new:
                counts["repeated_chunks"] += 1
            return False
        return not self._has_enough()

    def _has_enough(self) -> bool:
        most = self._state.requests
        return most is not None and self._growing.counts["requests"] + self._gatherer.begun >= most

    def _nothing_begins(self) -> bool:
        state = self._state
        if state.requests is not None and self._growing.counts["requests"] >= state.requests:
            return True
        if state.until_ms is None:
            return False
        if self._ends is None and time.time() * 1000 >= state.until_ms + _SETTLED_MS:
            self._ends = self._consumer.end_offsets(self._assigned)
        return all(self._is_past(at, state.until_ms) for at in self._assigned)

    def _is_past(self, at: TopicPartition, until_ms: int) -> bool:
        if self._newest_ms.get(at.partition, 0) >= until_ms:
            return True
        return self._ends is not None and self._consumer.position(at) >= self._ends.get(at, 0)

    def _add_new_partitions(self) -> None:
        known = {at.partition for at in self._assigned}
        new = (self._consumer.partitions_for_topic(self._state.topic) or set()) - known
        if not new:
            return
        offsets = {at: self._consumer.position(at) for at in self._assigned}
        for partition in sorted(new):
            self._gatherer.add_partition(partition)
            offsets[TopicPartition(self._state.topic, partition)] = 0
        self._assigned = list(offsets)
        self._consumer.assign(self._assigned)
        for at, offset in offsets.items():
            self._consumer.seek(at, offset)

    def _at_end(self, at: TopicPartition) -> bool:
        highwater = self._consumer.highwater(at)
        return highwater is not None and self._consumer.position(at) >= highwater

    def _all_at_end(self) -> bool:
        return all(self._at_end(at) for at in self._assigned)


def _consumer(settings: Settings) -> Any:
    return Consumer(
        **client_arguments(settings),
        enable_auto_commit=False,
        auto_offset_reset="none",
        bootstrap_timeout_ms=_ANSWERED_WITHIN_MS,
        fetch_max_bytes=POLL_BYTES,
        max_partition_fetch_bytes=POLL_BYTES // 4,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )


def _partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    found = consumer.partitions_for_topic(topic)
    if not found:
        raise RecordError(f"topic {topic!r} has no partitions")
    return [TopicPartition(topic, number) for number in sorted(found)]

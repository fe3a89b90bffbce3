"""Reads the audio topic: a splittable DoFn over all partitions, with the fingerprints grown right here.

The restriction is where the reader stands in every partition, and from where it would have to read again to stand
there: after a restore it re-reads a few seconds and rebuilds the requests that it carried. Between bundles it keeps
consumer and requests in memory; whenever they are not exactly what the restriction says, they are made anew.
"""

import logging
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration, Timestamp
from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError, TopicAuthorizationFailedError

from matcher.growth import Growth
from pipeline import metrics
from pipeline.assembly import Assembler
from pipeline.chunks import BadRecordError
from pipeline.kafka.clients import REQUEST_TIMEOUT_MS, client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.known import KnownCatalogue, KnownFollower
from pipeline.marks import NEVER_US
from pipeline.matching import limits_of, load_bits
from pipeline.messages.internal_pb2 import Batch, DeadLetter, Progress
from pipeline.options import Settings
from pipeline.overload import Effort, Overload
from pipeline.pseudonyms import pseudonyms_of
from pipeline.wire import dead_letter, growth_to_message

log = logging.getLogger(__name__)

# The route of what could not be read; it has no slash, as those of requests have. It also carries the progress of a
# topic that has brought no request yet.
DEAD_LETTERS = "dead-letters"
POLL_MS = 50
# A poll takes all that was fetched, and its bound is the fetch's: what kafka-python 3.0.12 has begun to give out of a
# fetch when its partition is paused, it may never give the rest of.
POLL_RECORDS = 1_000_000
POLL_BYTES = 2 << 20
POLL_PARTITION_BYTES = 512 << 10
# The broker answers when there is so much to read or so much time has passed: a bundle costs milliseconds whatever is
# in it, and a poll that answers to every single chunk makes hundreds a second.
FETCH_BYTES = 64 << 10
FETCH_MS = 20
IDLE_DEFER_S = 0.01
# How often every route hears the mark and the progress, though it has no audio of its own.
BEAT_S = 1.0
# A partition so far ahead of one that still has records to be read is left alone until that one has caught up.
AHEAD_US = 2_000_000
METADATA_MAX_AGE_MS = 5_000


class ReadError(RuntimeError):
    """The topic no longer holds what the job needs: the message says what an operator can do."""


@dataclass(frozen=True)
class Position:
    """Where a reader stands: per partition (oldest offset needed, next offset), and the low mark it has emitted."""

    partitions: tuple[tuple[int, int, int], ...]
    low_mark_us: int = NEVER_US

    @classmethod
    def make(cls, needed: Mapping[int, int], next_offsets: Mapping[int, int], low_mark_us: int) -> "Position":
        """Build it from two mappings over the same partitions."""
        return cls(tuple((p, needed[p], next_offsets[p]) for p in sorted(next_offsets)), low_mark_us)


class PositionCoder(Coder):
    """A position as little-endian numbers."""

    def encode(self, value: Position) -> bytes:
        """Give the mark, then three numbers a partition."""
        return struct.pack("<q", value.low_mark_us) + b"".join(struct.pack("<iqq", *p) for p in value.partitions)

    def decode(self, encoded: bytes) -> Position:
        """Give back what `encode` was given."""
        (low_mark_us,) = struct.unpack_from("<q", encoded)
        return Position(tuple(struct.iter_unpack("<iqq", encoded[8:])), low_mark_us)

    def is_deterministic(self) -> bool:
        """Partitions are sorted."""
        return True


class PositionTracker(RestrictionTracker):
    """One claim a bundle: the position after a poll. What is left is always 'from there on'."""

    def __init__(self, position: Position) -> None:
        self._start = self._claimed = position
        self._split = False

    def current_restriction(self) -> Position:
        """Where the bundle started."""
        return self._start

    def current_progress(self) -> RestrictionProgress:
        """A topic has no end, so half of it is always done."""
        return RestrictionProgress(completed=1.0, remaining=1.0)

    def try_claim(self, position: Position) -> bool:
        """Move on to `position`, unless the runner has taken the rest away."""
        if self._split:
            return False
        self._claimed = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Position, Position] | None:
        """Hand over everything after the claim; there is nothing else to cut."""
        if fraction_of_remainder != 0 or self._split:
            return None
        self._split = True
        return self._start, self._claimed

    def check_done(self) -> None:
        """Every bundle ends by deferring the rest."""
        if not self._split:
            raise ValueError("the reader returned without deferring what is left of its topic")

    def is_bounded(self) -> bool:
        """A topic has no end."""
        return False


class FromCommitted(RestrictionProvider):
    """Starts where the group committed, or where the settings say. The element is the settings as JSON."""

    def initial_restriction(self, element: str) -> Position:
        """Ask the broker for partitions and committed offsets.

        Raises:
            ReadError: the topic has no partitions, or has lost what is to be read next.
            TopicAuthorizationFailedError: it is not shown to us.

        """
        settings = Settings.model_validate_json(element)
        consumer = _consumer(settings)
        try:
            partitions = [TopicPartition(settings.audio_topic, p) for p in _partitions(consumer, settings)]
            begin = consumer.beginning_offsets(partitions)
            committed = {partition: consumer.committed(partition) for partition in partitions}
            # A partition without a commit beside others that have one was added since, while nobody read.
            is_new = all(offset is None for offset in committed.values())
            fallback = consumer.end_offsets(partitions) if is_new and settings.start_at == "latest" else begin
            start = {}
            for partition in partitions:
                known = committed[partition]
                offset = fallback[partition] if known is None else known
                if offset < begin[partition]:
                    what = f"begins at offset {begin[partition]}, after the committed {offset}"
                    raise ReadError(_lost(partition, what, settings))
                start[partition.partition] = offset
            return Position.make(start, start, NEVER_US)
        finally:
            consumer.close()

    def create_tracker(self, restriction: Position) -> PositionTracker:
        """Give a tracker for one bundle."""
        return PositionTracker(restriction)

    def restriction_size(self, element: str, restriction: Position) -> int:  # noqa: ARG002
        """One reader, never divided."""
        return 1

    def restriction_coder(self) -> PositionCoder:
        """Give the coder of positions."""
        return PositionCoder()

    def truncate(self, element: str, restriction: Position) -> None:
        """On drain: stop."""


class Reader:
    """A consumer and the requests it carries, from a position on."""

    def __init__(self, settings: Settings, position: Position, known: KnownFollower | None = None) -> None:
        """Begin there; without `known` nothing is known media."""
        self._settings = settings
        self._known = known
        self._limits = limits_of(settings)
        new_from = {p: n for p, _, n in position.partitions}
        self._assembler = Assembler(
            self._limits,
            load_bits(settings),
            new_from,
            position.low_mark_us,
            lambda wake_word, locale: None if known is None else known.catalogue.of(wake_word, locale),
            pseudonyms_of(settings),
        )
        self._consumer = _consumer(settings)
        self._assigned: list[TopicPartition] = []
        self._assign({p: needed for p, needed, _ in position.partitions})
        self._beaten_s = 0.0
        self._overload = Overload(settings.deadline_ms * 1000)
        self.position = position

    def poll(self, wait_ms: int) -> tuple[dict[str, list[Growth]], list[DeadLetter], bool]:
        """Read what there is, waiting at most so long for it.

        Returns:
            Growths by route, dead letters, and whether anything was read.

        Raises:
            ReadError: the topic no longer holds what is to be read.
            RuntimeError: known media cannot be followed any more.

        """
        self._add_new_partitions()
        try:
            polled = self._consumer.poll(wait_ms, max_records=POLL_RECORDS)
        except OffsetOutOfRangeError as error:
            ((at, offset),) = error.args[0].items()
            raise ReadError(_lost(at, f"no longer has offset {offset}", self._settings)) from error
        letters = [] if self._known is None else self._known.catch_up()
        for at, records in polled.items():
            for record in records:
                try:
                    self._assembler.take(at.partition, record.offset, record.timestamp * 1000, record.value)
                except BadRecordError as error:
                    if record.offset >= self._read_before.get(at.partition, 0):
                        letters.append(dead_letter(record, error.stage, error))
        for at in self._assigned:
            highwater = self._consumer.highwater(at)
            if highwater is not None and self._consumer.position(at) >= highwater:
                self._assembler.idle(at.partition)
        newest_us = {at.partition: records[-1].timestamp * 1000 for at, records in polled.items()}
        lag_us = self._assembler.lag_us(newest_us, round(time.time() * 1e6))
        self._overload.observe(round(time.monotonic() * 1e6), lag_us)
        self._assembler.effort = self.effort
        began_s = time.perf_counter()
        growths = self._assembler.release()
        if growths:
            metrics.FINGERPRINTING.observe(time.perf_counter() - began_s)
        self._hold_back_those_ahead()
        self.position = Position.make(
            self._assembler.needed(), self._assembler.positions(), self._assembler.low_mark_us
        )
        self._show()
        return growths, letters, bool(polled)

    def _show(self) -> None:
        metrics.count_read(self._assembler.counts)
        self._assembler.counts = Counter()
        metrics.OPEN_REQUESTS.set(self._assembler.open)
        metrics.HELD_CHUNKS.set(self._assembler.held)
        metrics.READER_LAG.set(
            sum(
                max(0, highwater - self._consumer.position(at))
                for at in self._assigned
                if (highwater := self._consumer.highwater(at)) is not None
            )
        )
        metrics.READER_BEHIND.set(self._overload.lag_us / 1e6)
        metrics.EFFORT.set(self.effort.share)
        metrics.UNMATCHED.set(self.effort.unmatched)
        if self.low_mark_us > NEVER_US:
            metrics.LOW_MARK.set(self.low_mark_us / 1e6)
        metrics.LAST_POLL.set_to_current_time()

    def progress(self) -> Progress:
        """Say what may be committed once every route has acknowledged all that was given out until now."""
        return Progress(
            routes=[*self._assembler.routes(), DEAD_LETTERS],
            needed=self._assembler.needed(),
            media={} if self._known is None else self._known.told(),
        )

    @property
    def effort(self) -> Effort:
        """What is done with what was read by the last poll."""
        return self._overload.effort

    @property
    def low_mark_us(self) -> int:
        """Capture time before which nothing more is given out, but for what comes late."""
        return self._assembler.low_mark_us

    def beat(self) -> bool:
        """Tell whether it is time for every route to hear the mark."""
        if time.monotonic() < self._beaten_s + BEAT_S:
            return False
        self._beaten_s = time.monotonic()
        return True

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
        metrics.ASSIGNED_PARTITIONS.set(0)

    def _assign(self, offsets: Mapping[int, int]) -> None:
        self._assigned = [TopicPartition(self._settings.audio_topic, p) for p in offsets]
        self._consumer.assign(self._assigned)
        metrics.ASSIGNED_PARTITIONS.set(len(self._assigned))
        for at in self._assigned:
            self._consumer.seek(at, offsets[at.partition])
        self._read_before = {p: n for p, n in self._assembler.positions().items() if n > offsets[p]}

    def _add_new_partitions(self) -> None:
        known = {at.partition for at in self._assigned}
        new = sorted((self._consumer.partitions_for_topic(self._settings.audio_topic) or set()) - known)
        if not new:
            return
        offsets = {at.partition: self._consumer.position(at) for at in self._assigned}
        for partition in new:
            log.info("reading partition %d, which was added to %s", partition, self._settings.audio_topic)
            self._assembler.add_partition(partition, 0)
            offsets[partition] = 0
        self._assign(offsets)

    def _hold_back_those_ahead(self) -> None:
        newest_us = self._assembler.newest_us()
        if len(newest_us) < 2 and not self._consumer.paused():
            return
        behind_us = min(newest_us.values(), default=0)
        for at in self._assigned:
            ahead = newest_us.get(at.partition, NEVER_US) > behind_us + AHEAD_US
            if ahead and at not in self._consumer.paused():
                self._consumer.pause(at)
            elif not ahead and at in self._consumer.paused():
                self._consumer.resume(at)


class ReadRequests(beam.DoFn):
    """Settings in; (route, Batch) out: for the routes that a poll brought something for, now and then for all."""

    def setup(self) -> None:
        """Readers are made when their position is known."""
        self._reader: Reader | None = None
        self._known: KnownFollower | None = None

    def teardown(self) -> None:
        """Leave the broker."""
        self._drop()
        self._forget()

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: str,
        tracker: Any = beam.DoFn.RestrictionParam(FromCommitted()),  # noqa: B008
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),  # noqa: B008
    ) -> Iterator[Any]:
        """One poll a bundle: that bounds the latency, and the rest is deferred at once."""
        start = tracker.current_restriction()
        if self._reader is None or self._reader.position != start:
            self._drop()
            settings = Settings.model_validate_json(element)
            self._reader = Reader(settings, start, self._follow(settings))
        reader = self._reader
        try:
            growths, letters, any_read = reader.poll(POLL_MS)
        except BaseException:
            self._drop()
            self._forget()
            raise
        if not tracker.try_claim(reader.position):
            self._drop()
            return
        progress = reader.progress()
        routes = progress.routes if reader.beat() else [*growths, *([DEAD_LETTERS] if letters else [])]
        for route in routes:
            batch = Batch(low_mark_us=reader.low_mark_us, progress=progress, halvings=reader.effort.halvings)
            batch.growths.extend(growth_to_message(growth) for growth in growths.get(route, ()))
            if route == DEAD_LETTERS:
                batch.dead_letters.extend(letters)
            yield route, batch.SerializeToString()
        _advance(watermark, reader.low_mark_us)
        tracker.defer_remainder(Duration(0 if any_read else IDLE_DEFER_S))

    def _follow(self, settings: Settings) -> KnownFollower | None:
        """Give the known media, read to the end of their topic; another reader takes over those of the one before."""
        if self._known is not None:
            self._known.begin_anew()
        elif (catalogue := KnownCatalogue.of_settings(settings)) is not None:
            self._known = KnownFollower(settings, catalogue)
            self._known.start()
        return self._known

    def _forget(self) -> None:
        if self._known is not None:
            self._known.stop()
            self._known = None

    def _drop(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _consumer(settings: Settings) -> Any:
    return Consumer(
        **client_arguments(settings),
        group_id=settings.group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_MS,
        fetch_min_bytes=FETCH_BYTES,
        fetch_max_bytes=POLL_BYTES,
        max_partition_fetch_bytes=POLL_PARTITION_BYTES,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )


def _partitions(consumer: Any, settings: Settings) -> list[int]:
    found = consumer.partitions_for_topic(settings.audio_topic)
    if not found:
        # One that is not shown to us is left out without a word; of its offsets the broker says that we may not know.
        try:
            consumer.committed(TopicPartition(settings.audio_topic, 0))
        except TopicAuthorizationFailedError as error:
            raise TopicAuthorizationFailedError(settings.audio_topic) from error
        raise ReadError(f"topic {settings.audio_topic!r} has no partitions")
    return sorted(found)


def _lost(at: TopicPartition, what: str, settings: Settings) -> str:
    return (
        f"{at.topic}-{at.partition} {what}: its retention has deleted audio that was never read;"
        f" reset the offsets of group {settings.group_id!r} to go on without it"
    )


def _advance(watermark: Any, low_mark_us: int) -> None:
    if low_mark_us <= NEVER_US:
        return
    now = Timestamp(micros=low_mark_us)
    current = watermark.current_watermark()
    if current is None or now > current:
        watermark.set_watermark(now)

"""Reads the topics for the page: a thread that outlives the broker, and that reads a share when all is too much."""

import logging
import threading
import time
import zlib
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

from google.protobuf.message import DecodeError
from kafka import TopicPartition
from kafka.errors import KafkaError

from pipeline.assembly import Assembler, AssemblyLimits
from pipeline.chunks import BadRecordError
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.topics import topic_names
from pipeline.matching import load_bits
from pipeline.messages import hushword_pb2 as pb
from pipeline.monitor.model import MAX_REQUESTS, Model
from pipeline.options import Settings
from pipeline.pseudonyms import pseudonyms_of
from pipeline.wire import BadMediaError, average_from_message

log = logging.getLogger(__name__)

POLL_MS = 100
POLL_RECORDS = 500
RETRY_S = 1.0
NEW_PARTITIONS_EVERY_S = 30.0
# Chunks whose fingerprints are grown, a second: about a quarter of a core. More than that, and whole requests are left
# out, by a hash of their key, until it fits.
MAX_CHUNKS_PER_S = 2000


class Share:
    """Which requests are read: all, or half of them, or a quarter ... as the last second's chunks allow."""

    def __init__(self, most_per_s: int = MAX_CHUNKS_PER_S) -> None:
        self.share = 1.0
        self._most_per_s = most_per_s
        self._began_s = float("-inf")
        self._offered = 0

    def takes(self, key: bytes | None) -> bool:
        """Say whether the request of this key is among those; a record without a key (a low mark) always is."""
        return key is None or zlib.crc32(key) < self.share * 2**32

    def offer(self, number: int, now_s: float) -> None:
        """Count chunks that were there to be read; once a second the share follows."""
        self._offered += number
        if now_s < self._began_s + 1.0:
            return
        per_s = self._offered / min(now_s - self._began_s, 10.0) if self._began_s > float("-inf") else self._offered
        while per_s * self.share > self._most_per_s:
            self.share /= 2
        if self.share < 1.0 and per_s * self.share * 4 < self._most_per_s:
            self.share *= 2
        self._began_s, self._offered = now_s, 0


class Follower(threading.Thread):
    """The thread. It begins where the topics end now, or with what was appended since `since_s` (Unix time)."""

    def __init__(self, settings: Settings, model: Model, since_s: float | None = None) -> None:
        super().__init__(name="monitor-follower", daemon=True)
        self._settings, self._model, self._since_s = settings, model, since_s
        self._roles = {name: role for role, name in topic_names(settings).items()}
        self._stopped = threading.Event()
        self._next: dict[TopicPartition, int] = {}
        self._share = Share()
        self._assembler: Assembler | None = None
        self.ends: Mapping[int, int] = {}  # of the audio topic, by partition

    def stop(self) -> None:
        """Stop it."""
        self._stopped.set()
        if self.is_alive():
            self.join(5.0)

    def run(self) -> None:
        """Read until told to stop; a broker that is gone is waited for."""
        away = False
        while not self._stopped.is_set():
            try:
                with closing(self._consumer()) as consumer:
                    away = False
                    self._read(consumer)
            except (KafkaError, OSError) as error:
                if not away:
                    log.warning("the topics cannot be read at the moment: %s", error)
                away = True
                self._stopped.wait(RETRY_S)

    def _consumer(self) -> Any:
        return Consumer(
            **client_arguments(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="latest",  # what retention has deleted is not waited for
            bootstrap_timeout_ms=5000,
            fetch_max_wait_ms=POLL_MS,
        )

    def _read(self, consumer: Any) -> None:
        self._assign(consumer)
        self._model.set_status(phase="following", note="")
        look_again_s = time.monotonic() + NEW_PARTITIONS_EVERY_S
        while not self._stopped.is_set():
            polled = consumer.poll(POLL_MS, max_records=POLL_RECORDS)
            for at, records in polled.items():
                for record in records:
                    self._take(record)
                self._next[at] = records[-1].offset + 1
            self._release(consumer, polled)
            if time.monotonic() > look_again_s:
                look_again_s = time.monotonic() + NEW_PARTITIONS_EVERY_S
                if len(self._partitions(consumer)) > len(self._next):
                    return  # and begin anew with them

    def _partitions(self, consumer: Any) -> list[TopicPartition]:
        return [
            TopicPartition(name, number)
            for name in self._roles
            for number in sorted(consumer.partitions_for_topic(name) or ())
        ]

    def _assign(self, consumer: Any) -> None:
        """Go on where this follower was; in a partition that is new to it, where it was told to begin."""
        partitions = self._partitions(consumer)
        new = [at for at in partitions if at not in self._next]
        whole = [at for at in new if self._roles[at.topic] == "media" or self._next]  # compacted; or added since
        rest = [at for at in new if at not in whole]
        begin = dict.fromkeys(whole, 0)
        if rest:
            begin |= consumer.end_offsets(rest)
            if self._since_s is not None:
                found = consumer.offsets_for_times(dict.fromkeys(rest, round(self._since_s * 1000)))
                begin |= {at: entry.offset for at, entry in found.items() if entry is not None}
        self._next |= begin
        consumer.assign(partitions)
        for at in partitions:
            consumer.seek(at, self._next[at])
        audio = {at.partition: offset for at, offset in self._next.items() if self._roles[at.topic] == "audio"}
        if self._assembler is None:
            self._assembler = Assembler(
                _limits(self._settings), load_bits(self._settings), audio, names=pseudonyms_of(self._settings)
            )
        for at in new:
            if self._roles[at.topic] == "audio" and at.partition not in self._assembler.positions():
                self._assembler.add_partition(at.partition, self._next[at])

    def _take(self, record: Any) -> None:
        match self._roles[record.topic]:
            case "audio":
                self._take_audio(record)
            case "decisions":
                self._take_decision(record)
            case "media":
                self._take_medium(record)
            case "dead_letter":
                self._model.count("dead_letters")

    def _take_audio(self, record: Any) -> None:
        assert self._assembler is not None
        if self._share.takes(record.key):
            with suppress(BadRecordError):  # the job makes a dead letter of it, and that is counted
                self._assembler.take(record.partition, record.offset, record.timestamp * 1000, record.value)

    def _take_decision(self, record: Any) -> None:
        try:
            decision = pb.Decision.FromString(record.value or b"")
        except DecodeError:
            decision = pb.Decision()
        if not decision.request_id or decision.verdict != pb.Decision.IGNORE:
            self._model.count("unreadable")
        else:
            self._model.decided(decision, record.timestamp)

    def _take_medium(self, record: Any) -> None:
        media_id = (record.key or b"").decode(errors="replace")
        try:
            average = average_from_message(pb.MediaFingerprint.FromString(record.value)) if record.value else None
        except (DecodeError, BadMediaError):
            self._model.count("unreadable")
        else:
            self._model.learned(media_id, average)

    def _release(self, consumer: Any, polled: Mapping[TopicPartition, list[Any]]) -> None:
        assert self._assembler is not None
        audio = [at for at in self._next if self._roles[at.topic] == "audio"]
        ends = {}
        for at in audio:
            highwater = consumer.highwater(at)
            if highwater is not None:
                ends[at.partition] = highwater
                if self._next[at] >= highwater:
                    self._assembler.idle(at.partition)
        self.ends = ends
        for growths in self._assembler.release().values():
            for growth in growths:
                self._model.heard(growth)
        self._share.offer(sum(len(polled.get(at, ())) for at in audio), time.monotonic())
        self._model.set_status(share=self._share.share)


def _limits(settings: Settings) -> AssemblyLimits:
    return AssemblyLimits(
        reorder_us=settings.reorder_ms * 1000,
        window_us=int(settings.request_timeout_s * 1e6),
        timeout_us=int(settings.request_timeout_s * 1e6),
        max_clock_skew_us=int(settings.max_clock_skew_s * 1e6),
        max_open=MAX_REQUESTS,
        max_held=10 * POLL_RECORDS,
        household_requests_per_minute=MAX_REQUESTS,
    )

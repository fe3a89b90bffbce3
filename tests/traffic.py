"""Traffic that goes on while things break, and how far behind it the job is."""

import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaConnectionError, KafkaError

from pipeline.kafka.topics import a_broker_listens
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.options import Settings
from pipeline.recordings.departures import departures
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import END_MARK_AFTER_S

WATCH_S = 0.25
ACKNOWLEDGED_WITHIN_S = 150.0
# A gateway that waits longer for a broker has audio that is worth nothing any more.
GATEWAY_TIMEOUT_MS = 5000
METADATA_MAX_AGE_MS = 2000
# kafka-python waits for up to 30 s before it looks again for brokers that were gone: all audio would be too late.
RECONNECT_WITHIN_MS = 1000


@dataclass(frozen=True)
class Hold:
    """Records of one partition that are kept back from one time of the recording to another, and then sent at once."""

    partition: int
    from_s: float
    to_s: float


class Traffic(threading.Thread):
    """Plays a recording in real time, as gateways would, and remembers what the brokers acknowledged.

    Attributes:
        epoch_s: Unix time of the recording's zero.
        acknowledged: request and sequence number by partition and offset; low marks have the number -1.
        ends: by partition, the offset behind the last acknowledged record so far.
        failed: what the brokers did not take.

    """

    def __init__(self, recording: Recording, settings: Settings, hold: Hold | None = None) -> None:
        super().__init__(name="traffic", daemon=True)
        self._recording, self._settings, self._hold = recording, settings, hold
        self.epoch_s = 0.0
        self.acknowledged: dict[tuple[int, int], tuple[str, int]] = {}
        self.ends: dict[int, int] = {}
        self.failed: list[BaseException] = []

    def run(self) -> None:
        self.epoch_s = time.time()
        producer = KafkaProducer(
            bootstrap_servers=self._settings.bootstrap_servers.split(","),
            acks="all",
            linger_ms=5,
            batch_size=256 * 1024,
            delivery_timeout_ms=int(ACKNOWLEDGED_WITHIN_S * 1000),
            request_timeout_ms=GATEWAY_TIMEOUT_MS,
            max_block_ms=int(ACKNOWLEDGED_WITHIN_S * 1000),
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            reconnect_backoff_max_ms=RECONNECT_WITHIN_MS,
        )
        topic, hold = self._settings.audio_topic, self._hold
        held: list[AudioChunk] = []

        def send(message: AudioChunk, partition: int) -> None:
            seq = message.seq if message.request_id else -1
            sent = producer.send(topic, message.SerializeToString(), partition=partition)
            sent.add_callback(self._take, message.request_id, seq)
            sent.add_errback(self.failed.append)

        try:
            end_s = 0.0
            for departure in departures(self._recording, round(self.epoch_s * 1e6)):
                end_s = departure.at_us / 1e6
                time.sleep(max(0.0, self.epoch_s + end_s - time.time()))
                message = departure.message
                partition = zlib.crc32(message.request_id.encode()) % len(producer.partitions_for(topic))
                if hold is not None and end_s >= hold.to_s:
                    while held:
                        send(held.pop(0), hold.partition)
                if hold is not None and partition == hold.partition and hold.from_s <= end_s < hold.to_s:
                    held.append(message)
                else:
                    send(message, partition)
            producer.flush(ACKNOWLEDGED_WITHIN_S)
            mark = AudioChunk(low_mark_us=round((self.epoch_s + end_s + END_MARK_AFTER_S) * 1e6))
            for partition in sorted(producer.partitions_for(topic)):
                send(mark, partition)
            producer.flush(ACKNOWLEDGED_WITHIN_S)
        except KafkaError as error:
            self.failed.append(error)
        finally:
            producer.close(10)

    @property
    def now_s(self) -> float:
        """Time of the recording."""
        return time.time() - self.epoch_s

    def _take(self, request_id: str, seq: int, at: Any) -> None:
        self.acknowledged[at.partition, at.offset] = request_id, seq
        self.ends[at.partition] = max(self.ends.get(at.partition, 0), at.offset + 1)


class Lag(threading.Thread):
    """Acknowledged records that are not committed, over time; while nobody answers, what was committed last counts.

    Attributes:
        committed: offsets by partition.
        samples: Unix time and records.

    """

    def __init__(self, settings: Settings, traffic: Traffic) -> None:
        super().__init__(name="lag", daemon=True)
        self._settings, self._traffic = settings, traffic
        self._ended = threading.Event()
        self.committed: dict[int, int] = {}
        self.samples: list[tuple[float, int]] = []

    def run(self) -> None:
        admin: KafkaAdminClient | None = None
        while not self._ended.wait(WATCH_S):
            try:
                if admin is None:
                    if not a_broker_listens(self._settings.bootstrap_servers):
                        raise KafkaConnectionError("no broker takes a connection")
                    admin = KafkaAdminClient(
                        bootstrap_servers=self._settings.bootstrap_servers.split(","), request_timeout_ms=3000
                    )
                found = admin.list_group_offsets(self._settings.group_id).get(self._settings.group_id, {})
                audio = self._settings.audio_topic
                self.committed |= {at.partition: e.offset for at, e in found.items() if at.topic == audio}
            except (KafkaError, OSError):
                if admin is not None:  # it would ask the same coordinator for ever
                    admin.close()
                    admin = None
            self.samples.append((time.time(), self.now()))
        if admin is not None:
            admin.close()

    def now(self) -> int:
        """Records that are acknowledged and not committed."""
        ends = dict(self._traffic.ends)
        return sum(max(0, end - max(0, self.committed.get(partition, 0))) for partition, end in ends.items())

    def stop(self) -> None:
        """End, and wait for it."""
        self._ended.set()
        self.join(30)

    def peak(self, after_s: float = 0.0) -> tuple[float, int]:
        """When it was highest, and how high, after a Unix time; the last such moment counts."""
        return max((sample for sample in self.samples if sample[0] >= after_s), key=lambda s: (s[1], s[0]))

    def first(self, condition: Callable[[int], bool], after_s: float) -> float | None:
        """When a condition held first, after a Unix time."""
        return next((at_s for at_s, lag in self.samples if at_s >= after_s and condition(lag)), None)

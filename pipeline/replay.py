"""Replay: publish a recording as its devices would have sent it, at its own speed, a multiple, or as fast as can be."""

import heapq
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipeline.errors import FailedError
from pipeline.messages import hushword_pb2 as pb
from pipeline.recording import Recording, Request

CHUNK_MS = (80, 250)  # shortest and longest; only a request's last chunk may be shorter
END_MARK_AFTER_S = 120.0  # beyond every window and timeout, so that a job can finish with everything it holds
_IN_FLIGHT = 2000  # unacknowledged records: 16 MB of the longest chunks
_ACKNOWLEDGED_WITHIN_S = 60.0


class ReplayError(FailedError):
    """The broker did not take a record."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of one request's samples, [first, last)."""

    seq: int
    first: int
    last: int


@dataclass(frozen=True)
class ReplaySummary:
    """What was published."""

    requests: int
    chunks: int
    audio_bytes: int
    epoch_s: float  # Unix time that the recording's zero was given
    end_offsets: dict[int, int]  # by partition, just after its end mark
    wall_s: float


def chunk(request_id: str, samples: int, sample_rate_hz: int, seed: int = 0) -> list[Chunk]:
    """Cut a request into chunks of 80-250 ms, drawn from the seed and the request id alone.

    Args:
        request_id: of the request.
        samples: how many it has.
        sample_rate_hz: of these samples.
        seed: another one cuts at other places.

    Returns:
        Chunks that follow each other without gap or overlap; the last may be shorter than 80 ms.

    """
    draw = random.Random(f"chunks {seed} {request_id}")  # a text seeds it the same in every process
    chunks: list[Chunk] = []
    first = 0
    while first < samples:
        # Rounded up, so that no chunk is below the shortest; the longest is cut to whole milliseconds of samples.
        length = -(-draw.randint(*CHUNK_MS) * sample_rate_hz // 1000)
        length = min(length, CHUNK_MS[1] * sample_rate_hz // 1000)
        chunks.append(Chunk(len(chunks), first, min(first + length, samples)))
        first += length
    return chunks


def audio_chunk(
    request: Request, samples: npt.NDArray[np.int16], sample_rate_hz: int, part: Chunk, epoch_us: int
) -> pb.AudioChunk:
    """Make the message for one chunk; `samples` are the whole request's."""
    return pb.AudioChunk(
        request_id=request.request_id,
        household_id=request.household,
        device_id=request.device,
        wake_word=request.wake_word,
        locale=request.locale,
        seq=part.seq,
        sample_rate_hz=sample_rate_hz,
        encoding=pb.PCM_S16LE,
        audio=samples[part.first : part.last].astype("<i2").tobytes(),
        capture_time_us=epoch_us + _capture_us(request, part.first, sample_rate_hz),
        final=part.last == len(samples),
    )


@dataclass(frozen=True)
class Departure:
    """A message and when its device sends it, in microseconds from the recording's start."""

    at_us: int
    message: pb.AudioChunk


def departures(recording: Recording, epoch_us: int, seed: int = 0, shuffle_ms: int = 0) -> Iterator[Departure]:
    """Give all chunks in the order in which they are sent, reading each request's audio when it begins.

    A chunk leaves when its last sample was captured; with `shuffle_ms` it is held back by up to that much, each by
    its own draw. Memory holds the requests that are being spoken, not the recording.

    Raises:
        RecordingError: a request's audio cannot be read.

    """
    waiting: list[tuple[int, str, int, pb.AudioChunk]] = []  # held back: departure, request, seq
    for captured_us, message in _by_capture_end(recording, epoch_us, seed):
        while waiting and waiting[0][0] <= captured_us:  # whatever comes now leaves later
            yield _departure(heapq.heappop(waiting))
        draw = random.Random(f"delay {seed} {message.request_id} {message.seq}")
        at_us = captured_us + round(draw.uniform(0, shuffle_ms) * 1000)
        heapq.heappush(waiting, (at_us, message.request_id, message.seq, message))
    while waiting:
        yield _departure(heapq.heappop(waiting))


def replay(
    recording: Recording,
    bootstrap_servers: str,
    topic: str,
    speed: float | None = 1.0,
    epoch_s: float | None = None,
    seed: int = 0,
    shuffle_ms: int = 0,
    progress: Callable[[int], None] | None = None,
) -> ReplaySummary:
    """Publish a recording and end every partition with an end mark.

    Args:
        recording: its requests are published, its truth is not looked at.
        bootstrap_servers: host:port, comma separated.
        topic: an existing topic; chunks are keyed by their request id.
        speed: times real time, None for as fast as the broker takes it.
        epoch_s: Unix time for the recording's zero; None for now.
        seed: of the cuts between chunks and of the disorder.
        shuffle_ms: hold every record back by up to so much capture time, so that they come out of order.
        progress: called after each chunk with the number of requests whose audio has gone out.

    Raises:
        RecordingError: a request's audio cannot be read.
        ReplayError: the broker did not take a record.

    """
    began_s = time.monotonic()
    epoch_s = time.time() if epoch_s is None else epoch_s
    epoch_us = round(epoch_s * 1e6)
    done = chunks = audio_bytes = end_us = 0
    with _Sender(bootstrap_servers, topic) as sender:
        for departure in departures(recording, epoch_us, seed, shuffle_ms):
            if speed is not None:
                due_s = began_s + departure.at_us / 1e6 / speed
                time.sleep(max(0.0, due_s - time.monotonic()))
            message = departure.message
            sender.send(message.SerializeToString(), key=message.request_id.encode())
            chunks += 1
            audio_bytes += len(message.audio)
            end_us = max(end_us, departure.at_us)
            done += message.final
            if progress is not None:
                progress(done)
        mark = pb.AudioChunk(low_mark_us=epoch_us + end_us + round(END_MARK_AFTER_S * 1e6)).SerializeToString()
        end_offsets = sender.end_partitions(mark)
    return ReplaySummary(done, chunks, audio_bytes, epoch_s, end_offsets, time.monotonic() - began_s)


def _capture_us(request: Request, sample: int, sample_rate_hz: int) -> int:
    return round(request.start_s * 1e6) + round(sample * 1_000_000 / sample_rate_hz)


def _by_capture_end(recording: Recording, epoch_us: int, seed: int) -> Iterator[tuple[int, pb.AudioChunk]]:
    def chunks_of(request: Request) -> Iterator[tuple[int, pb.AudioChunk]]:
        samples, sample_rate_hz = recording.audio(request)
        for part in chunk(request.request_id, len(samples), sample_rate_hz, seed):
            message = audio_chunk(request, samples, sample_rate_hz, part, epoch_us)
            yield _capture_us(request, part.last, sample_rate_hz), message

    active: list[tuple[int, str, pb.AudioChunk, Iterator[tuple[int, pb.AudioChunk]]]] = []

    def push(rest: Iterator[tuple[int, pb.AudioChunk]]) -> None:
        following = next(rest, None)
        if following is not None:
            captured_us, message = following
            heapq.heappush(active, (captured_us, message.request_id, message, rest))

    def release(until_us: float) -> Iterator[tuple[int, pb.AudioChunk]]:
        while active and active[0][0] <= until_us:
            captured_us, _, message, rest = heapq.heappop(active)
            yield captured_us, message
            push(rest)

    for request in recording.requests:  # by start: whatever a later one sends was captured after its start
        yield from release(round(request.start_s * 1e6))
        push(chunks_of(request))
    yield from release(float("inf"))


def _departure(held: tuple[int, str, int, pb.AudioChunk]) -> Departure:
    return Departure(held[0], held[3])


class _Sender:
    """A producer that waits when too much is unacknowledged and raises when anything was refused."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._room = threading.Semaphore(_IN_FLIGHT)
        self._refused: list[BaseException] = []
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap_servers.split(","),
                acks="all",
                linger_ms=5,
                batch_size=256 * 1024,
                compression_type=None,  # PCM hardly shrinks
                allow_auto_create_topics=False,
                max_block_ms=10_000,
                delivery_timeout_ms=int(_ACKNOWLEDGED_WITHIN_S * 1000),
            )
        except (KafkaError, OSError) as error:
            raise ReplayError(f"no Kafka broker answered at {bootstrap_servers}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._producer.close(timeout=10)
        else:
            with suppress(KafkaError):  # what is in flight may never arrive: the error that led here is the one to tell
                self._producer.close(timeout=3)

    def send(self, value: bytes, key: bytes | None = None, partition: int | None = None) -> Any:
        """Hand one record over; blocks while too many are unacknowledged."""
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

    def end_partitions(self, mark: bytes) -> dict[int, int]:
        """Send the mark to every partition after all that went before; give the offsets behind the marks."""
        self._flush()
        partitions = sorted(self._producer.partitions_for(self._topic))
        marks = {partition: self.send(mark, partition=partition) for partition in partitions}
        self._flush()
        return {
            partition: int(sent.get(timeout=_ACKNOWLEDGED_WITHIN_S).offset) + 1 for partition, sent in marks.items()
        }

    def _flush(self) -> None:
        try:
            self._producer.flush(timeout=_ACKNOWLEDGED_WITHIN_S)
        except KafkaError as error:
            raise ReplayError(f"topic {self._topic!r} did not acknowledge what was sent: {error}") from error
        self._check()

    def _check(self) -> None:
        if self._refused:
            raise ReplayError(f"topic {self._topic!r} did not take a record: {self._refused[0]}") from self._refused[0]

    def _acknowledged(self, _: object) -> None:
        self._room.release()

    def _failed(self, error: BaseException) -> None:
        self._refused.append(error)
        self._room.release()

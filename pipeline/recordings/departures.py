"""Departures: which chunk of a recording leaves when; whole, in part, over and over, in several copies."""

import functools
import hashlib
import heapq
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.chunks import MAX_ID_LENGTH
from pipeline.messages import hushword_pb2 as pb
from pipeline.recordings.recording import Recording, RecordingError, Request

CHUNK_MS = (80, 250)  # shortest and longest; only a request's last chunk may be shorter
COPY_JITTER_S = 0.1  # a copy's request begins up to so much later than the original
_AUDIO_KEPT = 64  # requests whose audio is kept for their copies


@dataclass(frozen=True)
class Programme:
    """What of a recording is played.

    Attributes:
        from_s: requests that begin before this time of the recording are left out.
        loops: how often it is played, each time with other request ids; None: for ever.
        copies: how many homes send each request: the own one, and others with ids of their own.
        seed: of the cuts between chunks, of the disorder and of the copies' jitter.
        shuffle_ms: every chunk is held back by up to so much capture time, so that they come out of order.

    """

    from_s: float = 0.0
    loops: int | None = 1
    copies: int = 1
    seed: int = 0
    shuffle_ms: int = 0


WHOLE = Programme()


@dataclass(frozen=True)
class Chunk:
    """A stretch of one request's samples, [first, last)."""

    seq: int
    first: int
    last: int


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


# When, request id, seq: departures are in this order.
Key = tuple[int, str, int]


@dataclass(frozen=True)
class Departure:
    """A message and when its device sends it, in microseconds from the recording's zero."""

    at_us: int
    message: pb.AudioChunk

    @property
    def key(self) -> Key:
        """Its place among all departures."""
        return self.at_us, self.message.request_id, self.message.seq


def departures(
    recording: Recording, epoch_us: int, programme: Programme = WHOLE, after: Key | None = None
) -> Iterator[Departure]:
    """Give all chunks in the order in which they are sent, reading each request's audio when it begins.

    A chunk leaves when its last sample was captured; with `shuffle_ms` it is held back by up to that much, each by
    its own draw. Memory holds the requests that are being spoken, not the recording.

    Args:
        recording: what is played.
        epoch_us: Unix time of the recording's zero.
        programme: how much of it, how often.
        after: give only those behind this one.

    Raises:
        RecordingError: a request's audio cannot be read, or none begins from `from_s` on.

    """
    waiting: list[tuple[int, str, int, pb.AudioChunk]] = []  # held back: departure, request, seq
    requests = played(recording, programme, 0 if after is None else after[0])
    for captured_us, message in _by_capture_end(recording, requests, epoch_us, programme):
        while waiting and waiting[0][0] < captured_us:  # whatever comes now leaves later
            yield from _behind(after, heapq.heappop(waiting))
        draw = random.Random(f"delay {programme.seed} {message.request_id} {message.seq}")
        at_us = captured_us + round(draw.uniform(0, programme.shuffle_ms) * 1000)
        heapq.heappush(waiting, (at_us, message.request_id, message.seq, message))
    while waiting:
        yield from _behind(after, heapq.heappop(waiting))


def played(recording: Recording, programme: Programme, from_us: int = 0) -> Iterator[Request]:
    """Give the requests of all loops and copies by their start, without those that are over before `from_us`.

    Raises:
        RecordingError: none begins from `from_s` on.

    """
    requests = chosen(recording, programme)
    held_back_s = programme.shuffle_ms / 1000
    length_s, first = 0.0, 0
    if programme.loops != 1:
        end_s = max(request.start_s + recording.duration_s(request) for request in requests)
        # Whole milliseconds, and behind the last copy's jitter: a loop begins when all of the one before have begun.
        length_s = math.ceil((end_s + COPY_JITTER_S - programme.from_s) * 1000) / 1000
        first = max(0, math.floor((from_us / 1e6 - programme.from_s - held_back_s) / length_s))
    loops = itertools.count() if programme.loops is None else range(programme.loops)
    for loop in itertools.islice(loops, first, None):
        for request in _overlaid(requests, programme):
            start_s = round(request.start_s + loop * length_s, 6)
            behind_us = from_us - (start_s + held_back_s) * 1e6
            if behind_us > 0 and recording.duration_s(request) * 1e6 < behind_us:
                continue
            request_id = _other(request.request_id, f"loop{loop + 1}") if loop else request.request_id
            yield replace(request, request_id=request_id, start_s=start_s)


def chosen(recording: Recording, programme: Programme) -> Sequence[Request]:
    """Give the recording's own requests that are played in each loop.

    Raises:
        RecordingError: there are none.

    """
    requests = [request for request in recording.requests if request.start_s >= programme.from_s]
    if not requests:
        last_s = recording.requests[-1].start_s
        raise RecordingError(
            f"no request of {recording.folder} begins at {programme.from_s:g} s or later: the last is at {last_s:g} s"
        )
    return requests


def _overlaid(requests: Sequence[Request], programme: Programme) -> Iterator[Request]:
    """Give requests and their copies, by their start."""
    waiting: list[tuple[float, str, Request]] = []
    for request in requests:
        while waiting and waiting[0][0] < request.start_s:
            yield heapq.heappop(waiting)[2]
        for copy in range(programme.copies):
            sent = _copied(request, copy, programme.seed) if copy else request
            heapq.heappush(waiting, (sent.start_s, sent.request_id, sent))
    while waiting:
        yield heapq.heappop(waiting)[2]


def _copied(request: Request, copy: int, seed: int) -> Request:
    name = f"copy{copy}"
    later_s = random.Random(f"copy {seed} {copy} {request.request_id}").uniform(0, COPY_JITTER_S)
    return replace(
        request,
        request_id=_other(request.request_id, name),
        household=_other(request.household, name),
        device=_other(request.device, name),
        start_s=round(request.start_s + later_s, 6),
    )


def _other(identifier: str, name: str) -> str:
    """Give another id, one that is the same again for the same two."""
    other = f"{identifier}~{name}"
    return other if len(other) <= MAX_ID_LENGTH else hashlib.blake2b(other.encode(), digest_size=16).hexdigest()


def _capture_us(request: Request, sample: int, sample_rate_hz: int) -> int:
    return round(request.start_s * 1e6) + round(sample * 1_000_000 / sample_rate_hz)


def _by_capture_end(
    recording: Recording, requests: Iterator[Request], epoch_us: int, programme: Programme
) -> Iterator[tuple[int, pb.AudioChunk]]:
    audio_of = functools.lru_cache(_AUDIO_KEPT if programme.copies > 1 else 0)(recording.samples)

    def chunks_of(request: Request) -> Iterator[tuple[int, pb.AudioChunk]]:
        samples, sample_rate_hz = audio_of(request.file)
        for part in chunk(request.request_id, len(samples), sample_rate_hz, programme.seed):
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

    for request in requests:  # by start: whatever a later one sends was captured after its start
        yield from release(round(request.start_s * 1e6))
        push(chunks_of(request))
    yield from release(float("inf"))


def _behind(after: Key | None, held: tuple[int, str, int, pb.AudioChunk]) -> Iterator[Departure]:
    departure = Departure(held[0], held[3])
    if after is None or departure.key > after:
        yield departure

"""From records of all partitions to whole requests with their audio: pure, without Kafka or a clock."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.chunks import HOLE_US, MAX_REQUEST_S, BadRecordError, Chunk, LowMark, read_record
from pipeline.marks import NEVER_US, PartitionMark

_CLOSED_KEPT = 100_000  # ids of requests that are over, to know their stragglers by

Cut = Literal["gap", "no final chunk", "too long"]
# Tells whether a request that has not been met before is wanted, from its first chunk and that one's append time in us.
Wanted = Callable[[Chunk, int], bool]


@dataclass(frozen=True)
class GatherLimits:
    """What bounds the gathering; times are capture time.

    Attributes:
        reorder_us: how long to wait for records that come out of order.
        timeout_us: a request without new audio for so long is over.
        max_clock_skew_us: largest distance of a capture time from the append time.
        max_open: most requests at once.

    """

    reorder_us: int = 100_000
    timeout_us: int = 10_000_000
    max_clock_skew_us: int = 86_400_000_000
    max_open: int = 20_000


@dataclass(frozen=True, eq=False)
class Gathered:
    """A request that is over.

    Attributes:
        first: its first chunk, for all that is the same in every chunk, and for when it began.
        samples: int16 (n,), n > 0, as they were sent, at `first.rate_hz`.
        cut: why it ends before its last chunk; None: it does not.

    """

    first: Chunk
    samples: npt.NDArray[np.int16]
    cut: Cut | None


@dataclass(frozen=True)
class LeftOut:
    """A request that has no first chunk: nobody can say what the rest of it is."""

    request_id: str


@dataclass(slots=True, eq=False)
class _Open:
    partition: int
    first_offset: int
    identity: tuple[str, str, str, str, int]
    newest_us: int
    chunks: dict[int, Chunk] = field(default_factory=dict)
    final_seq: int | None = None
    samples: int = 0


class Gatherer:
    """Gathers the requests of some partitions; `positions` are the offsets before which records were counted already.

    A request is over when all its chunks are there; when its partition's newer audio is `timeout_us` past it; or
    when it is too long. So memory holds the requests that are being spoken, and those that broke off.
    """

    def __init__(self, limits: GatherLimits, positions: Mapping[int, int], wanted: Wanted) -> None:
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self._wanted = wanted
        self._positions = dict(positions)
        self._marks = {partition: PartitionMark() for partition in positions}
        self._open: dict[str, _Open] = {}
        self._closed: dict[str, None] = {}
        self._over: list[Gathered | LeftOut] = []
        self._newest_append_us = NEVER_US

    def add_partition(self, partition: int) -> None:
        """Take in a partition that was added to the topic."""
        self._positions[partition] = 0
        self._marks[partition] = PartitionMark()

    def take(self, partition: int, offset: int, appended_us: int, value: bytes | None) -> None:
        """Take the next record of a partition.

        Raises:
            BadRecordError: it cannot be used, and it was not met before; everything else goes on.

        """
        new = offset >= self._positions[partition]
        self._positions[partition] = max(self._positions[partition], offset + 1)
        mark = self._marks[partition]
        mark.idle = False
        self._newest_append_us = max(self._newest_append_us, appended_us)
        try:
            record = read_record(value, appended_us, self.limits.max_clock_skew_us)
            if isinstance(record, LowMark):
                mark.promise(record, appended_us)
                return
            mark.advance(record)
            self._add(partition, offset, appended_us, record, new=new)
        except BadRecordError:
            if new:
                raise

    def idle(self, partition: int) -> None:
        """Note that a partition has been read to its end."""
        self._marks[partition].idle = True

    def release(self, *, everything: bool = False) -> list[Gathered | LeftOut]:
        """Give the requests that are over, each once; `everything`: nothing more is to be expected for any."""
        low_us = min(mark.low_us(self._newest_append_us, self.limits.reorder_us) for mark in self._marks.values())
        over_us = low_us - self.limits.timeout_us
        for request_id in [i for i, request in self._open.items() if everything or request.newest_us < over_us]:
            self._close(request_id)
        over, self._over = self._over, []
        return over

    def positions(self) -> dict[int, int]:
        """Give the next offset of each partition."""
        return dict(self._positions)

    def needed(self) -> dict[int, int]:
        """Give the oldest offset of each partition from which the open requests can be gathered again."""
        needed = dict(self._positions)
        for request in self._open.values():
            needed[request.partition] = min(needed[request.partition], request.first_offset)
        return needed

    @property
    def still_open(self) -> int:
        """Number of requests that are not over."""
        return len(self._open)

    @property
    def begun(self) -> int:
        """Number of requests that are not over, or have not been given out by `release` yet."""
        return len(self._open) + sum(isinstance(one, Gathered) for one in self._over)

    def _add(self, partition: int, offset: int, appended_us: int, chunk: Chunk, *, new: bool) -> None:
        request = self._open.get(chunk.request_id)
        if request is None:
            if chunk.request_id in self._closed:
                self.counts["late_chunks"] += new
                return
            if not self._wanted(chunk, appended_us):
                return
            if len(self._open) >= self.limits.max_open:
                self.counts["chunks_over_limit"] += new
                return
            request = _Open(partition, offset, chunk.identity, NEVER_US)
            self._open[chunk.request_id] = request
        elif request.identity != chunk.identity:
            raise BadRecordError("request", "a request id that another device, route or sample rate has in use")
        # Not the chunk's own time: a clock that is wrong must not end its request early or keep it open for hours.
        newest_us = max(self._marks[partition].newest_us, min(chunk.end_us, appended_us))
        request.newest_us = max(request.newest_us, newest_us)
        request.first_offset = min(request.first_offset, offset)
        if chunk.seq in request.chunks:
            self.counts["duplicate_chunks"] += new
            return
        request.chunks[chunk.seq] = chunk
        request.samples += len(chunk.samples)
        if chunk.final:
            request.final_seq = chunk.seq if request.final_seq is None else min(chunk.seq, request.final_seq)
        whole = request.final_seq is not None and all(seq in request.chunks for seq in range(request.final_seq + 1))
        if whole or request.samples > MAX_REQUEST_S * chunk.rate_hz:
            self._close(chunk.request_id)

    def _close(self, request_id: str) -> None:
        request = self._open.pop(request_id)
        self._closed[request_id] = None
        if len(self._closed) > _CLOSED_KEPT:
            del self._closed[next(iter(self._closed))]
        if 0 not in request.chunks:
            self._over.append(LeftOut(request_id))
            return
        end_us = request.chunks[0].start_us
        heard: list[Chunk] = []
        cut: Cut | None = None
        while request.final_seq is None or len(heard) <= request.final_seq:
            chunk = request.chunks.get(len(heard))
            if chunk is None:
                beyond = any(seq > len(heard) for seq in request.chunks)
                cut = "gap" if beyond else "no final chunk"
                break
            if abs(chunk.start_us - end_us) > HOLE_US:
                cut = "gap"
                break
            heard.append(chunk)
            end_us = chunk.end_us
        samples = np.concatenate([chunk.samples for chunk in heard])
        most = round(MAX_REQUEST_S * heard[0].rate_hz)
        if len(samples) > most:
            samples, cut = samples[:most], "too long"
        self._over.append(Gathered(heard[0], samples, cut))

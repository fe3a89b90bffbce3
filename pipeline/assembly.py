"""From records of all partitions to growths in the order of capture: pure, without Kafka, Beam or a clock.

A *low mark* is a capture time before which nothing more is expected. Each partition has one; their lowest releases
what is held. So a recording gives the same growths in the same order, whatever the speed and whichever partition was
read first. Only what a missing chunk holds up within its own request comes after its time.
"""

import heapq
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soxr

from matcher.bits import Bits
from matcher.fingerprint import FULL_MS, LOOK_MS, Fingerprint, seed_of
from matcher.grid import SAMPLE_RATE_HZ
from matcher.growth import Growth
from matcher.known import FIRST_KNOWN_LOOK_MS, FULL_KNOWN_MS, KnownMatch, KnownMedia, Listening
from pipeline.chunks import HOLE_US, MAX_REQUEST_S, BadRecordError, Chunk, LowMark, read_record
from pipeline.marks import LEAP_US, NEVER_US, PartitionMark
from pipeline.overload import FULL
from pipeline.pseudonyms import CLEAR, Pseudonyms
from pipeline.rate import HouseholdRate

# A lone request ahead of everybody is read again after a restart only while it is this near to the position:
# a clock that is hours ahead must not keep the committed offset hours behind.
LONE_RECORDS = 5_000
# A chunk behind a hole is kept for so long, in capture time: the missing one may be in another partition, whose broker
# answers later. Nobody else waits, and what came before the hole counts meanwhile.
HOLE_WAITS_US = 2_000_000

# When it is due, request_id, seq, partition, offset, appended_us and the chunk.
_Held = tuple[int, str, int, int, int, int, Chunk]


@dataclass(frozen=True, slots=True)
class AssemblyLimits:
    """What bounds the assembly; times are capture time.

    Attributes:
        reorder_us: how long to wait for records that come out of order.
        window_us: how long a request stays comparable: its records are needed again after a restart.
        timeout_us: a request without new audio for so long is over.
        max_clock_skew_us: largest distance of a capture time from the append time.
        max_open: most requests at once.
        max_held: most chunks that wait for a partition that is behind, or for what is missing before them.
        household_requests_per_minute: most requests that a household begins in a minute of the clock.
        max_routes: most pairs of wake word and locale, times shards.
        shards: per wake word and locale, by household.

    """

    reorder_us: int = 100_000
    window_us: int = 10_000_000
    timeout_us: int = 10_000_000
    max_clock_skew_us: int = 86_400_000_000
    max_open: int = 20_000
    max_held: int = 50_000
    household_requests_per_minute: int = 60
    max_routes: int = 256
    shards: int = 1


@dataclass(slots=True, eq=False)
class _Open:
    """A request that is being assembled."""

    identity: tuple[str, str, str, str, int]
    partition: int
    first_offset: int
    route: str
    start_us: int
    end_us: int
    held: set[int] = field(default_factory=set)
    aside: dict[int, _Held] = field(default_factory=dict)  # what is behind a hole, by its number
    is_new: bool = False  # its latest chunk was not given out before a restart
    next_seq: int = 0
    heard_us: int = 0
    ended: bool = False
    fingerprint: Fingerprint | None = None
    media: KnownMedia | None = None
    listening: Listening | None = None
    recognised: bool = False
    unmatched: bool = False
    resampler: soxr.ResampleStream | None = None

    @property
    def listens(self) -> bool:
        """Whether more audio would make it grow."""
        full = self.fingerprint is not None and self.fingerprint.full
        return not (self.ended or self.unmatched or self.recognised or full)


@dataclass(slots=True)
class _Partition:
    position: int
    mark: PartitionMark = field(default_factory=PartitionMark)
    mark_offset: int = 0  # of its newest low mark record
    requests: deque[str] = field(default_factory=deque)


def nothing(_wake_word: str, _locale: str) -> KnownMedia | None:
    """Know no media."""
    return None


class Assembler:
    """Assembles the requests of some partitions, and gives their fingerprints whenever a look is due.

    A request that is known media is given once, with what it was recognised as, and its audio is dropped from there.
    """

    def __init__(
        self,
        limits: AssemblyLimits,
        bits: Bits,
        positions: Mapping[int, int],
        emitted_us: int = NEVER_US,
        known: Callable[[str, str], KnownMedia | None] = nothing,
        names: Pseudonyms = CLEAR,
    ) -> None:
        """Begin at some offsets.

        Args:
            limits: what bounds it.
            bits: the kind of bits.
            positions: offsets from which each partition is new; records before rebuild what was carried.
            emitted_us: low mark up to which growths of older offsets were given out already; NEVER_US: none were.
            known: gives the known media of a wake word and a locale, or None; asked when a request begins.
            names: replaces the ids of households and devices.

        """
        self.limits = limits
        self.effort = FULL  # for what is taken and released from now on
        self._names = names
        self._bits = bits
        self._known = known
        self.low_mark_us = NEVER_US
        self.counts: Counter[str] = Counter()
        self._partitions = {partition: _Partition(position) for partition, position in positions.items()}
        self._new_from = dict(positions)
        self._emitted_us = emitted_us
        self._open: dict[str, _Open] = {}
        self._held: list[_Held] = []  # a heap; a chunk is due at its end
        self._aged_us = NEVER_US
        self._newest_append_us = NEVER_US
        self._routes: dict[str, int] = {}
        self._rate = HouseholdRate(limits.household_requests_per_minute)

    # ---- records in ----------------------------------------------------------------------------------------------

    def add_partition(self, partition: int, position: int) -> None:
        """Take in a partition that was added to the topic."""
        self._partitions[partition] = _Partition(position)
        self._new_from[partition] = position

    def take(self, partition: int, offset: int, appended_us: int, value: bytes | None) -> None:
        """Take the next record of a partition.

        Raises:
            BadRecordError: it cannot be used; everything else goes on.

        """
        at = self._partitions[partition]
        at.position = max(at.position, offset + 1)
        at.mark.idle = False
        self._newest_append_us = max(self._newest_append_us, appended_us)
        record = read_record(value, appended_us, self.limits.max_clock_skew_us, self._names)
        if isinstance(record, LowMark):
            at.mark.promise(record, appended_us)
            at.mark_offset = offset
            self.counts["low_marks"] += 1
            return
        self.counts["chunks"] += 1
        self.counts["audio_bytes"] += 2 * len(record.samples)
        request = self._open.get(record.request_id)
        if request is None:
            request = self._begin(record, partition, offset)
            if request is None:
                at.mark.advance(record)
                return
        elif request.identity != record.identity:
            raise BadRecordError("request", "a request id that another device, route or sample rate has in use")
        at.mark.advance(record)
        if self._passes_unmatched(request, record):
            request.end_us = max(request.end_us, record.end_us)
            self.counts["chunks_unmatched"] += 1
            return
        if record.seq in request.held or record.seq < request.next_seq:
            self.counts["duplicate_chunks"] += 1
            return
        request.held.add(record.seq)
        heapq.heappush(
            self._held, (record.end_us, record.request_id, record.seq, partition, offset, appended_us, record)
        )

    def idle(self, partition: int) -> None:
        """Note that a partition has been read to its end."""
        self._partitions[partition].mark.idle = True

    # ---- growths out ---------------------------------------------------------------------------------------------

    def release(self) -> dict[str, list[Growth]]:
        """Give the growths that the low marks allow, by route, in the order of capture, and forget what is over."""
        mark_us = min(
            at.mark.low_us(self._newest_append_us, self.limits.reorder_us) for at in self._partitions.values()
        )
        excess = len(self._held) - self.limits.max_held
        if excess > 0:
            # One partition is far behind, or promises nothing: it is waited for no longer.
            self.counts["held_overflow"] += excess
            mark_us = max(mark_us, heapq.nsmallest(excess, self._held)[-1][0])
        self.low_mark_us = max(self.low_mark_us, mark_us)
        growths: dict[str, list[Growth]] = {}
        while self._held and self._held[0][0] <= self.low_mark_us:
            held = heapq.heappop(self._held)
            request = self._open.get(held[1])
            if request is None or not self._has_its_turn(request, held):
                continue
            following: _Held | None = held
            while following is not None:
                for route, growth in self._grow_by(request, following):
                    growths.setdefault(route, []).append(growth)
                    # By the mark and not by the chunk: it may have leaped, and what was given out must be acknowledged.
                    self._routes[route] = self.low_mark_us
                following = request.aside.pop(request.next_seq, None)
        self._forget()
        return growths

    def routes(self) -> list[str]:
        """Give the routes that heard something within two windows."""
        over_us = self.low_mark_us - 2 * self.limits.window_us
        self._routes = {route: heard_us for route, heard_us in self._routes.items() if heard_us >= over_us}
        return sorted(self._routes)

    def positions(self) -> dict[int, int]:
        """Give the next offset of each partition."""
        return {partition: at.position for partition, at in self._partitions.items()}

    def needed(self) -> dict[int, int]:
        """Give the oldest offset of each partition that a restart would have to read again."""
        return {partition: self._needed(at) for partition, at in self._partitions.items()}

    def newest_us(self) -> dict[int, int]:
        """Give the newest capture time of each partition that still has something to be read."""
        return {partition: at.mark.newest_us for partition, at in self._partitions.items() if not at.mark.idle}

    def lag_us(self, newest_append_us: Mapping[int, int], now_us: int) -> int:
        """Give how far behind live traffic the reader is, from the append times of the newest records just read.

        0 when those partitions are read to their ends.
        """
        marks = ((self._partitions[partition].mark, us) for partition, us in newest_append_us.items())
        return max((mark.lag_us(appended_us, now_us) for mark, appended_us in marks), default=0)

    @property
    def open(self) -> int:
        """Number of requests that are being assembled, or still needed after a restart."""
        return len(self._open)

    @property
    def held(self) -> int:
        """Number of chunks that wait for the low mark, or for what is missing before them."""
        return len(self._held)

    # ---- within --------------------------------------------------------------------------------------------------

    def _begin(self, chunk: Chunk, partition: int, offset: int) -> _Open | None:
        if len(self._open) >= self.limits.max_open:
            self.counts["chunks_over_limit"] += 1
            return None
        shard = zlib.crc32(chunk.household.encode()) % self.limits.shards
        route = f"{chunk.wake_word}/{chunk.locale}/{shard}"
        if route not in self._routes:
            if len(self._routes) >= self.limits.max_routes:
                self.counts["chunks_of_routes_over_limit"] += 1
                return None
            self._routes[route] = chunk.end_us
        request = _Open(chunk.identity, partition, offset, route, chunk.start_us, chunk.end_us)
        self._open[chunk.request_id] = request
        self._partitions[partition].requests.append(chunk.request_id)
        return request

    def _passes_unmatched(self, request: _Open, chunk: Chunk) -> bool:
        """Tell whether nothing more of a request is heard, for want of time: it is accepted, with its whole home."""
        if not request.unmatched and seed_of(chunk.household) < self.effort.unmatched * 2**64:
            if not request.listens:
                return False  # there is nothing left to be spared
            request.unmatched = True
            self.counts["requests_unmatched"] += 1
        return request.unmatched

    def _has_its_turn(self, request: _Open, held: _Held) -> bool:
        """Tell whether a chunk that is due is heard now; behind a hole it is set aside, and is due once more."""
        due_us, request_id, seq, partition, offset, appended_us, chunk = held
        if due_us > chunk.end_us:
            return request.aside.pop(seq, None) is not None  # else what was missing came, and it was heard
        if seq <= request.next_seq or not request.listens or 2 * len(self._held) >= self.limits.max_held:
            return True  # it is the next one, or there is nothing to wait for, or no room for it
        request.aside[seq] = held
        again_us = chunk.end_us + HOLE_WAITS_US
        heapq.heappush(self._held, (again_us, request_id, seq, partition, offset, appended_us, chunk))
        return False

    def _grow_by(self, request: _Open, held: _Held) -> list[tuple[str, Growth]]:
        """Let a request grow by a chunk, and give what is to be given out: nothing that was before a restart."""
        _, _, seq, partition, offset, appended_us, chunk = held
        carried = offset < self._new_from[partition] and chunk.end_us <= self._emitted_us
        if seq == request.next_seq:
            # What follows something new was not given out either: it was behind a hole.
            request.is_new = request.is_new or not carried
        grown = list(self._grow(request, chunk, appended_us))
        return grown if request.is_new else []

    def _grow(self, request: _Open, chunk: Chunk, appended_us: int) -> Iterator[tuple[str, Growth]]:
        """Let a request grow by a chunk; others may be recognised with it."""
        if not self._follows(request, chunk) or request.fingerprint is None:
            return
        if request.fingerprint.full or request.recognised:
            return
        every_ms = LOOK_MS if chunk.final else LOOK_MS << self.effort.halvings
        words = request.fingerprint.grow(_at_16_khz(request, chunk), every_ms)
        known = self._listen(request, request.fingerprint)
        if known is not None:
            yield request.route, self._recognised(chunk.request_id, request, known, chunk.end_us, appended_us)
        elif words is not None:
            yield request.route, _growth(chunk.request_id, request, words, chunk.end_us, appended_us)
        for listening, match in [] if request.media is None else request.media.swept():
            other = self._open.get(listening.request_id)
            if other is not None and not other.recognised:
                yield other.route, self._recognised(listening.request_id, other, match, chunk.end_us, appended_us)
        if request.listening is not None and (request.fingerprint.full or chunk.final):
            request.listening.end()

    def _recognised(self, request_id: str, request: _Open, known: KnownMatch, end_us: int, appended_us: int) -> Growth:
        """Give the last growth of a request; its audio is of no use any more."""
        words = np.empty(0, np.uint64) if request.fingerprint is None else request.fingerprint.words
        request.recognised = True
        if request.listening is not None:
            request.listening.end()
        return _growth(request_id, request, words, end_us, appended_us, known)

    def _follows(self, request: _Open, chunk: Chunk) -> bool:
        """Tell whether a chunk is a request's next one, and take note of it."""
        request.held.discard(chunk.seq)
        if request.unmatched:
            self.counts["chunks_unmatched"] += 1
            return False
        if chunk.seq < request.next_seq:
            self.counts["duplicate_chunks"] += 1
            return False
        if request.ended:
            self.counts["chunks_after_gap"] += 1
            return False
        if chunk.seq > request.next_seq or (chunk.seq and abs(chunk.start_us - request.end_us) > HOLE_US):
            # What is missing has had its time to come; what came before still counts.
            self.counts["gaps"] += 1
            request.ended = True
            return False
        if request.fingerprint is None and not self._rate.allows(chunk.household, chunk.start_us):
            self.counts["requests_over_household_rate"] += 1
            request.ended = True
            return False
        if request.heard_us > MAX_REQUEST_S * 1e6:
            self.counts["requests_too_long"] += 1
            request.ended = True
            return False
        if request.fingerprint is None:
            request.start_us = chunk.start_us
            request.media = self._known(chunk.wake_word, chunk.locale)
            if request.media is not None:
                request.listening = request.media.listen(chunk.request_id, chunk.household, chunk.start_us)
            full_ms = FULL_MS if request.media is None else FULL_KNOWN_MS
            request.fingerprint = Fingerprint(chunk.request_id, self._bits, full_ms)
            self.counts["requests"] += 1
        request.next_seq += 1
        request.end_us = chunk.end_us
        request.heard_us += chunk.end_us - chunk.start_us
        return True

    def _listen(self, request: _Open, fingerprint: Fingerprint) -> KnownMatch | None:
        """Hold a request against known media at each look that has come due, as if each had come alone."""
        if request.listening is None:
            return None
        for look_ms, words, clear in fingerprint.looks(FIRST_KNOWN_LOOK_MS):
            self.counts["known_looks"] += 1
            match = request.listening.look(words, clear, request.start_us + 1000 * look_ms)
            if match is not None:
                return match
        return None

    def _forget(self) -> None:
        """Drop what is over, about once a second of capture: nobody compares it, and no audio comes any more."""
        if self.low_mark_us < self._aged_us + 1_000_000:
            return
        self._aged_us = self.low_mark_us
        for at in self._partitions.values():
            at.requests = deque(request_id for request_id in at.requests if self._is_needed(at, self._open[request_id]))
        over_us = self.low_mark_us - max(self.limits.timeout_us, self.limits.window_us)
        for request_id in [i for i, request in self._open.items() if not request.held and request.end_us < over_us]:
            del self._open[request_id]

    def _is_needed(self, at: _Partition, request: _Open) -> bool:
        if request.start_us > at.mark.newest_us + LEAP_US and at.position - request.first_offset > LONE_RECORDS:
            return False
        return bool(request.held) or request.start_us >= self.low_mark_us - self.limits.window_us

    def _needed(self, at: _Partition) -> int:
        # Who starts again behind the mark that says that it lags would follow append times, hours ahead of its audio.
        needed = at.mark_offset if at.mark.lags(self._newest_append_us) else at.position
        for request_id in at.requests:
            request = self._open[request_id]
            if self._is_needed(at, request):
                return min(request.first_offset, needed)
        return needed


def _at_16_khz(request: _Open, chunk: Chunk) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    """Give the chunk's samples at the fingerprint's rate, (n,) on the int16 scale."""
    if chunk.rate_hz == SAMPLE_RATE_HZ:
        return chunk.samples
    if request.resampler is None:
        request.resampler = soxr.ResampleStream(chunk.rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
    samples = chunk.samples.astype(np.float32)
    out: npt.NDArray[np.float32] = request.resampler.resample_chunk(samples, last=chunk.final)
    return out


def _growth(
    request_id: str,
    request: _Open,
    words: npt.NDArray[np.uint64],
    end_us: int,
    appended_us: int,
    known: KnownMatch | None = None,
) -> Growth:
    device, household, *_ = request.identity
    return Growth(
        request_id=request_id,
        household=household,
        device=device,
        start_us=request.start_us,
        end_us=end_us,
        words=words,
        level_range_db=0.0 if request.fingerprint is None else request.fingerprint.level_range_db,
        audio_ms=request.heard_us // 1000,
        appended_us=appended_us,
        known=known,
        leaning=None if known is not None or request.listening is None else request.listening.leaning,
    )

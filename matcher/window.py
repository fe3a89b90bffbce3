"""The concurrent requests of one route: bounded, and expiring by event time."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from matcher.evidence import Calibration
from matcher.fingerprint import FULL_MS, MAX_WORDS, seed_of
from matcher.known import KnownMatch

# The own null of what has not been heard yet.
_PLAIN: npt.NDArray[np.float32] = np.array([0, 1], np.float32)


@dataclass(slots=True, eq=False)
class Request:
    """One request in the window. Its words stand in the window's arrays, in row `row`."""

    request_id: str
    household: str
    device: str
    start_us: int
    row: int
    audio_ms: int = 0
    level_range_db: float = 0.0
    alignment: int = 0
    looked_ms: int = 0
    matched: bool = False
    ignored: bool = False
    event: str = ""
    leaning: KnownMatch | None = None


@dataclass
class Window:
    """Requests that started within a stretch of event time, at most `capacity` of them.

    When it is full the oldest leaves first: unmatched, so accepted. Rows are handed out again; the arrays grow with
    the traffic up to `capacity`.
    """

    calibration: Calibration
    capacity: int
    requests: dict[str, Request] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start with room for a quiet route."""
        rows = min(64, self.capacity)
        self.words = np.zeros((rows, MAX_WORDS), np.uint64)
        self.lengths = np.zeros(rows, np.int32)
        self.owns = np.tile(_PLAIN, (rows, 1))
        self.heard = np.zeros(rows, np.bool_)
        self.growing = np.zeros(rows, np.bool_)
        self.starts_us = np.zeros(rows, np.int64)
        self.matched = np.zeros(rows, np.bool_)
        self.ignored = np.zeros(rows, np.bool_)
        self.hashes = np.zeros(rows, np.uint64)
        self.owners: list[Request | None] = [None] * rows
        self._free = list(range(rows))[::-1]
        self._by_start: list[tuple[int, str]] = []  # a heap

    def add(self, request_id: str, household: str, device: str, start_us: int) -> tuple[Request | None, list[Request]]:
        """Open a request; gives it and those that had to leave for it.

        One that is older than all of a full window is not let in.
        """
        left: list[Request] = []
        if len(self.requests) >= self.capacity and start_us < self._by_start[0][0]:
            return None, left
        while len(self.requests) >= self.capacity:
            left += self._pop_oldest()
        if not self._free:
            self._grow()
        row = self._free.pop()
        request = Request(request_id, household, device, start_us, row)
        self.requests[request_id] = request
        heapq.heappush(self._by_start, (start_us, request_id))
        self.owners[row] = request
        self.starts_us[row] = start_us
        self.lengths[row] = 0
        self.owns[row] = _PLAIN
        self.heard[row] = False
        self.hashes[row] = seed_of(request_id)
        return request, left

    def put(self, request: Request, words: npt.NDArray[np.uint64], level_range_db: float) -> None:
        """Take a request's words so far, in the place of those before, and measure its own null.

        Args:
            request: of the window; it grows until its last look.
            words: uint64 (n,), n <= MAX_WORDS.
            level_range_db: as of these words.

        """
        self.words[request.row, : len(words)] = words
        self.lengths[request.row] = len(words)
        request.level_range_db = level_range_db
        self.owns[request.row] = self.calibration.own_null(words, level_range_db)
        self.heard[request.row] = True
        self.growing[request.row] = request.looked_ms < FULL_MS

    def fingerprint(self, request: Request) -> npt.NDArray[np.uint64]:
        """Words of the request so far, uint64 (n,), a view."""
        view: npt.NDArray[np.uint64] = self.words[request.row, : self.lengths[request.row]]
        return view

    def expire(self, horizon_us: int) -> list[Request]:
        """Remove the requests that started before `horizon_us`; gives them."""
        left = []
        while self._by_start and self._by_start[0][0] < horizon_us:
            left += self._pop_oldest()
        return left

    def remove(self, request: Request) -> None:
        """Take a request out before its time."""
        self._by_start.remove((request.start_us, request.request_id))
        heapq.heapify(self._by_start)
        self._release(request)

    def mark_matched(self, request: Request) -> None:
        """Note that somebody was close to this request."""
        request.matched = self.matched[request.row] = True

    def mark_ignored(self, request: Request) -> None:
        """Note that this request has been decided."""
        request.ignored = self.ignored[request.row] = True

    def rows(self) -> npt.NDArray[np.int64]:
        """Rows of the requests that have been heard, int64 (n,), rising."""
        return np.flatnonzero(self.heard)

    def undecided_rows(self) -> npt.NDArray[np.int64]:
        """Those of them that have not been ignored, int64 (n,), rising."""
        return np.flatnonzero(self.heard & ~self.ignored)

    def of_rows(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[Request]:
        """Requests of these rows."""
        found = []
        for row in rows:
            owner = self.owners[int(row)]
            if owner is not None:
                found.append(owner)
        return found

    def _pop_oldest(self) -> list[Request]:
        _, request_id = heapq.heappop(self._by_start)
        request = self.requests[request_id]
        self._release(request)
        return [request]

    def _release(self, request: Request) -> None:
        del self.requests[request.request_id]
        self.owners[request.row] = None
        self.words[request.row] = 0
        self.lengths[request.row] = 0
        self.heard[request.row] = self.growing[request.row] = False
        self.matched[request.row] = self.ignored[request.row] = False
        self._free.append(request.row)

    def _grow(self) -> None:
        old = len(self.owners)
        new = min(2 * old, self.capacity)
        self.words = np.concatenate((self.words, np.zeros((new - old, MAX_WORDS), np.uint64)))
        self.lengths = np.concatenate((self.lengths, np.zeros(new - old, np.int32)))
        self.owns = np.concatenate((self.owns, np.tile(_PLAIN, (new - old, 1))))
        self.heard = np.concatenate((self.heard, np.zeros(new - old, np.bool_)))
        self.growing = np.concatenate((self.growing, np.zeros(new - old, np.bool_)))
        self.starts_us = np.concatenate((self.starts_us, np.zeros(new - old, np.int64)))
        self.matched = np.concatenate((self.matched, np.zeros(new - old, np.bool_)))
        self.ignored = np.concatenate((self.ignored, np.zeros(new - old, np.bool_)))
        self.hashes = np.concatenate((self.hashes, np.zeros(new - old, np.uint64)))
        self.owners += [None] * (new - old)
        self._free = list(range(old, new))[::-1]

"""Averages of media that was discovered before: bounded, and expiring by event time."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from matcher.evidence import Calibration, Evidence, scan
from matcher.fingerprint import MAX_WORDS

NEVER_US = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """The bit-wise majority of one media event's fingerprints.

    Attributes:
        media_id: names the event; a function of the requests that founded it.
        words: uint64 (n,), n <= MAX_WORDS.
        votes: uint8 (n,), fingerprints that had the word.
        households: that took part.
        discovered_us: event time of the discovery.
        valid_from_us: event time from which it decides.
        valid_until_us: event time up to which it decides.
        origin: the route's shard that discovered it.
        last_heard_us: event time at which its last household joined; 0 where that is not known.
        agreement: share of its voters' bits that are as the majority's; 0 where that is not known.

    """

    media_id: str
    words: npt.NDArray[np.uint64]
    votes: npt.NDArray[np.uint8]
    households: int
    discovered_us: int
    valid_from_us: int
    valid_until_us: int
    origin: str
    last_heard_us: int = 0
    agreement: float = 0.0


@dataclass
class Catalogue:
    """At most `capacity` averages; when it is full, the one whose validity ends first leaves."""

    calibration: Calibration
    capacity: int
    version: int = 0
    averages: dict[str, Average] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start empty."""
        self._words = np.zeros((0, MAX_WORDS), np.uint64)
        self._lengths = np.zeros(0, np.int32)
        self._owns = np.zeros((0, 2), np.float32)
        self._from_us = np.zeros(0, np.int64)
        self._until_us = np.zeros(0, np.int64)
        self._rows: list[Average | None] = []
        self._row_of: dict[str, int] = {}
        self._free: list[int] = []
        self._next_expiry_us = NEVER_US
        self._valid: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._valid_us = (0, 0)  # from when until when these are the valid ones

    def put(self, average: Average) -> list[Average]:
        """Add an average or replace the one of its name; gives those that had to leave for it."""
        left = []
        if average.media_id not in self._row_of:
            while len(self.averages) >= self.capacity:
                oldest = min(self.averages.values(), key=lambda a: (a.valid_until_us, a.media_id))
                left.append(oldest)
                self.remove(oldest.media_id)
            if not self._free:
                self._grow()
            self._row_of[average.media_id] = self._free.pop()
        row = self._row_of[average.media_id]
        n = len(average.words)
        self._words[row, :n] = average.words
        self._lengths[row] = n
        self._owns[row] = self.calibration.own_null(average.words)
        self._from_us[row] = average.valid_from_us
        self._until_us[row] = average.valid_until_us
        self._next_expiry_us = min(self._next_expiry_us, average.valid_until_us)
        self._rows[row] = average
        self.averages[average.media_id] = average
        self._forget_valid()
        self.version += 1
        return left

    def remove(self, media_id: str) -> bool:
        """Forget an average; tells whether there was one."""
        row = self._row_of.pop(media_id, None)
        if row is None:
            return False
        del self.averages[media_id]
        self._rows[row] = None
        self._lengths[row] = 0
        self._until_us[row] = 0
        self._free.append(row)
        self._forget_valid()
        self.version += 1
        return True

    def expire(self, low_mark_us: int) -> list[str]:
        """Forget what is no longer valid at the mark; gives their names."""
        if low_mark_us < self._next_expiry_us:
            return []
        over = [a.media_id for a in self.averages.values() if a.valid_until_us <= low_mark_us]
        for media_id in over:
            self.remove(media_id)
        self._next_expiry_us = min((a.valid_until_us for a in self.averages.values()), default=NEVER_US)
        return over

    def own(self, media_id: str) -> npt.NDArray[np.float32]:
        """Own null of an average, float32 (2,), as `Calibration.own_null` gives it."""
        own: npt.NDArray[np.float32] = self._owns[self._row_of[media_id]]
        return own

    def best(
        self, words: npt.NDArray[np.uint64], own: npt.NDArray[np.float32], at_us: int
    ) -> tuple[tuple[Average, Evidence] | None, int]:
        """Hold a growing fingerprint against every average that is valid at this event time.

        Args:
            words: uint64 (n,), the request's words so far.
            own: float32 (2,), the request's `Calibration.own_null`.
            at_us: event time.

        Returns:
            The average of the highest score and the evidence (word k of the average is the request's word
            k + alignment), None where nothing could be compared; and how many averages were tried.

        """
        rows = self._valid_rows(at_us)
        if not len(rows):
            return None, 0
        found = scan(self.calibration, words, own, self._words, self._lengths, self._owns, rows)
        top = int(np.argmax(found.scores))
        average = self._rows[int(rows[top])]
        if found.words[top] == 0 or average is None:
            return None, len(rows)
        evidence = Evidence(
            float(found.scores[top]), float(found.rates[top]), int(found.words[top]), -int(found.alignments[top])
        )
        return (average, evidence), len(rows)

    def _valid_rows(self, at_us: int) -> npt.NDArray[np.int64]:
        """Rows of the averages that are valid at an event time: looked for anew when one begins or ends to be."""
        since_us, until_us = self._valid_us
        if not since_us <= at_us < until_us:
            changes_us = np.concatenate((self._from_us, self._until_us))
            self._valid_us = (
                int(changes_us[changes_us <= at_us].max(initial=-NEVER_US)),
                int(changes_us[changes_us > at_us].min(initial=NEVER_US)),
            )
            self._valid = np.flatnonzero((self._from_us <= at_us) & (at_us < self._until_us)).astype(np.int64)
        return self._valid

    def _forget_valid(self) -> None:
        self._valid_us = (0, 0)

    def _grow(self) -> None:
        old = len(self._rows)
        new = min(max(16, 2 * old), self.capacity)
        more = new - old
        self._words = np.concatenate((self._words, np.zeros((more, MAX_WORDS), np.uint64)))
        self._lengths = np.concatenate((self._lengths, np.zeros(more, np.int32)))
        self._owns = np.concatenate((self._owns, np.zeros((more, 2), np.float32)))
        self._from_us = np.concatenate((self._from_us, np.zeros(more, np.int64)))
        self._until_us = np.concatenate((self._until_us, np.zeros(more, np.int64)))
        self._rows += [None] * more
        self._free = list(range(old, new))[::-1]

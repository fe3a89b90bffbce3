"""Known media: clean recordings of what airs, against which one growing request is enough.

A request whose sound is in the catalogue needs no other household. Three ways lead to a decision, each within its part
of the budget: an entry agrees so well that chance cannot explain it among so many entries; three households agree with
one entry less well, within seconds; or an entry was recognised a moment ago, so it is on air, and one more home agrees
fairly well. Time is the data's, and nothing depends on how audio was cut into chunks.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from matcher.evidence import Evidence
from matcher.fingerprint import LOOK_MS
from matcher.known_entry import Entry
from matcher.known_index import KnownIndex, Search
from matcher.known_kernels import own_means
from matcher.known_null import SEGMENT_WORDS, KnownCalibration

# A request is held against known media from so much of its audio on, and up to so much; after the first it is looked
# at every LOOK_MS, after a while less often.
FIRST_KNOWN_LOOK_MS = 480
FULL_KNOWN_MS = 4160
_OFTEN_SEGMENTS, _SELDOM = 24, 4
# What of the budget goes to one household alone, to three that agree, and to one beside an airing.
ALONE_SHARE, TOGETHER_SHARE, AIRING_SHARE = 0.75, 0.05, 0.2
TOGETHER, MOST_TOGETHER = 3, 6
# Three households agree when their requests end within so long of each other, as those of the window do; and an entry
# is on air for so long after the last home that was recognised. Later homes need to be sure alone: the loose threshold
# is for the few requests that come in these seconds.
TOGETHER_US = 10_000_000
# What `airing_share` is a share of: requests that come within a minute of an airing.
AIRING_SHARE_US = 60_000_000
# Chance brings three people near one entry more often than three independent draws would: voices come in kinds.
# Among requests two matches were measured 10-28 times as often. Each of the three must be so many times less likely.
DEPENDENCE = 3.0
# New rows are searched for at every other look.
_SEARCH_SEGMENTS = 2
# A candidate scored below this is dropped until it is found again; so many of the best are kept.
KEPT_SCORE, KEPT = 2.0, 8
# Requests are held unasked against so many of the entries that others agree with, those recognised last first; against
# the rest where the index finds them.
MOST_ON_AIR = 64


@dataclass(frozen=True, slots=True)
class KnownMatch:
    """What a request was recognised as.

    Attributes:
        media_id: the entry.
        evidence: word k of the entry is word k + alignment of the request.
        households: that have agreed with the entry by then, its own included.
        catalogue_version: that of the catalogue then.
        calibration: its version.

    """

    media_id: str
    evidence: Evidence
    households: int
    catalogue_version: int
    calibration: str


def looked_at(segments: int) -> bool:
    """Tell whether a request is looked at when it has so many segments."""
    return segments > 1 and (segments <= _OFTEN_SEGMENTS or segments % _SELDOM == 0)


@dataclass(slots=True, eq=False)
class _OnAir:
    """Who agrees with one entry: when it was recognised last, and those that wait for others to agree."""

    recognised_us: int | None = None
    households: dict[str, int] = field(default_factory=dict)  # when its last request ended
    waiting: dict[str, tuple["Listening", Evidence]] = field(default_factory=dict)  # by request id

    def airs(self, now_us: int) -> bool:
        """Tell whether the entry is on air."""
        return self.recognised_us is not None and _together(self.recognised_us, now_us)


def _together(one_us: int, other_us: int) -> bool:
    """Tell whether two times are near each other, either way: a clock that was ahead keeps nothing on air."""
    return abs(one_us - other_us) <= TOGETHER_US


class KnownMedia:
    """The entries of one wake word and locale, and which of them are on air. For one thread."""

    def __init__(
        self, calibration: KnownCalibration, budget: float, *, concurrency: int = 100, airing_share: float = 0.01
    ) -> None:
        """Begin without entries.

        Args:
            calibration: gives scores and thresholds.
            budget: probability that a live request is ignored by chance, ...
            concurrency: ... among so many requests in TOGETHER_US; more of them raise the threshold.
            airing_share: share of the live requests that come within AIRING_SHARE_US of an airing.

        """
        self.calibration, self.budget = calibration, budget
        self.concurrency, self.airing_share = concurrency, airing_share
        self.version = 0
        self.index = KnownIndex(calibration)
        self._on_air: dict[int, _OnAir] = {}
        self._least = self.threshold_on_air()
        self._swept: list[tuple[Listening, KnownMatch]] = []
        self._recent: dict[str, int] = {}  # requests of the last TOGETHER_US: when they started

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, media_id: str) -> bool:
        return media_id in self.index.row_of

    def put(self, entry: Entry) -> None:
        """Add an entry or replace the one of its name."""
        self.remove(entry.media_id)
        self.index.put(entry)

    def remove(self, media_id: str) -> bool:
        """Forget an entry; tells whether there was one."""
        row = self.index.remove(media_id)
        if row is not None:
            self._on_air.pop(row, None)
        return row is not None

    def listen(self, request_id: str, household: str, start_us: int) -> "Listening":
        """Begin with a request that started at this event time."""
        self._expire(start_us)
        self._recent[request_id] = start_us
        return Listening(self, request_id, household, start_us)

    def swept(self) -> list[tuple["Listening", KnownMatch]]:
        """Give, once, the requests that the last look at another one has made sure of."""
        swept, self._swept = self._swept, []
        return swept

    def begin_anew(self) -> None:
        """Forget all requests: those of a moment ago come again."""
        self._on_air, self._swept, self._recent = {}, [], {}

    def threshold(self) -> float:
        """Score that one household alone is recognised at."""
        return self.calibration.tail.threshold(ALONE_SHARE * self.budget, len(self.index))

    def threshold_together(self, households: int) -> float:
        """Score that each of so many households, TOGETHER or more, is recognised at: the more, the lower.

        Among n requests chance brings k - 1 others near the entry that it brought one near to with probability
        n^(k-1) / (k-1)! p^k for each entry, p being that of one. Nobody is recognised at less than an entry on air
        asks for: those that agree may be homes that hear it, and one of them a person.
        """
        n, k = max(self.concurrency, len(self._recent)), households
        budget = TOGETHER_SHARE * self.budget / (MOST_TOGETHER - TOGETHER + 1)
        p = (budget * math.factorial(k - 1) / (max(1, len(self.index)) * n ** (k - 1))) ** (1 / k)
        return max(self.threshold_on_air(), self.calibration.tail.threshold(min(1.0, p / DEPENDENCE), 1))

    def threshold_on_air(self) -> float:
        """Score that a household is recognised at while the entry is on air."""
        return self.calibration.tail.threshold(min(1.0, AIRING_SHARE * self.budget / self._beside()), self._airings())

    def _airings(self) -> int:
        """How many entries are on air, one at least."""
        return max(1, sum(1 for air in self._on_air.values() if air.recognised_us is not None))

    def _beside(self) -> float:
        """Share of the live requests that come while an entry is on air."""
        return self.airing_share * TOGETHER_US / AIRING_SHARE_US

    def _hear(self, listening: "Listening", scored: Sequence[tuple[int, Evidence]], end_us: int) -> KnownMatch | None:
        """Decide about a request that is this like its candidates, the most alike first."""
        self._expire(end_us)
        alone, on_air = self.threshold(), self.threshold_on_air()
        matched = None
        for row, evidence in scored:
            if evidence.score < on_air:
                break
            air = self._on_air.setdefault(row, _OnAir())
            if evidence.score >= alone or air.airs(end_us):
                matched = row, evidence
                break
            air.waiting[listening.request_id] = listening, evidence
            air.households[listening.household] = end_us
            if self._agree(air):
                matched = row, evidence
                break
        if matched is None:
            return None
        row, evidence = matched
        for others in self._on_air.values():
            others.waiting.pop(listening.request_id, None)
        air = self._on_air[row] = self._on_air.pop(row)  # the last in their order
        air.households[listening.household] = end_us
        opened = not air.airs(end_us)
        air.recognised_us = end_us
        if opened:
            self._sweep(row, air)
        return self._match(row, evidence, len(air.households))

    def _agree(self, air: _OnAir) -> bool:
        """Tell whether so many households agree with an entry that together they are sure."""
        best: dict[str, float] = {}
        for other, found in air.waiting.values():
            best[other.household] = max(found.score, best.get(other.household, found.score))
        scores = sorted(best.values(), reverse=True)[:MOST_TOGETHER]
        return any(scores[k - 1] >= self.threshold_together(k) for k in range(TOGETHER, len(scores) + 1))

    def _sweep(self, row: int, air: _OnAir) -> None:
        """Recognise those that wait for others to agree with an entry, now that it is on air."""
        enough = self.threshold_on_air()
        for request_id, (listening, evidence) in list(air.waiting.items()):
            if evidence.score >= enough and not listening.recognised:
                listening.recognised = True
                for others in self._on_air.values():
                    others.waiting.pop(request_id, None)
                self._swept.append((listening, self._match(row, evidence, len(air.households))))

    def _match(self, row: int, evidence: Evidence, households: int) -> KnownMatch:
        tail, score = self.calibration.tail, evidence.score
        if score >= self.threshold():
            log_odds = tail.log_odds(score, len(self.index))
        else:
            log_odds = tail.log_odds(score, self._airings()) - math.log(self._beside())
        evidence = replace(evidence, log_odds=log_odds)
        return KnownMatch(self.index.names[row], evidence, households, self.version, self.calibration.version)

    def _expire(self, now_us: int) -> None:
        """Let event time pass."""
        while self._recent:
            request_id = next(iter(self._recent))
            if _together(self._recent[request_id], now_us):
                break
            del self._recent[request_id]
        for row, air in list(self._on_air.items()):
            if not air.airs(now_us):
                air.recognised_us = None
                air.households = {name: us for name, us in air.households.items() if _together(us, now_us)}
            air.waiting = {
                request_id: (listening, evidence)
                for request_id, (listening, evidence) in air.waiting.items()
                if _together(listening.looked_us, now_us)
            }
            if not air.households and not air.waiting and air.recognised_us is None:
                del self._on_air[row]


class Listening:
    """One growing request, held against the entries that are valid when it starts."""

    def __init__(self, media: KnownMedia, request_id: str, household: str, start_us: int) -> None:
        """Begin; `KnownMedia.listen` does."""
        self._media = media
        self.request_id, self.household, self.start_us = request_id, household, start_us
        self.looked_us = start_us
        self.recognised = False
        # What it agrees with as much as one must while an entry is on air; whether it is, others may know.
        self.leaning: KnownMatch | None = None
        segments = media.calibration.segments
        self._own = np.zeros(segments, np.float32)
        self._segments = self._own_segments = 0
        self._search = Search()
        self._kept: dict[int, str] = {}

    def look(self, words: npt.NDArray[np.uint64], clear: npt.NDArray[np.uint64], end_us: int) -> KnownMatch | None:
        """Hold what there is of the request against the catalogue as it is now.

        Args:
            words: uint64 (n,), all words so far; n rises from look to look.
            clear: uint64 (n,), which of their bits are clear.
            end_us: event time of the look.

        """
        media = self._media
        segments = min(len(words) // SEGMENT_WORDS, media.calibration.segments)
        if self.recognised or segments <= self._segments or not looked_at(segments):
            return None
        self.looked_us, self._segments = end_us, segments
        self.leaning = None
        rows = self._candidates(words[: segments * SEGMENT_WORDS])
        if not len(rows):
            return None
        scored = self._score(words, clear, rows)
        if not scored or scored[0][1].score < media._least:  # noqa: SLF001
            return None
        self.leaning = media._match(*scored[0], households=1)  # noqa: SLF001
        found = media._hear(self, scored, end_us)  # noqa: SLF001
        self.recognised = found is not None
        return found

    def end(self) -> None:
        """Forget what looks found: no more of them come. What it agrees with others may still make sure of."""
        self._search, self._kept = Search(), {}

    def _candidates(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """Rows that are worth a score: those that were, those on air, and those that the new words find."""
        media, index = self._media, self._media.index
        found = index.search(words, self._search) if self._segments % _SEARCH_SEGMENTS == 0 else []
        rows = {row for row, name in self._kept.items() if index.row_of.get(name) == row}
        rows.update(itertools.islice(reversed(media._on_air), MOST_ON_AIR))  # noqa: SLF001
        rows.update(found)
        return np.array([row for row in rows if index.valid(row, self.start_us)], np.int32)

    def _score(
        self, words: npt.NDArray[np.uint64], clear: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32]
    ) -> list[tuple[int, Evidence]]:
        """Score some rows, the best first, and keep those that may come to something."""
        index = self._media.index
        own_means(words, index.calibration.cohort_columns, _ALL, self._own_segments, self._segments, self._own)
        self._own_segments = self._segments
        found = index.score(words, clear, self._segments, self._own, rows)
        # Of equals the first by name: rows are handed out anew after a restart.
        best = sorted(
            (-score, index.names[row], row, i)
            for i, (score, row) in enumerate(zip(found.scores.tolist(), rows.tolist(), strict=True))
            if score >= KEPT_SCORE
        )[:KEPT]
        self._kept = {row: name for _, name, row, _ in best}
        return [
            (row, Evidence(-score, float(found.error_rates[i]), int(found.compared[i]), -int(found.alignments[i])))
            for score, _, row, i in best
        ]


_ALL = np.empty(0, np.uint64)
assert FULL_KNOWN_MS % LOOK_MS == FIRST_KNOWN_LOOK_MS % LOOK_MS == 0

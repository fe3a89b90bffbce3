"""Known media: clean recordings of what airs, against which one growing request is enough.

A request whose sound is in the catalogue needs no other household. Three ways lead to a decision, each within its part
of the budget: an entry agrees so well that chance cannot explain it among so many entries; three households agree with
one entry less well, within seconds; or an entry was recognised a moment ago, so it is on air, and one more home agrees
fairly well. Time is the data's, and nothing depends on how audio was cut into chunks.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from matcher.bits import WORD_MS, Bits, frame_count, word_count
from matcher.evidence import Evidence
from matcher.fingerprint import LOOK_MS, seed_of
from matcher.grid import SAMPLE_RATE_HZ, FilterBank
from matcher.known_kernels import (
    ANCHORS,
    CHUNK,
    GROUP_MASKS,
    GROUP_VALUES,
    LISTS,
    choose_anchors,
    enter,
    find,
    leave,
    own_means,
    score_rows,
)
from matcher.known_null import LEAD_WORDS, MAX_ALIGNMENT, SEGMENT_WORDS, SLOT_WORDS, KnownCalibration

# Requests begin within 100 ms of so long before their wake word; an entry a little before that, ...
REQUEST_PREROLL_MS = 500
PREROLL_MS = REQUEST_PREROLL_MS + LEAD_WORDS * WORD_MS
# ... and it goes on for so long after the wake word has begun.
AFTER_MS = 10_000
# What an entry must have of the sound from its wake word on.
LEAST_AFTER_MS = 700
# A request is held against known media from so much of its audio on, and up to so much; after the first it is looked
# at every LOOK_MS, after a while less often.
FIRST_KNOWN_LOOK_MS = 480
FULL_KNOWN_MS = 4160
_OFTEN_SEGMENTS, _SELDOM = 24, 4
# How far from its offset the response of an entry's clear bit is, 0.6 of its standard deviation: in a home one of seven
# such bits differs, and of the others every third or second.
ENTRY_CLEAR = 0.72
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
# With more entries than this a row must be found twice before it is scored: chance finds too many once.
FOUND_ONCE_ENTRIES = 512
# With more than this only every fourth word is looked up: to fetch the lists is what costs.
EVERY_WORD_ENTRIES = 16_384
# New rows are searched for at every other look.
_SEARCH_SEGMENTS = 2
# A candidate scored below this is dropped until it is found again; so many of the best are kept.
KEPT_SCORE, KEPT = 2.0, 8
# Requests are held unasked against so many of the entries that others agree with, those recognised last first; against
# the rest where the index finds them.
MOST_ON_AIR = 64
_MOST_FOUND = 512


class EntryError(ValueError):
    """A recording that can be no entry: in one sentence why."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One mention of the wake word in a clean recording.

    Attributes:
        media_id: its name.
        words: uint64 (n,), from PREROLL_MS before the wake word on.
        clear: uint64 (n,), which bits are clear.
        valid_from_us: event time from which it decides; 0 for ever.
        valid_until_us: event time up to which it decides; 0 for ever.

    """

    media_id: str
    words: npt.NDArray[np.uint64]
    clear: npt.NDArray[np.uint64]
    valid_from_us: int = 0
    valid_until_us: int = 0


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


def entry_words(
    samples: npt.NDArray[np.float32], wake_word_ms: float, bits: Bits
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Fingerprint a recording around one mention of the wake word.

    What lies before the recording's beginning is silence, which agrees with nothing.

    Args:
        samples: float32 (n,) at SAMPLE_RATE_HZ, on the int16 scale: the whole recording.
        wake_word_ms: where in it the wake word begins.
        bits: the kind of bits.

    Returns:
        Words and which of their bits are clear, uint64 (n,) both.

    Raises:
        EntryError: the recording ends too soon after the wake word begins.

    """
    start = round((wake_word_ms - PREROLL_MS) * SAMPLE_RATE_HZ / 1000)
    end = round((wake_word_ms + AFTER_MS) * SAMPLE_RATE_HZ / 1000)
    heard = samples[max(0, start) : end]
    around = np.concatenate((np.zeros(max(0, -start), np.float32), heard.astype(np.float32)))
    words, clear = bits.marked_words(FilterBank(seed_of(f"entry {wake_word_ms:.3f}")).push(around), 0, ENTRY_CLEAR)
    if len(words) < word_count(frame_count(PREROLL_MS + LEAST_AFTER_MS), bits):
        left_ms = len(samples) * 1000 / SAMPLE_RATE_HZ - wake_word_ms
        raise EntryError(
            f"{max(0.0, left_ms) / 1000:.2f} s of audio from the wake word on are too little to recognise it by:"
            f" it takes {LEAST_AFTER_MS / 1000:g} s"
        )
    return words, clear


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
        words = calibration.segments * SEGMENT_WORDS + LEAD_WORDS + MAX_ALIGNMENT
        self._slots = -(-words // SLOT_WORDS)
        self._row_of: dict[str, int] = {}
        self._names: list[str] = []
        self._free: list[int] = []
        self._words, self._clear = (np.zeros((0, self._slots), np.uint64) for _ in range(2))
        self._lengths = np.zeros(0, np.int32)
        self._means = np.zeros((0, calibration.segments), np.float32)
        self._from_us, self._until_us = np.zeros((2, 0), np.int64)
        self._anchors = np.zeros((0, self._slots, ANCHORS), np.uint8)
        self._heads = np.zeros(LISTS, np.int32)
        self._chunks = np.zeros((1, CHUNK), np.int32)
        self._free_chunks = np.zeros(2, np.int64)
        self._found = np.empty(_MOST_FOUND, np.int32)
        self._on_air: dict[int, _OnAir] = {}
        self._least = self.threshold_on_air()
        self._swept: list[tuple[Listening, KnownMatch]] = []
        self._recent: dict[str, int] = {}  # requests of the last TOGETHER_US: when they started

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, media_id: str) -> bool:
        return media_id in self._row_of

    @property
    def memory_bytes(self) -> int:
        """Of all arrays."""
        arrays = (
            self._words, self._clear, self._lengths, self._means, self._from_us, self._until_us, self._anchors,
            self._heads, self._chunks,
        )  # fmt: skip
        return sum(array.nbytes for array in arrays)

    # ---- upkeep --------------------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Add an entry or replace the one of its name."""
        self.remove(entry.media_id)
        if not self._free:
            self._grow()
        row = self._free.pop()
        kept = entry.words[::SLOT_WORDS][: self._slots]
        self._words[row, : len(kept)], self._clear[row, : len(kept)] = kept, entry.clear[::SLOT_WORDS][: self._slots]
        self._lengths[row] = len(kept)
        self._from_us[row] = entry.valid_from_us
        self._until_us[row] = entry.valid_until_us or 2**62
        calibration = self.calibration
        own_means(
            entry.words[LEAD_WORDS:], calibration.cohort_columns, entry.clear[LEAD_WORDS:], 0, calibration.segments,
            self._means[row],
        )  # fmt: skip
        choose_anchors(self._clear, self._lengths, GROUP_MASKS, row, self._anchors)
        if self._free_chunks[1] < len(kept) * ANCHORS:
            self._grow_chunks()
        enter(
            self._words, self._lengths, GROUP_VALUES, self._anchors, row, self._heads, self._chunks, self._free_chunks
        )
        self._names[row] = entry.media_id
        self._row_of[entry.media_id] = row

    def remove(self, media_id: str) -> bool:
        """Forget an entry; tells whether there was one."""
        row = self._row_of.pop(media_id, None)
        if row is None:
            return False
        leave(
            self._words, self._lengths, GROUP_VALUES, self._anchors, row, self._heads, self._chunks, self._free_chunks
        )
        self._lengths[row] = 0
        self._on_air.pop(row, None)
        self._free.append(row)
        return True

    def _grow(self) -> None:
        old = len(self._names)
        more = max(16, old // 2)
        self._words = np.concatenate((self._words, np.zeros((more, self._slots), np.uint64)))
        self._clear = np.concatenate((self._clear, np.zeros((more, self._slots), np.uint64)))
        self._lengths = np.concatenate((self._lengths, np.zeros(more, np.int32)))
        self._means = np.concatenate((self._means, np.zeros((more, self.calibration.segments), np.float32)))
        self._from_us = np.concatenate((self._from_us, np.zeros(more, np.int64)))
        self._until_us = np.concatenate((self._until_us, np.zeros(more, np.int64)))
        self._anchors = np.concatenate((self._anchors, np.zeros((more, self._slots, ANCHORS), np.uint8)))
        self._names += [""] * more
        self._free = list(range(old, old + more))[::-1]

    def _grow_chunks(self) -> None:
        old = len(self._chunks)
        more = np.zeros((max(4 * self._slots * ANCHORS, old // 4), CHUNK), np.int32)
        more[:, 0] = np.arange(old + 1, old + len(more) + 1)
        more[-1, 0] = self._free_chunks[0]
        self._chunks = np.concatenate((self._chunks, more))
        self._free_chunks += (old - self._free_chunks[0], len(more))

    # ---- recognising ---------------------------------------------------------------------------------------------

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
        return self.calibration.tail.threshold(ALONE_SHARE * self.budget, len(self._row_of))

    def threshold_together(self, households: int) -> float:
        """Score that each of so many households, TOGETHER or more, is recognised at: the more, the lower.

        Among n requests chance brings k - 1 others near the entry that it brought one near to with probability
        n^(k-1) / (k-1)! p^k for each entry, p being that of one. Nobody is recognised at less than an entry on air
        asks for: those that agree may be homes that hear it, and one of them a person.
        """
        n, k = max(self.concurrency, len(self._recent)), households
        budget = TOGETHER_SHARE * self.budget / (MOST_TOGETHER - TOGETHER + 1)
        p = (budget * math.factorial(k - 1) / (max(1, len(self._row_of)) * n ** (k - 1))) ** (1 / k)
        return max(self.threshold_on_air(), self.calibration.tail.threshold(min(1.0, p / DEPENDENCE), 1))

    def threshold_on_air(self) -> float:
        """Score that a household is recognised at while the entry is on air."""
        on_air = sum(1 for air in self._on_air.values() if air.recognised_us is not None)
        beside = self.airing_share * TOGETHER_US / AIRING_SHARE_US
        return self.calibration.tail.threshold(min(1.0, AIRING_SHARE * self.budget / beside), max(1, on_air))

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
        return KnownMatch(self._names[row], evidence, households, self.version, self.calibration.version)

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
        self._looked_up = 0
        self._seen = _NOTHING_SEEN
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
        self._seen, self._kept = _NOTHING_SEEN, {}

    def _candidates(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """Rows that are worth a score: those that were, those on air, and those that the new words find."""
        media = self._media
        needed = 1 if len(media) <= FOUND_ONCE_ENTRIES else 2
        step = 1 if len(media) <= EVERY_WORD_ENTRIES else 4
        if needed > 1 and not len(self._seen):
            # For twice what chance finds in a whole request.
            size = len(media) * media.calibration.segments // (50 * step)
            self._seen = np.zeros((1 << size.bit_length(), 2), np.int32)
        out, found = media._found, 0  # noqa: SLF001
        if self._segments % _SEARCH_SEGMENTS == 0:
            found = find(
                words, self._looked_up, len(words), step, GROUP_VALUES, media._slots, media._heads,  # noqa: SLF001
                media._chunks, self._seen, needed, out,  # noqa: SLF001
            )  # fmt: skip
            self._looked_up = len(words)
        if not found and not self._kept and not media._on_air:  # noqa: SLF001
            return _NO_ROWS
        rows = {row for row, name in self._kept.items() if media._row_of.get(name) == row}  # noqa: SLF001
        rows.update(itertools.islice(reversed(media._on_air), MOST_ON_AIR))  # noqa: SLF001
        rows.update(out[: min(found, _MOST_FOUND)].tolist())
        from_us, until_us = media._from_us, media._until_us  # noqa: SLF001
        return np.array([row for row in rows if from_us[row] <= self.start_us < until_us[row]], np.int32)

    def _score(
        self, words: npt.NDArray[np.uint64], clear: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32]
    ) -> list[tuple[int, Evidence]]:
        """Score some rows, the best first, and keep those that may come to something."""
        media, n = self._media, len(rows)
        calibration = media.calibration
        own_means(words, calibration.cohort_columns, _ALL, self._own_segments, self._segments, self._own)
        self._own_segments = self._segments
        scores, rates = np.empty((2, n), np.float32)
        alignments, compared = np.empty((2, n), np.int32)
        score_rows(
            words, clear, self._segments, media._words, media._clear, media._lengths, media._means, rows,  # noqa: SLF001
            self._own, calibration.base, calibration.usual, calibration.weights[self._segments], scores, rates,
            alignments, compared,
        )  # fmt: skip
        names = media._names  # noqa: SLF001
        # Of equals the first by name: rows are handed out anew after a restart.
        best = sorted(
            (-score, names[row], row, i)
            for i, (score, row) in enumerate(zip(scores.tolist(), rows.tolist(), strict=True))
            if score >= KEPT_SCORE
        )[:KEPT]
        self._kept = {row: name for _, name, row, _ in best}
        return [
            (row, Evidence(-score, float(rates[i]), int(compared[i]), -int(alignments[i]))) for score, _, row, i in best
        ]


_ALL, _NO_ROWS, _NOTHING_SEEN = np.empty(0, np.uint64), np.empty(0, np.int32), np.empty((0, 2), np.int32)
assert FULL_KNOWN_MS % LOOK_MS == FIRST_KNOWN_LOOK_MS % LOOK_MS == 0

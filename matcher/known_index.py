"""The entries of one wake word and locale, and an index that finds those which a request may be a part of."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from matcher.known_entry import Entry
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

# With more entries than this a row must be found twice before it is scored: chance finds too many once.
FOUND_ONCE_ENTRIES = 512
# With more than this only every fourth word is looked up: to fetch the lists is what costs.
EVERY_WORD_ENTRIES = 16_384
# A search gives no more rows than this.
_MOST_FOUND = 512

_U8 = npt.NDArray[np.uint64]
_I4 = npt.NDArray[np.int32]
_F4 = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Search:
    """How far the words of one request have been looked up.

    Attributes:
        words: how many have been.
        seen: int32 (size, 2), a hash table of rows that chance may have found; empty before the first search.

    """

    words: int = 0
    seen: _I4 = field(default_factory=lambda: np.empty((0, 2), np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How much a request is like some rows, one each.

    Attributes:
        scores: float32 (n,), by the null.
        error_rates: float32 (n,), of the bits compared.
        alignments: int32 (n,), word k of the request is word k + alignment of the row.
        compared: int32 (n,), bits.

    """

    scores: _F4
    error_rates: _F4
    alignments: _I4
    compared: _I4


class KnownIndex:
    """Entries in rows, which stay where they are until their entry goes. For one thread."""

    def __init__(self, calibration: KnownCalibration) -> None:
        """Begin without entries; scores are those of `calibration`."""
        self.calibration = calibration
        words = calibration.segments * SEGMENT_WORDS + LEAD_WORDS + MAX_ALIGNMENT
        self.slots = -(-words // SLOT_WORDS)
        self.row_of: dict[str, int] = {}
        self.names: list[str] = []
        self._free: list[int] = []
        self._words, self._clear = (np.zeros((0, self.slots), np.uint64) for _ in range(2))
        self._lengths = np.zeros(0, np.int32)
        self._means = np.zeros((0, calibration.segments), np.float32)
        self._from_us, self._until_us = np.zeros((2, 0), np.int64)
        self._anchors = np.zeros((0, self.slots, ANCHORS), np.uint8)
        self._heads = np.zeros(LISTS, np.int32)
        self._chunks = np.zeros((1, CHUNK), np.int32)
        self._free_chunks = np.zeros(2, np.int64)
        self._found = np.empty(_MOST_FOUND, np.int32)

    def __len__(self) -> int:
        return len(self.row_of)

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
        """Add an entry; there must be none of its name."""
        if not self._free:
            self._grow()
        row = self._free.pop()
        kept = entry.words[::SLOT_WORDS][: self.slots]
        self._words[row, : len(kept)], self._clear[row, : len(kept)] = kept, entry.clear[::SLOT_WORDS][: self.slots]
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
        self.names[row] = entry.media_id
        self.row_of[entry.media_id] = row

    def remove(self, media_id: str) -> int | None:
        """Forget an entry; gives the row that it had, None where there was none."""
        row = self.row_of.pop(media_id, None)
        if row is None:
            return None
        leave(
            self._words, self._lengths, GROUP_VALUES, self._anchors, row, self._heads, self._chunks, self._free_chunks
        )
        self._lengths[row] = 0
        self._free.append(row)
        return row

    def _grow(self) -> None:
        old = len(self.names)
        more = max(16, old // 2)
        self._words = np.concatenate((self._words, np.zeros((more, self.slots), np.uint64)))
        self._clear = np.concatenate((self._clear, np.zeros((more, self.slots), np.uint64)))
        self._lengths = np.concatenate((self._lengths, np.zeros(more, np.int32)))
        self._means = np.concatenate((self._means, np.zeros((more, self.calibration.segments), np.float32)))
        self._from_us = np.concatenate((self._from_us, np.zeros(more, np.int64)))
        self._until_us = np.concatenate((self._until_us, np.zeros(more, np.int64)))
        self._anchors = np.concatenate((self._anchors, np.zeros((more, self.slots, ANCHORS), np.uint8)))
        self.names += [""] * more
        self._free = list(range(old, old + more))[::-1]

    def _grow_chunks(self) -> None:
        old = len(self._chunks)
        more = np.zeros((max(4 * self.slots * ANCHORS, old // 4), CHUNK), np.int32)
        more[:, 0] = np.arange(old + 1, old + len(more) + 1)
        more[-1, 0] = self._free_chunks[0]
        self._chunks = np.concatenate((self._chunks, more))
        self._free_chunks += (old - self._free_chunks[0], len(more))

    # ---- looking things up ---------------------------------------------------------------------------------------

    def search(self, words: _U8, search: Search) -> list[int]:
        """Look up the words of a request that came since its last search: rows that may be what it is a part of."""
        needed = 1 if len(self) <= FOUND_ONCE_ENTRIES else 2
        step = 1 if len(self) <= EVERY_WORD_ENTRIES else 4
        if needed > 1 and not len(search.seen):
            # For twice what chance finds in a whole request.
            size = len(self) * self.calibration.segments // (50 * step)
            search.seen = np.zeros((1 << size.bit_length(), 2), np.int32)
        found = find(
            words, search.words, len(words), step, GROUP_VALUES, self.slots, self._heads, self._chunks, search.seen,
            needed, self._found,
        )  # fmt: skip
        search.words = len(words)
        rows: list[int] = self._found[: min(found, _MOST_FOUND)].tolist()
        return rows

    def valid(self, row: int, at_us: int) -> bool:
        """Tell whether a row's entry decides at an event time."""
        return bool(self._from_us[row] <= at_us < self._until_us[row])

    def score(self, words: _U8, clear: _U8, segments: int, own: _F4, rows: _I4) -> Scores:
        """Compare the first segments of a request with some rows.

        Args:
            words: uint64 (n,).
            clear: uint64 (n,), which of their bits are clear.
            segments: how many.
            own: float32 (all segments,), the request's own means.
            rows: int32 (m,).

        """
        calibration, n = self.calibration, len(rows)
        scores, rates = np.empty((2, n), np.float32)
        alignments, compared = np.empty((2, n), np.int32)
        score_rows(
            words, clear, segments, self._words, self._clear, self._lengths, self._means, rows, own, calibration.base,
            calibration.usual, calibration.weights[segments], scores, rates, alignments, compared,
        )  # fmt: skip
        return Scores(scores, rates, alignments, compared)

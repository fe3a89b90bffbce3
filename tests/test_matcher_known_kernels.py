"""Known media: the index and the scores against their slow twins."""

import naive
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from matcher.known_null import (
    LEAD_WORDS,
    LEAST_APART,
    MOST_APART,
    SEGMENT_WORDS,
    SLOT_WORDS,
)

_U8 = npt.NDArray[np.uint64]


def random_words(rng: np.random.Generator, *shape: int) -> _U8:
    return rng.integers(0, 2**64, shape, np.uint64, endpoint=False)


@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=40)
def test_scores_are_those_of_the_slow_twin(seed: int, segments: int, slots: int, other_slots: int) -> None:
    """Entries of any length, shorter than the request too; some words clear nowhere, some means not there."""
    rng = np.random.default_rng(seed)
    n = segments * SEGMENT_WORDS
    query, query_clear = random_words(rng, n), random_words(rng, n)
    lengths = np.array([slots, other_slots], np.int32)
    words, clear = random_words(rng, 2, 30), random_words(rng, 2, 30) * (rng.random((2, 30)) < 0.8)
    means = np.where(rng.random((2, segments)) < 0.1, np.nan, rng.random((2, segments))).astype(np.float32)
    own, base, usual, weights = rng.random((4, segments)).astype(np.float32)
    own -= np.float32(0.5)  # segments below nothing, and over MOST_APART
    rows = np.array([1, 0], np.int32)
    scores, rates, alignments, compared = np.empty(2, np.float32), np.empty(2, np.float32), *np.empty((2, 2), np.int32)
    score_rows(
        query, query_clear, segments, words, clear, lengths, means, rows, own, base, usual, weights, scores, rates,
        alignments, compared,
    )  # fmt: skip
    for i, row in enumerate(rows):
        expected = base.astype(np.float64) + own + means[row]
        twin = naive.known_score(
            query,
            query_clear,
            segments,
            words[row, : lengths[row]],
            clear[row, : lengths[row]],
            expected,
            usual,
            weights,
        )
        assert (scores[i], rates[i]) == pytest.approx(twin[:2], rel=1e-4, abs=1e-4)
        assert (alignments[i], compared[i]) == twin[2:]


def test_a_segment_says_only_so_much() -> None:
    """What drowns a recording counts against it as unrelated sound does; the very same counts as nearly the same."""
    rng = np.random.default_rng(5)
    segments = 8
    words = random_words(rng, LEAD_WORDS + segments * SEGMENT_WORDS)
    all_bits = np.full_like(words, ~np.uint64(0))

    def score(query: _U8) -> float:
        scores, rates = np.empty((2, 1), np.float32)
        kept = words[None, ::SLOT_WORDS].copy()
        nothing = np.zeros(segments, np.float32)
        score_rows(
            query, all_bits, segments, kept, np.full_like(kept, ~np.uint64(0)), np.array([kept.shape[1]], np.int32),
            nothing[None], np.zeros(1, np.int32), nothing, nothing + np.float32(0.5), nothing,
            nothing + np.float32(1), scores, rates, *np.empty((2, 1), np.int32),
        )  # fmt: skip
        return float(scores[0])

    same = words[LEAD_WORDS:].copy()
    assert score(same) == pytest.approx(segments * MOST_APART, rel=1e-5)
    drowned = same.copy()
    drowned[4 * SEGMENT_WORDS : 6 * SEGMENT_WORDS] ^= ~np.uint64(0)
    assert score(drowned) == pytest.approx((segments - 2) * MOST_APART + 2 * LEAST_APART, rel=1e-5)


@given(st.integers(0, 2**32), st.integers(0, 20), st.booleans())
@settings(max_examples=25)
def test_own_means_are_those_of_the_slow_twin(seed: int, n: int, masked: bool) -> None:
    """Also past the end of either, where there is none."""
    rng = np.random.default_rng(seed)
    query, clear, cohort = random_words(rng, n), random_words(rng, n), random_words(rng, 5, 14)
    out = np.empty(5, np.float32)
    own_means(query, np.ascontiguousarray(cohort.T), clear if masked else clear[:0], 0, 5, out)
    twin = [naive.own_mean(query, clear if masked else None, cohort, segment) for segment in range(5)]
    assert out == pytest.approx(twin, nan_ok=True, rel=1e-5)


class Index:
    """The arrays of an index of some rows."""

    def __init__(self, words: _U8, clear: _U8, lengths: npt.NDArray[np.int32]) -> None:
        rows, slots = words.shape
        self.words, self.clear, self.lengths = words, clear, lengths
        self.anchors = np.zeros((rows, slots, ANCHORS), np.uint8)
        self.heads = np.zeros(LISTS, np.int32)
        self.chunks = np.zeros((1 + rows * slots * ANCHORS, CHUNK), np.int32)
        self.chunks[1:-1, 0] = np.arange(2, len(self.chunks))
        self.free = np.array([1, len(self.chunks) - 1], np.int64)

    def enter(self, row: int) -> None:
        choose_anchors(self.clear, self.lengths, GROUP_MASKS, row, self.anchors)
        enter(self.words, self.lengths, GROUP_VALUES, self.anchors, row, self.heads, self.chunks, self.free)

    def leave(self, row: int) -> None:
        leave(self.words, self.lengths, GROUP_VALUES, self.anchors, row, self.heads, self.chunks, self.free)

    def find(self, query: _U8, first: int, end: int, needed: int, room: int = 1000) -> tuple[list[int], int]:
        out, seen = np.full(room + 1, -7, np.int32), np.zeros((1 << 14, 2), np.int32)
        slots = self.words.shape[1]
        found = find(query, first, end, 1, GROUP_VALUES, slots, self.heads, self.chunks, seen, needed, out[:room])
        assert out[room] == -7
        return out[: min(found, room)].tolist(), found


@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
@settings(max_examples=40)
def test_the_index_finds_what_the_slow_twin_finds(seed: int, changes: list[tuple[int, bool]]) -> None:
    """After any entering and leaving; rows as often as they were found; and no chunk is lost."""
    rng = np.random.default_rng(seed)
    slots = 12
    words, clear = random_words(rng, 6, slots), random_words(rng, 6, slots)
    words[1], clear[1] = words[0], clear[0]  # so that lists have several places
    lengths = rng.integers(0, slots + 1, 6).astype(np.int32)
    query = random_words(rng, 30)
    for row in range(6):  # something to be found: words of the entries, at an alignment of their own
        for k, slot in naive.known_places(len(query), lengths[row], int(rng.integers(-7, 8))):
            if rng.random() < 0.3:
                query[k] = words[row, slot]
    index = Index(words, clear, lengths)
    there: set[int] = set()
    for row, entering in changes:
        if entering and row not in there:
            index.enter(row)
            assert index.anchors[row, : lengths[row]].tolist() == naive.anchors_of(clear[row, : lengths[row]])
            there.add(row)
        elif not entering and row in there:
            index.leave(row)
            there.remove(row)
    entries = {row: (words[row, : lengths[row]], clear[row, : lengths[row]]) for row in there}
    twin = sorted(naive.found_rows(query, 3, 25, entries))
    assert sorted(index.find(query, 3, 25, 1)[0]) == [row for row, _ in twin]
    for needed in (2, 3):
        again = [pair for i, pair in enumerate(twin) if twin[:i].count(pair) >= needed - 1]
        assert sorted(index.find(query, 3, 25, needed)[0]) == [row for row, _ in again]
    for row in there:
        index.leave(row)
    assert not index.heads.any()
    assert index.free[1] == len(index.chunks) - 1


def test_what_finds_no_room_is_lost_and_counted() -> None:
    """More candidates than are asked for are never written anywhere."""
    rng = np.random.default_rng(1)
    index = Index(random_words(rng, 1, 8), np.full((1, 8), ~np.uint64(0)), np.array([8], np.int32))
    index.enter(0)
    query = np.repeat(index.words[0], SLOT_WORDS)[LEAD_WORDS:]
    rows, found = index.find(query, 0, len(query), 1, room=3)
    assert rows == [0, 0, 0]
    assert found > 3

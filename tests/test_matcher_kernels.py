"""Kernels over words against their slow twins: empty, one, long, nothing in reach, and ties."""

import naive
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.event import best_triple
from matcher.evidence import ALIGNMENTS
from matcher.kernels import (
    drawn,
    errors_between,
    majority,
    mean_lowest_rate,
    one_against_many,
    rates_against_others,
    scan_many,
)
from matcher.null import best_beside, consistent_triples
from matcher.search import EDGE_SCORE

U8 = npt.NDArray[np.uint64]
# Few different words make ties; whole complements make rates of 0 and 1.
FEW = np.array([0, 2**64 - 1, 0x0F0F0F0F0F0F0F0F, 0xAAAAAAAAAAAAAAAA, 1], np.uint64)
REACH = st.lists(st.integers(-30, 30), max_size=7).map(lambda a: np.array(a, np.int32))
FAST = settings(max_examples=150)


@st.composite
def word_rows(draw: st.DrawFn, rows: st.SearchStrategy[int], width: st.SearchStrategy[int]) -> U8:
    """Rows of words, of few different ones or of any."""
    shape = draw(rows), draw(width)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        return rng.choice(FEW, shape)
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


def run_one_against_many(
    query: U8,
    many: U8,
    lengths: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    alignments: npt.NDArray[np.int32],
    min_words: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    out = np.full(len(rows), -7, np.float32), np.full(len(rows), -7, np.int32), np.full(len(rows), -7, np.int32)
    one_against_many(query, many, lengths, rows, alignments, min_words, *out)
    return out


# ---- one against many ------------------------------------------------------------------------------------------------


@given(word_rows(st.just(1), st.integers(0, 25)), word_rows(st.integers(1, 6), st.integers(0, 25)), REACH, st.data())
@FAST
def test_one_against_many_is_its_slow_twin(
    query: U8, many: U8, alignments: npt.NDArray[np.int32], data: st.DataObject
) -> None:
    width = st.integers(0, many.shape[1])
    lengths = np.array([data.draw(width) for _ in many], np.int32)
    rows = np.array(data.draw(st.lists(st.integers(0, len(many) - 1), max_size=8)), np.int64)
    min_words = data.draw(st.integers(0, 12))
    fast = run_one_against_many(query[0], many, lengths, rows, alignments, min_words)
    slow = naive.one_against_many(query[0], many, lengths, rows, alignments, min_words)
    for got, expected in zip(fast, slow, strict=True):
        assert np.array_equal(got, expected)


def test_one_against_many_at_more_rows_than_sixteen_bits() -> None:
    rng = np.random.default_rng(0)
    query, many = rng.integers(0, 2**64, 5, dtype=np.uint64), rng.integers(0, 2**64, (66_000, 4), dtype=np.uint64)
    lengths = rng.integers(0, 5, len(many)).astype(np.int32)
    rows, reach = np.arange(len(many), dtype=np.int64), np.array([-1, 0, 1], np.int32)
    fast = run_one_against_many(query, many, lengths, rows, reach, 2)
    some = np.r_[:300, 65_300:66_000]
    slow = naive.one_against_many(query, many, lengths, rows[some], reach, 2)
    for got, expected in zip(fast, slow, strict=True):
        assert np.array_equal(got[some], expected)


def test_one_against_many_at_more_words_than_sixteen_bits() -> None:
    """More than four million bits still count exactly."""
    rng = np.random.default_rng(1)
    query = rng.integers(0, 2**64, 70_000, dtype=np.uint64)
    many = np.stack([~query, np.roll(query, 3), rng.permutation(query)])
    lengths, rows = np.array([70_000, 70_000, 69_999], np.int32), np.arange(3, dtype=np.int64)
    fast = run_one_against_many(query, many, lengths, rows, np.array([0, 3, -5], np.int32), 1)
    slow = naive.one_against_many(query, many, lengths, rows, np.array([0, 3, -5], np.int32), 1)
    for got, expected in zip(fast, slow, strict=True):
        assert np.array_equal(got, expected)
    assert fast[0][1] == 0
    assert fast[1][1] == 3


def test_nothing_in_reach_says_so() -> None:
    """Rate 1 and no words."""
    words = np.ones((1, 10), np.uint64)
    far = np.array([-10, 10, 100, -2_000_000], np.int32)
    rates, at, compared = run_one_against_many(words[0], words, np.array([10], np.int32), np.zeros(1, np.int64), far, 1)
    assert (rates[0], at[0], compared[0]) == (1, 0, 0)


def test_of_equal_rates_the_first_alignment_wins() -> None:
    words = np.full((1, 10), 5, np.uint64)
    reach = np.array([2, -2, 0], np.int32)
    _, at, compared = run_one_against_many(words[0], words, np.array([10], np.int32), np.zeros(1, np.int64), reach, 1)
    assert (at[0], compared[0]) == (2, 8)


def test_fingerprints_that_differ_in_every_bit_have_been_compared() -> None:
    words = np.arange(10, dtype=np.uint64)[None]
    reach = np.array([0], np.int32)
    rates, at, compared = run_one_against_many(
        ~words[0], words, np.array([10], np.int32), np.zeros(1, np.int64), reach, 1
    )
    assert (rates[0], at[0], compared[0]) == (1, 0, 10)


def test_words_that_nobody_may_write_to_can_be_read() -> None:
    """Words come from messages as read-only views."""
    words = np.frombuffer(np.arange(8, dtype=np.uint64).tobytes(), np.uint64)
    rates, _, _ = run_one_against_many(
        words, words[None], np.array([8], np.int32), np.zeros(1, np.int64), np.zeros(1, np.int32), 1
    )
    assert rates[0] == 0


# ---- a scan ----------------------------------------------------------------------------------------------------------


@given(word_rows(st.just(1), st.integers(0, 25)), word_rows(st.integers(1, 20), st.integers(0, 25)), REACH, st.data())
@FAST
def test_a_scan_is_its_slow_twin(query: U8, many: U8, alignments: npt.NDArray[np.int32], data: st.DataObject) -> None:
    """Of any number of rows, some of them twice, near and far; whatever stands behind a row's last word."""
    width = st.integers(0, many.shape[1])
    lengths = np.array([data.draw(width) for _ in many], np.int32)
    rows = np.array(data.draw(st.lists(st.integers(0, len(many) - 1), max_size=20)), np.int64)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    owns = np.stack((rng.normal(0, 0.02, 1 + len(many)), rng.uniform(0.5, 2, 1 + len(many))), axis=1).astype(np.float32)
    mean, deviation = rng.uniform(0.3, 0.5, 30), rng.uniform(0.01, 0.1, 30)
    near_score = data.draw(st.sampled_from([-np.inf, -1.0, 0.0, 1.0, np.inf]))
    common = (
        query[0],
        owns[0],
        many,
        lengths,
        owns[1:].copy(),
        rows,
        alignments,
        data.draw(st.integers(0, 12)),
        mean,
        deviation,
    )
    least_words = data.draw(st.integers(0, 10))
    fast = tuple(np.full(len(rows), -7, kind) for kind in (np.float64, np.float32, np.int32, np.int32))
    scan_many(*common, least_words, near_score, *fast)
    for got, expected in zip(fast, naive.scan_many(*common, least_words, near_score), strict=True):
        assert np.array_equal(got, expected)


# ---- who is drawn ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 99), st.floats(0, 0.999), st.data())
@FAST
def test_the_draw_is_its_slow_twin_and_the_same_from_either_side(
    count: int, seed: int, share: float, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    heard, anyway = rng.random((2, count)) < np.array([[0.7], [0.2]])
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    own, other = (data.draw(st.integers(0, count - 1)) for _ in range(2))
    bound, rows = np.uint64(share * 2**64), np.full(count, -7)

    def draw(row: int) -> list[int]:
        return rows[: drawn(heard, anyway, hashes, row, bound, rows)].tolist()

    assert draw(own) == naive.drawn(heard, anyway, hashes, own, int(bound))
    if heard[own] and heard[other] and not (anyway[own] or anyway[other]):
        assert (other in draw(own)) == (own in draw(other))


@given(word_rows(st.just(2), st.integers(1, 40)), st.data())
@FAST
def test_errors_between_are_counted(pair: U8, data: st.DataObject) -> None:
    n = pair.shape[1]
    first, second = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    count = data.draw(st.integers(0, n - max(first, second)))
    expected = naive.bit_errors(pair[0, first : first + count], pair[1, second : second + count])
    assert errors_between(pair[0], pair[1], first, second, count) == expected


@given(word_rows(st.just(1), st.integers(0, 30)), word_rows(st.integers(1, 4), st.integers(0, 25)), REACH, st.data())
@FAST
def test_mean_lowest_rate_is_its_slow_twin(
    query: U8, many: U8, alignments: npt.NDArray[np.int32], data: st.DataObject
) -> None:
    min_words = data.draw(st.integers(0, 12))
    expected = naive.mean_lowest_rate(query[0], many, alignments, min_words)
    columns = np.ascontiguousarray(many.T)
    assert mean_lowest_rate(query[0], columns, alignments, min_words) == pytest.approx(expected, rel=1e-12)


def test_mean_lowest_rate_over_more_words_than_sixteen_bits() -> None:
    rng = np.random.default_rng(2)
    many = rng.integers(0, 2**64, (2, 70_000), dtype=np.uint64)
    reach = np.array([-1, 0, 65_600], np.int32)
    fast = mean_lowest_rate(many[0], np.ascontiguousarray(many.T), reach, 60)
    assert fast == pytest.approx(naive.mean_lowest_rate(many[0], many, reach, 60), rel=1e-12)
    assert fast < 0.26  # the first of the two is the query itself


# ---- majority --------------------------------------------------------------------------------------------------------


@given(word_rows(st.integers(0, 6), st.integers(0, 14)), st.data())
@FAST
def test_majority_is_its_slow_twin(many: U8, data: st.DataObject) -> None:
    """Members of any length and alignment, out of reach too, and the same member twice."""
    lengths = np.array([data.draw(st.integers(0, many.shape[1])) for _ in many], np.int32)
    chosen = data.draw(st.lists(st.integers(0, len(many) - 1), max_size=9)) if len(many) else []
    rows = np.array(chosen, np.int64)
    alignments = np.array([data.draw(st.integers(-20, 20)) for _ in rows], np.int32)
    n = data.draw(st.integers(0, 20))
    words, votes = np.full(n, 99, np.uint64), np.full(n, 99, np.uint8)
    majority(many, lengths, rows, alignments, words, votes)
    expected_words, expected_votes = naive.majority(many, lengths, rows, alignments, n)
    assert np.array_equal(words, expected_words)
    assert np.array_equal(votes, expected_votes)


@given(word_rows(st.integers(1, 6), st.integers(1, 14)), st.data())
@FAST
def test_rates_against_others_are_their_slow_twin(many: U8, data: st.DataObject) -> None:
    """Members of any length and alignment, out of reach too."""
    lengths = np.array([data.draw(st.integers(0, many.shape[1])) for _ in many], np.int32)
    rows = np.array(data.draw(st.lists(st.integers(0, len(many) - 1), max_size=7)), np.int64)
    alignments = np.array([data.draw(st.integers(-20, 20)) for _ in rows], np.int32)
    rates, compared = np.full(len(rows), -7, np.float32), np.full(len(rows), -7, np.int32)
    rates_against_others(many, lengths, rows, alignments, rates, compared)
    expected_rates, expected_compared = naive.rates_against_others(many, lengths, rows, alignments)
    assert rates == pytest.approx(expected_rates, rel=1e-6)
    assert np.array_equal(compared, expected_compared)


def test_rates_against_others_over_more_words_than_sixteen_bits() -> None:
    rng = np.random.default_rng(5)
    first = rng.integers(0, 2**64, 70_000, dtype=np.uint64)
    many = np.stack([first, np.roll(first, 1), ~first])
    rates, compared = np.empty(3, np.float32), np.empty(3, np.int32)
    rates_against_others(
        many, np.full(3, 70_000, np.int32), np.arange(3), np.array([0, 1, 0], np.int32), rates, compared
    )
    # two against one: the two are told apart by nobody where the third disagrees, and the third by both
    assert compared.tolist() == [70_000, 69_999, 70_000]
    assert rates == pytest.approx([1 / 70_000, 0, 1], abs=1e-6)


def test_majority_of_the_most_members_that_a_vote_can_hold() -> None:
    rng = np.random.default_rng(3)
    many = rng.integers(0, 2**64, (255, 3), dtype=np.uint64)
    lengths, rows, alignments = np.full(255, 3, np.int32), np.arange(255), np.zeros(255, np.int32)
    words, votes = np.empty(3, np.uint64), np.empty(3, np.uint8)
    majority(many, lengths, rows, alignments, words, votes)
    assert np.array_equal(words, naive.majority(many, lengths, rows, alignments, 3)[0])
    assert votes.tolist() == [255, 255, 255]


def test_majority_over_more_words_than_sixteen_bits() -> None:
    rng = np.random.default_rng(4)
    many = rng.integers(0, 2**64, (3, 70_000), dtype=np.uint64)
    alignments = np.array([0, 1, -65_600], np.int32)
    words, votes = np.empty(70_000, np.uint64), np.empty(70_000, np.uint8)
    majority(many, np.full(3, 70_000, np.int32), np.arange(3), alignments, words, votes)
    first, second, third = many[0], np.r_[many[1, 1:], np.uint64(0)], np.r_[np.zeros(65_600, np.uint64), many[2, :4400]]
    assert np.array_equal(words[65_600:69_999], ((first & second) | (second & third) | (first & third))[65_600:69_999])
    assert np.array_equal(words[:65_600], first[:65_600])
    assert votes[[0, 65_599, 65_600, 69_998, 69_999]].tolist() == [2, 2, 3, 3, 2]


# ---- triples ---------------------------------------------------------------------------------------------------------


@st.composite
def scored_pairs(draw: st.DrawFn) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Symmetric scores with many ties and alignments that mostly add up, (m, m)."""
    m = draw(st.integers(0, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = np.triu(rng.choice([0.0, 1.5, 1.75, 3.0, 6.0, 8.5], (m, m)), 1)
    at = rng.integers(-10, 11, m)
    alignments = np.triu(at[None] - at[:, None] + rng.choice([0, 0, 2, -4, 6], (m, m)), 1)
    return scores + scores.T, (alignments - alignments.T).astype(np.int32)


@given(scored_pairs())
@FAST
def test_best_triple_of_a_request_is_the_best_of_all_its_triples(
    pairs: tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]],
) -> None:
    """The request is the first of the m, its candidates are those over the edge."""
    scores, alignments = pairs
    candidates = np.array([i for i in range(1, len(scores)) if scores[0, i] > EDGE_SCORE], np.int64)
    inner = np.ix_(candidates, candidates)
    between = np.where(scores[inner] > EDGE_SCORE, scores[inner], -np.inf)
    found = best_triple(
        0, candidates, scores[0, candidates] if len(scores) else np.empty(0),
        alignments[0, candidates] if len(scores) else np.empty(0, np.int32), between, alignments[inner],
    )  # fmt: skip
    possible = {t: s for t, s in naive.consistent_triples(scores, alignments, EDGE_SCORE) if t[0] == 0}
    assert (found is None) == (not possible)
    if found is not None:
        assert possible[found.rows] == pytest.approx(found.score) == pytest.approx(max(possible.values()))
        assert found.alignments == (alignments[0, found.rows[1]], alignments[0, found.rows[2]])


@given(scored_pairs(), st.floats(2 * EDGE_SCORE, 12), st.integers(0, 40))
@FAST
def test_consistent_triples_of_the_null_are_those_of_the_rule(
    pairs: tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]], floor: float, room: int
) -> None:
    """All over the floor, whatever there is room for; pairs that shall not be held against each other are in none."""
    scores, alignments = pairs
    scores = np.where(scores == 8.5, -np.inf, scores)
    expected = {t: s for t, s in naive.consistent_triples(scores, alignments, EDGE_SCORE) if s > floor}
    out, of_out = np.full((room, 3), -7, np.int32), np.full(room, -7, np.float32)
    found = consistent_triples(scores.astype(np.float32), alignments, floor, out, of_out)
    assert found == len(expected)
    told = dict(zip(map(tuple, out[:found].tolist()), of_out[:found].tolist(), strict=True))
    assert len(told) == min(found, room)
    assert told == pytest.approx({triple: expected[triple] for triple in told})
    assert (out[found:] == -7).all()
    assert (of_out[found:] == -7).all()


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**32))
@FAST
def test_best_beside_two_homes_is_its_slow_twin(requests: int, homes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice(np.array([0, 1.5, 1.75, 3, 6], np.float32), (requests, homes))
    alignments = rng.integers(-6, 7, (requests, homes)).astype(np.int32)
    between = rng.integers(-6, 7, (homes, homes)).astype(np.int32)
    out = np.zeros(requests, np.float32)
    best_beside(scores, alignments, between, out)
    assert np.array_equal(out, naive.best_beside(scores, alignments, between, EDGE_SCORE))


def test_alignments_reach_as_far_either_way() -> None:
    """Otherwise a pair would be judged by who looks first."""
    assert np.array_equal(ALIGNMENTS, -ALIGNMENTS[::-1])

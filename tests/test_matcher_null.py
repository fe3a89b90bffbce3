"""The null: what is measured between unrelated requests, and the tails that are fitted to it."""

import math
import statistics
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from sounds import heard_words, random_words
from test_matcher_evidence import assert_same, compare_all

import matcher.null
from matcher.bits import GRADIENT
from matcher.evidence import Calibration, Tail
from matcher.looks import Looks, look_words
from matcher.null import (
    MIN_EXCESSES,
    NullError,
    Unrelated,
    _tail_deviation,
    fit_tail,
    fit_triples,
    measure,
    pair_matrix,
    triples_of,
    widening,
)

LOOKS = look_words(GRADIENT)
TRIPLES = 300**3 / 6  # of 300 requests, as good as


def at_every_look(words: npt.NDArray[np.uint64]) -> Looks:
    """Whole fingerprints (R, W) at each of their looks."""
    looks = np.array([np.where(np.arange(words.shape[1]) < n, words, 0) for n in LOOKS], np.uint64)
    return Looks(looks, np.tile(np.linspace(5, 35, len(words), dtype=np.float32), (len(LOOKS), 1)))


def unrelated(requests: int, media: int = 10) -> Unrelated:
    words = at_every_look(np.array([random_words("unrelated", i) for i in range(requests)]))
    averages = [random_words("average", i) for i in range(media)]
    airings = [at_every_look(np.array([heard_words(f"airing {i}", home) for home in range(3)])) for i in range(media)]
    everybody = np.ones((requests, media), bool)
    return Unrelated(words, ~np.eye(requests, dtype=bool), averages, everybody, airings, everybody)


# ---- tails -----------------------------------------------------------------------------------------------------------


def test_fitted_tail_gives_back_the_tail_that_was_drawn_from() -> None:
    true = Tail(2.0, 0.5, 0.5)
    tail = fit_tail(2.0 + np.random.default_rng(0).exponential(0.5, 1_000_000))
    for chance, n in ((1e-4, 1), (1e-6, 1000)):
        assert tail.threshold(chance, n) == pytest.approx(true.threshold(chance, n), abs=0.25)


def test_a_tail_of_several_trials_at_once_grows_with_their_number() -> None:
    """The best of ten trials exceeds what the fit to single ones says of ten."""
    rng = np.random.default_rng(1)
    tail = fit_tail(rng.exponential(0.5, 1_000_000))
    best_of_ten = rng.exponential(0.5, (1_000_000, 10)).max(axis=1)
    assert np.mean(best_of_ten > tail.threshold(1e-3, 10)) == pytest.approx(1e-3, rel=0.3)


def chance_triples(true: Tail, requests: int, expected: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Scores over a floor of as many triples as make a request among n have its best of this tail."""
    floor = true.start - true.scale * math.log(3 * expected / requests**3)
    return floor + rng.exponential(true.scale, rng.poisson(expected))


def test_fitted_triples_give_back_the_tail_that_was_drawn_from() -> None:
    """And the number of requests grows it by the square: twice the scale."""
    true, rng = Tail(2.0, 1.0, 0.5), np.random.default_rng(2)
    tails = [fit_triples(chance_triples(true, 300, 5000, rng), TRIPLES) for _ in range(200)]
    for tail in tails:
        assert tail.growth == 2 * tail.scale
    for chance, n in ((1e-4, 100), (1e-6, 100), (1e-6, 1000)):
        thresholds = [tail.threshold(chance, n) for tail in tails]
        assert np.mean(thresholds) == pytest.approx(true.threshold(chance, n), abs=0.1)
        assert np.std(thresholds) < 0.8


def test_fitted_triples_bound_the_share_of_requests_that_are_in_one() -> None:
    """Triples at random among the requests of a window: as many are in one over the threshold as it says, or fewer."""
    rng, requests, n = np.random.default_rng(3), 300, 100
    scores = 3 + rng.exponential(0.5, 20_000)
    tail = fit_triples(scores, TRIPLES)
    members = np.array([rng.choice(requests, 3, replace=False) for _ in scores])
    threshold = tail.threshold(0.02, n)
    shares = []
    for _ in range(400):
        window = rng.choice(requests, n, replace=False)
        over = members[np.isin(members, window).all(axis=1) & (scores > threshold)]
        shares.append(len(np.unique(over)) / n)
    assert 0.015 < np.mean(shares) < 0.025


def test_triples_of_strangers_are_those_that_are_counted() -> None:
    """Everybody but himself, three of a kind, two kinds only: by hand."""
    assert triples_of(~np.eye(5, dtype=bool)) == 10
    kinds = np.array([0, 0, 0, 1, 1, 2])
    assert triples_of(kinds[:, None] != kinds[None]) == 3 * 2 * 1
    assert triples_of((kinds[:, None] != kinds[None]) & (kinds != 2)[:, None] & (kinds != 2)[None]) == 0


def test_people_who_are_never_held_against_each_other_do_not_make_chance_smaller() -> None:
    """Of three kinds that are strangers to the others alone, fewer triples are tried, and the tail is the same."""
    rng, kinds = np.random.default_rng(7), np.arange(300) % 3
    everybody = 3 + rng.exponential(0.5, 20_000)
    tried = triples_of(kinds[:, None] != kinds[None]) / triples_of(~np.eye(300, dtype=bool))
    assert 0.2 < tried < 0.25
    some = everybody[: round(20_000 * tried)]
    whole, part = fit_triples(everybody, TRIPLES), fit_triples(some, TRIPLES * tried)
    assert part.threshold(1e-4, 100) == pytest.approx(whole.threshold(1e-4, 100), abs=0.3)


def test_fitted_triples_do_not_depend_on_their_order_nor_on_what_is_far_below() -> None:
    rng = np.random.default_rng(4)
    scores = chance_triples(Tail(2.0, 1.0, 0.5), 300, 3000, rng)
    assert fit_triples(rng.permutation(scores), TRIPLES) == fit_triples(scores, TRIPLES)
    assert fit_triples(np.sort(scores)[-500:], TRIPLES) == fit_triples(scores, TRIPLES)


def test_too_few_triples_are_no_tail() -> None:
    """A tail fitted to nothing has no scale: thresholds that are no numbers would let everything pass."""
    scores = 3 + np.random.default_rng(5).exponential(0.5, MIN_EXCESSES)
    assert fit_triples(scores, TRIPLES).scale > 0
    for few in (scores[1:], scores[:0]):
        with pytest.raises(NullError, match="too few"):
            fit_triples(few, TRIPLES)


def test_trials_of_which_none_stands_out_are_no_tail() -> None:
    with pytest.raises(NullError):
        fit_tail(np.zeros(400))


def test_a_deviation_is_that_of_the_normal_variable_with_the_same_tail() -> None:
    """Of a normal variable its own; of an exponential one by the quantile that it is made equal at."""
    rng = np.random.default_rng(6)
    normal, exponential = rng.normal(0, 0.7, 1_000_000), rng.exponential(0.7, 1_000_000)
    assert _tail_deviation(normal.astype(np.float32)) == pytest.approx(0.7, rel=0.07)
    expected = 0.7 * math.log(1e5) / statistics.NormalDist().inv_cdf(1 - 1e-5)
    assert _tail_deviation(exponential.astype(np.float32)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("slope", [0.0, 0.005, 0.01])
def test_widening_is_that_which_was_drawn_with(slope: float) -> None:
    """Margins whose deviation grows by so many e-folds a dB, whatever their mean and distribution of ranges."""
    rng = np.random.default_rng(8)
    over_db = rng.gamma(4, 4, 400_000) - 16
    margins = 0.02 * np.exp(slope * over_db) * rng.normal(size=len(over_db)) - 0.001
    assert widening(margins.astype(np.float32), over_db) == pytest.approx(slope, abs=0.003)


def test_nulls_of_one_range_or_of_too_few_pairs_widen_by_nothing() -> None:
    margins = np.random.default_rng(9).normal(size=10_000).astype(np.float32)
    assert widening(margins, np.zeros(10_000)) == 0
    assert widening(margins[:5], np.arange(5.0)) == 0
    assert widening(-np.abs(margins), np.arange(10_000.0)) == 0


# ---- measuring -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> Calibration:
    return measure(unrelated(100), GRADIENT, "v", {"n": 100}, cohort_size=40)


def test_a_measured_null_is_the_null_of_what_it_was_measured_on(measured: Calibration) -> None:
    """Requests that it never saw score about 0 with a tail of deviation 1, and its thresholds can be computed."""
    assert measured.version == "v"
    assert measured.bits == GRADIENT.name
    assert measured.cohort.shape == (40, LOOKS[-1])
    assert measured.words.tolist() == LOOKS
    # The ranges are the same at every look, and of a hundred people nothing can be told by them.
    assert measured.typical_db == pytest.approx(20)
    assert measured.least_db == pytest.approx(5.6)
    assert not measured.widening.any()
    strangers = np.array([random_words("never seen", i) for i in range(120)])
    for n in (LOOKS[0], LOOKS[7], LOOKS[-1]):
        scores = compare_all(measured, strangers, n)[~np.eye(120, dtype=bool)]
        assert abs(scores.mean()) < 0.5
        # A normal variable has 3.09; tails that are heavier are made equal to its tail further out.
        assert 2 < np.quantile(scores, 0.999) < 3.4
        assert 0.6 < scores.std() < 1.1
    assert 2 < measured.template.threshold(1e-6, 100) < 20
    assert 2 < measured.triple.threshold(1e-6, 100) < 20
    # Two homes that hear the same bring each other's share: what is beside them needs more for the same chance.
    assert measured.beside.threshold(1e-6, 1) > 4
    assert_same(Calibration.from_bytes(measured.to_bytes()), measured)


def test_measuring_finds_out_how_the_null_widens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose rates scatter most has the most range, or the least: then nobody's null gets narrower with it."""
    monkeypatch.setattr(matcher.null, "WIDENING_PEOPLE", 100)
    some = unrelated(100)
    scatter = pair_matrix(some.people.full, some.people.full, LOOKS[-1], LOOKS[-1])[0].std(axis=1)
    rank = np.argsort(np.argsort(scatter)).astype(np.float32)
    with_it, against_it = (
        measure(
            replace(some, people=replace(some.people, ranges_db=np.tile(ranges_db, (len(LOOKS), 1)))),
            GRADIENT, "v", {}, cohort_size=40,
        ).widening
        for ranges_db in (rank, 99 - rank)
    )  # fmt: skip
    assert np.all(with_it > 0)
    assert not against_it.any()


def test_the_same_seed_measures_the_same(measured: Calibration) -> None:
    again, other = (measure(unrelated(100), GRADIENT, "v", {"n": 100}, cohort_size=40, seed=seed) for seed in (0, 1))
    assert again.to_bytes() == measured.to_bytes()
    assert other.to_bytes() != measured.to_bytes()


def test_pairs_that_are_no_strangers_are_never_held_against_each_other(measured: Calibration) -> None:
    """A voice that says its words three times: it changes the null when these count as strangers, and only then."""
    once = unrelated(100)
    words = once.people.words.copy()
    words[:, 1], words[:, 2] = words[:, 0], words[:, 0]
    twice = Looks(words, once.people.ranges_db)
    strangers = once.strangers.copy()
    strangers[:3, :3] = False
    everything = once.averages, once.average_strangers, once.airings, once.airing_strangers
    known = measure(Unrelated(twice, strangers, *everything), GRADIENT, "v", {}, cohort_size=40)
    assert known.deviation == pytest.approx(measured.deviation, rel=0.1)
    assert known.triple.threshold(1e-6, 100) == pytest.approx(measured.triple.threshold(1e-6, 100), rel=0.2)
    # One sound of three strangers stands out so far that nothing else does.
    with pytest.raises(NullError, match="too few to fit a tail"):
        measure(Unrelated(twice, once.strangers, *everything), GRADIENT, "v", {}, cohort_size=40)


def test_too_little_to_measure_a_null_says_so() -> None:
    everything = unrelated(60)
    with pytest.raises(NullError, match=r"60 unrelated .* too few .* takes 61"):
        measure(everything, GRADIENT, "v", {}, cohort_size=61)
    with pytest.raises(NullError, match="0 averages"):
        measure(unrelated(60, media=0), GRADIENT, "v", {}, cohort_size=40)
    with pytest.raises(NullError, match="too few to fit a tail"):
        measure(unrelated(40), GRADIENT, "v", {}, cohort_size=40)


@pytest.mark.parametrize("people", [2, 3, 20])
def test_so_few_pairs_that_they_have_no_tail_say_so(people: int) -> None:
    """Without a tail there is no deviation: scores that are no numbers."""
    with pytest.raises(NullError, match="too few to measure"):
        measure(unrelated(people), GRADIENT, "v", {}, cohort_size=2)

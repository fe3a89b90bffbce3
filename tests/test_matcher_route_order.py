"""What must not matter to a route, and what bounds it: batches, order, gaps, repeats, room."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from homes import LONG_AGO, S, airing, ids, ignores, one_by_one, people, route
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import (
    growths,
    heard_words,
    in_order,
    random_words,
)

from matcher.fingerprint import FIRST_LOOK_MS, FULL_MS, LOOK_MS
from matcher.growth import Growth
from matcher.outcome import Ignore, Reason
from matcher.policy import Policy
from matcher.route import AIRING_US

# ---- gaps, repeats, strays -------------------------------------------------------------------------------------------


def test_a_request_that_ends_early_still_counts() -> None:
    """After a gap nothing more comes of it: what came before does."""
    subject = route()
    heard = airing("ad", "abc", error_rate=0.36)
    full = ids(ignores(one_by_one(route(), in_order(*heard))))
    assert len(full) == 3
    ended = heard[2][:13]
    outcomes = one_by_one(subject, in_order(*heard[:2], ended))
    request = subject.window.requests[ended[0].request_id]
    assert subject.window.lengths[request.row] == len(ended[-1].words)
    assert request.audio_ms == ended[-1].audio_ms
    assert ids(ignores(outcomes)) == full


def test_a_growth_that_comes_twice_counts_once() -> None:
    """Whole or in part: a restarted reader may cut the same audio elsewhere."""
    whole = airing("ad", "abc")
    again = airing("ad", "abc")
    plain = ignores([route().hear(in_order(*whole), 0)])
    doubled = ignores([route().hear(in_order(*whole, *again), 0)])
    assert doubled == plain
    subject = route()
    wide = heard_words("w", 1)
    heard = growths("r", "h", wide)
    assert subject.hear(heard[:6], 0).counts["looks"] == 6
    others = growths("r", "h", wide, chunk_ms=120)
    assert subject.hear(others, 0).counts["looks"] == sum(
        growth.audio_ms // 80 > heard[5].audio_ms // 80 for growth in others
    )
    assert np.array_equal(subject.window.fingerprint(subject.window.requests["r"]), wide)


def test_a_request_whose_first_looks_were_lost_is_heard_from_the_next_one_on() -> None:
    """Every look has all words so far."""
    subject = route()
    heard = airing("ad", "abc")
    found = ignores(one_by_one(subject, in_order(*heard[:2], heard[2][4:])))
    assert len(found) == 3
    last = heard[2][-1]
    assert np.array_equal(subject.window.fingerprint(subject.window.requests[last.request_id]), last.words)


def test_requests_from_before_the_window_are_left_and_counted() -> None:
    subject = route()
    subject.hear([], 20 * S)
    outcome = subject.hear(growths("late", "b", random_words(2), 9 * S)[:1], LONG_AGO)
    assert outcome.counts["too_late"] == 1
    assert subject.window.requests == {}


def test_event_time_never_runs_backwards() -> None:
    subject = route()
    subject.hear([], 20 * S)
    subject.hear([], 5 * S)
    subject.hear(growths("r", "a", random_words(1), 15 * S)[:3], 0)
    assert subject.now_us == 20 * S


# ---- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2])
def test_a_window_too_small_for_an_event_accepts_everybody(capacity: int) -> None:
    subject = route(Policy(window_requests=capacity))
    outcomes = one_by_one(subject, in_order(*airing("ad", "abcdef")))
    assert ignores(outcomes) == []
    assert sum(o.counts["window_overflow"] for o in outcomes) > 0
    assert len(subject.window.requests) <= capacity


def test_a_full_window_accepts_the_oldest_and_still_ignores_the_rest() -> None:
    """Ten people push out the first home of four before there are three; the other three are found."""
    subject = route(Policy(window_requests=11))
    early = growths("early", "a", heard_words("ad", "a", 0.2))
    heard = airing("ad", "bcd", 800_000)
    found = ignores([subject.hear(in_order(early, *heard, *people("pqstuvwxyz", 100_000)), 0)])
    assert ids(found) == sorted(request[0].request_id for request in heard)


def test_state_is_bounded_and_empties_itself() -> None:
    """A dozen airings, and what is kept of them."""
    subject = route(Policy(window_requests=40, catalogue_entries=5, catalogue_ttl_us=60 * S))
    for number in range(12):
        subject.hear(in_order(*airing(f"ad{number}", "abcd", number * 8 * S, total_ms=1200)), number * 8 * S + 2 * S)
        assert len(subject.window.requests) <= 12
        assert len(subject.events) <= AIRING_US // (8 * S) + 1
        assert len(subject.catalogue.averages) <= 5
    assert len(subject.catalogue.averages) == 5
    subject.hear([], 400 * S)
    assert (subject.window.requests, subject.events, subject.catalogue.averages) == ({}, {}, {})


def test_a_route_that_compares_a_fraction_still_finds_an_event() -> None:
    """K of 4 in a window of 60: a first match makes both look at everything."""
    policy = Policy(partners=4)
    names = [f"p{i}" for i in range(45)]
    outcome = route(policy).hear(in_order(*people(names), *airing("ad", [f"h{i}" for i in range(15)])), 0)
    assert len(outcome.ignores) == 15
    assert all(ignore.household.startswith("h") and " of " not in ignore.household for ignore in outcome.ignores)
    assert outcome.counts["comparisons_left_out"] > outcome.counts["comparisons"]


# ---- what must not matter --------------------------------------------------------------------------------------------


def evening() -> list[Growth]:
    """Two airings, their re-runs, people, a home that leaves early and one with a gap, over 90 s of event time."""
    heard = airing("ad", "abcd", error_rate=0.3) + airing("song", ["e", "f", "g"], 2 * S, error_rate=0.15)
    heard += airing("film", "hi", 3 * S) + airing("ad", "r", 80 * S) + airing("song", "st", 81 * S)
    heard[1] = heard[1][:14] + heard[1][16:]
    heard += [growths("short", "k", heard_words("ad", "k", 0.3), total_ms=1000)]
    return in_order(*heard, *people("uvw"), *people("xyz", 80 * S))


def decide(cuts: Sequence[int], marks: Sequence[float]) -> list[Ignore]:
    """Hear the evening in the batches between the cuts, each followed by a mark up to the next growth's time."""
    subject, everything = route(Policy(catalogue_ttl_us=120 * S)), evening()
    bounds = [0, *sorted(cuts), len(everything)]
    found = []
    for start, end, mark in zip(bounds, bounds[1:], marks, strict=False):
        before = everything[end - 1].end_us if end else 0
        after = everything[end].end_us if end < len(everything) else before + 20 * S
        low_mark_us = LONG_AGO if mark < 0 else int(before + mark * (after - before))
        found.append(subject.hear(everything[start:end], low_mark_us))
    return ignores(found)


def test_the_evening_is_decided_as_it_should_be() -> None:
    at_once = decide([], [0])
    assert len(ids(at_once)) == len(set(ids(at_once)))
    assert Counter(ignore.household for ignore in at_once) == Counter("abcdefgkrst")
    assert {ignore.household for ignore in at_once if ignore.reason is Reason.DISCOVERED} == set("rst")


@given(
    st.lists(st.integers(0, len(evening())), max_size=25),
    st.lists(st.one_of(st.just(-1.0), st.floats(0, 1)), min_size=26, max_size=26),
)
@settings(max_examples=25)
def test_it_does_not_matter_how_growths_are_batched(cuts: list[int], marks: list[float]) -> None:
    """Any partition with any low marks in between: the same ignores, to the last field, in the same order."""
    assert decide(cuts, marks) == decide([], [-1])


def test_every_decision_is_as_sure_as_its_part_of_the_budget_asks() -> None:
    """On one scale, whatever it rests on: none is likelier by chance than all of the budget."""
    found = decide([], [0])
    assert {ignore.reason for ignore in found} == {Reason.CONCURRENT, Reason.DISCOVERED}
    assert min(ignore.log_odds for ignore in found) > -math.log(Policy().false_ignore_budget)


def test_growths_one_by_one_decide_the_same() -> None:
    n = len(evening())
    assert decide(range(n), [1.0] * (n + 1)) == decide([], [-1])


@given(st.permutations(range(6)))
@settings(max_examples=20)
def test_the_order_of_equal_times_does_not_change_who_is_ignored(order: list[int]) -> None:
    """All chunks end at the same moments."""
    heard = [growths(f"r{i}", f"h{i}", heard_words("ad", i)) for i in range(4)]
    heard += [growths(f"p{i}", f"q{i}", random_words(i)) for i in range(2)]
    ordered = [heard[i][step] for step in range(len(heard[0])) for i in order]
    found = ignores([route().hear(ordered, 0)])
    assert ids(found) == ["r0", "r1", "r2", "r3"]
    assert {ignore.decided_at_us for ignore in found} == {FIRST_LOOK_MS * 1000}


@given(st.sampled_from([20, 40, 80, 100, 160, 240, 400]))
@settings(max_examples=7)
def test_the_size_of_chunks_changes_when_but_not_who(chunk_ms: int) -> None:
    heard = [growths(f"r{i}", f"h{i}", heard_words("ad", i), chunk_ms=chunk_ms) for i in range(3)]
    heard += [growths(f"p{i}", f"q{i}", random_words(i), chunk_ms=chunk_ms) for i in range(3)]
    outcome = route().hear(in_order(*heard), 0)
    assert ids(outcome.ignores) == ["r0", "r1", "r2"]
    assert outcome.counts["looks"] <= 6 * ((FULL_MS - FIRST_LOOK_MS) // LOOK_MS + 1)


def test_media_ids_are_a_function_of_the_route_and_of_the_requests_that_founded_it() -> None:
    """The same on every machine and in every run, so a repeated batch repeats its ids."""
    heard = in_order(*airing("ad", "abc"))
    first, second = (ignores([route().hear(heard, 0)]) for _ in range(2))
    assert first == second
    assert re.fullmatch(r"d-[0-9a-f]{16}", first[0].media_id)
    elsewhere = ignores([route(name="w/l/1").hear(heard, 0)])
    assert elsewhere[0].media_id != first[0].media_id
    turned = route()
    turned.hear([], 0)
    assert ignores(one_by_one(turned, heard)) == first


def test_looks_come_at_multiples_of_80_ms_of_the_requests_own_audio() -> None:
    subject = route()
    heard = growths("r", "h", random_words(1), 12_345, chunk_ms=30, total_ms=3000)
    looked = [growth.audio_ms for growth in heard if subject.hear([growth], LONG_AGO).counts["looks"]]
    assert len(looked) == (FULL_MS - FIRST_LOOK_MS) // LOOK_MS + 1
    assert all(0 <= ms - due < 30 for ms, due in zip(looked, range(FIRST_LOOK_MS, FULL_MS + 1, LOOK_MS), strict=True))

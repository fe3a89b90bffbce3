"""The policy of one route: who is ignored, when and why; and who never is."""

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import (
    FULL_WORDS,
    fingerprint_of,
    growths,
    hear,
    heard_words,
    in_order,
    plain_calibration,
    random_words,
    say,
    write_recording,
)

from matcher.bits import GRADIENT, Bits, bits_named
from matcher.budget import TEMPLATE_SHARE, TIERS, Tier
from matcher.catalogue import Average
from matcher.event import Event
from matcher.evidence import shipped_calibration
from matcher.fingerprint import FIRST_LOOK_MS, FULL_MS, LOOK_MS
from matcher.growth import Growth
from matcher.null import look_words
from matcher.outcome import Ignore, Outcome, Reason
from matcher.policy import Policy
from matcher.route import AIRING_US, Route, household_digest
from matcher.search import AIRING_HOMES
from pipeline.recording import Recording

S = 1_000_000
LONG_AGO = -(2**61)
KINDS = pytest.mark.parametrize("bits", [GRADIENT, bits_named("learned64")], ids=lambda bits: bits.name)


def route(policy: Policy | None = None, name: str = "w/l/0") -> Route:
    return Route(name, policy or Policy(), plain_calibration())


def airing(
    medium: str,
    homes: Iterable[str],
    at_us: int = 0,
    *,
    error_rate: float = 0.2,
    device: str = "",
    total_ms: int = 2400,
) -> list[list[Growth]]:
    """Each home's request for a medium: their triggers lie within 200 ms."""
    out = []
    for i, home in enumerate(homes):
        late_words = (0, 4, -2, 2, -4, 0)[i % 6]  # even: words of noise have nothing in common with their neighbours
        name = f"{medium}@{at_us}-{home}{device}"
        words = heard_words(medium, name, error_rate, late_words)
        start_us = at_us + 20_000 * late_words
        out.append(growths(name, home, words, start_us, device=home + device, total_ms=total_ms))
    return out


def people(names: Iterable[str], at_us: int = 0) -> list[list[Growth]]:
    return [
        growths(f"live-{name}", f"home of {name}", random_words(name), at_us + 30_000 * i)
        for i, name in enumerate(names)
    ]


def one_by_one(route: Route, ordered: Sequence[Growth]) -> list[Outcome]:
    return [route.hear([growth], LONG_AGO) for growth in ordered]


def ignores(outcomes: Iterable[Outcome]) -> list[Ignore]:
    return [ignore for outcome in outcomes for ignore in outcome.ignores]


def ids(found: Iterable[Ignore]) -> list[str]:
    return sorted(ignore.request_id for ignore in found)


# ---- three households ------------------------------------------------------------------------------------------------


def test_three_households_are_ignored_all_at_once() -> None:
    subject = route()
    found = [o for o in one_by_one(subject, in_order(*airing("ad", "abc"), *people("xyz"))) if o.ignores]
    assert len(found) == 1
    three = found[0].ignores
    assert sorted(ignore.household for ignore in three) == ["a", "b", "c"]
    assert {ignore.reason for ignore in three} == {Reason.CONCURRENT}
    assert {ignore.households for ignore in three} == {3}
    assert len({ignore.media_id for ignore in three}) == 1
    assert found[0].counts["events"] == 1


def test_nobody_is_ignored_on_less_audio_than_a_first_look_takes() -> None:
    """The thresholds were measured from the first look on: a triple waits for the first look of its third."""
    three = ignores(one_by_one(route(), in_order(*airing("ad", "abc"))))
    # b starts 80 ms after the ad, so its first look comes last
    assert {ignore.decided_at_us for ignore in three} == {80_000 + FIRST_LOOK_MS * 1000}
    used_ms = {"a": FIRST_LOOK_MS + LOOK_MS, "b": FIRST_LOOK_MS, "c": FIRST_LOOK_MS + LOOK_MS}
    assert {ignore.household: ignore.audio_used_ms for ignore in three} == used_ms


def test_two_households_are_never_ignored_however_many_devices_they_have() -> None:
    subject = route()
    heard = [request for device in ("", "-2", "-3") for request in airing("ad", "ab", error_rate=0.05, device=device)]
    assert ignores(one_by_one(subject, in_order(*heard))) == []


def test_three_devices_of_one_household_are_never_ignored() -> None:
    subject = route()
    heard = [
        request for device in ("", "-2", "-3", "-4") for request in airing("ad", "a", error_rate=0.05, device=device)
    ]
    assert ignores(one_by_one(subject, in_order(*heard))) == []


def test_every_device_of_the_households_of_an_event_is_ignored() -> None:
    """Two of the second household: it is still one of three."""
    subject = route()
    heard = airing("ad", "abc") + airing("ad", "b", device="-2")
    found = ignores(one_by_one(subject, in_order(*heard)))
    assert Counter(ignore.household for ignore in found) == {"a": 1, "b": 2, "c": 1}
    assert {ignore.households for ignore in found} == {3}


def test_households_that_hear_different_things_are_left_alone() -> None:
    subject = route()
    heard = [
        request for i, medium in enumerate(["ad", "song", "film"]) for request in airing(medium, [f"a{i}", f"b{i}"])
    ]
    assert ignores(one_by_one(subject, in_order(*heard, *people("stuvwxyz")))) == []


def test_two_events_at_once_do_not_mix() -> None:
    subject = route()
    found = ignores(one_by_one(subject, in_order(*airing("ad", "abc"), *airing("song", "def"), *people("xyz"))))
    by_media = {ignore.media_id: set() for ignore in found}
    for ignore in found:
        by_media[ignore.media_id].add(ignore.household)
    assert sorted(map(sorted, by_media.values())) == [["a", "b", "c"], ["d", "e", "f"]]


def test_sounds_that_do_not_line_up_are_not_one_event() -> None:
    """Three pairs that agree in three different places: a jingle in common is no recording in common."""
    subject = route()
    first, second, third = random_words(1), random_words(2), random_words(3)
    first[:35] = second[6:41]
    second[50:85] = third[50:85]
    third[:35] = first[66:101]
    heard = [growths(f"r{i}", f"h{i}", words) for i, words in enumerate((first, second, third))]
    assert ignores(one_by_one(subject, in_order(*heard))) == []


def test_everybody_alone_is_left_alone() -> None:
    assert ignores(one_by_one(route(), in_order(*people("x")))) == []
    assert ignores(one_by_one(route(), in_order(*airing("ad", "a")))) == []
    assert route().hear([], 10 * S).ignores == []


# ---- at one time -----------------------------------------------------------------------------------------------------


def lagging(step_us: int) -> list[Ignore]:
    """Three homes hear an advertisement badly, each so much later than the one before."""
    heard = [growths(f"r{i}", f"h{i}", heard_words("ad", i, 0.35), step_us * i) for i in range(3)]
    return ignores(one_by_one(route(), in_order(*heard)))


def test_the_nearer_homes_ask_the_less_is_needed() -> None:
    """Few strangers ask within a second of one, or two and a half, and most homes of an airing do."""
    heard = [lagging(step_us) for step_us in (TIERS[0].within_us // 2, TIERS[1].within_us // 2, TIERS[1].within_us)]
    assert [len(found) for found in heard] == [3, 3, 3]
    used_ms = [min(i.audio_used_ms for i in found) for found in heard]
    assert used_ms == sorted(used_ms)
    assert used_ms[0] < used_ms[2]
    budget = route().budget
    asked = [budget.triple(tier, 3, 2, 0) for tier in TIERS]
    assert asked[0] <= heard[0][0].score < asked[1] <= heard[1][0].score
    assert asked[2] <= heard[2][0].score


def test_who_asks_later_needs_more_than_those_who_asked_at_once() -> None:
    """Two at one time and a third two seconds after: no triple is nearer than its last."""
    heard = [growths(f"r{i}", f"h{i}", heard_words("ad", i, 0.35), at_us) for i, at_us in enumerate((0, 0, 2_000_000))]
    found = ignores(one_by_one(route(), in_order(*heard)))
    assert len(found) == 3
    assert found[0].score >= route().budget.triple(TIERS[1], 3, 2, 0)


def test_who_asks_between_two_is_no_nearer_than_they_are_to_each_other() -> None:
    """Both others start within a second of the middle one, but not of each other: the triple needs what they need."""
    steps_us = (0, TIERS[0].within_us * 9 // 10, TIERS[0].within_us * 18 // 10)
    heard = [growths(f"r{i}", f"h{i}", heard_words("ad", i, 0.35), at_us) for i, at_us in enumerate(steps_us)]
    found = ignores(one_by_one(route(), [*in_order(heard[0], heard[2]), *heard[1]]))
    assert len(found) == 3
    assert found[0].score >= route().budget.triple(TIERS[1], 3, 2, 0)


def test_three_quarters_of_pairs_that_are_near_one_request_are_near_each_other() -> None:
    """What a tier has of a window, counted."""
    others_us = np.random.default_rng(0).integers(-10 * S, 10 * S, (2, 100_000))  # ten seconds before and after
    together = np.ptp(np.vstack((others_us, np.zeros((1, 100_000), np.int64))), axis=0) <= 2 * S
    # Of 20 s: a window of ten has a quarter as many pairs.
    assert Tier(2 * S, 0.1, 0.1, 0.1).of_window(10 * S) ** 2 == pytest.approx(4 * together.mean(), rel=0.05)


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 50), st.integers(1, 20))
def test_what_is_asked_of_the_nearer_is_no_more_than_of_any_other(
    concurrent: int, near: int, airings: int, window_s: int
) -> None:
    """And rises with all that it counts; whatever the window."""
    subject = route(Policy(window_us=window_s * S)).budget
    asked = [subject.triple(tier, concurrent, min(near, concurrent), airings) for tier in TIERS]
    assert asked == sorted(asked)
    for tier, score in zip(TIERS, asked, strict=True):
        assert subject.triple(tier, concurrent, 0, airings) <= score
        assert score <= subject.triple(tier, concurrent + 100, min(near, concurrent), airings + 1)


def test_the_budget_is_shared_out_and_no_more() -> None:
    parts = [share for tier in TIERS for share in (tier.strangers, tier.beside)]
    assert math.fsum([*parts, TEMPLATE_SHARE]) == pytest.approx(1)
    assert TIERS[-1].within_us > 600 * S  # anybody in any window


# ---- the sweep -------------------------------------------------------------------------------------------------------


def test_an_average_sweeps_requests_that_have_ended() -> None:
    """Too little was heard of it for a triple; six others make an average that it agrees with, after its end."""
    subject = route()
    heard = airing("ad", "abcdef", error_rate=0.38)
    ended = growths("ended", "g", heard_words("ad", "g", 0.355), total_ms=880)
    found = {i.request_id: i for i in ignores(one_by_one(subject, in_order(*heard, ended, *people("xyz"))))}
    assert len(found) == 7
    assert found["ended"].audio_used_ms == 880
    assert found["ended"].decided_at_us > 880_000
    assert found["ended"].reason is Reason.CONCURRENT


def test_an_average_takes_in_what_comes_at_its_first_look() -> None:
    """Also the same medium again, seconds later in one home, while the event is open."""
    subject = route()
    late = growths("late", "d", heard_words("ad", "d", 0.3, late_words=10), 200_000)
    again = airing("ad", "e", 6 * S)
    found = {
        i.request_id: i
        for i in ignores(one_by_one(subject, in_order(*airing("ad", "abc", error_rate=0.1), late, *again)))
    }
    assert len(found) == 5
    for name, households in (("late", 4), (again[0][0].request_id, 5)):
        assert found[name].audio_used_ms == FIRST_LOOK_MS
        assert found[name].reason is Reason.CONCURRENT
        assert found[name].households == households
    assert len({i.media_id for i in found.values()}) == 1


def test_an_airing_in_more_households_than_may_vote_reaches_them_all() -> None:
    found = ignores([route().hear(in_order(*airing("ad", [f"h{i}" for i in range(90)])), 0)])
    assert len(ids(found)) == len(set(ids(found))) == 90


def test_an_airing_in_many_households_is_one_event() -> None:
    """And not an event for every three of them, each with a count of its own."""
    subject = route()
    found = ignores([subject.hear(in_order(*airing("ad", [f"h{i}" for i in range(90)])), 0)])
    assert len({ignore.media_id for ignore in found}) == 1
    (event,) = subject.events.values()
    assert len(event.households) == 90
    assert len(event.members) == 64


def test_a_stranger_among_the_voters_is_outvoted() -> None:
    """Members must hold against the majority of the others."""
    subject = route()
    subject.hear(in_order(*airing("ad", "abcde", error_rate=0.1)), 0)
    (event,) = subject.events.values()
    clean, _ = event.average()
    event.join("stranger", "s", 0, random_words("stranger"), 0)
    words, votes = event.average()
    assert np.array_equal(words, clean)
    assert votes.max() == 5


def test_an_average_is_told_when_it_is_made_when_it_doubles_and_when_it_is_final() -> None:
    subject = route()
    first = [growths(f"r{i}", f"h{i}", heard_words("ad", i)) for i in range(14)]
    outcomes = one_by_one(subject, in_order(*first))
    outcomes.append(subject.hear([], AIRING_US + 20 * S))
    told = [average for outcome in outcomes for average in outcome.averages.values()]
    sizes = [average.households for average in told]
    assert sizes[0] >= 3
    assert sizes[-1] == 14
    assert len(sizes) <= 4
    assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(sizes[:-1]))
    assert {average.origin for average in told} == {"w/l/0"}
    assert len({average.media_id for average in told}) == 1
    assert subject.events == {}


def test_an_airing_reaches_homes_that_hear_it_up_to_a_minute_later() -> None:
    """One at a time, each joins the event that is open; a minute after the last one the event is over."""
    subject = route()
    first = ignores(one_by_one(subject, in_order(*airing("ad", "abc"))))
    for home, at_us in (("d", 50 * S), ("e", 105 * S), ("f", 160 * S)):
        (joined,) = ignores(one_by_one(subject, in_order(*airing("ad", home, at_us))))
        assert (joined.household, joined.reason, joined.media_id) == (home, Reason.CONCURRENT, first[0].media_id)
    (event,) = subject.events.values()
    assert event.households == set("abcdef")
    subject.hear([], event.last_joined_us + AIRING_US)
    assert list(subject.events.values()) == [event]
    outcome = subject.hear([], event.last_joined_us + AIRING_US + 1)
    assert subject.events == {}
    assert [average.households for average in outcome.averages.values()] == [6]


def test_an_open_events_average_decides_on_less_than_that_of_one_that_is_over() -> None:
    """Few people have an airing beside them, all have the rest of the catalogue."""
    subject = route()
    one_by_one(subject, in_order(*airing("ad", "abcdefgh", error_rate=0.05)))
    (event,) = subject.events.values()
    for averages in (1, 1000):
        assert subject._template_threshold(event, averages) < subject._template_threshold(None, averages)
    assert subject._template_threshold(event, 5) == subject.budget.open_average(1)
    assert subject._template_threshold(None, 5) == subject.budget.average(5)


@pytest.mark.parametrize(("homes", "lone"), [(AIRING_HOMES, True), (AIRING_HOMES + 1, False)])
def test_who_is_in_an_event_of_many_homes_is_nobodys_candidate(homes: int, lone: bool) -> None:
    """The tail of those who speak beside an airing is measured for so many homes of it; the average speaks for more."""
    subject = route()
    subject.hear(in_order(*airing("ad", [f"h{i}" for i in range(homes)])), 0)
    (event,) = subject.events.values()
    assert len(event.households) == homes
    request, _ = subject.window.add("new", "n", "n-d", 0)
    assert request is not None
    rows = subject.search._others(request)
    assert len(rows) == homes
    scores = np.full(len(rows), 20.0)
    chosen = subject.search._candidates(request, rows, scores)
    assert (len(chosen) > 0) == lone


# ---- re-runs ---------------------------------------------------------------------------------------------------------


def test_a_rerun_in_one_home_is_ignored_by_the_catalogue_until_its_validity_ends() -> None:
    subject = route(Policy(catalogue_ttl_us=160 * S))
    first = ignores(one_by_one(subject, in_order(*airing("ad", "abc"))))
    rerun = ignores(one_by_one(subject, in_order(*airing("ad", "r", 140 * S), *people("xy", 140 * S))))
    assert [(i.household, i.reason, i.media_id) for i in rerun] == [("r", Reason.DISCOVERED, first[0].media_id)]
    assert rerun[0].audio_used_ms == FIRST_LOOK_MS
    assert rerun[0].households == 3
    assert ignores(one_by_one(subject, in_order(*airing("ad", "q", 170 * S)))) == []
    subject.hear([], 180 * S)
    assert subject.catalogue.averages == {}


def test_an_average_from_elsewhere_decides_like_ones_own() -> None:
    first = route()
    outcomes = one_by_one(first, in_order(*airing("ad", "abc")))
    (average,) = {o.media_id: a for o in ignores(outcomes) for x in outcomes for a in x.averages.values()}.values()
    other = route(name="w/l/1")
    other.learn(average)
    found = ignores(one_by_one(other, in_order(*airing("ad", "r", 30 * S))))
    assert [(i.household, i.reason, i.media_id) for i in found] == [("r", Reason.DISCOVERED, average.media_id)]


def test_a_withdrawn_average_decides_no_more() -> None:
    subject = route()
    (found, *_) = ignores(one_by_one(subject, in_order(*airing("ad", "abc"))))
    assert subject.forget(found.media_id)
    assert not subject.forget(found.media_id)
    assert ignores(one_by_one(subject, in_order(*airing("ad", "r", 30 * S)))) == []


# ---- what is blocked -------------------------------------------------------------------------------------------------


def average_after(subject: Route, heard: Sequence[Growth]) -> Average:
    """The one average that a route has after it heard something."""
    outcomes = one_by_one(subject, heard)
    assert ignores(outcomes)
    (average,) = subject.catalogue.averages.values()
    return average


@pytest.mark.parametrize(("homes", "error_rate"), [("r", 0.2), ("rstuv", 0.2), ("rstuvwxyz", 0.36)])
def test_what_is_blocked_decides_no_more_and_is_not_found_again(homes: str, error_rate: float) -> None:
    """One home or many, near or noisy, minutes later; another medium meanwhile is found as ever."""
    subject = route()
    average = average_after(subject, in_order(*airing("ad", "abc")))
    assert subject.block(average).dropped_averages == [average.media_id]
    again = airing("ad", homes, 40 * S, error_rate=error_rate)
    outcomes = one_by_one(subject, in_order(*again, *airing("song", "klm", 40 * S)))
    assert sorted(ignore.household for ignore in ignores(outcomes)) == ["k", "l", "m"]
    assert len({name for outcome in outcomes for name in outcome.averages}) == 1
    assert sum(outcome.counts["blocked"] for outcome in outcomes) > 0


def test_what_is_blocked_while_it_airs_is_not_found_again_under_another_name() -> None:
    subject = route()
    average = average_after(subject, in_order(*airing("ad", "abc")))
    assert subject.events
    subject.block(average)
    assert subject.events == {}
    outcomes = one_by_one(subject, in_order(*airing("ad", "defghi", 3 * S)))
    outcomes.append(subject.hear([], 60 * S))
    assert ignores(outcomes) == []
    assert not any(outcome.averages for outcome in outcomes)
    assert subject.events == {}
    assert subject.catalogue.averages == {}


def test_without_a_block_the_same_would_be_found_again() -> None:
    """What `forget` alone does: the name goes, the sound does not."""
    subject = route()
    average = average_after(subject, in_order(*airing("ad", "abc")))
    subject.forget(average.media_id)
    assert len(ignores(one_by_one(subject, in_order(*airing("ad", "defghi", 3 * S))))) >= 6


def test_an_event_that_turns_out_to_be_blocked_as_it_grows_ends() -> None:
    """Too short for the blocked one to be known in it at first: what comes later is accepted."""
    subject = route()
    average = average_after(route(), in_order(*airing("ad", "abc")))
    first = [growth for growth in in_order(*airing("ad", "def", 0)) if growth.end_us <= 1_200_000]
    rest = [growth for growth in in_order(*airing("ad", "def", 0)) if growth.end_us > 1_200_000]
    assert ignores(one_by_one(subject, first))
    subject.blocked.put(dataclasses.replace(average, valid_from_us=LONG_AGO, valid_until_us=2**61))
    outcomes = one_by_one(subject, rest)
    assert subject.events == {}
    assert subject.catalogue.averages == {}
    assert len({name for outcome in outcomes for name in outcome.dropped_averages}) == 1


def test_averages_of_the_same_sound_under_other_names_go_too_and_do_not_come_back() -> None:
    subject = route()
    average = average_after(subject, in_order(*airing("ad", "abc")))
    twin = dataclasses.replace(average, media_id="d-twin", origin="w/l/7", valid_from_us=0)
    other = dataclasses.replace(twin, media_id="d-other", words=random_words("other")[: len(twin.words)])
    for known in (twin, other):
        subject.learn(known)
    assert sorted(subject.block(average).dropped_averages) == sorted([average.media_id, "d-twin"])
    assert list(subject.catalogue.averages) == ["d-other"]
    for again in (average, twin):
        outcome = subject.learn(dataclasses.replace(again, households=50))
        assert outcome.counts["blocked"] + (again.media_id == average.media_id) == 1
    assert list(subject.catalogue.averages) == ["d-other"]


def test_what_is_unblocked_can_be_found_again() -> None:
    subject = route()
    average = average_after(subject, in_order(*airing("ad", "abc")))
    subject.block(average)
    assert subject.unblock(average.media_id)
    assert not subject.unblock(average.media_id)
    assert len(ignores(one_by_one(subject, in_order(*airing("ad", "def", 40 * S))))) == 3


def test_what_is_blocked_is_bounded_and_says_when_it_is_full() -> None:
    subject = route(Policy(catalogue_entries=2))
    average = average_after(route(), in_order(*airing("ad", "abc")))
    outcomes = [
        subject.block(dataclasses.replace(average, media_id=f"d-{i}", words=random_words(i)[: len(average.words)]))
        for i in range(3)
    ]
    assert len(subject.blocked.averages) == 2
    assert [outcome.counts["blocked_overflow"] for outcome in outcomes] == [0, 0, 1]


# ---- who asks again --------------------------------------------------------------------------------------------------


def ask(household: str, at_us: int, device: str = "") -> list[Growth]:
    name = f"ask-{household}{device}-{at_us}"
    return growths(name, household, random_words(name), at_us, device=household + device)


def asked_again(outcomes: Iterable[Outcome]) -> int:
    return sum(outcome.counts["asked_again"] for outcome in outcomes)


@pytest.mark.parametrize(
    ("household", "after_us", "counted"),
    [("a", 1, 1), ("a", 4 * S, 1), ("b", 10 * S, 1), ("a", 10 * S + 1, 0), ("a", 15 * S, 0), ("stranger", 4 * S, 0)],
)
def test_who_asks_within_ten_seconds_of_being_ignored_is_counted(household: str, after_us: int, counted: int) -> None:
    subject = route()
    first = one_by_one(subject, in_order(*airing("ad", "abc")))
    assert asked_again(first) == 0  # three requests that hear the same at once are nobody who asks again
    ignored_us = ignores(first)[0].decided_at_us
    outcomes = one_by_one(subject, in_order(ask(household, ignored_us + after_us)))
    assert asked_again(outcomes) == counted


def test_every_time_that_somebody_asks_again_counts() -> None:
    subject = route()
    ignored_us = ignores(one_by_one(subject, in_order(*airing("ad", "abc"))))[0].decided_at_us
    asked = [ask("a", ignored_us + S), ask("a", ignored_us + 2 * S, "-2"), ask("b", ignored_us + 3 * S)]
    assert asked_again(one_by_one(subject, in_order(*asked))) == 3


def test_a_second_device_that_heard_the_same_is_nobody_who_asks_again() -> None:
    """Its request began before anybody was ignored, even where its audio comes later."""
    subject = route()
    one_by_one(subject, in_order(*airing("ad", "abc")))
    assert asked_again(one_by_one(subject, airing("ad", "a", 100_000, device="-2")[0])) == 0


def test_who_may_ask_again_is_forgotten_in_time_and_bounded() -> None:
    subject = route(Policy(window_requests=4))
    one_by_one(subject, in_order(*airing("ad", "abc")))
    for number in range(8):
        one_by_one(subject, in_order(*airing("ad", [f"late{number}"], (4 + number) * S)))
    assert len(subject.ignored_at_us) == 4
    subject.hear([], 60 * S)
    assert subject.ignored_at_us == {}


# ---- a household that is to be forgotten -----------------------------------------------------------------------------


def test_an_erased_household_leaves_the_window_and_its_event_which_goes_on_under_another_name() -> None:
    """Its average is that of the others, and whoever has the old one loses it."""
    subject = route()
    heard = airing("ad", "abcd")
    one_by_one(subject, in_order(*heard))
    (before,) = subject.events
    outcome = subject.erase(household_digest("b"), 10 * S)
    (after,) = subject.events.values()
    assert after.media_id != before
    assert after.households == {"a", "c", "d"}
    assert set(after.voters) == {"a", "c", "d"}
    assert outcome.dropped_averages == [before]
    assert list(outcome.averages) == list(subject.catalogue.averages) == [after.media_id]
    assert outcome.averages[after.media_id].households == 3
    assert "b" not in {request.household for request in subject.window.requests.values()}
    assert "b" not in subject.ignored_at_us
    # What joins later joins the one that is left.
    found = ignores(one_by_one(subject, in_order(*airing("ad", "e", 4 * S))))
    assert [(ignore.household, ignore.media_id, ignore.households) for ignore in found] == [("e", after.media_id, 4)]


def test_an_event_with_two_households_left_ends_and_its_average_with_it() -> None:
    subject = route()
    (found, *_) = ignores(one_by_one(subject, in_order(*airing("ad", "abc"))))
    assert subject.erase(household_digest("a"), 10 * S).dropped_averages == [found.media_id]
    assert subject.events == {}
    assert subject.catalogue.averages == {}


def test_the_erased_are_not_heard_again_but_for_what_they_ask_later() -> None:
    """A reader that goes back brings the old audio again; what is asked after the order is asked anew."""
    subject = route()
    subject.erase(household_digest("a"), S)
    outcomes = one_by_one(subject, in_order(*airing("ad", "abc")))
    assert ignores(outcomes) == []
    assert sum(outcome.counts["erased_growths"] for outcome in outcomes) == len(airing("ad", "a")[0])
    assert len(ignores(one_by_one(subject, in_order(*airing("ad", "ab", 3 * S))))) == 4
    subject.hear([], 60 * S)
    assert subject.erased_until_us == {}


def test_erasing_somebody_who_is_not_there_changes_nothing() -> None:
    subject, other = route(), route()
    heard = in_order(*airing("ad", "abcd"), *people("xyz"))
    outcome = other.erase(household_digest("nobody"), 2 * S)
    assert (outcome.averages, outcome.dropped_averages) == ({}, [])
    assert ignores(one_by_one(other, heard)) == ignores(one_by_one(subject, heard))


@settings(max_examples=40)
@given(st.integers(3, 8), st.data())
def test_an_event_without_a_household_is_the_event_that_never_had_it(homes: int, data: st.DataObject) -> None:
    """Whichever leave, in whatever order: the average is the same, bit for bit."""
    names = [f"h{i}" for i in range(homes)]
    gone = data.draw(st.lists(st.sampled_from(names), max_size=homes - 2, unique=True))
    whole, never = Event("d", 0), Event("d", 0)
    for number, name in enumerate(names):
        words = heard_words("ad", name, 0.3)[: len(heard_words("ad", name, 0.3)) - 7 * number]
        whole.join(f"r-{name}", name, number - 2, words, number)
        if name not in gone:
            never.join(f"r-{name}", name, number - 2, words, number)
    for name in gone:
        whole.leave(name)
    assert whole.households == never.households
    assert sorted(whole.members.values()) == list(range(len(names) - len(gone)))
    for ours, theirs in zip(whole.average(), never.average(), strict=True):
        assert np.array_equal(ours, theirs)
    assert not whole.words[len(whole.members) :].any()


@settings(max_examples=40)
@given(st.integers(3, 8), st.floats(0.05, 0.4))
def test_agreement_is_the_share_of_bits_that_are_as_the_average(homes: int, error_rate: float) -> None:
    """Counted here bit by bit."""
    event = Event("d", 0)
    assert event.agreement(np.empty(0, np.uint64)) == 0
    late = heard_words("before", "it", 0.0)
    heard = [np.concatenate((late[:n], heard_words("ad", f"h{n}", error_rate)[: -n or None])) for n in range(homes)]
    for number, words in enumerate(heard):
        event.join(f"r{number}", f"h{number}", number, words, number)
    average, _ = event.average()
    same = [
        bool((int(word) ^ int(heard[number][k + number])) >> b & 1 == 0)
        for number in range(homes)
        for k, word in enumerate(average)
        if k + number < len(heard[number])
        for b in range(64)
    ]
    assert event.agreement(average) == pytest.approx(sum(same) / len(same))
    assert event.agreement(average) > 1 - error_rate - 0.02


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


# ---- sound -----------------------------------------------------------------------------------------------------------


@KINDS
def test_homes_that_hear_one_sound_are_ignored_and_people_are_not_with_the_calibration_that_ships(bits: Bits) -> None:
    """From samples to verdicts: six homes at 10 to 25 dB, thirty people."""
    subject = Route("w/l/0", Policy(), shipped_calibration(bits.name))
    requests = []
    for i, snr_db in enumerate((25, 20, 15, 15, 12, 10)):
        jitter_ms = 30 * (i % 5) - 60
        words = fingerprint_of(f"m{i}", hear(3, i, snr_db, jitter_ms), bits)
        requests.append(growths(f"m{i}", f"h{i}", words, 5 * S + 1000 * jitter_ms, bits=bits))
    for i in range(30):
        words = fingerprint_of(f"l{i}", say(i, 100 + i, 10 + i % 15), bits)
        requests.append(growths(f"l{i}", f"p{i}", words, 300_000 * i, bits=bits))
    rerun = growths("again", "z", fingerprint_of("again", hear(3, 77, 15), bits), 100 * S, bits=bits)
    outcome = subject.hear(in_order(*requests, rerun), 0)
    assert ids(outcome.ignores) == ["again", "m0", "m1", "m2", "m3", "m4", "m5"]
    assert {i.request_id: i.reason for i in outcome.ignores}["again"] is Reason.DISCOVERED
    assert max(ignore.audio_used_ms for ignore in outcome.ignores) < 1500


@KINDS
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_recording_is_decided_as_its_labels_say(tmp_path: Path, bits: Bits, seed: int) -> None:
    """What other tests write for themselves: read back, heard by a route of the default policy, and scored."""
    write_recording(tmp_path, seed, events=3, live=8, minutes=1.5, reruns=1, pairs=1)
    recording = Recording.load(tmp_path)
    requests = []
    for request in recording.requests:
        samples, rate_hz = recording.audio(request)
        assert rate_hz == 16_000
        words = fingerprint_of(request.request_id, samples, bits)
        assert len(words) == look_words(bits)[-1]
        start_us = int(request.start_s * S)
        device = request.device
        requests.append(growths(request.request_id, request.household, words, start_us, device=device, bits=bits))
    outcome = Route("computer/en-US/0", Policy(), shipped_calibration(bits.name)).hear(in_order(*requests), 0)
    wanted = {name for name, truth in recording.truth.items() if truth.expect != "accept"}
    assert ids(outcome.ignores) == sorted(wanted)
    assert Counter(truth.kind for truth in recording.truth.values()) == {"media": 15, "rerun": 1, "live": 8}
    by_kind = {recording.truth[ignore.request_id].kind: ignore.reason for ignore in outcome.ignores}
    assert by_kind == {"media": Reason.CONCURRENT, "rerun": Reason.DISCOVERED}


@KINDS
def test_muted_microphones_are_not_an_event(bits: Bits) -> None:
    """Digital silence in many homes at once: dither keeps them apart."""
    subject = Route("w/l/0", Policy(), shipped_calibration(bits.name))
    silence = np.zeros(48_000, np.int16)
    requests = [growths(f"r{i}", f"h{i}", fingerprint_of(f"r{i}", silence, bits), bits=bits) for i in range(25)]
    assert subject.hear(in_order(*requests), 0).ignores == []


# ---- the catalogue of several shards ---------------------------------------------------------------------------------


def known(name: str, *, until_us: int = 1000 * S, origin: str = "w/l/0", discovered_us: int = 0) -> Average:
    votes = np.full(FULL_WORDS, 3, np.uint8)
    return Average(f"k-{name}", random_words(name), votes, 3, discovered_us, discovered_us, until_us, origin)


def test_a_triple_with_two_that_the_catalogue_ignored_is_still_three_households() -> None:
    """Two homes are known to the catalogue, the third hears badly and agrees with them: an event of three."""
    subject = route()
    subject.learn(known("ad"))
    heard = airing("ad", "ab", error_rate=0.05)
    found = ignores(one_by_one(subject, in_order(*heard, *airing("ad", "c", error_rate=0.448))))
    assert Counter(ignore.household for ignore in found) == Counter("abc")
    assert {ignore.household for ignore in found if ignore.reason is Reason.DISCOVERED} == {"a", "b"}
    assert all(ignore.households >= 3 for ignore in found)


def test_a_triple_with_second_devices_belongs_to_their_event() -> None:
    """However a request is tied to an event that is open, it is that event's."""
    subject = route()
    subject.hear(in_order(*airing("ad", "abc", error_rate=0.05)), 0)
    (event,) = subject.events.values()
    seconds = [growths(f"{home}2", home, heard_words("ad", f"{home}2", 0.05)) for home in "ab"]
    subject.hear(in_order(*seconds), 0)
    request, _ = subject.window.add("new", "n", "n-d", 0)
    subject.window.put(request, heard_words("ad", "new", 0.3))
    members = [request, subject.window.requests["a2"], subject.window.requests["b2"]]
    assert all(member.event == event.media_id for member in members[1:])
    assert subject._open_event(members, (0, 0, 0))[0] is event


def test_an_average_of_another_shard_waits_for_the_discovery_delay() -> None:
    """And one's own from before a restart does not."""
    for origin, expected in (("w/l/1", 0), ("w/l/0", 1)):
        subject = route(Policy(discovery_delay_us=5 * S))
        subject.learn(known("ad", origin=origin, discovered_us=10 * S))
        early = ignores(one_by_one(subject, in_order(*airing("ad", "r", 12 * S, total_ms=1040))))
        assert len(early) == expected
        later = ignores(one_by_one(subject, in_order(*airing("ad", "q", 16 * S, total_ms=1040))))
        assert len(later) == 1


def test_averages_expire_between_growths_however_these_are_batched() -> None:
    """The threshold of a sweep, and the version on a decision, count averages."""

    def decided(*, at_once: bool) -> list[Ignore]:
        subject = route()
        for i in range(50):
            subject.learn(known(f"other{i}", until_us=1 * S))
        everything = in_order(*airing("ad", "abc", 5 * S))
        return (
            ignores([subject.hear([*people("x")[0], *everything], LONG_AGO)])
            if at_once
            else ignores([subject.hear(people("x")[0], 4 * S), subject.hear(everything, LONG_AGO)])
        )

    assert decided(at_once=True) == decided(at_once=False)


def test_latency_counts_from_the_chunk_that_sufficed() -> None:
    """A request that waited for the third household was not decided late."""
    subject = route()
    first = airing("ad", "ab", total_ms=1200)
    third = growths("third", "c", heard_words("ad", "c"), 200_000)
    third = [dataclasses.replace(growth, appended_us=growth.end_us + 7) for growth in third]
    found = ignores(one_by_one(subject, in_order(*first, third)))
    assert len(found) == 3
    assert {ignore.audio_appended_us for ignore in found} == {ignore.decided_at_us + 7 for ignore in found}


def test_the_edge_that_a_decision_tells_is_one_of_its_triple() -> None:
    """A pair that agrees best but lines up with nobody is not why three were ignored."""
    subject = route()
    low = np.uint64(0x00000000FFFFFFFF)
    shared, private = random_words("shared"), random_words("private")
    words = {home: (heard_words("ad", home, 0.05) & low) | (random_words(home) & ~low) for home in "abc"}
    words["a"] = (words["a"] & low) | (private & ~low)
    words["stray"] = (shared & low) | (private & ~low)
    found = subject.hear(in_order(*[growths(name, name, w) for name, w in words.items()]), 0).ignores
    three = [ignore for ignore in found if ignore.household in "abc"]
    assert len(three) == 3
    assert min(ignore.bit_error_rate for ignore in three) > 0.27  # a and the stray: a quarter


def test_a_request_older_than_a_full_window_does_not_push_out_a_younger() -> None:
    subject = route(Policy(window_requests=2))
    subject.hear(in_order(*people("ab", 1 * S))[:4], LONG_AGO)
    outcome = subject.hear(growths("old", "o", random_words(1), 0)[:1], LONG_AGO)
    assert outcome.counts["window_overflow"] == 1
    assert sorted(subject.window.requests) == ["live-a", "live-b"]


def test_the_final_average_of_a_small_event_replaces_its_first() -> None:
    """Three households from beginning to end: at its discovery an average has half of the words of the final one."""
    subject = route()
    final = known("ad", origin="w/l/1")
    subject.learn(dataclasses.replace(final, words=final.words[:40], votes=final.votes[:40]))
    subject.learn(final)
    assert len(subject.catalogue.averages["k-ad"].words) == FULL_WORDS

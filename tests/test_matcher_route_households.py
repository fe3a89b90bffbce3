"""Households of a route: who asks again after being ignored, and who is to be forgotten."""

from collections.abc import Iterable

import numpy as np
import pytest
from homes import S, airing, ignores, one_by_one, people, route
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import (
    growths,
    heard_words,
    in_order,
    random_words,
)

from matcher.event import Event
from matcher.growth import Growth
from matcher.outcome import Outcome
from matcher.policy import Policy
from matcher.route import household_digest

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

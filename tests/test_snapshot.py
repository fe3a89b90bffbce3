"""A route that was saved and restored decides on as the one that was not."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routed import CLOSED_US, ROUTE, SECOND_US, START_US, Traffic, airing, traffic
from sounds import growths, in_order, random_words, ranged_calibration

from matcher.bits import GRADIENT
from matcher.outcome import Outcome
from matcher.policy import Policy
from matcher.route import Route, household_digest
from pipeline.snapshot import restore, snapshot
from pipeline.wire import average_to_message

POLICY = Policy(window_us=6 * SECOND_US)


def fresh(policy: Policy = POLICY) -> Route:
    return Route(ROUTE, policy, ranged_calibration())


def again(route: Route) -> Route:
    return restore(snapshot(route), ROUTE, route.policy, route.calibration)


def said(outcome: Outcome) -> tuple[object, ...]:
    """Give all that leaves a route, in a form that can be compared."""
    averages = {
        name: average_to_message(average, ROUTE, GRADIENT.name).SerializeToString()
        for name, average in outcome.averages.items()
    }
    return outcome.ignores, averages, outcome.dropped_averages, outcome.counts["asked_again"]


@settings(max_examples=60)
@given(traffic(), st.data())
def test_a_restored_route_goes_on_as_the_saved_one(made: Traffic, data: st.DataObject) -> None:
    """Wherever the recording is cut, and however often: decisions, averages and what is dropped are the same."""
    heard = made.heard()
    cuts = data.draw(st.sets(st.integers(0, len(heard)), min_size=1, max_size=4))
    policy = replace(
        POLICY, partners=data.draw(st.sampled_from([2, 100])), window_requests=data.draw(st.sampled_from([6, 4096]))
    )
    kept, renewed = fresh(policy), fresh(policy)
    for number, growth in enumerate([*heard, None]):
        if number in cuts:
            renewed = again(renewed)
        growths, mark_us = ([], heard[-1].end_us + CLOSED_US) if growth is None else ([growth], growth.end_us)
        assert said(renewed.hear(growths, mark_us)) == said(kept.hear(growths, mark_us))


@settings(max_examples=20)
@given(traffic(), st.data())
def test_a_snapshot_of_what_was_restored_is_the_snapshot(made: Traffic, data: st.DataObject) -> None:
    """Nothing is lost, added or rounded on the way."""
    heard, route = made.heard(), fresh()
    route.hear(heard[: data.draw(st.integers(0, len(heard)))], START_US)
    assert snapshot(again(route)) == snapshot(route)


def test_a_restored_route_blocks_what_the_saved_one_blocks() -> None:
    """And no more."""
    route = fresh()
    route.hear(in_order(*airing("m", 4, START_US)), START_US)
    (average,) = route.catalogue.averages.values()
    route.block(average)
    later = START_US + 60 * SECOND_US
    heard = in_order(*airing("m", 4, later), *airing("n", 3, later))
    ignored = [ignore.household for ignore in again(route).hear(heard, later).ignores]
    assert sorted(ignored) == ["home n 0", "home n 1", "home n 2"]


def test_a_restored_route_knows_who_was_ignored_a_moment_ago() -> None:
    """Whoever asks again counts, whichever process hears it."""
    route = fresh()
    heard = in_order(*airing("m", 3, START_US))
    route.hear(heard, heard[-1].end_us)
    household, at_us = next(iter(route.ignored_at_us.items()))
    request = growths("again", household, random_words("again"), at_us + SECOND_US)
    assert again(route).hear(request, at_us).counts["asked_again"] == 1


def test_a_restored_route_erases_what_the_saved_one_would() -> None:
    """Votes are known by household, and who was erased stays so."""
    route = fresh()
    heard = in_order(*airing("m", 5, START_US))
    route.hear(heard, heard[-1].end_us)
    route.erase(household_digest("home m 1"), heard[-1].end_us)
    restored = again(route)
    assert restored.erased_until_us == route.erased_until_us
    digest = household_digest("home m 3")
    assert said(restored.erase(digest, heard[-1].end_us)) == said(route.erase(digest, heard[-1].end_us))
    (event,) = restored.events.values()
    assert event.households == {"home m 0", "home m 2", "home m 4"}
    assert restored.hear(heard[:1], START_US).counts["erased_growths"] == 0
    assert restored.hear(airing("m", 2, START_US)[1][:1], START_US).counts["erased_growths"] == 1


def test_what_is_searched_first_does_not_depend_on_the_rows() -> None:
    """A window that has been full for a while has its rows in another order than a restored one."""
    made = Traffic((("m0", 5, 2957, 1200), ("m1", 3, 1697, 2400)), ())
    policy = replace(POLICY, window_requests=6)
    kept, renewed = fresh(policy), fresh(policy)
    for growth in made.heard():
        renewed = again(renewed)
        assert said(renewed.hear([growth], growth.end_us)) == said(kept.hear([growth], growth.end_us))


def test_looks_that_were_heard_before_the_restore_are_not_heard_again() -> None:
    """A restarted reader gives them once more."""
    (request,) = airing("a", 1, START_US)
    route = fresh()
    route.hear(request[:5], START_US)
    renewed = again(route)
    assert snapshot(renewed) == snapshot(route)
    for kept in (route, renewed):
        assert kept.hear(request, START_US).counts["looks"] == len(request) - 5


@pytest.mark.parametrize("homes", [3, 70])
def test_large_and_small_events_are_saved_whole(homes: int) -> None:
    """Also one with more households than may vote."""
    heard = in_order(*airing("big", homes, START_US))
    route = fresh()
    route.hear(heard[: len(heard) * 3 // 4], START_US)
    assert route.events
    renewed = again(route)
    for name, event in route.events.items():
        other = renewed.events[name]
        assert (other.households, other.members, other.alignments) == (
            event.households,
            event.members,
            event.alignments,
        )
    rest = heard[len(heard) * 3 // 4 :]
    mark_us = heard[-1].end_us + CLOSED_US
    assert said(renewed.hear(rest, mark_us)) == said(route.hear(rest, mark_us))


def test_an_empty_route_is_saved_too() -> None:
    """Before anything was heard."""
    heard = in_order(*airing("a", 3, START_US))
    assert said(again(fresh()).hear(heard, START_US)) == said(fresh().hear(heard, START_US))

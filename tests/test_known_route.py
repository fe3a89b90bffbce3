"""Requests that the reader has recognised, at their route: ignored at once and once, unless they sound blocked."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routed import ROUTE, SECOND_US, START_US, Traffic, airing, average_of, live, traffic
from sounds import heard_words, in_order, plain_calibration

from matcher.evidence import MIN_WORDS, Evidence
from matcher.growth import Growth
from matcher.known import KnownMatch
from matcher.outcome import Ignore, Reason
from matcher.policy import Policy
from matcher.route import Route, household_digest
from pipeline.messages.internal_pb2 import Growth as GrowthMessage
from pipeline.snapshot import restore, snapshot
from pipeline.trace import Trace
from pipeline.wire import decision, growth_from_message, growth_to_message

EVIDENCE = Evidence(11.5, 0.125, 20, -3, 17.25)


def route(policy: Policy | None = None) -> Route:
    return Route(ROUTE, policy or Policy(), plain_calibration())


def recognised(growth: Growth, medium: str = "m", version: int = 7) -> Growth:
    """Give a growth of which the reader knows that it is an entry made of a medium."""
    words = heard_words(medium, growth.request_id)[: len(growth.words)]
    return replace(growth, words=words, known=KnownMatch(f"k-{medium}", EVIDENCE, 2, version, "known"))


def decided(subject: Route, heard: Sequence[Growth]) -> list[Ignore]:
    return [ignore for growth in heard for ignore in subject.hear([growth], growth.end_us).ignores]


def test_a_request_that_is_known_is_ignored_at_once_and_needs_no_room() -> None:
    """What is told of it is the reader's evidence, at the time of the audio that sufficed."""
    subject = route(Policy(window_requests=3))
    growth = recognised(live("somebody", START_US)[0])
    outcome = subject.hear([growth], growth.end_us)
    (ignore,) = outcome.ignores
    assert (ignore.request_id, ignore.household, ignore.device) == (growth.request_id, growth.household, growth.device)
    assert (ignore.reason, ignore.media_id, ignore.households, ignore.catalogue_version) == (Reason.KNOWN, "k-m", 2, 7)
    message = decision(ignore, ROUTE, "the route's", late=False, shadow=False)
    assert message.calibration == "known"
    assert (ignore.score, ignore.bit_error_rate) == (EVIDENCE.score, EVIDENCE.rate)
    assert message.log_odds == ignore.log_odds == EVIDENCE.log_odds
    assert (ignore.decided_at_us, ignore.audio_used_ms) == (growth.end_us, growth.audio_ms)
    assert ignore.audio_appended_us == growth.appended_us
    assert outcome.counts["requests"] == outcome.counts["ignored"] == 1
    assert not subject.window.requests
    assert not subject.catalogue.averages


def test_it_is_ignored_once_whatever_comes_again() -> None:
    """A reader that was restarted may give it again, or, with another catalogue, as if it were not known."""
    subject = route()
    first, *others = live("somebody", START_US)
    known = recognised(first)
    assert len(decided(subject, [known, known, *others, recognised(others[-1])])) == 1
    assert not subject.window.requests


def test_a_request_that_others_have_decided_is_not_decided_again() -> None:
    """Three homes agree, and then the reader knows one of them too."""
    subject = route()
    homes = airing("m", 3, START_US)
    found = decided(subject, [*in_order(*homes), recognised(homes[0][-1])])
    assert len(found) == len({ignore.request_id for ignore in found}) == 3
    assert {ignore.reason for ignore in found} == {Reason.CONCURRENT}


def leaning(growth: Growth, score: float, medium: str = "m") -> Growth:
    """Give a growth that agrees with an entry, but not enough to be recognised."""
    return replace(growth, leaning=KnownMatch(f"k-{medium}", replace(EVIDENCE, score=score), 1, 7, "known"))


def test_what_several_households_hear_is_known_when_one_of_them_leans_to_an_entry() -> None:
    """All are told as known, each with the evidence that there is for it; those that join later too."""
    subject = route()
    homes = airing("m", 5, START_US)
    homes[1] = [leaning(growth, 5.5) for growth in homes[1]]
    found = {ignore.request_id: ignore for ignore in decided(subject, in_order(*homes))}
    assert len(found) == 5
    assert {(ignore.reason, ignore.media_id, ignore.calibration) for ignore in found.values()} == {
        (Reason.KNOWN, "k-m", "known")
    }
    assert found[homes[1][0].request_id].score == 5.5
    assert found[homes[0][0].request_id].score > 5.5  # the triple's
    assert min(ignore.households for ignore in found.values()) >= 3


def test_leaning_to_an_entry_alone_ignores_nobody() -> None:
    """One household, or two."""
    subject = route()
    first, second = airing("m", 2, START_US)
    assert decided(subject, in_order([leaning(g, 6.0) for g in first], [leaning(g, 6.0) for g in second])) == []


def test_what_homes_lean_to_survives_a_restart() -> None:
    """In the window and in an open event."""
    homes = airing("m", 4, START_US)
    homes[0] = [leaning(growth, 5.0) for growth in homes[0]]
    before, after = in_order(*homes[:3]), in_order(homes[3])
    subject = route()
    decided(subject, before)
    again = restore(snapshot(subject), ROUTE, Policy(), plain_calibration())
    assert [r.leaning for r in again.window.requests.values()] == [r.leaning for r in subject.window.requests.values()]
    assert [event.known for event in again.events.values()] == [event.known for event in subject.events.values()]
    assert decided(again, after) == decided(subject, after)


def test_a_request_in_the_window_stays_there_for_the_others_as_one_that_is_ignored() -> None:
    """Two that the reader knows late, and a third that it does not: still three households."""
    subject = route()
    first, second, third = airing("m", 3, START_US)
    known = [recognised(first[-1]), recognised(second[-1])]
    found = decided(subject, [*in_order(first, second), *known])
    assert [ignore.reason for ignore in found] == [Reason.KNOWN] * 2
    assert all(request.ignored for request in subject.window.requests.values())
    (rest,) = decided(subject, third)
    assert (rest.household, rest.reason) == (third[0].household, Reason.CONCURRENT)


def test_what_sounds_blocked_is_accepted_though_it_is_known() -> None:
    """By its sound, and by its name; what is known of another sound is ignored all the same."""
    subject = route()
    subject.block(average_of("m", ROUTE, START_US))
    assert decided(subject, [recognised(live("somebody", START_US)[0])]) == []
    assert len(decided(subject, [recognised(live("else", START_US)[0], medium="n")])) == 1
    subject.block(replace(average_of("o", ROUTE, START_US), media_id="k-p"))
    assert decided(subject, [recognised(live("third", START_US)[0], medium="p")]) == []


def test_what_is_too_short_to_tell_whether_it_is_blocked_is_accepted() -> None:
    """Where nothing is blocked it is ignored."""
    short = recognised(live("somebody", START_US)[0])
    short = replace(short, words=short.words[: MIN_WORDS - 1])
    assert len(decided(route(), [short])) == 1
    subject = route()
    subject.block(average_of("o", ROUTE, START_US))
    assert decided(subject, [short]) == []


def test_an_erased_household_is_not_told_of() -> None:
    subject = route()
    growth = recognised(live("somebody", START_US)[0])
    subject.erase(household_digest(growth.household), growth.start_us)
    outcome = subject.hear([growth], growth.end_us)
    assert (outcome.ignores, outcome.counts["erased_growths"]) == ([], 1)


def test_who_asks_again_after_a_known_request_is_counted() -> None:
    """Whether what comes then is known or not."""
    subject = route()
    first = recognised(live("somebody", START_US)[0])
    again = [replace(growth, request_id="again") for growth in live("somebody", START_US + 3 * SECOND_US)]
    third = replace(recognised(live("somebody", START_US + 5 * SECOND_US)[0]), request_id="third")
    outcome = subject.hear(in_order([first], again[:1], [third]), first.end_us)
    assert outcome.counts["asked_again"] == 2


def test_what_is_remembered_of_known_requests_is_bounded_and_forgotten_in_time() -> None:
    subject = route(Policy(window_requests=5))
    growths = [recognised(live(f"p{number}", START_US + number)[0]) for number in range(20)]
    assert len(decided(subject, growths)) == 20
    assert len(subject.recognised_at_us) == 5
    subject.hear([], START_US + 60 * SECOND_US)
    assert not subject.recognised_at_us


@settings(max_examples=30)
@given(traffic(), st.data())
def test_a_restored_route_goes_on_as_the_saved_one(made: Traffic, data: st.DataObject) -> None:
    """Some of the traffic is known; nothing of it is decided twice, however often a route is restored."""
    heard = made.heard()
    names = sorted({growth.request_id for growth in heard})
    known = data.draw(st.sets(st.sampled_from(names)))
    heard = [recognised(growth) if growth.request_id in known else growth for growth in heard]
    cut = data.draw(st.integers(0, len(heard)))
    one, other = route(), route()
    found = decided(one, heard)
    saved = decided(other, heard[:cut])
    other = restore(snapshot(other), ROUTE, Policy(), plain_calibration())
    assert saved + decided(other, heard[cut:]) == found
    assert len({ignore.request_id for ignore in found}) == len(found)
    assert {ignore.request_id for ignore in found if ignore.reason is Reason.KNOWN} == known


@given(
    st.floats(-40, 40), st.floats(0, 1, width=32), st.integers(0, 500), st.integers(-200, 200), st.integers(0, 2**63),
    st.floats(-40, 80),
)  # fmt: skip
def test_what_a_request_was_recognised_as_travels_whole(
    score: float, rate: float, words: int, alignment: int, version: int, log_odds: float
) -> None:
    growth = replace(
        live("somebody", START_US)[0],
        known=KnownMatch("k-1", Evidence(score, rate, words, alignment, log_odds), words, version, "c"),
    )
    told = GrowthMessage.FromString(growth_to_message(growth).SerializeToString())
    assert growth_from_message(told).known == growth.known
    assert growth_from_message(told).level_range_db == growth.level_range_db


def test_a_growth_that_is_not_known_says_nothing_of_it() -> None:
    message = growth_to_message(live("somebody", START_US)[0])
    assert not message.HasField("known")
    assert growth_from_message(message).known is None


@pytest.mark.parametrize("blocked", [False, True])
def test_an_explanation_names_the_entry(blocked: bool) -> None:
    subject = route()
    if blocked:
        subject.block(average_of("m", ROUTE, START_US))
    growth = recognised(live("somebody", START_US)[0])
    subject.observer = trace = Trace(growth.request_id)
    decided(subject, [growth, recognised(live("else", START_US)[0])])
    assert [step.kind for step in trace.steps] == (["known", "blocked"] if blocked else ["known"])
    assert trace.steps[0].candidates[0].name == "k-m"
    assert not any(step.passed for step in trace.steps)


def test_a_stranger_beside_it_is_left_alone() -> None:
    """A person who speaks while known media airs in many homes."""
    subject = route()
    homes = [recognised(growths[0]) for growths in airing("m", 20, START_US)]
    person = live("person", START_US)
    found = decided(subject, in_order(homes, person))
    assert {ignore.reason for ignore in found} == {Reason.KNOWN}
    assert person[0].request_id not in {ignore.request_id for ignore in found}

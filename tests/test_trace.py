"""What is told of a request's looks is what they came to, and telling it changes nothing."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routed import ROUTE, SECOND_US, START_US, Traffic, airing, average_of, live, traffic
from sounds import growths, heard_words, in_order, plain_calibration

from matcher.growth import Growth
from matcher.outcome import Ignore
from matcher.policy import Policy
from matcher.route import Route
from pipeline.errors import InputError
from pipeline.times import time_ms
from pipeline.trace import Trace

POLICY = Policy(window_us=6 * SECOND_US)


def route() -> Route:
    return Route(ROUTE, POLICY, plain_calibration())


def traced(request_id: str, heard: list[Growth], subject: Route | None = None) -> tuple[Trace, Ignore | None]:
    """Let a route hear something while a request is watched."""
    subject = subject or route()
    subject.observer = trace = Trace(request_id)
    ignores = []
    for growth in heard:
        trace.at_us = growth.end_us
        ignores += subject.hear([growth], START_US).ignores
    return trace, next((ignore for ignore in ignores if ignore.request_id == request_id), None)


@settings(max_examples=30)
@given(traffic())
def test_a_route_that_is_watched_decides_as_one_that_is_not(made: Traffic) -> None:
    heard = made.heard()
    watched, alone = route(), route()
    watched.observer = Trace(heard[0].request_id)
    assert watched.hear(heard, START_US).ignores == alone.hear(heard, START_US).ignores


@settings(max_examples=30)
@given(traffic(), st.data())
def test_a_step_passes_where_a_request_is_ignored_and_nowhere_else(made: Traffic, data: st.DataObject) -> None:
    """At the event time, and with the score, of the decision."""
    heard = made.heard()
    request_id = data.draw(st.sampled_from(sorted({growth.request_id for growth in heard})))
    trace, ignore = traced(request_id, heard)
    passed = [step for step in trace.steps if step.passed]
    if ignore is None:
        assert passed == []
    else:
        (step,) = passed[-1:]
        assert (step.at_us, step.audio_ms) == (ignore.decided_at_us, ignore.audio_used_ms)
        assert step.score == pytest.approx(ignore.score, abs=1e-3)
        assert all(other.at_us == step.at_us for other in passed)
    assert all(earlier.at_us <= later.at_us for earlier, later in itertools.pairwise(trace.steps))


def test_two_homes_come_near_and_lack_a_third() -> None:
    """The pair is there, with its score and its alignment; the three are not."""
    request, other = airing("m", 2, START_US)
    trace, ignore = traced(request[0].request_id, in_order(request, other, live("somebody", START_US)))
    assert ignore is None
    last = [step for step in trace.steps if step.kind == "triple"][-1]
    assert (last.score, last.triple) == (None, ())
    assert last.candidates[0].name == other[0].request_id
    assert last.candidates[0].household == other[0].household
    assert last.candidates[0].score is not None
    assert last.candidates[0].score > 5
    assert last.candidates[0].bit_error_rate < 0.4
    assert trace.nearest() is None


def test_one_that_hears_too_badly_has_a_nearest_step() -> None:
    """An average nearly matches it: by how much it fell short is said."""
    subject = route()
    subject.learn(average_of("m", "computer/en-US/5", START_US - 60 * SECOND_US))
    noisy = growths("noisy", "h", heard_words("m", "noisy", 0.485), START_US)
    trace, ignore = traced("noisy", noisy, subject)
    assert ignore is None
    nearest = trace.nearest()
    assert nearest is not None
    assert nearest.kind == "averages"
    assert nearest.candidates[0].name == "d-m"
    assert nearest.score is not None
    assert nearest.threshold is not None
    assert 0 < nearest.score < nearest.threshold


def test_what_is_blocked_is_said_to_be() -> None:
    subject = route()
    subject.block(average_of("m", "computer/en-US/5", START_US - 60 * SECOND_US))
    (request,) = airing("m", 1, START_US)
    trace, ignore = traced(request[0].request_id, request, subject)
    assert ignore is None
    assert {step.kind for step in trace.steps} == {"blocked"}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90s", 910_000),
        ("15m", 100_000),
        ("0.25h", 100_000),
        ("1970-01-01T00:15:00", 900_000),
        ("1970-01-01T01:15:00+01:00", 900_000),
        ("900.5", 900_500),
    ],
)
def test_times_are_ago_or_absolute(text: str, ms: int) -> None:
    assert time_ms(text, 1000.0) == ms


@pytest.mark.parametrize("text", ["soon", "", "5x", "nan", "inf", "1e400"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no time"):
        time_ms(text, 1000.0)

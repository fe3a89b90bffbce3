"""A route turns itself to shadow when most of what is asked is ignored for minutes, and not by an airing."""

import copy
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from routed import ROUTE, SECOND_US, START_US, airing, average_of, batch, live
from sounds import in_order
from test_decide import Step, said
from test_known_route import recognised

from pipeline.control import shadow_key
from pipeline.guard import LEAST_SLOTS, SLOTS, Guard
from pipeline.messages.hushword_pb2 import Control
from pipeline.messages.internal_pb2 import RouteGuard, Verdicts
from pipeline.options import Settings

MINUTE = 6  # slots of ten seconds


def guard(**settings: float) -> Guard:
    return Guard.of(Settings(**settings))


def trips(subject: Guard, slots: Sequence[tuple[int, int]]) -> int | None:
    """Let slots of (requests, ignored) follow each other; gives the one in which it trips, if it does."""
    return next((n for n, (requests, ignored) in enumerate(slots) if subject.count(n, requests, ignored)), None)


def test_an_airing_to_thousands_of_homes_does_not_trip() -> None:
    """99 % of all requests of ten minutes are ignored, all in twenty seconds: that is what it is for."""
    ordinary = [(3, 0)] * 5 * MINUTE
    assert trips(guard(), [*ordinary, (5000, 4990), (800, 800), *ordinary]) is None


def test_a_break_full_of_advertisements_does_not_trip() -> None:
    """Ten airings within ten minutes, each over two slots, beside a request every five seconds."""
    minute = [(500, 498), (100, 99), (2, 0), (2, 0), (2, 0), (2, 0)]
    assert trips(guard(), minute * 30) is None


def test_an_airing_on_a_silent_route_does_not_trip() -> None:
    """At night there may be nothing else: too few slots say anything."""
    assert trips(guard(), ([(400, 400), (100, 100)] + [(0, 0)] * 10) * 100) is None


def test_a_handful_of_requests_does_not_trip() -> None:
    assert trips(guard(ignore_rate_requests=100), [(1, 1)] * (SLOTS + 20)) is None
    assert trips(guard(ignore_rate_requests=SLOTS), [(1, 1)] * (SLOTS + 20)) == SLOTS - 1


def test_people_who_are_ignored_for_minutes_trip_it_once() -> None:
    """From one moment on everybody is: it takes so many slots that they are most of the window."""
    subject = guard()
    at = trips(subject, [(5, 0)] * SLOTS + [(5, 5)] * SLOTS)
    assert at == SLOTS + round(0.6 * SLOTS)
    assert trips(subject, [(5, 5)] * 3 * SLOTS) is None
    subject.release()
    assert trips(subject, [(5, 5)] * SLOTS) == LEAST_SLOTS - 1


def test_a_bound_of_one_never_trips() -> None:
    assert trips(guard(ignore_rate_bound=1.0), [(50, 50)] * 5 * SLOTS) is None


@hypothesis_settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(-2, 5), st.integers(0, 9), st.integers(0, 9)), max_size=150))
def test_its_memory_is_bounded_and_its_state_is_all_of_it(made: list[tuple[int, int, int]]) -> None:
    """One that was saved and restored at any point says what the other says. Slots may come late."""
    subject, restored, slot = guard(ignore_rate_bound=0.3), guard(ignore_rate_bound=0.3), 1000
    for step, requests, ignored in made:
        slot += step
        said_first = subject.count(slot, requests, ignored)
        assert restored.count(slot, requests, ignored) == said_first
        message = RouteGuard.FromString(restored.to_message().SerializeToString())
        restored = guard(ignore_rate_bound=0.3)
        restored.restore(message)
        assert restored == subject
        assert len(subject.slots) <= SLOTS
        assert 0.0 <= subject.rate() <= 1.0


# ---- in the step -----------------------------------------------------------------------------------------------------

SETTINGS = Settings(window_s=6.0, ignore_rate_window_s=60.0, ignore_rate_requests=20)
KEY = shadow_key(ROUTE)


def ignoring(seconds: int, step: Step, begin_us: int = START_US, *, troubled: bool = False) -> list[Verdicts]:
    """Let one request a second come, all of something that is known: all are ignored, for a minute and more."""
    heard = in_order(*(airing(f"m{n % 3}", 1, begin_us + n * SECOND_US)[0] for n in range(seconds)))
    found = []
    for number, at in enumerate(range(0, len(heard), 20)):
        made = batch(heard[at : at + 20], heard[min(at + 19, len(heard) - 1)].end_us)
        if troubled and number % 3 == 0:
            step.fail(made)
        if troubled and number % 5 == 0:
            step.lose_worker()
        found.append(step.hear(made))
    return found


def known() -> Step:
    step = Step(settings=SETTINGS)
    for n in range(3):
        step.told.tell(f"d-m{n}", average_of(f"m{n}", "computer/en-US/5", START_US - 60 * SECOND_US))
    return step


@pytest.mark.parametrize("troubled", [False, True])
def test_a_route_turns_itself_to_shadow_says_so_and_stays_until_somebody_turns_it_back(troubled: bool) -> None:
    """Also where bundles fail and workers are lost: the guard is in the state."""
    step = known()
    verdicts = ignoring(60, step, troubled=troubled)
    decisions, _, _ = said(verdicts)
    marks = [decision.shadow for decision in decisions]
    assert marks == sorted(marks)
    assert 25 < marks.index(True) < 40
    (order,) = [verdict.order for verdict in verdicts if verdict.HasField("order")]
    told = Control.FromString(order.value)
    assert (order.key, told.shadow, told.by) == (KEY, Control.ON, f"the guard of {ROUTE}")
    assert "over 60 s, which is over ignore_rate_bound" in told.reason

    step.lose_worker()
    later = START_US + 90 * SECOND_US
    decisions, _, _ = said(ignoring(5, step, later))
    assert all(decision.shadow for decision in decisions)
    step.ordered.tell(KEY, told)
    step.ordered.tell(KEY, Control(shadow=Control.OFF))
    decisions, _, _ = said(ignoring(5, step, later + 20 * SECOND_US, troubled=troubled))
    assert decisions
    assert not any(decision.shadow for decision in decisions)


def test_what_is_ordered_already_is_not_ordered_again() -> None:
    """Who turned it to shadow, and why, stays readable."""
    step = known()
    step.ordered.tell(KEY, Control(shadow=Control.ON, by="somebody"))
    verdicts = ignoring(60, step)
    assert not any(verdict.HasField("order") for verdict in verdicts)


def test_how_growths_were_batched_does_not_matter_to_the_guard() -> None:
    heard = in_order(*(airing(f"m{n % 3}", 1, START_US + n * SECOND_US)[0] for n in range(40)))
    states, marks = [], []
    for size in (1, 7, len(heard)):
        step = known()
        verdicts = [step.hear(batch(heard[at : at + size], START_US)) for at in range(0, len(heard), size)]
        states.append(copy.deepcopy(step.worker()._working[ROUTE].guard))
        marks.append([(decision.request_id, decision.shadow) for decision in said(verdicts)[0]])
    assert states[0] == states[1] == states[2]
    assert marks[0] == marks[1] == marks[2]
    assert {shadow for _, shadow in marks[0]} == {False, True}


def known_media(step: Step, seconds: Sequence[int]) -> list[Verdicts]:
    """Let so many requests of each second be recognised, and one person speak in each."""
    found = []
    for second, count in enumerate(seconds):
        at_us = START_US + second * SECOND_US
        heard = [recognised(live(f"{second}-{number}", at_us)[0]) for number in range(count)]
        found.append(step.hear(batch(in_order(heard, live(f"person-{second}", at_us)), at_us + SECOND_US)))
    return found


@pytest.mark.parametrize("troubled", [False, True])
def test_a_large_airing_of_known_media_does_not_trip(troubled: bool) -> None:
    """Hundreds of homes within two seconds, and most of what is asked in that minute."""
    step = Step(settings=SETTINGS)
    verdicts = known_media(step, [0] * 20)
    if troubled:
        step.lose_worker()
    verdicts += known_media(step, [0] * 20 + [400, 200] + [0] * 40)
    decisions, _, _ = said(verdicts)
    assert len(decisions) == 600
    assert not any(decision.shadow for decision in decisions)
    assert not any(verdict.HasField("order") for verdict in verdicts)


def test_an_entry_that_matches_people_all_the_time_trips() -> None:
    """Silence in the catalogue, say: most of each second's requests, for a minute."""
    verdicts = known_media(Step(settings=SETTINGS), [4] * 70)
    assert sum(verdict.HasField("order") for verdict in verdicts) == 1
    assert said(verdicts)[0][-1].shadow

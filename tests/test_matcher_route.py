"""The policy of one route: who is ignored, when and why; and who never is."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from homes import S, airing, ids, ignores, one_by_one, people, route
from hypothesis import given
from hypothesis import strategies as st
from sounds import (
    fingerprint_of,
    growths,
    hear,
    heard_words,
    in_order,
    random_words,
    say,
    write_recording,
)

from matcher.bits import GRADIENT, Bits, bits_named
from matcher.budget import CATALOGUE_SHARE, OPEN_SHARE, TIERS, Tier
from matcher.evidence import shipped_calibration
from matcher.fingerprint import FIRST_LOOK_MS, LOOK_MS
from matcher.looks import look_words
from matcher.outcome import Ignore, Reason
from matcher.policy import Policy
from matcher.route import AIRING_US, Route
from matcher.search import AIRING_HOMES
from pipeline.recordings.recording import Recording

KINDS = pytest.mark.parametrize("bits", [GRADIENT, bits_named("learned64")], ids=lambda bits: bits.name)


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
    assert math.fsum([*parts, CATALOGUE_SHARE, OPEN_SHARE]) == pytest.approx(1)
    assert TIERS[-1].within_us > 600 * S  # anybody in any window
    subject = route(Policy(airing_share=1, window_us=20 * S)).budget
    times = {tier.airing_time * tier.beside: tier.beside for tier in TIERS}
    spent = [chance.probability for chance in subject.chances() if "beside" not in chance.what]
    assert math.fsum([*spent, *(subject.false_ignores * share for share in times.values())]) == pytest.approx(
        subject.false_ignores
    )


def test_what_the_budget_lists_is_what_it_decides_by() -> None:
    subject = route().budget
    listed = [chance.threshold for chance in subject.chances()]
    assert listed[-2:] == [subject.open_average(1), subject.average(1)]
    for tier, strangers, beside in zip(TIERS, listed[0:6:2], listed[1:6:2], strict=True):
        assert subject.triple(tier, 0, 0, 1) == max(strangers, beside)
        least = subject.triple_log_odds(subject.triple(tier, 0, 0, 1), tier, 0, 0, 1)
        assert least >= -math.log(1e-6 * max(tier.beside, tier.strangers)) - 1e-9
    assert subject.average_log_odds(subject.average(7), 7) == pytest.approx(-math.log(1e-6 * CATALOGUE_SHARE))
    assert subject.open_average_log_odds(subject.open_average(7), 7) == pytest.approx(-math.log(1e-6 * OPEN_SHARE))


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

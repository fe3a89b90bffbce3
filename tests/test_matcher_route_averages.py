"""Averages of a route: re-runs in one home, other shards, what is blocked."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from homes import LONG_AGO, S, airing, ignores, one_by_one, people, route
from sounds import (
    FULL_WORDS,
    growths,
    heard_words,
    in_order,
    random_words,
)

from matcher.catalogue import Average
from matcher.fingerprint import FIRST_LOOK_MS
from matcher.growth import Growth
from matcher.outcome import Ignore, Reason
from matcher.policy import Policy
from matcher.route import Route

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
    subject.window.put(request, heard_words("ad", "new", 0.3), 20.0)
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

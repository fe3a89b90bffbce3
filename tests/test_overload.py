"""More comes than can be compared: comparisons are saved first, then homes pass unmatched, and all of it comes back."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import EPOCH_US, Piece, pieces

from matcher.bits import GRADIENT
from matcher.fingerprint import FIRST_LOOK_MS, FULL_MS, LOOK_MS
from matcher.growth import Growth
from pipeline.assembly import Assembler, AssemblyLimits
from pipeline.marks import LIVE_US
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.overload import BEHIND, CATCHES_UP, EFFORTS, FULL, HAS_ROOM, INTERVAL_US, PATIENCE, Effort, Overload

DEADLINE_US = 1_000_000
LEAST = EFFORTS.index(Effort(EFFORTS[-1].halvings))  # the least effort at which nobody passes unmatched
lags = st.lists(st.integers(0, 20 * INTERVAL_US), min_size=2, max_size=60)


def observed(lags_us: list[int], every_us: int = INTERVAL_US) -> list[Overload]:
    """Give the states after each of some lags: a fresh rule each time, so that they can be looked at later."""
    found = []
    for count in range(1, len(lags_us) + 1):
        overload = Overload(DEADLINE_US)
        for number, lag_us in enumerate(lags_us[:count]):
            overload.observe(number * every_us, lag_us)
        found.append(overload)
    return found


# ---- the rule --------------------------------------------------------------------------------------------------------


def test_comparisons_are_saved_before_anybody_passes_unmatched() -> None:
    """From everything to nothing, in one order."""
    assert EFFORTS[0] == FULL
    assert EFFORTS[-1].unmatched == 1
    assert len(set(EFFORTS)) == len(EFFORTS)
    for more, less in pairwise(EFFORTS):
        assert less.halvings >= more.halvings
        assert less.unmatched >= more.unmatched
        if less.unmatched:
            assert less.halvings == EFFORTS[-1].halvings
    # A look is skipped only after one: a request still enters its window at its first.
    assert LOOK_MS << EFFORTS[-1].halvings <= FIRST_LOOK_MS


@given(lags)
def test_effort_never_rises_while_the_lag_grows(lags_us: list[int]) -> None:
    """One step an interval at most, and none without a reason."""
    for before, after in pairwise(observed(lags_us)):
        steps = EFFORTS.index(after.effort) - EFFORTS.index(before.effort)
        assert abs(steps) <= 1
        if after.lag_us > before.lag_us:
            assert steps >= 0
        if after.lag_us <= BEHIND * DEADLINE_US:
            assert steps <= 0
        if after.effort.unmatched > before.effort.unmatched:
            assert before.effort.halvings == EFFORTS[-1].halvings
            assert after.lag_us > before.lag_us - CATCHES_UP * INTERVAL_US


@given(st.lists(st.integers(0, round(BEHIND * DEADLINE_US)), min_size=1, max_size=50))
def test_nothing_is_spared_without_lag(lags_us: list[int]) -> None:
    """A quarter of the deadline is none."""
    assert all(overload.effort == FULL for overload in observed(lags_us))


@given(st.lists(st.integers(0, 20 * INTERVAL_US), min_size=1, max_size=200))
def test_who_is_level_once_in_every_interval_is_not_behind(lags_us: list[int]) -> None:
    """Bursts, and polls that bring half of what there is, are no overload."""
    overload = Overload(DEADLINE_US)
    for number, lag_us in enumerate(lags_us):
        overload.observe(2 * number * INTERVAL_US // 4, lag_us)
        overload.observe((2 * number + 1) * INTERVAL_US // 4, 0)
    assert overload.effort == FULL


@given(st.integers(0, 3600 * INTERVAL_US), st.floats(1.01 * CATCHES_UP, 20))
def test_a_backlog_that_drains_is_worked_off_at_full_effort(backlog_us: int, drained: float) -> None:
    """After a stop of minutes, everything that is decided is the same, only late."""
    overload = Overload(DEADLINE_US)
    for second in range(100):
        overload.observe(second * INTERVAL_US, max(0, backlog_us - round(second * drained * INTERVAL_US)))
        assert overload.effort == FULL or backlog_us < second * drained * INTERVAL_US


def test_a_backlog_that_starts_slowly_is_worked_off_at_full_effort_once_there_is_room() -> None:
    """The first seconds of a job load and connect."""
    lags_us = [120 * INTERVAL_US + second * INTERVAL_US for second in range(4)]
    lags_us += [lags_us[-1] - round(second * HAS_ROOM * INTERVAL_US) for second in range(1, 5)]
    states = observed(lags_us)
    assert states[3].effort == EFFORTS[3]
    assert states[-1].effort == FULL


def test_a_lag_that_only_grows_ends_with_everybody_unmatched_and_a_level_one_with_everything() -> None:
    """One step a second there, and with patience back."""
    lags_us = [second * INTERVAL_US for second in range(2, 30)]
    states = observed(lags_us + [0] * PATIENCE * len(EFFORTS))
    assert [state.effort for state in states[: len(EFFORTS)]] == list(EFFORTS)
    assert states[27].effort == EFFORTS[-1]
    assert [states[27 + PATIENCE * up + 1].effort for up in range(len(EFFORTS) - 1)] == list(EFFORTS[-2::-1])


@settings(max_examples=200)
@given(
    load=st.floats(0.2, 6),
    comparing=st.floats(0.1, 1),
    growing=st.floats(0.1, 1),
    reading=st.floats(0.01, 0.1),
)
def test_the_lag_stays_bounded_under_any_load_that_can_be_read(
    load: float, comparing: float, growing: float, reading: float
) -> None:
    """A job in small: what a request costs falls with the effort; five minutes, a second at a time."""
    overload = Overload(DEADLINE_US)
    fits = 1 / (comparing + growing + reading)
    load = min(load * fits, 0.8 / reading)
    behind, lags_s, efforts = 0.0, [], []  # requests, seconds
    for second in range(300):
        overload.observe(second * INTERVAL_US, round(behind / load * INTERVAL_US))
        effort = overload.effort
        cost = (1 - effort.unmatched) * (comparing * effort.share + growing) + reading
        behind = max(0.0, behind + load - 1 / cost)
        lags_s.append(behind / load)
        efforts.append(effort)
    if load <= fits:
        assert set(efforts) == {FULL}
        assert max(lags_s) == 0
    assert max(lags_s) < 3 * len(EFFORTS)
    assert sum(lag_s < DEADLINE_US / INTERVAL_US * 3 for lag_s in lags_s[-60:]) > 0
    if load < 0.85 / (comparing * EFFORTS[LEAST].share + growing + reading):
        assert not any(effort.unmatched for effort in efforts[60:])


# ---- what passes unmatched -------------------------------------------------------------------------------------------


@dataclass
class Told:
    growths: dict[str, list[Growth]]
    counts: dict[str, int]


def assembled(cut: list[Piece], efforts: list[Effort]) -> Told:
    """Let an assembler take pieces in order, each at an effort of its own (the last one for all that follow)."""
    assembler = told_the_time(Assembler(AssemblyLimits(), GRADIENT, {0: 0}))
    growths: dict[str, list[Growth]] = {}
    ordered = sorted(cut, key=lambda piece: (piece.end_us, piece.request_id))
    for number, piece in enumerate(ordered):
        assembler.effort = efforts[min(number, len(efforts) - 1)]
        assembler.take(0, number + 2, EPOCH_US, piece.value)
        for found in assembler.release().values():
            for growth in found:
                growths.setdefault(growth.request_id, []).append(growth)
    mark = AudioChunk(low_mark_us=ordered[-1].end_us + 1_000_000).SerializeToString()
    assembler.take(0, len(ordered) + 2, EPOCH_US, mark)
    for found in assembler.release().values():
        for growth in found:
            growths.setdefault(growth.request_id, []).append(growth)
    return Told(growths, dict(assembler.counts))


def told_the_time(assembler: Assembler, now_us: int = EPOCH_US) -> Assembler:
    """Let two devices tell what time it is: nobody believes one."""
    for number in range(2):
        (piece,) = pieces(f"clock-{number}", now_us - 50_000, [50], household_id="clocks")
        assembler.take(0, number, EPOCH_US, piece.value)
    assembler.release()
    return assembler


def street(homes: int, requests: int = 2) -> list[Piece]:
    """Give some requests of each of some homes."""
    return [
        piece
        for home in range(homes)
        for number in range(requests)
        for piece in pieces(
            f"{home}-{number}", EPOCH_US + 37_000 * home + 400_000 * number, [160] * 15, household_id=f"home {home}"
        )
    ]


@pytest.mark.parametrize("unmatched", [0.25, 0.5, 1.0])
def test_whole_homes_pass_unmatched_and_the_others_are_heard_as_ever(unmatched: float) -> None:
    """No home is heard in part, and who passes at some share passes at every larger one."""
    cut = street(24)
    usual = assembled(cut, [FULL])
    told = assembled(cut, [replace(FULL, unmatched=unmatched)])
    passed = set(usual.growths) - set(told.growths)
    assert passed == {request for request in usual.growths if request.rsplit("-")[0] + "-0" in passed}
    assert len(passed) == told.counts["requests_unmatched"]
    assert told.counts["chunks_unmatched"] == 15 * len(passed)
    assert told.counts["requests"] == 2 + 48 - len(passed)
    assert told.counts.get("gaps", 0) == 0
    assert 0 < len(passed) <= 48
    for request_id, growths in told.growths.items():
        for mine, usually in zip(growths, usual.growths[request_id], strict=True):
            np.testing.assert_array_equal(mine.words, usually.words)
    more = assembled(cut, [replace(FULL, unmatched=min(1.0, 2 * unmatched))])
    assert set(more.growths) <= set(told.growths)


def test_a_request_that_has_begun_passes_too_and_stays_unmatched_when_there_is_time_again() -> None:
    """Half of one is not worth hearing; it counts once. Who begins after it is heard."""
    early, later = street(1, requests=1), pieces("later", EPOCH_US + 5_000_000, [160] * 15)
    told = assembled([*early, *later], [*[FULL] * 8, EFFORTS[-1], FULL])
    usual = assembled(early, [FULL])
    assert 0 < len(told.growths["0-0"]) < len(usual.growths["0-0"])
    assert told.counts["requests_unmatched"] == 1
    assert told.counts.get("gaps", 0) == 0
    assert told.growths["later"][-1].audio_ms >= FULL_MS


def test_a_request_that_was_heard_to_its_end_does_not_count_as_unmatched() -> None:
    """There was nothing left to be spared."""
    cut = pieces("long", EPOCH_US, [200] * 20)
    told = assembled(cut, [*[FULL] * 16, EFFORTS[-1]])
    assert told.counts.get("requests_unmatched", 0) == 0
    assert told.growths["long"][-1].audio_ms >= FULL_MS


def test_a_request_that_ends_early_is_looked_at_once_more() -> None:
    """Its last chunk says so."""
    told = assembled(pieces("short", EPOCH_US, [160] * 7), [EFFORTS[LEAST]])
    assert [growth.audio_ms for growth in told.growths["short"]] == [800, 1120]


# ---- what is behind --------------------------------------------------------------------------------------------------


def test_only_live_traffic_that_is_not_read_to_its_end_is_behind() -> None:
    """A replay ahead of the clock, of the past, or one that says that it lags is nobody's overload."""
    append_us, now_us = EPOCH_US + 500_000, EPOCH_US + 9_000_000

    def lag_us(captured_us: int, *, lags: bool = False, idle: bool = False) -> int:
        assembler = told_the_time(Assembler(AssemblyLimits(), GRADIENT, {0: 0, 1: 0}), captured_us)
        if lags:
            mark = AudioChunk(low_mark_us=EPOCH_US - 2_000_000, lags=True).SerializeToString()
            assembler.take(0, 2, append_us, mark)
        if idle:
            assembler.idle(0)
        return assembler.lag_us({0: append_us}, now_us)

    assert lag_us(EPOCH_US) == now_us - append_us
    assert lag_us(append_us + 2_000_000) == now_us - append_us - 2_000_000
    assert lag_us(EPOCH_US, idle=True) == 0
    assert lag_us(EPOCH_US, lags=True) == 0
    assert lag_us(append_us + LIVE_US + 1) == 0
    assert lag_us(append_us - LIVE_US - 1) == 0
    assert Assembler(AssemblyLimits(), GRADIENT, {0: 0}).lag_us({}, now_us) == 0

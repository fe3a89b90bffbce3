"""Less effort: looks are rarer and comparisons fewer, so that less is found, and never anything else."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from routed import START_US, airing, live
from sounds import in_order, plain_calibration

from matcher.bits import GRADIENT
from matcher.fingerprint import FULL_MS, LOOK_MS, Fingerprint, whole_fingerprint
from matcher.growth import Growth
from matcher.outcome import Outcome
from matcher.policy import Policy
from matcher.route import Route

# ---- fewer looks -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(40, 250), min_size=4, max_size=30), st.integers(0, 3))
@settings(max_examples=50)
def test_looks_are_rarer_and_what_they_give_is_the_same(lengths_ms: list[int], halvings: int) -> None:
    """The last look of a request that is long enough is never left out, nor the first."""
    samples = np.random.default_rng(len(lengths_ms)).normal(0, 3000, sum(lengths_ms) * 16).astype(np.int16)
    usual, spared = Fingerprint("r", GRADIENT), Fingerprint("r", GRADIENT)
    at, looks, fewer = 0, [], []
    for length_ms in lengths_ms:
        part = samples[at * 16 : (at + length_ms) * 16]
        at += length_ms
        one, other = usual.grow(part), spared.grow(part, LOOK_MS << halvings)
        if one is not None:
            looks.append(at)
        if other is not None:
            assert one is not None
            fewer.append(at)
            np.testing.assert_array_equal(other, whole_fingerprint(samples[: at * 16], "r", GRADIENT))
    assert fewer[:1] == looks[:1]
    if at >= FULL_MS:
        assert fewer[-1:] == looks[-1:]
    if halvings == 0:
        assert fewer == looks
    assert all(later - earlier >= (LOOK_MS << halvings) - 250 for earlier, later in pairwise(fewer[:-1]))


# ---- fewer comparisons -----------------------------------------------------------------------------------------------


def crowd() -> list[Growth]:
    """Three airings, two of them to many homes and one to three, among a hundred people."""
    heard = airing("ad", 20, START_US) + airing("song", 12, START_US + 400_000) + airing("film", 3, START_US + 700_000)
    return in_order(*heard, *(live(f"p{n}", START_US + 30_000 * n) for n in range(100)))


def test_with_less_effort_fewer_are_ignored_or_later_and_nobody_else() -> None:
    """Each halving saves comparisons; whoever is ignored is ignored at full effort too, and no sooner."""
    heard = crowd()
    found: list[Outcome] = [Route("w/l/0", Policy(), plain_calibration()).hear(heard, 0, h) for h in range(4)]
    assert len(found[0].ignores) == 35
    first_us = {ignore.request_id: ignore.decided_at_us for ignore in found[0].ignores}
    for more, less in pairwise(found):
        assert {i.request_id for i in less.ignores} <= {i.request_id for i in more.ignores}
        assert less.counts["comparisons"] < more.counts["comparisons"]
        for ignore in less.ignores:
            assert ignore.decided_at_us >= first_us[ignore.request_id]
    assert not any(ignore.household.startswith("home of") for outcome in found for ignore in outcome.ignores)


def test_effort_is_of_what_is_being_heard_and_leaves_nothing_behind() -> None:
    """After a stretch of less effort, a route decides about what comes then as one that never spared."""
    heard = [growth for growth in crowd() if growth.household.startswith("home of")]
    later = [
        replace(growth, start_us=growth.start_us + 30_000_000, end_us=growth.end_us + 30_000_000) for growth in crowd()
    ]
    spared, usual = Route("w/l/0", Policy(), plain_calibration()), Route("w/l/0", Policy(), plain_calibration())
    spared.hear(heard, START_US + 20_000_000, 3)
    usual.hear(heard, START_US + 20_000_000)
    assert spared.hear(later, 0).ignores == usual.hear(later, 0).ignores

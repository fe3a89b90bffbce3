"""The laws of docs/fraction.md: against every outcome of small cases, the library's own draw, and the simulation."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fraction import (
    found_by_draw,
    found_by_scan,
    found_by_some_shard,
    meets,
    simulate,
    simulate_shards,
    smallest,
)
from matcher.evidence import shipped_calibration
from matcher.policy import Policy
from matcher.route import Route

SHARES = st.floats(0.01, 0.99)


@given(st.integers(2, 5), SHARES)
def test_laws_agree_with_every_way_in_which_pairs_can_meet(m: int, p: float) -> None:
    """All graphs on up to five homes, each with its probability."""
    pairs = list(itertools.combinations(range(m), 2))
    scan = draw = 0.0
    for drawn in itertools.product((False, True), repeat=len(pairs)):
        chance = math.prod(p if met else 1 - p for met in drawn)
        degrees = Counter(home for pair, met in zip(pairs, drawn, strict=True) if met for home in pair)
        scan += chance * (m >= 3 and max(degrees.values(), default=0) >= 1)
        draw += chance * (m >= 3 and max(degrees.values(), default=0) >= 2)
    assert found_by_scan(m, p) == pytest.approx(scan, abs=1e-9)
    assert found_by_draw(m, p) == pytest.approx(draw, abs=1e-9)


@given(st.integers(1, 7), st.integers(1, 3), SHARES)
def test_law_of_shards_agrees_with_every_way_to_deal_the_homes(m: int, shards: int, p: float) -> None:
    """Up to seven homes over up to three shards."""
    missed = 0.0
    for dealt in itertools.product(range(shards), repeat=m):
        missed += math.prod(1 - found_by_scan(n, p) for n in Counter(dealt).values())
    assert found_by_some_shard(m, p, shards) == pytest.approx(1 - missed / shards**m, abs=1e-9)


@pytest.mark.parametrize(("m", "p"), [(3, 0.1), (10, 0.05), (30, 0.02)])
def test_the_draw_by_hash_finds_as_often_as_independent_draws_would(m: int, p: float) -> None:
    """Within four standard deviations of the law, though the pairs' hashes depend on each other."""
    trials = 20_000
    rates = simulate(m, p, trials, np.random.default_rng(1))
    for found, law in ((rates.scan, found_by_scan(m, p)), (rates.draw, found_by_draw(m, p))):
        assert abs(found - law) <= 4 * math.sqrt(law * (1 - law) / trials) + 1e-12


@pytest.mark.parametrize(("m", "shards", "p"), [(12, 10, 1.0), (26, 10, 0.1), (60, 100, 1.0)])
def test_shards_find_as_often_as_the_law_says(m: int, shards: int, p: float) -> None:
    """Within four standard deviations, too."""
    trials = 5000
    law = found_by_some_shard(m, p, shards)
    found = simulate_shards(m, p, shards, trials, np.random.default_rng(2))
    assert abs(found - law) <= 4 * math.sqrt(law * (1 - law) / trials)


def test_the_simulation_draws_as_the_library_does() -> None:
    """The pairs of a window's hashes are those that its route gives."""
    route = Route("computer/en-US/0", Policy(partners=40), shipped_calibration("gradient64"))
    for number in range(200):
        request, _ = route.window.add(f"r{number}", f"h{number}", "d", 0)
        assert request is not None
        route.window.heard[request.row] = True
    rows = route.window.rows()
    drawn = meets(route.window.hashes[rows][None], 40 / (len(rows) - 1))[0]
    for request in route.window.requests.values():
        chosen = route.search.draw(request, Counter())
        np.testing.assert_array_equal(chosen, rows[drawn[np.searchsorted(rows, request.row)]])


def test_smallest_is_the_first_size_that_is_sure_enough() -> None:
    """One home fewer is not; two homes never make an event; everything compared finds three in one shard."""
    for p, shards in ((0.1, 1), (0.1, 10), (1.0, 10), (1.0, 100)):
        m = smallest(p, shards)
        assert found_by_some_shard(m, p, shards) >= 0.9 > found_by_some_shard(m - 1, p, shards)
    assert smallest(1.0, 1) == 3
    assert found_by_some_shard(2, 1.0, 1) == 0

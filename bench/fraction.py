"""Makes docs/fraction.md: how small an event is still found when each request meets a fraction of the others.

`python -m bench.fraction` draws partners as `matcher.route.Route` does, counts which events are found, and puts the
laws beside the counts. Half a minute on one core; the same figures each time.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import scipy.stats
import typer

from matcher.policy import Policy

HOUSEHOLDS = 3  # make an event
SIZES = (3, 5, 10, 20, 30)
PARTNERS = (20, 50, 100, 200)
WINDOWS = (300, 1000, 3000, 10_000)
WINDOW = 1000  # concurrent requests of one shard, where many shards are spoken of
SHARDS = (1, 10, 100, 1000)
TRIALS = 20_000
SURE = 0.9

# Of a fleet: a device asks ten times a day, at the peak three times as often, and a third of all on one route.
FLEETS = {"1 M": 1e6, "10 M": 1e7, "100 M": 1e8, "1 G": 1e9}
REQUESTS_A_DAY, PEAK, LARGEST_ROUTE = 10, 3, 1 / 3
WINDOW_S = Policy().window_us / 1e6

Found = Callable[[int, float], float]


# ---- the laws --------------------------------------------------------------------------------------------------------


def found_by_scan(m: int, p: float) -> float:
    """Probability that an event of m homes is found when its first pair makes both look at the whole window.

    Any one of the m (m - 1) / 2 pairs will do, each of which meets with probability p.
    """
    return 1 - (1 - p) ** math.comb(m, 2) if m >= HOUSEHOLDS else 0.0


def found_by_draw(m: int, p: float) -> float:
    """Probability that one of m homes draws two of the others, so that a triple is seen without any scan.

    It is not, when the pairs that meet have no home in common: a matching of j pairs, of which there are
    m! / (2^j j! (m - 2j)!).
    """
    if m < HOUSEHOLDS:
        return 0.0
    pairs = math.comb(m, 2)
    missed = math.fsum(
        math.factorial(m) // (2**j * math.factorial(j) * math.factorial(m - 2 * j)) * p**j * (1 - p) ** (pairs - j)
        for j in range(m // 2 + 1)
    )
    return 1 - missed


def found_by_some_shard(m: int, p: float, shards: int, found: Found = found_by_scan) -> float:
    """Probability that some shard finds an event of m homes that a hash of the household deals to them.

    Were the homes in each shard Poisson and independent, all shards would miss it with the product of what each does;
    given that they are m in all, it is the m-th coefficient of that product over the probability of m.
    """
    here = np.arange(m + 1)
    one = scipy.stats.poisson.pmf(here, m / shards) * [1 - found(int(k), p) for k in here]
    missed = np.zeros(m + 1)
    missed[0] = 1.0
    for digit in f"{shards:b}":
        missed = np.convolve(missed, missed)[: m + 1]
        if digit == "1":
            missed = np.convolve(missed, one)[: m + 1]
    return 1 - float(missed[m] / scipy.stats.poisson.pmf(m, m))


def smallest(p: float, shards: int, sure: float = SURE) -> int:
    """Homes of the smallest event that some shard finds with probability `sure`."""
    low, high = HOUSEHOLDS - 1, HOUSEHOLDS
    while found_by_some_shard(high, p, shards) < sure:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found_by_some_shard(middle, p, shards) >= sure else (middle, high)
    return high


# ---- the simulation --------------------------------------------------------------------------------------------------


def meets(hashes: npt.NDArray[np.uint64], share: float) -> npt.NDArray[np.bool_]:
    """Say which of some requests draw each other, by the rule of `matcher.route.Route`.

    Args:
        hashes: uint64 (trials, m), of the request ids.
        share: of the window that each draws, partners over others.

    Returns:
        Bool (trials, m, m), symmetric; nobody draws itself.

    """
    m = hashes.shape[1]
    if share >= 1:
        return np.broadcast_to(~np.eye(m, dtype=np.bool_), (len(hashes), m, m))
    mixed = (hashes[:, :, None] ^ hashes[:, None, :]) * np.uint64(0x9E3779B97F4A7C15)
    drawn = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9) < np.uint64(share * 2**64)
    return np.asarray(drawn & ~np.eye(m, dtype=np.bool_))


@dataclass(frozen=True)
class Rates:
    """Shares of simulated events that were found."""

    scan: float
    draw: float


def simulate(m: int, share: float, trials: int, rng: np.random.Generator) -> Rates:
    """Draw partners for events of m homes, all in one window."""
    scan = draw = done = 0
    block = max(1, 4_000_000 // (m * m))
    while done < trials:
        n = min(block, trials - done)
        degrees = meets(rng.integers(2**64, size=(n, m), dtype=np.uint64), share).sum(axis=2)
        scan += int(np.count_nonzero(degrees.max(axis=1) >= 1))
        draw += int(np.count_nonzero(degrees.max(axis=1) >= HOUSEHOLDS - 1))
        done += n
    return Rates(scan / trials, draw / trials)


def simulate_shards(m: int, share: float, shards: int, trials: int, rng: np.random.Generator) -> float:
    """Deal events of m homes to shards, draw partners within each; gives the share that some shard finds."""
    found = 0
    block = max(1, 2_000_000 // (m * m))
    for first in range(0, trials, block):
        n = min(block, trials - first)
        shard = rng.integers(shards, size=(n, m))
        together = shard[:, :, None] == shard[:, None, :]
        # A shard that holds three of the homes has members that see two others, drawn or not.
        enough = together.sum(axis=2) >= HOUSEHOLDS
        met = meets(rng.integers(2**64, size=(n, m), dtype=np.uint64), share) & together & enough[:, :, None]
        found += int(np.count_nonzero(met.any(axis=(1, 2))))
    return found / trials


# ---- the page --------------------------------------------------------------------------------------------------------

HEAD = f"""# A fraction is enough

Made by `python -m bench.fraction`; {TRIALS:,} simulated events behind each figure, the law behind the stroke.

A request that streams in is not compared with all N that are concurrent with it but with K of them, so that its cost
does not grow with N. Which K is decided by a hash of the two request ids, from either side alike: a pair meets with
probability p = K / N, or always where N is K or less. An event of M homes has M (M - 1) / 2 pairs, so it is the pairs
that are found and not the requests, and **the first pair that meets makes both look at the whole window**, where they
see all the others. It is missed only when no pair meets:

    P(found) = 1 - (1 - p)^(M (M - 1) / 2)

Without the scan, one home must draw two others. That fails when the pairs that meet have no home in common:

    P(found) = 1 - sum over j of M! / (2^j j! (M - 2j)!) p^j (1 - p)^(M (M - 1) / 2 - j)

These say what the drawing costs; a pair that meets counts as a pair that matches. Where a share q of the pairs does,
put q p for p. What q is was not measured: every figure on this page has q = 1.
"""

DIRECTED = """
Were the two draws of a pair independent, as when each request throws its own dice, a pair would be met from either
side and p be 1 - (1 - K / N)^2, nearly twice as much, for the same number of comparisons: {directed:.2f} instead of
{symmetric:.2f} for three homes at K = 100 of N = 1000. The hash gives this up for a draw that a replay and a restart
repeat, and that does not depend on which of the two is looked at: a request that has ended draws no more, so a pair
that does not overlap in time is only ever seen from the later one.
"""


def page(trials: int = TRIALS, seed: int = 0) -> str:
    """Simulate, and write the page."""
    rng = np.random.default_rng(seed)
    parts = [HEAD, "\n## Over K, of N = 1000\n\nWith the scan, and in brackets without it.\n\n"]
    cells = {(m, k): simulate(m, k / WINDOW, trials, rng) for m in SIZES for k in PARTNERS}
    parts += _table(["M", *(f"K = {k}" for k in PARTNERS)], [
        [str(m), *(_both(cells[m, k], m, k / WINDOW) for k in PARTNERS)] for m in SIZES
    ])  # fmt: skip
    parts.append(DIRECTED.format(directed=found_by_scan(3, 1 - 0.9**2), symmetric=found_by_scan(3, 0.1)))
    k = Policy().partners
    parts.append(f"\n## Over N, with the default K = {k}\n\n")
    over_n = {(m, n): simulate(m, min(1.0, k / n), trials, rng) for m in SIZES for n in WINDOWS}
    parts += _table(["M", *(f"N = {n:,}" for n in WINDOWS)], [
        [str(m), *(_both(over_n[m, n], m, min(1.0, k / n)) for n in WINDOWS)] for m in SIZES
    ])  # fmt: skip
    parts.append(_shards(k, trials, rng))
    parts.append(_fleets(k))
    return "".join(parts)


def _shards(k: int, trials: int, rng: np.random.Generator) -> str:
    rows = []
    for shards in SHARDS:
        row = [f"{shards:,}"]
        for p in (1.0, k / WINDOW):
            m = smallest(p, shards)
            # Thousands of homes squared are much to draw: fewer events tell the third digit less well.
            few = min(trials, max(200, 400_000_000 // (m * m)))
            row += [
                f"{m:,}",
                f"{simulate_shards(m, p, shards, few, rng):.3f} / {found_by_some_shard(m, p, shards):.3f}",
            ]
        rows.append([*row, f"{_rule_of_thumb(shards, 1.0):,.0f}, {_rule_of_thumb(shards, k / WINDOW):,.0f}"])
    head = f"""
## Over shards

Beyond one worker the homes of a route are dealt to S shards, each with N = {WINDOW:,} of its own. Some shard must hold
three homes of the event, and two of them must meet there; then its average goes to all the others. With f(m) the law
above, and 0 below three homes, what is missed is a coefficient of a power series:

    1 - P(found) = M! [z^M] (sum over m of (1 - f(m)) (z / S)^m / m!)^S

The smallest event found with probability {SURE:g}, and the simulated and computed probability at that size; last the
rule of thumb (6 S^2 ln 10 / f(3))^(1/3), for full comparison and K = {k}, which holds when nearly all of it is
three homes in one shard.

"""
    return head + "".join(_table(["S", "all with all", "found", f"K = {k}", "found", "rule of thumb"], rows))


def _rule_of_thumb(shards: int, p: float) -> float:
    """M^3 / (6 S^2) triples share a shard, f(3) of them are met, and e^-x of none is 1 - SURE."""
    return float((6 * shards**2 * -math.log(1 - SURE) / found_by_scan(3, p)) ** (1 / 3))


def _fleets(k: int) -> str:
    rows = []
    for name, devices in FLEETS.items():
        per_s = devices * REQUESTS_A_DAY / 86_400 * PEAK
        concurrent = per_s * LARGEST_ROUTE * WINDOW_S
        shards = math.ceil(concurrent / 1.2 / WINDOW)  # a fifth over the round number is no reason for another shard
        share = concurrent / shards
        sizes = [smallest(p, shards, sure) for p in (1.0, k / share) for sure in (0.5, 0.9, 0.99)]
        rows.append([
            name, f"{per_s:,.0f}", f"{per_s * LARGEST_ROUTE:,.0f}", f"{concurrent:,.0f}",
            f"{shards:,}", f"{share:,.0f}",
            *(", ".join(f"{size:,}" for size in part) for part in (sizes[:3], sizes[3:])),
        ])  # fmt: skip
    head = f"""
## For a fleet

{REQUESTS_A_DAY} requests a device and day, {PEAK} times the mean at the peak, a third of it on the largest route, a
window of {WINDOW_S:g} s. The smallest events that some shard finds with probability 0.5, 0.9 and 0.99, if every
pair that meets matches. How many do was not measured; where not all do, it takes more homes than the table says, when
all are compared with all too:

"""
    tail = """
Each shard compares K with each look of each request, whatever the fleet: work grows as requests do and no faster. What
grows is the smallest event that is found, as the shards to the power of two thirds: for a thousand times the fleet at
most a hundred times as many homes, a tenth as large a part of it.
"""
    heads = [
        "devices", "requests/s, peak", "on the largest route", "concurrent there", "shards", "N of a shard",
        "homes, all with all", f"homes, K = {k}",
    ]  # fmt: skip
    return head + "".join(_table(heads, rows)) + tail


def _both(rates: Rates, m: int, p: float) -> str:
    laws = functools.partial("{:.3f}".format)
    return f"{rates.scan:.3f} / {laws(found_by_scan(m, p))} ({rates.draw:.3f} / {laws(found_by_draw(m, p))})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |\n" for row in (heads, ["---"] * len(heads), *rows)]


def main(
    out: Annotated[Path, typer.Option(help="The page.")] = Path("docs/fraction.md"),
    trials: Annotated[int, typer.Option(min=100, help="Simulated events behind each figure.")] = TRIALS,
) -> None:
    """Simulate what a fraction of the comparisons finds, and write the page."""
    text = page(trials)
    out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    typer.run(main)

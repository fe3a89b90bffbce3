"""Makes docs/holdout.md: the stated rate of false ignores, held against voices that no threshold was fitted on.

`python -m bench.holdout` simulates hours of the evaluation split, with a person every second or so, and counts how
often chance passes the thresholds of the calibration that ships. A quarter of an hour on two cores.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from bench.calibrate import people_and_airings, simulate
from matcher.bits import Bits, bits_named
from matcher.budget import TIERS, Budget
from matcher.evidence import Calibration, shipped_calibration
from matcher.null import Chance, Unrelated, chance_scores, triples_of
from matcher.policy import Policy
from pipeline.recordings.recording import Recording

SIMULATION = {"minutes": 60, "homes": 400, "events": 60, "live_per_minute": 50, "split": "evaluation"}
# The first was looked at when the shares of the budget were chosen, the second was not.
SEEDS = (43, 44)
BUDGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
CONCURRENT = 100
DRAWS = 400

HEAD = """# Do the stated rates hold?

Made by `python -m bench.holdout`: the calibration that ships was measured on the voices and advertisements of
the simulator's *calibration* split; here its thresholds meet those of the *evaluation* split, in {hours} simulated
hours: seeds 43 and 44, in this order ({people} people of {voices} voices, {airings} airings, {averages} averages). When
the first look, the score of a triple and the shares of the budget were chosen, the first hour, and one of seed 42, had
been looked at, the second once. After it the shares of averages and of homes that are far apart in time were lowered,
which asks for more, and scores were divided by the widths of nulls: these were chosen by what they find, and both hours
were counted again for this table.
A person is a stranger to whoever speaks with another synthesiser; to an average, whoever has another voice.

For each budget the table says what share of live requests chance ignores at the thresholds that the budget gives, each
way and in all: by two strangers among {n} concurrent requests, at any of the distances in time that have a share of the
budget; beside two homes of an airing, which a live request is as often as `airing_share` says; by one average of
another sound, and by that of an open event. The second column is the share in all by what is stated, 1 or less when the
promise holds, of the hours together and, with bounds of its own, of each.

| stated | times the stated | in all | three strangers | beside an airing | an average |
|---|---|---|---|---|---|
"""
TAIL = """
In brackets are 95 % bounds. A few voices that happen to be near each other make most of the chance, so neither triples
nor requests are independent trials, but speakers are: they are drawn again with replacement {draws} times (the
bootstrap of clusters, Field and Welsh 2007). Behind the colon is what was counted: triples, or pairs.

What the table can show: a stated rate below the lower bound would be a promise broken. What it cannot: more hours are
the same {voices} voices with other words, which steadies the values and hardly narrows the bounds; so that the stated
rate lies above the upper bound, it takes more voices. Where triples or pairs are counted in single figures, the value
is one chance meeting or none, and its bounds say little: below, the promise rests on the fitted tail alone.
"""


@dataclass(frozen=True)
class Share:
    """Of the live requests, those that chance ignores in one way.

    Attributes:
        of_requests: the share.
        counted: the triples or pairs that it comes from.
        drawn: float64 (DRAWS,), the share with other speakers.

    """

    of_requests: float
    counted: int
    drawn: npt.NDArray[np.float64]

    @staticmethod
    def sum(ways: "Sequence[Share]") -> "Share":
        """Of the same requests, those that are ignored in any way."""
        return Share(
            sum(way.of_requests for way in ways),
            sum(way.counted for way in ways),
            np.sum([way.drawn for way in ways], axis=0),
        )

    @staticmethod
    def mean(hours: "Sequence[Share]") -> "Share":
        """Of several hours, of the same length, what is ignored in one way."""
        pooled = Share.sum(hours)
        return Share(pooled.of_requests / len(hours), pooled.counted, pooled.drawn / len(hours))

    def __str__(self) -> str:
        return f"{self.of_requests:.1e} ({bounds(self.drawn)}: {self.counted})"


def bounds(drawn: npt.NDArray[np.float64], form: str = ".0e") -> str:
    """Give the 95 % bounds of what was drawn."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{low:{form}} to {high:{form}}"


def main(
    recording: Annotated[list[Path] | None, typer.Option(help="Simulated hours; made anew when not given.")] = None,
    bits_name: Annotated[str, typer.Option("--bits", help="The kind of bits.")] = "learned64",
    out: Annotated[Path, typer.Option(help="The page.")] = Path("docs/holdout.md"),
) -> None:
    """Hold the shipped thresholds against people who set none of them."""
    bits = bits_named(bits_name)
    calibration = shipped_calibration(bits.name)
    with ExitStack() as stack:
        if not recording:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            recording = [folder / str(seed) for seed in SEEDS]
            for hour, seed in zip(recording, SEEDS, strict=True):
                simulate(hour, {**SIMULATION, "seed": seed})
        hours = [Hour.of(Recording.load(hour), calibration, bits) for hour in recording]
    # In each draw the same speakers for every hour.
    weights = np.split(drawn_again(np.concatenate([hour.speakers for hour in hours])), _ends(hours), axis=1)
    policy = Policy()
    lines = []
    for stated in BUDGETS:
        budget = Budget(calibration, stated, CONCURRENT, policy.airing_share, policy.window_us)
        ways = [hour.ways(budget, of_hour) for hour, of_hour in zip(hours, weights, strict=True)]
        pooled = [Share.mean(way) for way in zip(*ways, strict=True)]
        total = Share.sum(pooled)
        each = ", ".join(_times(Share.sum(way), stated) for way in ways)
        times = f"**{total.of_requests / stated:.2f}**; {each}"
        whole = f"{total.of_requests:.1e} ({bounds(total.drawn)})"
        lines.append(f"| {stated:.0e} | {times} | {whole} | {' | '.join(map(str, pooled))} |\n")
    what = {name: sum(hour.what[name] for hour in hours) for name in ("people", "airings", "averages")}
    what |= {"voices": len(np.unique(np.concatenate([hour.speakers for hour in hours]))), "hours": len(hours)}
    out.write_text(
        HEAD.format(n=CONCURRENT, **what) + "".join(lines) + TAIL.format(draws=DRAWS, **what), encoding="utf-8"
    )
    print("".join(lines))


def _times(share: Share, stated: float) -> str:
    return f"{share.of_requests / stated:.2f} ({bounds(share.drawn / stated, '.2f')})"


@dataclass(frozen=True, eq=False)
class Hour:
    """What chance brings in one simulated hour.

    Attributes:
        unrelated: its people, airings and averages.
        speakers: str (R,), who speaks each request.
        what: how many there are.
        chance: what comes of holding them against each other.

    """

    unrelated: Unrelated
    speakers: npt.NDArray[np.str_]
    what: Mapping[str, int]
    chance: Chance

    @classmethod
    def of(cls, recording: Recording, calibration: Calibration, bits: Bits) -> "Hour":
        """Hold everybody of a recording against everybody."""
        unrelated, speakers, what = people_and_airings(recording, bits, 0)
        counted = {name: count for name, count in what.items() if isinstance(count, int)}
        return cls(unrelated, speakers, counted, chance_scores(calibration, unrelated))

    def ways(self, budget: Budget, weights: npt.NDArray[np.float64]) -> list[Share]:
        """Count each way in which chance ignores."""
        return [
            strangers(budget, self.chance, triples_of(self.unrelated.strangers), weights),
            beside(budget, self.chance, np.nonzero(self.unrelated.airing_strangers)[0], weights),
            averages(budget, self.chance, np.nonzero(self.unrelated.average_strangers)[0], weights),
        ]


def _ends(hours: Sequence[Hour]) -> list[int]:
    """Where one hour's requests end and the next one's begin."""
    ends: list[int] = np.cumsum([len(hour.speakers) for hour in hours])[:-1].tolist()
    return ends


def drawn_again(speakers: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """How often each request counts when the speakers are drawn again with replacement: float64 (DRAWS, R), mean 1."""
    names, of = np.unique(speakers, return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)[:, of]
    weights: npt.NDArray[np.float64] = drawn / drawn.mean(axis=1, keepdims=True)
    return weights


def strangers(budget: Budget, chance: Chance, triples: float, weights: npt.NDArray[np.float64]) -> Share:
    """Requests that make a triple with two strangers of their window."""
    people = weights.shape[1]
    expected, drawn, counted, nearer = np.zeros(people), np.zeros(DRAWS), 0, 0.0
    for tier in TIERS:
        near = CONCURRENT * tier.of_window(budget.window_us)
        passing = chance.members[chance.triples > budget.triple(tier, CONCURRENT, 0, 1)]
        # Of the triples of strangers a window of n has n^2 / 2 about each request; the nearer ones are counted already.
        each = (near**2 - nearer**2) / 2 / triples
        expected += np.bincount(passing.ravel(), minlength=people) * each * people / 3
        drawn += np.array([row[passing].prod(axis=1).sum() for row in weights]) * each
        counted, nearer = max(counted, len(passing)), near
    share = float(np.mean(1 - np.exp(-expected)))  # who is in several triples is ignored once
    return Share(share, counted, drawn * share / max(expected.mean(), 1e-300))


def beside(budget: Budget, chance: Chance, people: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> Share:
    """Requests beside an open event that make a triple with two of its homes."""
    share, drawn, counted, nearer = 0.0, np.zeros(DRAWS), 0, 0.0
    for tier in TIERS:
        passing = people[chance.beside > budget.triple(tier, CONCURRENT, 0, 1)]
        each = budget.airing_share * (tier.airing_time - nearer) / len(people)
        share, drawn = share + len(passing) * each, drawn + weights[:, passing].sum(axis=1) * each
        counted, nearer = max(counted, len(passing)), tier.airing_time
    return Share(share, counted, drawn)


def averages(budget: Budget, chance: Chance, people: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> Share:
    """Requests that are near an average of before, or that of an open event."""
    discovered, opened = (people[chance.template > score] for score in (budget.average(1), budget.open_average(1)))
    drawn = weights[:, discovered].sum(axis=1) + budget.airing_share * weights[:, opened].sum(axis=1)
    share = (len(discovered) + budget.airing_share * len(opened)) / len(people)
    return Share(share, max(len(discovered), len(opened)), drawn / len(people))


if __name__ == "__main__":
    typer.run(main)

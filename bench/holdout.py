"""Makes docs/holdout.md: the stated rate of false ignores, held against voices that set no threshold.

`python -m bench.holdout` simulates an hour of the evaluation split and counts how often chance passes the thresholds of
the calibration that ships. Five minutes on two cores.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from scipy.stats import chi2

from bench.calibrate import people_and_airings, simulate
from matcher.bits import bits_named
from matcher.budget import NEAR_US, Budget
from matcher.evidence import Calibration, Tail, shipped_calibration
from matcher.null import Chance, chance_scores
from matcher.route import Policy
from pipeline.recording import Recording

SIMULATION = {"minutes": 60, "homes": 400, "events": 60, "live_per_minute": 12.5, "split": "evaluation", "seed": 42}
BUDGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
CONCURRENT = 100
NEAR = 2 * NEAR_US / Policy().window_us

HEAD = """# Do the stated rates hold?

Made by `python -m bench.holdout`: the calibration that ships was measured on the voices, rooms and advertisements of
the simulator's *calibration* split; here its thresholds meet those of the *evaluation* split
({people} people of {voices} voices, {airings} airings, {averages} averages). A person is a stranger to whoever speaks
with another synthesiser; to an average, whoever has another voice.

For each probability the threshold says what share of people chance may ignore; the table says what share it did, with
95 % bounds (Poisson). A stated rate below the lower bound is a promise broken.

"As decided": the job takes the harder of the thresholds for strangers and beside an airing, each of them for its share
of the budget; they are lower for requests that start within {near_s:g} s of one of them, {near} of the {n}. These two
columns are what a budget of the stated size lets through of strangers alone.

| stated | triples of {n}, own threshold | of {near} at one time, as decided | of {n}, as decided | beside an airing \
| against an average |
|---|---|---|---|---|---|
"""


def main(
    recording: Annotated[Path | None, typer.Option(help="Simulated traffic; made anew when not given.")] = None,
    bits_name: Annotated[str, typer.Option("--bits", help="The kind of bits.")] = "learned64",
    out: Annotated[Path, typer.Option(help="The page.")] = Path("docs/holdout.md"),
) -> None:
    """Hold the shipped thresholds against people who set none of them."""
    bits = bits_named(bits_name)
    with ExitStack() as stack:
        if recording is None:
            recording = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "holdout"
            simulate(recording, SIMULATION)
        unrelated, what = people_and_airings(Recording.load(recording), bits, 0)
    calibration = shipped_calibration(bits.name)
    chance = chance_scores(calibration, unrelated)
    lines = [_line(budget, calibration, chance, unrelated.words.shape[1]) for budget in BUDGETS]
    head = HEAD.format(n=CONCURRENT, near=round(CONCURRENT * NEAR), near_s=NEAR_US / 1e6, **what)
    out.write_text(head + "".join(lines), encoding="utf-8")
    print("".join(lines))


def _line(budget: float, calibration: Calibration, chance: Chance, people: int) -> str:
    # Of R people each triple has three members, and a window of n holds the other two with probability (n / R)^2.
    share = 3 / people * (CONCURRENT / people) ** 2
    decided = Budget(calibration, budget, CONCURRENT, Policy().airing_share, Policy().window_us)
    cells = [
        *(
            _rate(int((chance.triples > threshold).sum()), 1 / among)
            for threshold, among in (
                (calibration.triple.threshold(budget, CONCURRENT), share),
                (decided.near_triple(CONCURRENT, 0, 1), share * NEAR**2),
                (decided.triple(CONCURRENT, 1), share),
            )
        ),
        *(_of(tail, scores, budget) for tail, scores in
          ((calibration.beside, chance.beside), (calibration.template, chance.template))),
    ]  # fmt: skip
    return f"| {budget:.0e} | {' | '.join(cells)} |\n"


def _of(tail: Tail, scores: npt.NDArray[np.float64], budget: float) -> str:

    return _rate(int((scores > tail.threshold(budget, 1)).sum()), len(scores))


def _rate(count: int, trials: float) -> str:
    """Share with its exact 95 % bounds: half a chi square of 2 k and of 2 k + 2 degrees of freedom (Garwood 1936)."""
    low = chi2.ppf(0.025, 2 * count) / 2 / trials if count else 0.0
    high = chi2.ppf(0.975, 2 * count + 2) / 2 / trials
    return f"{count / trials:.1e} ({low:.0e} to {high:.0e})"


if __name__ == "__main__":
    typer.run(main)

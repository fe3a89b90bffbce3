"""The charts of a report, as SVG that takes its colours and its type from the page around it."""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matcher.evidence import Calibration
from pipeline.evaluate.near import Near
from pipeline.evaluate.score import Recall, rate_bound_95
from pipeline.evaluate.sweep import Operation

# Colours that no chart has: each becomes a variable of the page's style sheet, so that light and dark both hold.
INK, MUTED, GRID, HERE, OTHER = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", HERE: "--here", OTHER: "--other"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def draw(name: str, size: tuple[float, float], paint: Callable[[Axes], None]) -> str:
    """Give one chart as inline SVG.

    Args:
        name: salts the ids within, so that charts on one page do not share them.
        size: width and height in inches at 72 pixels each.
        paint: draws onto the axes.

    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        paint(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    # A page needs no name spaces, and groups need no ids.
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'font: ([\d.]+px) [^;"]*', r"font-size: \1", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def recall_bars(name: str, here: Sequence[Recall], other: Sequence[Recall] | None) -> str:
    """Draw the share that was ignored, with its count, for each group; the other run as a mark on each bar."""

    def paint(axes: Axes) -> None:
        places = np.arange(len(here))
        axes.barh(places, [recall.rate or 0 for recall in here], height=0.62, color=HERE)
        for place, recall in enumerate(here):
            text = f"{recall.rate:.0%} · {recall.ignored} of {recall.expected}" if recall.rate is not None else "none"
            axes.text(1.02, place, text, va="center")
        if other is not None:
            rates = np.array([math.nan if recall.rate is None else recall.rate for recall in other])
            axes.vlines(rates, places - 0.42, places + 0.42, color=OTHER, linewidth=3, label="the other run")
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), borderaxespad=0)
        axes.set_yticks(places, [recall.label for recall in here])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
        axes.grid(visible=False, axis="y")

    return draw(name, (6.2, 0.75 + 0.36 * len(here) + (0.3 if other is not None else 0)), paint)


def by_audio(used_ms: Sequence[float], expected: int, other: tuple[Sequence[float], int] | None) -> str:
    """Draw which share was ignored by the time so much audio had been heard."""

    def line(axes: Axes, values: Sequence[float], of: int, colour: str, label: str) -> None:
        rising = np.sort(values)
        share = np.arange(1, len(rising) + 1) / max(1, of)
        axes.step(
            [0, *rising, 2200], [0, *share, share[-1] if len(share) else 0], where="post", color=colour, label=label
        )

    def paint(axes: Axes) -> None:
        if other is not None:
            line(axes, other[0], other[1], OTHER, "the other run")
        line(axes, used_ms, expected, HERE, "this run")
        axes.set_xlabel("audio heard since the wake word began, ms")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 2200)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
        if other is not None:
            axes.legend(loc="lower right")

    return draw("audio", (6.2, 2.9), paint)


def time_to_decide(used_ms: Sequence[float], other: Sequence[float] | None) -> str:
    """Draw how many requests were ignored after how much audio."""

    def paint(axes: Axes) -> None:
        highest = max((2000.0, *used_ms, *(other or ())))
        lowest = min((0.0, *used_ms, *(other or ())))
        edges = np.arange(lowest // 80 * 80, highest + 80, 80).tolist()
        axes.hist(used_ms, edges, color=HERE, rwidth=0.9, label="this run")
        if other is not None:
            axes.hist(other, edges, histtype="step", color=OTHER, linewidth=1.8, label="the other run")
            axes.legend(loc="upper right")
        axes.set_xlabel("audio heard since the wake word began, ms")
        axes.set_ylabel("requests")
        axes.grid(visible=False, axis="x")

    return draw("times", (6.2, 2.9), paint)


def trade_off(operations: Sequence[Operation], budget: float, measured: int | None) -> str:
    """Draw misses against false ignores: what is budgeted, what was counted, and how far the count can be trusted.

    Args:
        operations: from the sweep.
        budget: that is set.
        measured: people that the calibration was measured on; rarer chances than one in so many are extrapolated.

    """

    def paint(axes: Axes) -> None:
        budgets = np.array([at.budget for at in operations])
        misses = np.array([1 - (at.recall.rate or 0) for at in operations])
        seen = 1 / measured if measured else 0.0
        beyond, within = budgets <= seen * 10, budgets >= seen
        axes.plot(budgets[beyond], misses[beyond], color=HERE, linestyle=(0, (3, 2)))
        axes.plot(budgets[within], misses[within], color=HERE)
        axes.plot(budgets, misses, "o", color=HERE, markersize=4.5, label="false-ignore budget")
        for at, y in zip(operations, misses, strict=True):
            count, of = len(at.false_ignores.request_ids), at.false_ignores.accepted_expected
            bound = rate_bound_95(count, of) or 1.0
            axes.plot([count / of if count else 1e-10, bound], [y, y], color=OTHER, linewidth=1, alpha=0.7)
            if count:
                axes.plot(count / of, y, "s", color=OTHER, markersize=4.5)
            axes.plot(bound, y, "|", color=OTHER, markersize=9)
        axes.plot([], [], "s", color=OTHER, markersize=4.5, label="counted, up to the 95 % bound")
        at_budget = [1 - (at.recall.rate or 0) for at in operations if at.budget == budget]
        if at_budget:
            axes.plot(budget, at_budget[0], "o", color=INK, markersize=10, markerfacecolor="none", label="as it is set")
        if seen:
            axes.axvspan(1e-10, seen, color=GRID, alpha=0.35, linewidth=0)
            for text, side, gap in (("extrapolated", "right", -8), ("measured", "left", 8)):
                axes.annotate(
                    text, (seen, 1.02), (gap, 0), textcoords="offset points", color=MUTED, ha=side,
                    xycoords=axes.get_xaxis_transform(),
                )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(3e-10, 1)
        axes.set_ylim(-0.04 * max(0.02, misses.max()), 1.15 * max(0.02, misses.max()))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        axes.set_xlabel("chance that a person is ignored")
        axes.set_ylabel("missed")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.16), ncols=2, fontsize=9, borderaxespad=0)

    return draw("trade-off", (6.2, 4.8), paint)


def null_tails(
    calibration: Calibration,
    concurrent: int,
    known: int,
    people: int,
    triples: Sequence[Near],
    averages: Sequence[Near],
    measured: int | None,
) -> str:
    """Draw how likely chance is to reach a score: the calibration's tails, what people here reached, and was needed.

    Args:
        calibration: has the tails.
        concurrent: requests that a triple is drawn from.
        known: averages that the recording brought.
        people: of the recording.
        triples: the nearest that these came to a triple, of all who had one.
        averages: the nearest that they came to an average.
        measured: people that the calibration was measured on.

    """
    seen = 1 / measured if measured else 1.0

    def paint(axes: Axes) -> None:
        for tail, n, colour, style, label in (
            (calibration.triple, concurrent, HERE, "-", f"three strangers among {concurrent}"),
            (calibration.beside, 1, HERE, "--", "one beside an airing"),
            (calibration.template, max(1, known), OTHER, "-", f"{max(1, known)} averages"),
        ):
            # The probability is exp((start + growth ln n - s) / scale): the threshold at 1 less s, over the scale.
            ends = [tail.threshold(1.0, n), tail.threshold(1e-9, n)]
            axes.plot(ends, [1.0, 1e-9], color=colour, linestyle=style, label=f"chance: {label}")
        for nears, colour, label in ((triples, HERE, "best three"), (averages, OTHER, "best average")):
            if nears:
                rising = np.sort([near.score for near in nears])
                share = np.arange(len(rising), 0, -1) / people
                axes.plot(rising, share, "o", color=colour, markersize=3, alpha=0.6, label=f"people: {label}")
                needed = float(np.median([near.threshold for near in nears]))
                axes.axvline(needed, color=colour, linestyle=":", linewidth=1.4, label=f"needed: {needed:.1f}")
        axes.axhspan(1e-10, seen, color=GRID, alpha=0.35, linewidth=0)
        axes.text(0.005, seen * 0.7, "extrapolated", transform=axes.get_yaxis_transform(), va="top", color=MUTED)
        axes.set_yscale("log")
        axes.set_ylim(1e-9, 1.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("score, standard deviations under the null")
        axes.set_ylabel("share of people who reach it")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.16), ncols=2, fontsize=9, borderaxespad=0)

    return draw("null", (6.2, 4.8), paint)

"""The end of the demonstration: decisions against the truth, in a table; and where to look next."""

from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.decisions import DecisionLine
from pipeline.demo.console import MAX_WIDTH
from pipeline.demo.street import Street
from pipeline.evaluate.score import Report, Spread

ENOUGH = 0.95  # of the television's wakes must be kept quiet


def succeeded(report: Report) -> bool:
    """Say whether it was shown: nearly all of the television kept quiet, no person ignored."""
    return (report.recall.rate or 0.0) >= ENOUGH and not report.false_ignores.request_ids


def against_the_truth(street: Street, report: Report, decisions: Iterable[DecisionLine], width: int) -> RenderableType:
    """Draw who woke the devices, and what became of them."""
    ignored = {decision.request_id for decision in decisions}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, width=min(width, MAX_WIDTH))
    table.add_column("what woke the devices", no_wrap=True, overflow="ellipsis", ratio=1)
    for heading in ("devices", "kept quiet", "right"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for airing in street.airings:
        heard = [one.request_id for one in street.scene.heard if one.event == airing.event]
        quiet = len(ignored.intersection(heard))
        table.add_row(f"“{airing.clip.text}”", str(len(heard)), str(quiet), _share(quiet, len(heard)))
    wrong, people = len(report.false_ignores.request_ids), report.false_ignores.accepted_expected
    table.add_row("people", str(people), str(wrong), _share(people - wrong, people))
    return table


def verdict(report: Report) -> Text:
    """Say it in one sentence."""
    recall, wrong = report.recall, len(report.false_ignores.request_ids)
    people = report.false_ignores.accepted_expected
    ignored = f"none of {people} people was ignored" if not wrong else f"{wrong} of {people} people IGNORED"
    text = f"{recall.ignored} of {recall.expected} devices stayed asleep, and "
    good = succeeded(report)
    return Text.assemble(("✓ " if good else "✗ ", "bold green" if good else "bold red"), text, ignored, ".")


def how_fast(report: Report) -> RenderableType:
    """Say how much audio it took, and how long."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_row("  heard of the television before deciding", _quantiles(report.audio_used_after_wake_word_ms))
    table.add_row("  from that sound's arrival to the decision", _quantiles(report.latency_ms))
    return table


def where_next(kept: Path | None) -> list[tuple[str, str]]:
    """Name what comes next, and its command."""
    if kept is not None:
        return [
            ("the whole table", f"hushword evaluate {kept} --decisions {kept / 'decisions.jsonl'}"),
            ("the same street into a Kafka of yours", f"hushword replay {kept}"),
            ("how it works, and where it ends", "README.md, docs/"),
        ]
    return [
        ("a street of your own, with its truth", "hushword simulate evening --preset evening"),
        ("the job over it, and the whole table", "hushword evaluate evening --run"),
        ("the same into a Kafka of yours", "hushword replay evening"),
        ("how it works, and where it ends", "README.md, docs/"),
    ]


def _share(part: int, of: int) -> str:
    return f"{part / of:.0%}" if of else "-"


def _quantiles(spread: Spread) -> str:
    if spread.p50 is None or spread.p90 is None:
        return "-"
    return f"median {spread.p50:.0f} ms, 90 % {spread.p90:.0f} ms"

"""The street as a picture on a terminal: a window for each home, what is on air, what hushword says, how it stands."""

import time

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from pipeline.demo.console import MAX_WIDTH
from pipeline.demo.lines import discovery
from pipeline.demo.stage import Stage, Step
from pipeline.demo.street import Doing, OnAir, Street

GLYPHS = {
    Doing.ASLEEP: "·",
    Doing.SERVED: "✓",
    Doing.QUIET: "z",
    Doing.TALKING: "●",
    Doing.WOKEN: "!",
    Doing.ANSWERED_TV: "?",
    Doing.WRONGED: "✗",
}
STYLES = {
    Doing.ASLEEP: "grey42 on grey15",
    Doing.SERVED: "#7bd88f on #1c3a26",
    Doing.QUIET: "#9db4ff on #26305c",
    Doing.TALKING: "bold black on #7bd88f",
    Doing.WOKEN: "bold black on #ffcf5c",
    Doing.ANSWERED_TV: "bold white on #b3541e",
    Doing.WRONGED: "bold white on #c0263d",
}
_LONG = 64  # a line of so many letters holds an advertisement's words, or a sentence of hushword's
_WIDE = 72
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def picture(stage: Stage, now_s: float | None, width: int, height: int) -> RenderableType:
    """Draw the stage at a time of the scene (None: it is being set up), into `height` lines if possible."""
    shown_s = -1.0 if now_s is None else now_s
    parts = [
        _title(stage, now_s),
        "",
        Padding(Windows(stage.street.homes_doing(shown_s), height - 16), (0, 0, 0, 2)),
        "",
        _counts(stage.street, shown_s, short=width < _WIDE),
    ]
    if now_s is None:
        parts += ["", _setting_up(stage)]
    elif not stage.over:  # what follows then is the table
        parts += ["", _happening(stage.street, shown_s)]
    return Constrain(Group(*parts), MAX_WIDTH)


class Windows:
    """The homes, as even rows of windows: three cells wide with gaps while that fits, else one cell."""

    def __init__(self, doing: list[Doing], height: int) -> None:
        self._doing, self._height = doing, height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw them."""
        for cell, gap, apart in ((3, 2, 1), (3, 1, 1), (3, 1, 0), (1, 1, 0), (1, 0, 0)):
            most = (options.max_width - 1) // (cell + gap)
            rows = -(-len(self._doing) // most)
            if rows * (1 + apart) - apart <= self._height:
                break
        per_row = -(-len(self._doing) // rows)
        for first in range(0, len(self._doing), per_row):
            if first and apart:
                yield Segment.line()
            for doing in self._doing[first : first + per_row]:
                yield Segment(GLYPHS[doing].center(cell), console.get_style(STYLES[doing]))
                yield Segment(" " * gap, Style.null())
            yield Segment.line()


def _title(stage: Stage, now_s: float | None) -> RenderableType:
    row = Table.grid(expand=True, padding=(0, 2))
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    if now_s is None:
        row.add_row(Text("A street, asleep", style="bold"), "", Text("setting up", style="grey58"))
    else:
        at_s = min(max(now_s, 0.0), stage.seconds)
        bar = ProgressBar(stage.seconds, at_s, style="grey23", complete_style="#9db4ff", finished_style="#9db4ff")
        clock = Text(f"{_clock(at_s)} of {_clock(stage.seconds)}", style="grey58")
        row.add_row(Text("A street, listening" if not stage.over else "A street, afterwards", style="bold"), bar, clock)
    return row


def _counts(street: Street, now_s: float, *, short: bool) -> RenderableType:
    """Give the counters, which are the legend too."""
    counts = street.counts(now_s)
    table = Table.grid(padding=(0, 2))
    for _ in range(4):
        table.add_column(no_wrap=True)
    table.add_row(
        Text("  TV" if short else "  television", style="grey58"),
        _count(Doing.WOKEN, counts.woken, "woken"),
        _count(Doing.QUIET, counts.quiet, "quiet" if short else "kept quiet"),
        _count(Doing.ANSWERED_TV, counts.answered_tv, "answered" if short else "answered it"),
    )
    table.add_row(
        Text("  people", style="grey58"),
        _count(Doing.TALKING, counts.talked, "talked"),
        _count(Doing.SERVED, counts.served, "served"),
        _count(Doing.WRONGED, counts.wronged, "ignored"),
    )
    return table


def _count(doing: Doing, number: int, what: str) -> Text:
    text = Text(f" {GLYPHS[doing]} ", style=STYLES[doing])
    return Text.assemble(text, (f" {number:3}", "bold"), f" {what}")


def _setting_up(stage: Stage) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=3, justify="right")
    table.add_column()
    table.add_column(style="grey58", no_wrap=True)
    for step in stage.steps:
        table.add_row(_mark(step), Text(step.text, style="" if step.began_s else "grey58"), _how_far(step))
    return table


def _mark(step: Step) -> Text:
    if step.took_s is not None:
        return Text("✓", style="#7bd88f")
    if step.began_s is None:
        return Text("·", style="grey42")
    return Text(_SPINNER[int(time.monotonic() * 10) % len(_SPINNER)], style="#ffcf5c")


def _how_far(step: Step) -> RenderableType:
    if step.took_s is not None:
        return f"{step.took_s:.1f} s"
    if step.total:
        return f"{step.done} of {step.total}"
    return "" if step.began_s is None else f"{time.monotonic() - step.began_s:.0f} s"


def _happening(street: Street, now_s: float) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 2))
    table.add_column(style="grey58", no_wrap=True)
    table.add_column(ratio=1)
    airing = street.on_air(now_s)
    table.add_row("  on air", _Place(_words(airing, now_s) if airing else Text("-", style="grey42"), 1, 1))
    table.add_row("  hushword", _Place(_said(street, now_s), 2, 3))
    people = street.people(now_s)[:2]
    said = Text("\n").join(
        Text.assemble((f" {GLYPHS[became]} ", STYLES[became]), f" “{heard.clip.text}”") for heard, became in people
    )
    said.no_wrap, said.overflow = True, "ellipsis"
    table.add_row("  people", _Place(said, 2, 2))
    return table


class _Place:
    """Keeps the place of some lines of text, of more where they are short: so nothing jumps."""

    def __init__(self, text: Text, lines: int, short_lines: int) -> None:
        self._text, self._lines, self._short_lines = text, lines, short_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the text, and a blank line below it."""
        count = self._lines if options.max_width >= _LONG else self._short_lines
        # The blank line below gives way to a text that is longer than was thought.
        lines = console.render_lines(self._text, options, pad=False)[: count + 1]
        for line in [*lines, *([[]] * (count - len(lines) + 1))]:
            yield from line
            yield Segment.line()


def _words(airing: OnAir, now_s: float) -> Text:
    spoken = airing.spoken(now_s)
    over = now_s > max(airing.ends_s, airing.at_s)
    text = Text(f"“{spoken}”" if over else f"“{spoken}", style="grey58" if over else "")
    text.highlight_words([airing.clip.wake_word.replace("_", " ")], "bold #ffcf5c", case_sensitive=False)
    return text


def _said(street: Street, now_s: float) -> Text:
    """Say what was found out last; it stays until the next advertisement is on."""
    begun = [airing for airing in street.airings if airing.begins_s <= now_s]
    decided = street.found(begun[-1], now_s) if begun else []
    if not decided:
        return Text("listening", style="grey42")
    found = discovery(decided)
    first = f"{found[0].upper()}{found[1:]}."
    used_ms = min(one.line.audio_used_ms for one in decided)
    second = f"{len(decided)} devices stay asleep; {used_ms} ms of audio was enough."
    return Text(f"{first}\n{second}", style="#9db4ff" if street.on_air(now_s) else "#6b7ab8")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"

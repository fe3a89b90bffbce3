"""The terminal that the demonstration writes to: what it can show, and text that fits it."""

import os
import textwrap
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console

MIN_WIDTH, MAX_WIDTH = 58, 96


def demo_console(file: TextIO | None = None, environment: Mapping[str, str] | None = None) -> Console:
    """Give standard output, or `file`; where colours are not wanted, nothing but text goes out."""
    environment = os.environ if environment is None else environment
    console = Console(file=file, highlight=False, _environ=environment)
    if not console.no_color:
        return console
    return Console(file=file, highlight=False, color_system=None, _environ=environment)


def can_be_drawn_on(console: Console) -> bool:
    """Say whether a picture can be drawn over itself: a terminal with colours, room and the letters."""
    return (
        console.is_terminal
        and not console.is_dumb_terminal
        and console.color_system is not None
        and console.width >= MIN_WIDTH
        and console.encoding.startswith("utf")
    )


def say(console: Console, text: str, indent: int = 0) -> None:
    """Print a text, its further lines indented, in the letters that the output has."""
    wrapped = textwrap.fill(text, min(console.width, MAX_WIDTH), subsequent_indent=" " * indent, break_on_hyphens=False)
    console.print(plain_letters(wrapped, console.encoding), markup=False, soft_wrap=True)


def plain_letters(text: str, encoding: str) -> str:
    """Replace typographic letters where the encoding lacks them."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace("“", '"').replace("”", '"').encode("ascii", "replace").decode()
    return text

"""`hushword demo`: the command."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.demo.lifetime import Lifetime, StoppedError, guarded

HOMES, SECONDS = 48, 60
SEED = 3  # its first advertisement comes soon, and people talk just before it


def demo(
    homes: Annotated[int, typer.Option(min=8, max=300, help="Homes in the street.")] = HOMES,
    seconds: Annotated[int, typer.Option(min=30, max=180, help="How long it plays.")] = SECONDS,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another street.")] = SEED,
    keep: Annotated[
        Path | None, typer.Option(help="A new folder for the recording and the decisions.", metavar="FOLDER")
    ] = None,
) -> None:
    """Show the whole thing: an advertisement wakes simulated homes while people talk; about two minutes."""
    try:
        code = guarded(lambda life: _demo(life, homes, seconds, seed, keep))
    except StoppedError:
        print("\nhushword: stopped; nothing is left running", file=sys.stderr)
        raise
    raise typer.Exit(code)


def _demo(life: Lifetime, homes: int, seconds: int, seed: int, keep: Path | None) -> int:
    from pipeline.demo.console import demo_console, say

    console = demo_console()
    for line in about(homes, seconds):
        say(console, line, 3)
    console.print()
    from pipeline.demo.run import Options, run_demo  # numpy, Kafka's client: a second, while three lines are read

    return run_demo(Options(homes, seconds, seed, keep), console, life)


def about(homes: int, seconds: int) -> list[str]:
    """Say what is about to happen, in three lines."""
    return [
        f"1. {homes} simulated homes: for {seconds} seconds people talk to their devices.",
        "2. An advertisement on television says “Alexa” and wakes half; later, another.",
        "3. hushword, behind a real Kafka, hears one sound in many homes: stay asleep.",
    ]

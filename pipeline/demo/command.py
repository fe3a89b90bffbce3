"""`hushword demo`: the command."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.demo.lifetime import Lifetime, StoppedError, guarded

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.monitor.server import Monitor

HOMES, SECONDS = 48, 60
SEED = 3  # its first advertisement comes soon, and people talk just before it


def demo(
    homes: Annotated[int, typer.Option(min=8, max=300, help="Homes in the street.")] = HOMES,
    seconds: Annotated[int, typer.Option(min=30, max=180, help="How long it plays.")] = SECONDS,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another street.")] = SEED,
    keep: Annotated[
        Path | None, typer.Option(help="A new folder for the recording and the decisions.", metavar="FOLDER")
    ] = None,
    monitor: Annotated[bool, typer.Option(help="Show it on a page in the browser too.")] = True,
    hold: Annotated[bool, typer.Option("--hold", help="Keep the page in the end, until Ctrl-C.")] = False,
) -> None:
    """Show the whole thing: an advertisement wakes simulated homes while people talk; about two minutes."""
    try:
        code = guarded(lambda life: _demo(life, homes, seconds, seed, keep, monitor=monitor, hold=hold))
    except StoppedError:
        print("\nhushword: stopped; nothing is left running", file=sys.stderr)
        raise
    raise typer.Exit(code)


def _demo(life: Lifetime, homes: int, seconds: int, seed: int, keep: Path | None, *, monitor: bool, hold: bool) -> int:
    from pipeline.demo.console import demo_console, say

    console = demo_console()
    with _page(console, wanted=monitor) as page:
        for line in about(homes, seconds):
            say(console, line, 3)
        console.print()
        from pipeline.demo.run import Options, run_demo  # numpy, Kafka's client: a second, while that is read

        code = run_demo(Options(homes, seconds, seed, keep), console, life, page)
        if hold and page is not None:
            console.print()
            say(console, f"The page stays at {page.address} until Ctrl-C.")
            while True:
                life.check()
                time.sleep(0.2)
    return code


@contextmanager
def _page(console: "Console", *, wanted: bool) -> Iterator["Monitor | None"]:
    """Serve the page for the length of a `with`; where its extra is missing, say so and do without."""
    if not wanted:
        yield None
        return
    from pipeline.demo.console import say
    from pipeline.monitor.address import AddressError, address_of, listen, require_extra
    from pipeline.monitor.command import HOST, PORT

    try:
        require_extra()
    except AddressError as error:
        say(console, f"{error}; without it then.")
        console.print()
        yield None
        return
    try:
        listening = listen(HOST, PORT)
    except AddressError:
        listening = listen(HOST, 0)  # somebody else is there: any port will do
    say(console, f"Watch it at {address_of(listening)}")
    console.print()
    with closing(listening):
        from pipeline.monitor.server import Monitor
        from pipeline.options import load_settings

        page = Monitor(load_settings(), listening)
        page.start()
        try:
            yield page
        finally:
            page.stop()


def about(homes: int, seconds: int) -> list[str]:
    """Say what is about to happen, in three lines."""
    return [
        f"1. {homes} simulated homes: for {seconds} seconds people talk to their devices.",
        "2. An advertisement on television says “Alexa” and wakes half; later, another.",
        "3. hushword, behind a real Kafka, hears one sound in many homes: stay asleep.",
    ]

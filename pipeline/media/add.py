"""`hushword media add`: clean recordings into the catalogue."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from pipeline.errors import FailedError, InputError
from pipeline.flags import AsJson, ConfigFile, with_settings
from pipeline.options import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.interrupt import Stop
    from pipeline.media.adding import Outcome, Recording
    from pipeline.media.find import Spotter

_TIME = "an ISO date or time, UTC unless it says otherwise"


@with_settings("bootstrap_servers", "media_topic", "bits", "filters")
def add(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Recordings, tables of them, and folders of either.", metavar="FILE|FOLDER|CSV..."),
    ],
    config: ConfigFile = None,
    at: Annotated[
        list[float] | None,
        typer.Option(help="Where the wake word begins in the one recording; may be repeated.", metavar="SECONDS"),
    ] = None,
    find: Annotated[
        bool, typer.Option("--find", help="Let a spotter find the wake word: takes the extra hushword[find].")
    ] = False,
    wake_word: Annotated[str | None, typer.Option(help="The wake word that is said, such as alexa.")] = None,
    locale: Annotated[str | None, typer.Option(help="Whose requests hear it, such as en-US.")] = None,
    title: Annotated[str | None, typer.Option(help="For people. [default: the file's name]")] = None,
    valid_from: Annotated[
        str | None, typer.Option(help=f"Ignore nothing by it before: {_TIME}.", metavar="TIME")
    ] = None,
    valid_until: Annotated[
        str | None, typer.Option(help=f"Ignore nothing by it after: {_TIME}; a date is its whole day.", metavar="TIME")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, only say what would be.")] = False,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Make known media of clean recordings: whoever hears one is ignored, also alone.

    A table is a CSV with the columns file, title, wake_word, locale and at_s, perhaps valid_from and valid_until; a
    folder's media.csv is used. A recording that is there already is recognised by its sound. A file in which anything
    is wrong changes nothing, and the others go on; the exit code is 1 then.
    """
    recordings = _recordings(paths, tuple(at or ()), find, wake_word, locale, title, valid_from, valid_until)
    settings = load_settings(config, flags)
    from pipeline.interrupt import stoppable
    from pipeline.kafka.topics import check_cluster
    from pipeline.media.find import Spotter

    spotter = Spotter(wake_word) if find and wake_word is not None else None
    check_cluster(settings, {"media": ("READ", "WRITE")})
    with stoppable() as stop:
        outcomes = _add(settings, recordings, spotter, stop, dry_run=dry_run)
    _say(outcomes, as_json=as_json, dry_run=dry_run)
    if stop.is_set():
        done = len({outcome.file for outcome in outcomes})
        Console(stderr=True).print(f"stopped after {done} of {len(recordings)} recordings")
        raise typer.Exit(stop.exit_code)
    refused = sum(outcome.result == "refused" for outcome in outcomes)
    if refused:
        raise FailedError(f"{refused} of {len(recordings)} recordings changed nothing")


def _recordings(
    paths: list[Path],
    at_s: tuple[float, ...],
    find: bool,
    wake_word: str | None,
    locale: str | None,
    title: str | None,
    valid_from: str | None,
    valid_until: str | None,
) -> list["Recording"]:
    if at_s and find:
        raise InputError("--at says where the wake word begins and --find looks for it: give one of the two")
    if (wake_word is None) != (locale is None):
        raise InputError("--wake-word and --locale belong together")
    from pipeline.media.adding import recordings_in
    from pipeline.media.sources import Mention, time_us

    like = None
    if wake_word is not None and locale is not None:
        from_us, until_us = time_us(valid_from or ""), time_us(valid_until or "", until=True)
        like = Mention(Path(), title or "", wake_word, locale, 0.0, from_us, until_us)
    recordings = recordings_in(paths, like, at_s)
    told = [recording for recording in recordings if recording.found_as is None]
    if len(told) < len(recordings) and not find:
        unknown = next(recording.file for recording in recordings if recording.found_as is not None)
        raise InputError(f"{unknown}: nothing says where in it the wake word begins: give --at, a table or --find")
    options = {
        "--wake-word": wake_word, "--locale": locale, "--title": title, "--valid-from": valid_from,
        "--valid-until": valid_until, "--at": at_s or None, "--find": find or None,
    }  # fmt: skip
    given = [name for name, value in options.items() if value is not None]
    if given and not (at_s or find):
        raise InputError(f"{given[0]} is for recordings that no table names: the table says it")
    return recordings


def _add(
    settings: Settings, recordings: list["Recording"], spotter: "Spotter | None", stop: "Stop", *, dry_run: bool
) -> list["Outcome"]:
    from pipeline.matching import load_bits
    from pipeline.media.adding import Adding
    from pipeline.media.topic import MediaWriter, known
    from pipeline.progress import PhaseProgress

    adding = Adding(load_bits(settings), known(settings).values(), spotter)
    outcomes: list[Outcome] = []
    with MediaWriter(settings) as writer, PhaseProgress(Console(stderr=True)) as bar:
        bar("recordings", 0, len(recordings))
        for done, recording in enumerate(recordings, start=1):
            if stop.is_set():
                break
            said, new = adding.take(recording)
            if not dry_run:
                for entry in new:
                    writer.put(entry)
                writer.flush()
            outcomes += said
            bar("recordings", done, len(recordings))
    return outcomes


def _say(outcomes: list["Outcome"], *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print(json.dumps([{**vars(outcome), "file": str(outcome.file)} for outcome in outcomes], indent=2))
        return
    words = {"added": "would be added" if dry_run else "added", "there": "already there as", "refused": "refused"}
    table = Table(
        Column("recording", overflow="fold"),
        Column("at", justify="right"),
        Column("", no_wrap=True),
        Column("id", no_wrap=True),
    )
    for outcome in outcomes:
        at = "" if outcome.at_s is None else f"{outcome.at_s:.2f} s"
        table.add_row(Text(str(outcome.file)), at, words[outcome.result], outcome.media_id)
    if outcomes:
        Console().print(table)
    counts = Counter(outcome.result for outcome in outcomes)
    print(
        f"{counts['added']} entries {'would be ' if dry_run else ''}added, {counts['there']} already there,"
        f" {counts['refused']} recordings refused"
    )
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    for outcome in outcomes:
        if outcome.why:
            err.print(outcome.why, markup=False)

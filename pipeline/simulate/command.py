"""`hushword simulate`: a labelled recording of simulated homes."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.errors import InputError
from pipeline.simulate.settings import settings_from

FOLDER_HELP = "A new folder for the recording."


def simulate(
    folder: Annotated[Path, typer.Argument(help=FOLDER_HELP, metavar="FOLDER")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="quick: a minute; evening: two quiet hours; superbowl: hundreds of homes at once; noisy: loud"
            " homes, small events; crowded: a thousand concurrent requests."
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Length of the recording [default: 10].")] = None,
    homes: Annotated[int | None, typer.Option(help="Homes [default: twice the largest event, at least 100].")] = None,
    events: Annotated[int | None, typer.Option(help="Airings of advertisements [default: 14].")] = None,
    event_size: Annotated[
        str | None,
        typer.Option(help="Homes an airing wakes, a mix of numbers and spans [default: 1-40].", metavar="MIX"),
    ] = None,
    reruns: Annotated[
        int | None, typer.Option(help="Later airings in one home alone [default: a third of the large events].")
    ] = None,
    live_per_minute: Annotated[float | None, typer.Option(help="Requests of people a minute [default: 14].")] = None,
    request_s: Annotated[
        str | None, typer.Option(help="Length of a request in seconds [default: 2.5-3].", metavar="MIX")
    ] = None,
    snr: Annotated[
        str | None, typer.Option(help="Signal-to-noise ratios in dB [default: 0,5,10,15,20,25].", metavar="MIX")
    ] = None,
    wake_words: Annotated[
        str | None, typer.Option(help="Separated by commas: alexa, computer, hey_jarvis [default: alexa].")
    ] = None,
    locale: Annotated[
        str | None, typer.Option(help="English locales of the homes, separated by commas [default: en-US].")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Voices: calibration (to set thresholds), evaluation (to report), all [default: all]."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same bytes [default: 0].")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes [default: one a core].")] = None,
) -> None:
    """Make a labelled recording: homes, rooms, noise, advertisements, people."""
    settings = settings_from(
        preset,
        {
            "minutes": minutes,
            "homes": homes,
            "events": events,
            "event_size": event_size,
            "reruns": reruns,
            "live_per_minute": live_per_minute,
            "request_s": request_s,
            "snr_db": snr,
            "wake_words": _names(wake_words),
            "locales": _names(locale),
            "split": split,
            "seed": seed,
        },
    )
    from pipeline.progress import PhaseProgress
    from pipeline.recordings.recording import check_folder
    from pipeline.simulate.scene import plan
    from pipeline.simulate.write import recording_bytes, write_recording

    check_folder(folder)
    scene = plan(settings)
    if not scene.heard:
        raise InputError("nobody speaks and nothing is on: give --events or --live-per-minute")
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    err.print(
        f"{len(scene.heard)} requests in {settings.minutes:g} minutes from {settings.home_count} homes,"
        f" about {recording_bytes(scene) / 1e6:.0f} MB in {folder}"
    )
    began_s = time.monotonic()
    with PhaseProgress(err) as bar:
        write_recording(scene, folder, workers, lambda done, total: bar("rendering", done, total))
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    expected = {what: sum(h.expect == what for h in scene.heard) for what in ("accept", "ignore", "ignore_by_cache")}
    print(
        f"{folder}: {len(scene.heard)} requests ({expected['accept']} to accept, {expected['ignore']} to ignore,"
        f" {expected['ignore_by_cache']} to ignore by the cache), {size / 1e6:.1f} MB,"
        f" in {time.monotonic() - began_s:.1f} s"
    )


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())

"""`hushword replay`: a recording, published as its devices would send it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.options import ConfigError, load_settings


def replay(
    recording: Annotated[Path, typer.Argument(help="Folder with manifest.jsonl and audio/.", metavar="RECORDING")],
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    speed: Annotated[
        str | None,
        typer.Option(
            help="Times real time (0.5, 20 ...), or 'full' for as fast as can be. [default: 1]", metavar="SPEED"
        ),
    ] = None,
    from_s: Annotated[
        float | None,
        typer.Option(min=0, help="Leave out requests that begin before this time of it. [default: 0]", metavar="S"),
    ] = None,
    loops: Annotated[
        str | None,
        typer.Option(
            help="Play it so often, or 'forever', each time with other request ids. [default: 1]", metavar="N"
        ),
    ] = None,
    copies: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Load: send each request from so many homes, with ids of their own. [default: 1]",
            metavar="N",
        ),
    ] = None,
    epoch: Annotated[
        float | None,
        typer.Option(help="Unix time in s for the recording's zero. [default: so that it begins now]", metavar="S"),
    ] = None,
    shuffle_ms: Annotated[
        int | None,
        typer.Option(
            min=0, help="Hold each record back by up to so many ms of capture time. [default: 0]", metavar="MS"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the cuts between chunks, the disorder and the copies' jitter. [default: 0]", metavar="N"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last replay of this recording was interrupted.")
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(help="Where to keep how far it is. [default: RECORDING/replay.json]", metavar="FILE"),
    ] = None,
    **flags: Any,
) -> None:
    """Publish a recording as its devices would send it, from any time, at any speed, over and over.

    Ctrl-C ends it so that --resume goes on without a hole or a repetition; after a crash a second of records may come
    twice, which the job recognises.
    """
    given = {"--from-s": from_s, "--loops": loops, "--copies": copies, "--epoch": epoch}
    given |= {"--shuffle-ms": shuffle_ms, "--seed": seed}
    refused = [name for name, value in given.items() if value is not None]
    if resume and refused:
        raise ConfigError(f"--resume goes on with what the replay was started with: leave {', '.join(refused)} out")
    times = None if speed is None else read_speed(speed)
    often = _loops(loops)
    settings = load_settings(config, flags)
    import time

    from pipeline.interrupt import stoppable
    from pipeline.kafka.topics import check_cluster
    from pipeline.progress import RateProgress
    from pipeline.recordings.departures import Programme, chosen
    from pipeline.recordings.recording import Recording
    from pipeline.recordings.replay import replay as publish
    from pipeline.recordings.standing import Standing, manifest_sha256

    loaded = Recording.load(recording)
    file = state or recording / "replay.json"
    left = Standing.read(file, loaded) if resume else None
    if left is not None:
        topic = settings.audio_topic
        if "audio_topic" in settings.model_fields_set and topic != left.topic:
            raise ConfigError(f"--resume goes on in topic {left.topic!r}, where the replay was, not in {topic!r}")
        settings = settings.model_copy(update={"audio_topic": left.topic})
    programme = left.programme if left else Programme(from_s or 0.0, often, copies or 1, seed or 0, shuffle_ms or 0)
    requests = len(chosen(loaded, programme)) * programme.copies
    total = None if programme.loops is None else requests * programme.loops
    check_cluster(settings, {"audio": ("WRITE",)})
    if left is None:
        begins_s = time.time() - programme.from_s if epoch is None else epoch
        standing = Standing(
            manifest_sha256=manifest_sha256(loaded),
            topic=settings.audio_topic,
            speed=1.0 if speed is None else times,
            epoch_us=round(begins_s * 1e6),
            programme=programme,
        )
    else:
        standing = left if speed is None else left.model_copy(update={"speed": times})
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    standing.write(file)
    with stoppable() as stop, RateProgress(err, "replaying") as progress:
        summary = publish(
            loaded,
            settings,
            settings.audio_topic,
            standing.speed,
            epoch_s=standing.epoch_us / 1e6,
            programme=programme,
            after=standing.key,
            progress=lambda done: progress(standing.requests + done, total),
            keep=lambda key, done: standing.model_copy(update={"key": key, "requests": standing.requests + done}).write(
                file
            ),
            stop=stop,
        )
    said = (
        f"{summary.requests} requests in {summary.chunks} chunks, {summary.audio_bytes / 1e6:.1f} MB of audio,"
        f" in {summary.wall_s:.1f} s; the recording's zero is {summary.epoch_s:.6f}"
    )
    if stop.is_set():
        print(f"{said}; stopped at {summary.at_s:.3f} s: --resume goes on from there")
        raise typer.Exit(stop.exit_code)
    file.unlink()
    print(said)


def read_speed(text: str) -> float | None:
    """Read a speed: times real time, or None for 'full'.

    Raises:
        ConfigError: neither.

    """
    if text == "full":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ConfigError(f"--speed {text} is neither a number over 0 nor 'full'")
    return speed


def _loops(text: str | None) -> int | None:
    if text == "forever":
        return None
    if text is None:
        return 1
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--loops {text} is neither a number from 1 on nor 'forever'")
    return int(text)

"""`hushword evaluate`: decisions, wherever they are from, held against a recording's truth."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from pipeline.flags import AsJson, ConfigFile
from pipeline.options import ConfigError, load_settings
from pipeline.recordings.replay_command import read_speed

EVALUATE_SETTINGS = (
    "bootstrap_servers", "decisions_topic", "reorder_ms", "shadow", "false_ignore_budget", "airing_share",
)  # fmt: skip

err = Console(stderr=True, highlight=False, soft_wrap=True)


def evaluate(
    recording: Annotated[Path, typer.Argument(help="Folder with manifest.jsonl and audio/.", metavar="RECORDING")],
    config: ConfigFile = None,
    run_job: Annotated[
        bool, typer.Option("--run", help="Run the job over it first; without a broker given, one is started.")
    ] = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Decide in this process, without a broker; with --sweep or --report the default."
        ),
    ] = False,
    decisions: Annotated[
        Path | None,
        typer.Option(help="JSON lines: read from here, or with --run or --offline written to here.", metavar="FILE"),
    ] = None,
    with_sweep: Annotated[
        bool, typer.Option("--sweep", help="Also try other false-ignore budgets, in this process.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option("--report", help="Write a page: what was missed and why, closest calls, charts.", metavar="FILE"),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="JSON lines of another run, to hold beside this one.", metavar="FILE")
    ] = None,
    media: Annotated[
        list[Path] | None,
        typer.Option(
            help="Recordings that are known media: a table (file,title,wake_word,locale,at_s), or what media export"
            " wrote, a .jsonl.",
            metavar="FILE",
        ),
    ] = None,
    as_json: AsJson = False,
    speed: Annotated[str, typer.Option(help="Times real time (1, 20 ...), or 'full' for as fast as can be.")] = "20",
    partitions: Annotated[int, typer.Option(min=1, max=1000, help="Partitions of the audio topic.")] = 4,
    shuffle_ms: Annotated[
        int, typer.Option(min=0, help="Hold each record back by up to so many ms of capture time.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the cuts between chunks and of the disorder.")] = 0,
    **flags: Any,
) -> None:
    """Hold decisions against a recording's truth: recall, false ignores, audio used, latency."""
    times = read_speed(speed)
    settings = load_settings(config, flags)
    if run_job and offline:
        raise ConfigError("--run and --offline are two ways to the same decisions: one of them is enough")
    from pipeline import decisions as lines
    from pipeline.evaluate.evaluation import evaluate as evaluate_decisions
    from pipeline.evaluate.score import require_labels
    from pipeline.progress import PhaseProgress
    from pipeline.recordings.recording import Recording

    loaded = Recording.load(recording)
    require_labels(loaded)  # before minutes are spent on it
    if page is not None:
        from pipeline.evaluate.report.page import require_report

        require_report(page)
    explains = with_sweep or page is not None
    offline = offline or (explains and not run_job and decisions is None)
    with PhaseProgress(err) as progress:
        heard = known = None
        if media:
            from pipeline.evaluate.media import KnownRecordings

            known = KnownRecordings.read(media, settings, lambda done, of: progress("making entries", done, of))
            loaded = known.expected_of(loaded)
        if offline or explains:
            from pipeline.evaluate.offline import decide, hear

            heard = hear(
                loaded,
                settings,
                seed,
                lambda done: progress("listening", done, len(loaded.requests)),
                None if known is None else known.catalogue(settings),
            )
        if run_job:
            from pipeline.trial import run_trial

            signal.signal(signal.SIGTERM, _terminated)  # a trial owns processes: it must get to stop them
            given = "bootstrap_servers" in settings.model_fields_set
            trial = run_trial(
                loaded,
                settings,
                settings.bootstrap_servers if given else None,
                speed=times,
                seed=seed,
                shuffle_ms=shuffle_ms,
                partitions=partitions,
                media=() if known is None else known.entries,
                progress=progress,
            )
            found, source = trial.decisions, "the job, run over it"
            if trial.dead_letters:
                err.print(f"{trial.dead_letters} records went to the dead letters")
        elif offline and heard is not None:
            found, source = decide(heard), "one process, without a broker"
        elif decisions is not None:
            found, source = lines.read_file(decisions), decisions.name
        else:
            from pipeline.kafka.topics import check_cluster

            check_cluster(settings, {"decisions": ("READ",)})
            found, source = lines.read_topic(settings), "the topic"
        if decisions is not None and (run_job or offline):
            lines.write_file(decisions, found)
        result = evaluate_decisions(
            loaded, found, source, heard, with_sweep=with_sweep, page=page, against=against, progress=progress
        )
    if as_json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        Console().print(result.table())
    if page is not None:
        err.print(f"the report is in {page}, {page.stat().st_size / 1e6:.1f} MB")


def _terminated(_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)

"""The command `hushword`. Heavy imports (Beam, Numba, audio) wait until a command needs them."""

import logging
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, NoReturn

import typer

from pipeline.demo.command import demo
from pipeline.dlq import app as dlq
from pipeline.erase import erase
from pipeline.errors import FailedError, InputError
from pipeline.evaluate.command import EVALUATE_SETTINGS, evaluate
from pipeline.explain import command as explain
from pipeline.flags import ConfigFile, with_settings
from pipeline.flink.worker_pool_command import worker_pool
from pipeline.learn_commands import calibrate, train_filters
from pipeline.listing import decisions as list_decisions
from pipeline.media.command import app as media
from pipeline.media.device_pack import EXPORT_DEVICE_SETTINGS, export_device
from pipeline.monitor.command import MONITOR_SETTINGS, monitor
from pipeline.options import ConfigError, load_settings
from pipeline.recordings.record_command import RECORD_SETTINGS, record
from pipeline.recordings.replay_command import replay
from pipeline.shadow import app as shadow
from pipeline.simulate.command import simulate

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2

app = typer.Typer(
    name="hushword",
    help="Keeps voice assistants asleep when an advertisement, and not a person, says the wake word.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="The settings and the cluster they point to.", no_args_is_help=True)
topics_app = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(topics_app, name="topics")
app.add_typer(shadow, name="shadow")
app.add_typer(media, name="media")
app.add_typer(dlq, name="dlq")

Partitions = Annotated[int, typer.Option(min=1, max=1000, help="Partitions of the audio topic.")]


@app.callback(invoke_without_command=True)
def _root(
    *, show_version: Annotated[bool, typer.Option("--version", help="Say the version and stop.", is_eager=True)] = False
) -> None:
    if show_version:
        try:
            print(f"hushword {version('hushword')}")
        except PackageNotFoundError:
            print("hushword, run from its sources without being installed")
        raise typer.Exit
    # kafka-python reports every failed attempt to connect; what matters of it becomes our own sentence.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


@app.command()
@with_settings()
def run(
    beam_args: Annotated[
        list[str] | None, typer.Argument(help="After --: options for Beam and its runner.", metavar="[-- BEAM OPTIONS]")
    ] = None,
    config: ConfigFile = None,
    **flags: Any,
) -> None:
    """Run the streaming job until it is stopped."""
    if beam_args and not beam_args[0].startswith("-"):
        raise ConfigError(f"{beam_args[0]!r} is not an option: what is meant for Beam goes after --")
    settings = load_settings(config, flags)
    from pipeline.flink.runner_faults import check_runner
    from pipeline.kafka.topics import check_cluster
    from pipeline.matching import load_calibration
    from pipeline.pseudonyms import pseudonyms_of

    load_calibration(settings)
    pseudonyms_of(settings)
    check_cluster(settings)
    check_runner(beam_args or [])
    logging.getLogger("kafka").setLevel(logging.WARNING)
    from pipeline.logs import configure_logs

    configure_logs(settings.log_format)  # before Beam's imports, which have something to say
    from pipeline.shared_counts import SharedCounts

    shared = SharedCounts() if settings.metrics_port is not None else None
    from pipeline.job import run_job

    run_job(settings, beam_args or [], shared)


@config_app.command("check")
@with_settings()
def config_check(config: ConfigFile = None, **flags: Any) -> None:
    """Say what is wrong with the settings or the cluster before anything starts."""
    settings = load_settings(config, flags)
    from pipeline.kafka.topics import check_cluster
    from pipeline.matching import load_calibration
    from pipeline.pseudonyms import pseudonyms_of

    load_calibration(settings)
    pseudonyms_of(settings)
    check_cluster(settings)
    print(f"settings and topics at {settings.bootstrap_servers} are as the job needs them")


@topics_app.command("create")
@with_settings(
    "bootstrap_servers", "audio_topic", "decisions_topic", "media_topic", "dead_letter_topic", "control_topic"
)
def topics_create(
    config: ConfigFile = None,
    partitions: Partitions = 4,
    replication_factor: Annotated[int, typer.Option(min=-1, help="Copies of each record; -1: the broker's.")] = -1,
    **flags: Any,
) -> None:
    """Create the topics that do not exist yet, configured as the job needs them."""
    settings = load_settings(config, flags)
    from pipeline.kafka.topics import create_topics, topic_names

    created = create_topics(settings, partitions, replication_factor)
    for name in topic_names(settings).values():
        print(f"{'created' if name in created else 'exists '}  {name}")


app.command("evaluate")(with_settings(*EVALUATE_SETTINGS)(evaluate))
app.command("record")(with_settings(*RECORD_SETTINGS)(record))
app.command("replay")(with_settings("bootstrap_servers", "audio_topic")(replay))
app.command("monitor")(with_settings(*MONITOR_SETTINGS)(monitor))
app.command("simulate")(simulate)
app.command("calibrate")(with_settings("bits", "filters", "false_ignore_budget", "budget_concurrency")(calibrate))
app.command("train-filters")(train_filters)
app.command("demo")(demo)
app.command("explain")(explain)
app.command("erase")(erase)
app.command("decisions")(list_decisions)
app.command("worker-pool")(worker_pool)
media.command("export-device")(with_settings(*EXPORT_DEVICE_SETTINGS)(export_device))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line: exit code 0; 1 for a failed run; 2 for a bad setting or input; 130 after Ctrl-C."""
    try:
        app(args=argv, prog_name="hushword")
    except InputError as error:
        _fail(error, EXIT_BAD_INPUT)
    except FailedError as error:
        _fail(error, EXIT_FAILED)
    sys.exit(0)


def _fail(error: BaseException, code: int) -> NoReturn:
    print(f"hushword: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

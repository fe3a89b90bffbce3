"""A real Flink session cluster on this machine: `python deploy/flink`, from an environment with hushword[local].

Without a recording it starts the cluster, says how a job is handed in, and stands until Ctrl-C. With one it starts a
Kafka as well, runs the recording through both, and holds the decisions against its labels (`make flink RECORDING=...`).
"""

import json
import shlex
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from pipeline.errors import FailedError, InputError
from pipeline.evaluate.score import require_labels, score
from pipeline.local.flink_cluster import FlinkCluster
from pipeline.options import load_settings
from pipeline.progress import PhaseProgress
from pipeline.recordings.recording import Recording
from pipeline.trial import run_trial

err = Console(stderr=True, highlight=False, soft_wrap=True)


def main(
    recording: Annotated[
        Path | None, typer.Argument(help="Labelled recording to run through it; without one it just stands.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Of logs and checkpoints; by default one that goes in the end.", metavar="DIR")
    ] = None,
    task_managers: Annotated[int, typer.Option(min=1, max=16, help="How many, with two slots each.")] = 2,
    speed: Annotated[float, typer.Option(min=0.1, help="Of the recording, times real time.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Start a Flink session cluster of real processes on the loopback address."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    loaded = None
    if recording is not None:  # before minutes are spent on it
        loaded = Recording.load(recording)
        require_labels(loaded)
    with ExitStack() as stack:
        if directory is None:
            scratch = tempfile.TemporaryDirectory(prefix="hushword-flink-", ignore_cleanup_errors=True)
            directory = Path(stack.enter_context(scratch))
        err.print("starting the cluster")
        cluster = stack.enter_context(FlinkCluster(directory, task_managers))
        if loaded is None:
            _stand(cluster)
        with PhaseProgress(err) as progress:
            trial = run_trial(
                loaded, load_settings(), speed=speed, beam_args=cluster.pipeline_options, progress=progress
            )
    report = score(loaded, trial.decisions)
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        Console().print(report.table())


def _stand(cluster: FlinkCluster) -> NoReturn:
    """Say how to use it, and wait until it is stopped or something of it ends."""
    err.print(f"Flink's page and REST interface: http://{cluster.rest_address}")
    err.print(f"what its workers count: http://127.0.0.1:{cluster.metrics_port}/metrics")
    err.print(f"logs and checkpoints: {cluster.directory}")
    err.print("a job is handed in by the line below; Ctrl-C stops the cluster and its jobs")
    print("hushword run --", shlex.join(cluster.pipeline_options), flush=True)
    while True:
        for server in cluster.servers:
            if server.pid is None:
                raise FailedError(f"{server.name} ended by itself; its log is {server.log_path}")
        time.sleep(1)


if __name__ == "__main__":
    try:
        typer.run(main)
    except (FailedError, InputError) as error:
        err.print(f"{error}")
        sys.exit(2 if isinstance(error, InputError) else 1)

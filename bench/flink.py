"""The job on a Flink session cluster: `python -m bench.flink` from the checkout prints the figures of docs/flink.md.

Broker, job manager, two task managers, job server, Python workers and the load share this machine's cores.
"""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.figures import machine, paced, percentile, run, say, stop
from bench.job import LAG_S, BenchError, running_bench, sustained
from pipeline.errors import InputError
from pipeline.local.flink_cluster import FlinkCluster
from pipeline.local.kafka import LocalKafka
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.trial import run_trial

WARM_UP_RATE = 20.0
WARM_UP_S = 15.0


class Part(StrEnum):
    """What can be measured."""

    RECORDING = "recording"
    LATENCY = "latency"
    SUSTAINED = "sustained"


def main(
    recording: Annotated[
        Path | None, typer.Argument(envvar="HUSHWORD_RECORDING", help="Labelled recording for the first part.")
    ] = None,
    only: Annotated[
        list[Part] | None, typer.Option(help="Measure this part only; may be given more than once.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.1, help="Of the recording, times real time.")] = 10.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second of the paced run.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=15, help="Length of the paced run, s.")] = 60.0,
    rounds: Annotated[int, typer.Option(min=1, help="Paced runs, one after the other.")] = 3,
    first: Annotated[float, typer.Option(min=10, help="First rate of the steps, requests a second.")] = 60.0,
    step: Annotated[float, typer.Option(min=5, help="From step to step, requests a second.")] = 20.0,
    step_seconds: Annotated[float, typer.Option(min=10, help="Length of a step, s.")] = 20.0,
    option: Annotated[
        list[str] | None, typer.Option(help="Beam's, as --option=--max_bundle_size=1; may be given more than once.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(help="Flink's, as key=value; may be given more than once.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure verdicts, latency and throughput of the job on Flink at parallelism 2."""
    signal.signal(signal.SIGTERM, stop)
    parts = set(only or Part)
    if Part.RECORDING in parts and recording is None:
        raise InputError("give a recording, or set HUSHWORD_RECORDING to one, or name other parts with --only")
    figures: dict[str, Any] = {"machine": machine(), "options": option or [], "config": config or []}
    with _servers(dict(entry.split("=", 1) for entry in config or [])) as (kafka, cluster):
        cluster.job_options += option or []
        if Part.RECORDING in parts and recording is not None:
            figures["recording"] = _played(Recording.load(recording), kafka, cluster, speed)
        if parts & {Part.LATENCY, Part.SUSTAINED}:
            with running_bench(kafka, say, cluster) as bench:
                bench.run(WARM_UP_RATE, WARM_UP_S, paced=True)
                if Part.LATENCY in parts:
                    figures["paced"] = [
                        {**paced(bench.run(rate, seconds, paced=True)), **_checkpoint(cluster), **_load()}
                        for _ in range(rounds)
                    ]
                if Part.SUSTAINED in parts:
                    runs, best = sustained(bench, first, step, step_seconds, say)
                    figures["sustained"] = {"requests_per_s": best, "steps": [paced(run) for run in runs], **_load()}
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        Console().print(_table(figures))
    played = figures.get("recording", {})
    if differ := [*played.get("only_on_flink", ()), *played.get("only_locally", ())]:
        raise BenchError(f"{len(differ)} verdicts on Flink differ from those of the local runner: {', '.join(differ)}")


@contextmanager
def _servers(config: dict[str, str]) -> Iterator[tuple[str, FlinkCluster]]:
    with tempfile.TemporaryDirectory(prefix="hushword-bench-", ignore_cleanup_errors=True) as directory:
        say("starting a Kafka broker and the cluster")
        with LocalKafka() as kafka, FlinkCluster(Path(directory), config=config) as cluster:
            yield kafka.bootstrap_servers, cluster


def _played(recording: Recording, kafka: str, cluster: FlinkCluster, speed: float) -> dict[str, Any]:
    """Run a recording through the local runner and through the cluster, and hold the verdicts against each other."""
    settings = Settings()
    say(f"playing {len(recording.requests)} requests at {speed:g}x to the local runner")
    local = {line.request_id for line in run_trial(recording, settings, kafka, speed=speed).decisions}
    say(f"playing {len(recording.requests)} requests at {speed:g}x to Flink")
    trial = run_trial(recording, settings, kafka, speed=speed, beam_args=cluster.pipeline_options)
    found = {line.request_id for line in trial.decisions}
    cluster.cancel_all()
    latencies = [line.latency_ms for line in trial.decisions if line.latency_ms is not None]
    return {
        "requests": len(recording.requests),
        "speed": speed,
        "ignored": len(found),
        "ignored_locally": len(local),
        "only_on_flink": sorted(found - local),
        "only_locally": sorted(local - found),
        "duplicates": len(trial.decisions) - len(found),
        "p50_ms": percentile(latencies, 50),
        "p99_ms": percentile(latencies, 99),
        **_load(),
    }


def _checkpoint(cluster: FlinkCluster) -> dict[str, Any]:
    job = cluster.running_job()
    latest = None if job is None else cluster.latest_checkpoint(job.job_id)
    if latest is None:
        return {"checkpoint_ms": None, "checkpoint_mb": None}
    return {"checkpoint_ms": latest.duration_ms, "checkpoint_mb": round(latest.size_bytes / 1e6, 2)}


def _load() -> dict[str, Any]:
    return {"load_average": round(os.getloadavg()[0], 1)}


def _table(figures: dict[str, Any]) -> Table:
    table = Table("measured", "found", "beside it", title=f"hushword on Flink, {figures['machine']}")
    if "recording" in figures:
        found = figures["recording"]
        differ = [*found["only_on_flink"], *found["only_locally"]]
        table.add_row(
            f"a recording at {found['speed']:g}x",
            f"{found['ignored']} of {found['requests']} requests ignored, {len(differ)} differ from the local runner",
            f"{found['duplicates']} told twice; differ: {', '.join(differ) or 'none'}",
        )
        table.add_row(
            "append to decision", f"p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms", f"load {found['load_average']}"
        )
    for found in figures.get("paced", ()):
        table.add_row(
            f"append to decision, {found['requests_per_s']:g} requests/s",
            f"p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms",
            f"{found['decisions']} decisions, lag {found['lag_s']} s, {found['unmatched']} requests unmatched,"
            f" {found['job_cpu_ms_per_request']} ms of CPU a"
            f" request on all processes; checkpoint {found['checkpoint_mb']} MB in {found['checkpoint_ms']} ms; memory"
            f" {found['rss_end_mb']} MB; load {found['load_average']}",
        )
    if "sustained" in figures:
        found = figures["sustained"]
        tried = ", ".join(
            f"{s['requests_per_s']:g}: lag {s['lag_s']} s, p99 {s['p99_ms']} ms, {s['unmatched']} unmatched"
            for s in found["steps"]
        )
        table.add_row(
            f"sustained, lag within {LAG_S:g} s, all matched",
            f"{found['requests_per_s']:g} requests/s",
            f"{tried}; load {found['load_average']}",
        )
    return table


if __name__ == "__main__":
    run(main)

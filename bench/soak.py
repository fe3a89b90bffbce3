"""Half an hour of steady traffic through the job on a Flink cluster: `python -m bench.soak` writes docs/soak.md.

It tells what grows: the memory of every process, the checkpoint and each task's part of it, the latency. Broker, job
manager, two task managers, job server, worker pool, its Python workers and the load share this machine's cores.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.markdown import Markdown

from bench.figures import machine, percentile, run, say, stop
from bench.job import PARTITIONS, Bench, BenchError, running_bench
from bench.soak_report import report
from bench.soak_samples import Sample, Soak
from pipeline.decisions import read_topic
from pipeline.local.flink_cluster import FlinkCluster
from pipeline.local.kafka import LocalKafka

PIECE_S = 60.0  # the load is made in pieces, one while the one before is published: a request is 80 kB
CHECKPOINT_EVERY_MS = 10_000
# Every airing of the load is a new discovery. With so few places the catalogue of each route is soon full, as it is
# after days in service, and what it forgets is part of the soak.
CATALOGUE_ENTRIES = 10
_MB = 2.0**20
_RESIDUAL = re.compile(rb"sdf_checkpoint:[0-9:]+")


def main(
    minutes: Annotated[float, typer.Option(min=3, help="Length of the soak.")] = 30.0,
    control_minutes: Annotated[
        float, typer.Option(min=3, help="Length of the control, with Beam's released runner as it is.")
    ] = 4.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 12.0,
    every: Annotated[float, typer.Option(min=5, help="From sample to sample, s.")] = 15.0,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("docs/soak.md"),
    samples: Annotated[Path | None, typer.Option(help="Folder for all samples, as JSON.")] = None,
) -> None:
    """Watch the job on Flink for what grows, and write it down."""
    signal.signal(signal.SIGTERM, stop)
    control = soak(control_minutes, rate, every, bounded=False)
    found = soak(minutes, rate, every, bounded=True)
    if samples is not None:
        samples.mkdir(parents=True, exist_ok=True)
        for name, run_ in (("control", control), ("soak", found)):
            (samples / f"{name}.json").write_text(run_.model_dump_json(indent=1))
    text = report(found, control)
    out.write_text(text)
    Console().print(Markdown(text))


def soak(minutes: float, rate: float, every_s: float, *, bounded: bool) -> Soak:
    """Start everything, and watch it under steady traffic; with `bounded` deferred rests take one place in the state.

    Raises:
        BenchError: the load or the job ended.
        LocalServiceError: a server did not start.
        FlinkError: the cluster does not answer.

    """
    with tempfile.TemporaryDirectory(prefix="hushword-soak-", ignore_cleanup_errors=True) as directory:
        say(f"starting a Kafka broker and the cluster, deferred rests {'bounded' if bounded else 'as released'}")
        with LocalKafka() as kafka, FlinkCluster(Path(directory), bounded_residuals=bounded) as cluster:
            cluster.job_options.append(f"--checkpointing_interval={CHECKPOINT_EVERY_MS}")
            servers = kafka.bootstrap_servers
            with running_bench(servers, say, cluster, catalogue_entries=CATALOGUE_ENTRIES) as bench:
                return watched(bench, kafka, cluster, minutes, rate, every_s, bounded=bounded)


def watched(
    bench: Bench,
    kafka: LocalKafka,
    cluster: FlinkCluster,
    minutes: float,
    rate: float,
    every_s: float,
    *,
    bounded: bool = True,
) -> Soak:
    """Watch a job that runs, as `soak` does."""
    began_s = time.time()
    began = time.strftime("%d %B %Y, %H:%M", time.gmtime(began_s)).lstrip("0")
    warm_up_min = min(3.0, minutes / 2)
    found = Soak(
        began=began,
        machine=machine(),
        rate=rate,
        every_s=every_s,
        warm_up_min=warm_up_min,
        catalogue_entries=bench.settings.catalogue_entries,
        bounded=bounded,
    )
    with _traffic(bench, rate) as keep_going:
        while time.time() < began_s + minutes * 60:
            due_s = began_s + (len(found.samples) + 1) * every_s
            while time.time() < due_s:
                keep_going()
                time.sleep(0.2)
            sample = _sample(kafka, cluster, (time.time() - began_s) / 60)
            found.samples.append(sample)
            if len(found.samples) % 4 == 0:
                workers = ", ".join(f"{mb:.0f}" for name, mb in sample.rss_mb.items() if name.startswith("Python"))
                state_mb = sum(sample.parts_mb.values())
                say(
                    f"{sample.at_min:.1f} min: Python workers {workers} MB, checkpoint {state_mb:.1f} MB in"
                    f" {sample.checkpoint_ms} ms, {sample.completed} completed, load {sample.load_average:.1f}"
                )
    decisions = read_topic(bench.settings)
    from_s = began_s
    for sample in found.samples:
        to_s = began_s + sample.at_min * 60
        told = [d.latency_ms for d in decisions if d.latency_ms is not None and from_s <= d.decided_at_s < to_s]
        sample.decisions, sample.p50_ms, sample.p99_ms = len(told), percentile(told, 50), percentile(told, 99)
        from_s = to_s
    return found


@contextmanager
def _traffic(bench: Bench, rate: float) -> Iterator[object]:
    """Publish piece after piece; what it gives is to be called several times a second."""
    made: list[subprocess.Popen[str]] = []

    def make() -> None:
        command = [sys.executable, "-m", "bench.load", *("--servers", bench.settings.bootstrap_servers), "--paced"]
        command += ["--topic", bench.settings.audio_topic, "--partitions", str(PARTITIONS), "--rate", str(rate)]
        command += ["--seconds", str(PIECE_S), "--seed", str(len(made) + 1)]
        made.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True))

    def publish() -> None:
        assert made[-1].stdin is not None
        with made[-1].stdin as word:
            word.write("go\n")
        make()

    def keep_going() -> None:
        bench.job.check()
        code = made[-2].poll()
        if code:
            raise BenchError(f"the load generator ended with exit code {code}")
        if code == 0:
            publish()

    try:
        make()
        publish()
        yield keep_going
    finally:
        for process in made:
            with process:
                process.kill()


def _sample(kafka: LocalKafka, cluster: FlinkCluster, at_min: float) -> Sample:
    named = {"Kafka broker": kafka.pid, "job manager": cluster.job_manager.pid}
    named |= {f"task manager {number}": server.pid for number, server in enumerate(cluster.task_managers)}
    named |= {"job server": cluster.job_server.pid, "worker pool": cluster.pool.pid}
    workers = cluster.pool.workers
    named |= {f"Python worker {number}": pid for number, pid in enumerate(workers)}
    rss, pss = dict[str, float](), dict[str, float]()
    for name, pid in named.items():
        if pid is None:
            raise BenchError(f"the {name} has ended; its log is in {cluster.directory}")
        with suppress(psutil.NoSuchProcess):  # a worker that ended just now: the next sample has its successor
            memory = psutil.Process(pid).memory_full_info()
            rss[name], pss[name] = memory.rss / _MB, getattr(memory, "pss", memory.rss) / _MB
    job = cluster.running_job()
    if job is None:
        raise BenchError(f"no job runs on Flink any more; the logs are in {cluster.directory}")
    completed, failed = cluster.checkpoint_counts(job.job_id)
    latest = cluster.latest_checkpoint(job.job_id)
    parts = {} if latest is None else cluster.checkpoint_parts(job.job_id, latest.number)
    return Sample(
        at_min=at_min,
        load_average=os.getloadavg()[0],
        rss_mb=rss,
        pss_mb=pss,
        heap_mb={name: size / _MB for name, size in cluster.heaps_bytes().items()},
        checkpoint=0 if latest is None else latest.number,
        checkpoint_ms=0 if latest is None else latest.duration_ms,
        parts_mb={name: size / _MB for name, size in parts.items()},
        residuals=0 if latest is None else _residuals(Path(latest.path.removeprefix("file:"))),
        completed=completed,
        failed=failed,
        workers=workers,
    )


def _residuals(checkpoint: Path) -> int:
    """Count the names that deferred rests have in a checkpoint's files; it may be replaced by the next meanwhile."""
    names = set[bytes]()
    with suppress(FileNotFoundError):
        for path in checkpoint.iterdir():
            names.update(_RESIDUAL.findall(path.read_bytes()))
    return len(names)


if __name__ == "__main__":
    run(main)

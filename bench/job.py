"""The whole job, Kafka to Kafka: how much it takes, how late it decides, and what memory that costs."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
from kafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from pipeline.decisions import DecisionLine, read_topic
from pipeline.errors import FailedError
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.topics import admin_client, create_topics, delete_topics
from pipeline.local.flink_cluster import FlinkCluster
from pipeline.local.process import free_port
from pipeline.options import Settings
from pipeline.trial import Group, Job, running_job, trial_settings

PARTITIONS = 4
READY_WITHIN_S = 240.0
DRAINED_WITHIN_S = 300.0
WARM_UP_S = 10.0  # kernels are loaded, windows fill
# A rate is sustained when the reader, in the second half of a step, is never further behind than this, decisions come
# in that time, and every request is matched.
LAG_S = 1.0

Say = Callable[[str], None]
Figures = dict[str, float]  # of the job's metrics, by name and the values of labels: "comparisons_total window"


class BenchError(FailedError):
    """The job or the load did not do what was asked; the message says what."""


@dataclass
class Sample:
    """What the job and its topic looked like at one moment."""

    at_s: float  # since the load's start
    rss_mb: float
    cpu_s: float
    published: int
    read: int
    figures: Figures


@dataclass
class Run:
    """One load through the job."""

    rate: float
    load: dict[str, float]
    samples: list[Sample] = field(default_factory=list)
    decisions: list[DecisionLine] = field(default_factory=list)
    drained_s: float = 0.0  # from the load's start until everything was read

    def latencies_ms(self, after_s: float = WARM_UP_S) -> list[float]:
        """Append of the chunk that sufficed to append of the decision, of decisions after the warm-up."""
        from_s = self.load["start_s"] + after_s
        return [d.latency_ms for d in self.decisions if d.latency_ms is not None and d.decided_at_s >= from_s]

    def lag_s(self) -> float:
        """Largest lag of the second half of the load, in seconds of its traffic."""
        half = [s for s in self.samples if self.load["wall_s"] / 2 <= s.at_s <= self.load["wall_s"]]
        chunks_per_s = self.load["chunks"] / self.load["wall_s"]
        return max((s.published - s.read for s in half), default=0) / chunks_per_s

    def counted(self) -> Figures:
        """Give what the job's counters grew by in the run."""
        before, after = self.samples[0].figures, self.samples[-1].figures
        return {name: value - before.get(name, 0) for name, value in after.items()}

    def left_out(self) -> Figures:
        """Give the requests that passed unmatched, by reason."""
        counted = self.counted().items()
        return {name.split()[1]: n for name, n in counted if name.startswith("requests_left_out_total ") and n}

    def cpu_s(self) -> float:
        """CPU time of the job: on a machine that others use as well it says more than the clock."""
        return self.samples[-1].cpu_s - self.samples[0].cpu_s

    def rss_slope_mb_per_min(self) -> float:
        """Growth of the job's memory by least squares, the warm-up left out."""
        kept = [s for s in self.samples if WARM_UP_S <= s.at_s <= self.load["wall_s"]]
        if len(kept) < 3:
            return float("nan")
        return float(np.polyfit([s.at_s / 60 for s in kept], [s.rss_mb for s in kept], 1)[0])


class Bench:
    """A broker's address, and a job that reads from topics of its own.

    What it counts is served at `metrics_port`; `pids` gives the processes that it consists of.
    """

    def __init__(
        self, settings: Settings, job: Job, say: Say, metrics_port: int, pids: Callable[[], list[int]]
    ) -> None:
        self.settings, self.job, self._say = settings, job, say
        self._metrics_port, self._pids = metrics_port, pids
        self._seed = 0
        self._consumer = Consumer(**client_arguments(settings), enable_auto_commit=False)
        self._audio = [TopicPartition(settings.audio_topic, p) for p in range(PARTITIONS)]

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def run(self, rate: float, seconds: float, *, paced: bool) -> Run:
        """Prepare a load, publish it, and wait until the job has read all of it."""
        self._seed += 1
        what = f"{rate:g} requests/s for {seconds:g} s" if paced else f"{round(rate * seconds)} requests at once"
        self._say(f"preparing {what}")
        command = [sys.executable, "-m", "bench.load", *("--servers", self.settings.bootstrap_servers)]
        command += ["--topic", self.settings.audio_topic, "--partitions", str(PARTITIONS), "--rate", str(rate)]
        command += ["--seconds", str(seconds), "--seed", str(self._seed), *(["--paced"] if paced else [])]
        before = self._figures().get("chunks_total", 0)
        published_before = sum(self._consumer.end_offsets(self._audio).values())
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                made = json.loads(process.stdout.readline() or "{}")
                if not made:
                    raise BenchError("the load generator ended before it was ready")
                self._say(f"publishing {what}")
                process.stdin.write("go\n")
                process.stdin.flush()
                run = Run(rate, {})
                began_s = time.monotonic()
                while True:
                    self.job.check()
                    run.samples.append(self._sample(time.monotonic() - began_s, published_before, before))
                    if process.poll():
                        raise BenchError(f"the load generator ended with exit code {process.returncode}")
                    if process.poll() == 0 and run.samples[-1].read >= made["chunks"]:
                        break
                    if time.monotonic() - began_s > seconds + DRAINED_WITHIN_S:
                        raise BenchError(
                            f"the job did not read {what} within {DRAINED_WITHIN_S:g} s; {self.job.tail()}"
                        )
                    if len(run.samples) % 20 == 0:
                        at = run.samples[-1]
                        self._say(
                            f"{at.at_s:.0f} s: {at.published} chunks published, {at.read} read, {at.rss_mb:.0f} MB"
                        )
                    time.sleep(0.25)
                run.drained_s = time.monotonic() - began_s
                run.load = json.loads(process.stdout.readline() or "{}")
                if not run.load:
                    raise BenchError("the load generator failed")
            finally:
                process.kill()
        time.sleep(2 * self.settings.reorder_ms / 1000 + 1)  # what was read is decided
        start_s = run.load["start_s"]
        found = read_topic(self.settings)
        run.decisions = [d for d in found if d.decided_at_s >= start_s]
        return run

    def _sample(self, at_s: float, published_before: int, read_before: float) -> Sample:
        processes = [psutil.Process(pid) for pid in self._pids()]
        figures = self._figures()
        return Sample(
            at_s=at_s,
            rss_mb=sum(process.memory_info().rss for process in processes) / 2**20,
            cpu_s=sum(sum(process.cpu_times()[:2]) for process in processes),
            published=sum(self._consumer.end_offsets(self._audio).values()) - published_before,
            read=round(figures.get("chunks_total", 0) - read_before),
            figures=figures,
        )

    def _figures(self) -> Figures:
        address = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            return {
                " ".join([sample.name.removeprefix("hushword_"), *sample.labels.values()]): sample.value
                for family in text_string_to_metric_families(answer.read().decode())
                for sample in family.samples
            }
        return {}


@contextmanager
def running_bench(
    bootstrap_servers: str, say: Say, cluster: FlinkCluster | None = None, **others: Any
) -> Iterator[Bench]:
    """Run the job on fresh topics for the length of a `with`: on Beam's local runner, or on a Flink cluster.

    `others` are settings of it.
    """
    metrics_port = free_port() if cluster is None else cluster.metrics_port
    own = Settings(metrics_port=metrics_port, **others) if cluster is None else Settings(**others)
    settings = trial_settings(own, bootstrap_servers)
    create_topics(settings, PARTITIONS)
    try:
        say("starting the job")
        with running_job(settings, [] if cluster is None else cluster.pipeline_options) as job:
            _wait_until_ready(job, settings)
            pids = (lambda: [job.pid]) if cluster is None else cluster.pids
            bench = Bench(settings, job, say, metrics_port, pids)
            try:
                yield bench
            finally:
                bench.close()
                if cluster is not None:
                    cluster.cancel_all()
    finally:
        delete_topics(settings)


def _wait_until_ready(job: Job, settings: Settings) -> None:
    """The job commits where it begins once everything is connected."""
    deadline_s = time.monotonic() + READY_WITHIN_S
    with admin_client(settings) as admin:
        group = Group(admin, settings)
        while time.monotonic() < deadline_s:
            job.check()
            if len(group.committed()) == PARTITIONS:
                return
            time.sleep(0.2)
    raise BenchError(f"the job was not ready within {READY_WITHIN_S:g} s; {job.tail()}")


def sustained(bench: Bench, first: float, step: float, seconds: float, say: Say) -> tuple[list[Run], float]:
    """Raise the rate until it is not sustained any more, or lower it until it is.

    Returns:
        The runs, and the highest rate that was sustained (0 when none was).

    """
    runs: list[Run] = []
    best, rate = 0.0, first
    while rate > 0:
        run = bench.run(rate, seconds, paced=True)
        runs.append(run)
        # Decisions keep coming, and in time: a reader that is fast enough is not all.
        late_ms = sorted(run.latencies_ms(seconds / 2))
        unmatched = sum(run.left_out().values())
        in_time = bool(late_ms) and late_ms[len(late_ms) // 2] <= LAG_S * 1000
        holds = run.lag_s() <= LAG_S and in_time and not unmatched
        say(
            f"{rate:g} requests/s: lag {run.lag_s():.2f} s, {unmatched:.0f} requests unmatched,"
            f" {'sustained' if holds else 'not sustained'}"
        )
        if holds:
            best = max(best, rate)
            if rate < first:
                break
            rate += step
        else:
            if best:
                break
            rate -= step
    return runs, best

"""One disturbed run: a job on Flink under live traffic, what is done to it, and what must hold whatever is done."""

import os
import random
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import psutil
from kafka.admin import NewPartitions
from stage import Stage, truth_of
from traffic import Hold, Lag, Traffic

from matcher.fingerprint import FIRST_LOOK_MS
from pipeline.local.flink_cluster import FlinkCluster
from pipeline.local.kafka_cluster import LocalKafkaCluster
from pipeline.messages.hushword_pb2 import AudioChunk, Decision
from pipeline.recordings.recording import Recording
from pipeline.trial import Job, running_job

# A request is looked at first when so much of its audio is there.
FIRST_LOOK_US = FIRST_LOOK_MS * 1000
# What is appended is read so much later, at the latest, on a machine that does everything else as well.
READ_WITHIN_US = 2_000_000
DONE_WITHIN_S = 150.0
READY_WITHIN_S = 150.0
# A decision is appended so long after it was made; more than that and the deadline, and it should have been marked.
ON_ITS_WAY_MS = 2000


def column(head: str, default: Any = 0) -> Any:
    return field(default=default, metadata={"head": head})


@dataclass
class Row:
    """A line of the report; its fields are the columns."""

    fault: str = column("fault", "")
    seed: int = column("seed")
    at_s: float = column("at, s", 0.0)
    lasted_s: float = column("lasted, s", 0.0)
    output_again_s: float | None = column("first decision, s", None)
    silent_s: float | None = column("longest silence, s", None)
    most_lag: int = column("most lag")
    lag_grew_s: float = column("lag grew, s", 0.0)
    lag_fell_s: float = column("lag fell, s", 0.0)
    ignored: int = column("ignored")
    shadow: int = column("accepted, in shadow")
    too_late: int = column("accepted, too late")
    missing: int = column("missing")
    wrong: int = column("wrong")
    duplicates: int = column("told again")
    late: int = column("late")
    unmarked: int = column("late, unmarked")
    records: int = column("records")
    lost: int = column("lost")


class Servers:
    """One Kafka and one Flink for all scenarios; whatever the last one left down is started again."""

    def __init__(self, kafka: LocalKafkaCluster, flink: FlinkCluster) -> None:
        self.kafka, self.flink = kafka, flink

    def start_what_is_down(self) -> None:
        for number in self.kafka.pids:
            self.kafka.resume(number)
        self.kafka.start()
        flink = self.flink
        for server in flink.servers:
            if server.pid is None:
                server.start()
        flink.wait_for_task_managers()
        flink.cancel_all()


class Run:
    """A job on Flink that hears live traffic, for the length of a `with` that begins when it is ready."""

    def __init__(self, servers: Servers, name: str, recording: Recording, seed: int, hold: Hold | None = None) -> None:
        self.kafka, self.flink = servers.kafka, servers.flink
        self.recording, self.draw = recording, random.Random(seed)
        self.row = Row(name, seed)
        topics = re.sub(r"\W+", "-", f"fault {name} {seed}")
        self.stage = Stage(self.kafka.bootstrap_servers, topics, partitions=4)
        self.traffic = Traffic(recording, self.stage.settings, hold)
        self.lag = Lag(self.stage.settings, self.traffic)
        self.began_s = self.ended_s = 0.0
        self.job_id = ""
        self._client: ExitStack | None = None
        self._job: Job | None = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        with self._stack as stack:
            stack.enter_context(self.stage)
            stack.callback(self._end)
            self.start_job()
            self._wait(lambda: len(self.stage.committed()) == self.stage.partitions, READY_WITHIN_S, "was not ready")
            self.traffic.start()
            self.lag.start()
            stack.callback(self.lag.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.__exit__(*raised)

    # ---- the job -------------------------------------------------------------------------------------------------

    def start_job(self, checkpoint: str | None = None) -> None:
        """Hand the job in, from a checkpoint or from the committed offsets; Flink has it when this returns."""
        options = [*self.flink.pipeline_options, *([f"--savepoint_path={checkpoint}"] if checkpoint else [])]
        self._client = ExitStack()
        self._job = self._client.enter_context(running_job(self.stage.settings, options))
        before = self.job_id

        def is_there() -> bool:
            found = self.flink.running_job()
            self.job_id = found.job_id if found is not None else before
            return self.job_id != before

        self._wait(is_there, READY_WITHIN_S, "was not handed in")

    def newest_checkpoint(self) -> str:
        """Give the newest retained checkpoint of this run's job, which may be gone."""
        found = (self.flink.checkpoints / self.job_id).glob("chk-*/_metadata")
        return max(found, key=lambda path: path.stat().st_mtime_ns).parent.as_uri()

    def end_client(self) -> None:
        """End the process that handed the job in; the job goes on without it."""
        if self._client is not None:
            self._client.close()
            self._client = self._job = None

    def cancel_job(self) -> None:
        self.end_client()
        self.flink.cancel(self.job_id)

    def _end(self) -> None:
        self.end_client()
        if self.flink.job_manager.pid is not None:
            self.flink.cancel_all()

    def _wait(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        deadline_s = time.monotonic() + within_s
        while not condition():
            if self._job is not None:
                self._job.check()
            tail = self._job.tail() if self._job is not None else ""
            assert time.monotonic() < deadline_s, f"the job {what} within {within_s:.0f} s; {tail}"
            time.sleep(0.1)

    # ---- the fault -----------------------------------------------------------------------------------------------

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Wait for the seed's moment, about a third into the recording; the fault lasts as long as the `with`."""
        time.sleep(max(0.0, self.draw.uniform(14, 20) - self.traffic.now_s))
        self.began_s = time.time()
        yield
        self.ended_s = time.time()

    def leader(self, topic: str, partition: int = 0) -> int:
        """Give the number of the node that leads a partition."""
        (found,) = self.stage.admin.describe_topics([topic])
        return int(next(p["leader_id"] for p in found["partitions"] if p["partition_index"] == partition))

    def busiest_workers(self) -> list[int]:
        """Give the Python workers that read and that decide most; one was started for when it has to read."""
        workers = [psutil.Process(pid) for pid in self.flink.pool.workers]
        before_s = {worker: worker.cpu_times().user for worker in workers}
        time.sleep(2)
        busiest = sorted(workers, key=lambda worker: before_s[worker] - worker.cpu_times().user)
        return [worker.pid for worker in busiest[:2]]

    def signal_workers(self, number: int, workers: list[int]) -> None:
        for pid in workers:
            os.kill(pid, number)

    def stall_workers(self, for_s: float) -> None:
        workers = self.flink.pool.workers
        self.signal_workers(signal.SIGSTOP, workers)
        time.sleep(for_s)
        self.signal_workers(signal.SIGCONT, workers)

    def kill_kafka(self) -> None:
        for number in self.kafka.pids:
            self.kafka.kill(number)

    def kill_flink(self) -> None:
        for server in self.flink.servers:
            server.kill()

    def add_partitions(self, total: int) -> None:
        self.stage.admin.create_partitions({self.stage.settings.audio_topic: NewPartitions(total)})

    # ---- what came of it -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Wait until all of the traffic is acknowledged, and all of that committed."""
        self.traffic.join(DONE_WITHIN_S + len(self.recording.requests))
        assert not self.traffic.is_alive()
        self._wait(lambda: self.lag.now() == 0, DONE_WITHIN_S, f"did not commit all: {self.lag.now()} records to go")
        self.lag.stop()

    def judge(self, usual_lag: int) -> Row:
        """Hold what was decided against the labels, which an undisturbed run meets, and the lag against its lag."""
        row, truth = self.row, self.recording.truth
        told = [
            (Decision.FromString(record.value), record.timestamp)
            for record in self.stage.records(self.stage.settings.decisions_topic)
        ]
        told.sort(key=lambda one: one[1])
        ignored = {decision.request_id for decision, _ in told if not decision.shadow}
        in_shadow = {decision.request_id for decision, _ in told} - ignored
        expected = truth_of(self.recording, "ignore")
        stale = self._stale()
        in_time = Counter(truth[r].event for r in expected - stale)
        excused = {r for r in expected if r in stale or in_time[truth[r].event] < 3}
        row.ignored = len(ignored)
        row.too_late = len((expected & excused) - ignored - in_shadow)
        row.shadow = len(in_shadow)
        row.missing = len(expected - excused - ignored - in_shadow)
        row.wrong = len((ignored | in_shadow) - expected)
        ids = defaultdict(set)
        for decision, _ in told:
            ids[decision.request_id].add(decision.decision_id)
        assert all(len(found) == 1 for found in ids.values()), "a request has two decision ids"
        row.duplicates = len(told) - len(ids)
        row.late = sum(decision.late for decision, _ in told)
        deadline_ms = self.stage.settings.deadline_ms + ON_ITS_WAY_MS
        row.unmarked = sum(
            not decision.late and appended_ms - decision.audio_appended_us / 1000 > deadline_ms
            for decision, appended_ms in told
        )
        self._count_records()
        if self.began_s:
            self._time(told, usual_lag)
        else:
            row.silent_s = _longest_gap_s([at_ms for _, at_ms in told], 0.0)
        return row

    def _stale(self) -> set[str]:
        """Give the requests that could not be read for their first look before they had left the window."""
        window_us = self.stage.settings.window_s * 1e6 - READ_WITHIN_US
        started_us = {r.request_id: (self.traffic.epoch_s + r.start_s) * 1e6 for r in self.recording.requests}
        stale = set()
        for record in self.audio:
            chunk = AudioChunk.FromString(record.value)
            began_us = started_us.get(chunk.request_id)
            if began_us is None or chunk.capture_time_us > began_us + FIRST_LOOK_US:
                continue  # a low mark, or later audio
            if record.timestamp * 1000 > began_us + window_us:
                stale.add(chunk.request_id)
        return stale

    def _count_records(self) -> None:
        """Look for every acknowledged record where it was said to be."""
        there = {}
        for record in self.audio:
            chunk = AudioChunk.FromString(record.value)
            there[record.partition, record.offset] = chunk.request_id, chunk.seq if chunk.request_id else -1
        acknowledged = self.traffic.acknowledged
        self.row.records = len(acknowledged)
        self.row.lost = sum(there.get(at) != what for at, what in acknowledged.items())

    @cached_property
    def audio(self) -> list[Any]:
        """All records of the audio topic."""
        return self.stage.records(self.stage.settings.audio_topic)

    def _time(self, told: list[tuple[Decision, int]], usual_lag: int) -> None:
        row = self.row
        row.at_s = round(self.began_s - self.traffic.epoch_s, 1)
        row.lasted_s = round(self.ended_s - self.began_s, 1)
        after = [at_ms for decision, at_ms in told if at_ms / 1000 > self.began_s < decision.audio_appended_us / 1e6]
        row.output_again_s = round(min(after) / 1000 - self.began_s, 1) if after else None
        row.silent_s = _longest_gap_s([self.began_s * 1000, *(at_ms for _, at_ms in told)], self.began_s * 1000)
        peak_s, row.most_lag = self.lag.peak(self.began_s)
        if row.most_lag > usual_lag:
            began_s = self.lag.first(lambda lag: lag > usual_lag, self.began_s) or peak_s
            fell_s = self.lag.first(lambda lag: lag <= usual_lag, peak_s) or time.time()
            row.lag_grew_s, row.lag_fell_s = round(peak_s - began_s, 1), round(fell_s - peak_s, 1)


def _longest_gap_s(times_ms: Sequence[float], from_ms: float) -> float:
    """Give the longest time between two that follow each other."""
    following = pairwise(sorted(at_ms for at_ms in times_ms if at_ms >= from_ms))
    return round(max((after - before for before, after in following), default=0.0) / 1000, 1)


# ---- the report ------------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- made by make test-cluster -->\n", "<!-- end -->\n"
HEADS = [field.metadata["head"] for field in fields(Row)]


def write_report(path: Path, row: Row) -> None:
    """Put a row into the table of a page, between its two marks, in the place of the one about the same fault."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |\n"

    def text(value: object) -> str:
        return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    head, rest = path.read_text(encoding="utf-8").split(BEGIN)
    table, tail = rest.split(END)
    lines = {
        cells[1]: cells[1:-1] for cells in ([c.strip() for c in kept.split("|")] for kept in table.splitlines()[3:-1])
    }
    lines[row.fault] = [text(getattr(row, field.name)) for field in fields(Row)]
    made = line(HEADS) + line(["---"] + ["---:"] * (len(HEADS) - 1)) + "".join(map(line, lines.values()))
    path.write_text(f"{head}{BEGIN}\n{made}\n{END}{tail}", encoding="utf-8")

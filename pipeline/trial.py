"""A trial: broker, topics, job, replay and decisions in one go, for `evaluate --run`; all of it stops in the end."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kafka import TopicPartition
from kafka.errors import KafkaError

from pipeline.control import publish
from pipeline.decisions import DecisionLine, read_topic
from pipeline.errors import FailedError
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.topics import admin_client, create_topics, delete_topics
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.options import Settings
from pipeline.recordings.departures import Programme
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import ReplaySummary, replay

JOB_COMMAND = (sys.executable, "-m", "pipeline.cli", "run")  # its settings come through the environment
READY_WITHIN_S = 240.0  # Beam's imports and, the first time, the compilation of the kernels on a busy machine
STOPPED_WITHIN_S = 15.0
_LOG_TAIL_LINES = 25


class RunError(FailedError):
    """The run failed: the job died, never got ready, or stopped making progress."""


class Progress(Protocol):
    """Hears how far a phase of the trial is."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note of `done` of `total`; a phase without a measure has a total of 0."""


@dataclass(frozen=True)
class Trial:
    """What came out."""

    decisions: list[DecisionLine]
    replayed: ReplaySummary
    dead_letters: int


def run_trial(
    recording: Recording,
    settings: Settings,
    bootstrap_servers: str | None = None,
    *,
    speed: float | None = 20.0,
    epoch_s: float | None = None,
    seed: int = 0,
    shuffle_ms: int = 0,
    partitions: int = 4,
    media: Sequence[MediaFingerprint] = (),
    beam_args: Sequence[str] = (),
    no_progress_s: float = 90.0,
    progress: Progress = lambda _phase, _done, _total: None,
) -> Trial:
    """Run the job over a recording through a real Kafka and collect its decisions.

    Args:
        recording: replayed into fresh topics; its truth is not looked at.
        settings: of the job; topics, group and start are replaced by the trial's own.
        bootstrap_servers: a broker to use; None starts one for the length of the trial.
        speed: times real time, None for as fast as the broker takes it.
        epoch_s: Unix time of the recording's zero; None for now.
        seed: of the replay's cuts and disorder.
        shuffle_ms: disorder of the replay, ms of capture time.
        partitions: of the audio topic.
        media: what is on the media topic before the job starts.
        beam_args: for the runner.
        no_progress_s: how long committed offsets may stand still at the end.
        progress: told about every phase.

    Raises:
        ConfigError: the broker given does not answer.
        RecordingError: a request's audio cannot be read.
        ReplayError: the broker did not take a record.
        FailedError: the broker did not take the media.
        RunError: the job died, never got ready, or stopped making progress; its log's tail is in the message.

    """
    with ExitStack() as stack:
        if bootstrap_servers is None:
            from pipeline.local.kafka import LocalKafka

            progress("starting a Kafka broker", 0, 0)
            own = trial_settings(settings, stack.enter_context(LocalKafka()).bootstrap_servers)
            create_topics(own, partitions)
        else:
            own = trial_settings(settings, bootstrap_servers)
            create_topics(own, partitions)
            stack.callback(_leave_nothing, own)  # somebody else's broker: no voices stay behind
        publish(own, own.media_topic, {entry.media_id: entry.SerializeToString() for entry in media})
        running = stack.enter_context(running_trial(own, partitions, beam_args, progress))
        replayed = running.play(
            recording,
            speed=speed,
            epoch_s=epoch_s,
            seed=seed,
            shuffle_ms=shuffle_ms,
            no_progress_s=no_progress_s,
            progress=progress,
        )
        progress("stopping the job", 0, 0)
        return running.collect(replayed)


@dataclass(frozen=True)
class RunningTrial:
    """A job that is ready to hear a recording."""

    settings: Settings
    job: "Job"
    group: "Group"

    def play(
        self,
        recording: Recording,
        *,
        speed: float | None,
        epoch_s: float | None = None,
        seed: int = 0,
        shuffle_ms: int = 0,
        no_progress_s: float = 90.0,
        progress: Progress = lambda _phase, _done, _total: None,
    ) -> ReplaySummary:
        """Replay a recording, and return when the job has committed all of it; arguments as for run_trial."""

        def replayed_so_far(done: int) -> None:
            self.job.check()
            progress("replaying", done, len(recording.requests))

        replayed = replay(
            recording,
            self.settings,
            self.settings.audio_topic,
            speed,
            epoch_s=epoch_s,
            programme=Programme(seed=seed, shuffle_ms=shuffle_ms),
            progress=replayed_so_far,
        )
        _wait_until_committed(self.job, self.group, replayed.end_offsets, no_progress_s, progress)
        return replayed

    def collect(self, replayed: ReplaySummary) -> Trial:
        """Stop the job and read what it decided."""
        self.job.stop()
        decisions = read_topic(self.settings, replayed.epoch_s)
        return Trial(decisions, replayed, self.group.dead_letters())


@contextmanager
def running_trial(
    settings: Settings,
    partitions: int,
    beam_args: Sequence[str] = (),
    progress: Progress = lambda _phase, _done, _total: None,
) -> Iterator[RunningTrial]:
    """Run the job on topics that are there, for the length of a `with` that begins when it is ready."""
    with admin_client(settings) as admin:
        group = Group(admin, settings)
        progress("starting the job", 0, 0)
        with running_job(settings, beam_args) as job:
            _wait_until_ready(job, group, partitions)
            yield RunningTrial(settings, job, group)


def trial_settings(settings: Settings, bootstrap_servers: str) -> Settings:
    """Give settings with topics and a group that nobody else has, read from their beginning."""
    name = f"hushword-trial-{uuid.uuid4().hex[:8]}"
    own = {
        "bootstrap_servers": bootstrap_servers,
        "audio_topic": f"{name}-audio",
        "decisions_topic": f"{name}-decisions",
        "media_topic": f"{name}-media",
        "dead_letter_topic": f"{name}-audio.dlq",
        "control_topic": f"{name}-control",
        "group_id": name,
        "start_at": "earliest",
    }
    return Settings(**{**settings.model_dump(), **own})


class Job:
    """The job as a process of its own, its output in a log file."""

    def __init__(self, settings: Settings, beam_args: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*JOB_COMMAND, *(["--", *beam_args] if beam_args else [])],
                env={**os.environ, **settings.as_environment()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we stop the job, in our order
            )

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its process group."""
        return self._process.pid

    def check(self) -> None:
        """Raise RunError with the log's tail when it is not running any more."""
        code = self._process.poll()
        if code is not None:
            raise RunError(f"the job ended by itself with exit code {code}; {self.tail()}")

    def tail(self) -> str:
        """Give the last lines of its log, with the log's place before them."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"the end of its log {self.log}:", *lines[-_LOG_TAIL_LINES:]])

    def stop(self) -> None:
        """Ask it to stop, then make it; does nothing when it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOPPED_WITHIN_S)
        with suppress(ProcessLookupError):  # its own group: workers that it may have left behind go too
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running_job(settings: Settings, beam_args: Sequence[str] = ()) -> Iterator[Job]:
    """Run `hushword run` for the length of a `with`; its log is kept only when the run failed."""
    descriptor, path = tempfile.mkstemp(prefix="hushword-job-", suffix=".log")
    os.close(descriptor)
    job = Job(settings, beam_args, Path(path))
    failed = False
    try:
        yield job
    except FailedError:
        failed = True
        raise
    finally:
        job.stop()
        if not failed:
            job.log.unlink()


class Group:
    """The committed offsets of the job's group, and how much went to the dead letters."""

    def __init__(self, admin: Any, settings: Settings) -> None:
        self._admin, self._settings = admin, settings

    def committed(self) -> dict[int, int]:
        """Offsets by partition of the audio topic; none while the group or its coordinator is not there yet."""
        with suppress(KafkaError):
            found = self._admin.list_group_offsets(self._settings.group_id)[self._settings.group_id]
            return {
                at.partition: entry.offset
                for at, entry in found.items()
                if at.topic == self._settings.audio_topic and entry.offset >= 0
            }
        return {}

    def dead_letters(self) -> int:
        """Count the records of the dead-letter topic."""
        consumer = Consumer(**client_arguments(self._settings), enable_auto_commit=False)
        try:
            topic = self._settings.dead_letter_topic
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            return int(sum(consumer.end_offsets(partitions).values()))
        finally:
            consumer.close()


def _wait_until_ready(job: Job, group: Group, partitions: int) -> None:
    def is_ready() -> bool:
        return len(group.committed()) == partitions

    if not _poll(job, is_ready, READY_WITHIN_S):
        raise RunError(f"the job was not ready within {READY_WITHIN_S:.0f} s; {job.tail()}")


def _wait_until_committed(
    job: Job, group: Group, ends: dict[int, int], no_progress_s: float, progress: Progress
) -> None:
    total = sum(ends.values())
    behind = total
    while behind:
        before = behind

        def advanced(before: int = before) -> bool:
            nonlocal behind
            committed = group.committed()
            behind = sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())
            return behind < before

        if not _poll(job, advanced, no_progress_s):
            raise RunError(
                f"the job committed nothing for {no_progress_s:.0f} s with {behind} of {total} records to go;"
                f" {job.tail()}"
            )
        progress("waiting for the job", total - behind, total)


def _poll(job: Job, condition: Callable[[], bool], within_s: float) -> bool:
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        job.check()
        if condition():
            return True
        time.sleep(0.1)
    return False


def _leave_nothing(settings: Settings) -> None:
    delete_topics(settings)
    with suppress(KafkaError), admin_client(settings) as admin:
        admin.delete_groups([settings.group_id])

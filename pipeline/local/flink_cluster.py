"""A Flink session cluster on this machine: job manager, task managers, Beam's job server and a pool of Python workers.

Each is a process of its own on the loopback address, as each has a machine of its own in production, and can be killed
and started again by itself.
"""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.local import LocalServiceError
from pipeline.local.flink import OPENED
from pipeline.local.jars import FLINK, ensure
from pipeline.local.java import java_command
from pipeline.local.loopback import write_loopback_jar
from pipeline.local.process import LOOPBACK, ServerProcess, free_port
from pipeline.local.staging import write_staging_jar

# What a job goes by unless its own options say otherwise; an option given twice counts as it was given last.
JOB_OPTIONS = (
    "--parallelism=2",
    "--max_bundle_time_mills=20",  # a bundle waits a second for more otherwise
    "--max_bundle_size=1000",
    "--checkpointing_interval=5000",
    "--externalized_checkpoints_enabled",
    "--retain_externalized_checkpoints_on_cancellation",
)
# What a task manager divides its memory into. Started by itself it insists on all of them, and its heap is -Xmx.
_TASK_MANAGER = {
    "taskmanager.cpu.cores": "1",
    "taskmanager.numberOfTaskSlots": "2",  # one is left with all the work when the other is lost
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.task.heap.size": "384m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.off-heap.size": "128m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}
_WORKER_POOL = (sys.executable, "-m", "pipeline.cli", "worker-pool")
_ENDED = {"CANCELED", "FAILED", "FINISHED"}
REST_TIMEOUT_S = 10.0
CANCELLED_WITHIN_S = 60.0


@dataclass(frozen=True)
class FlinkJob:
    """A job as Flink's REST interface tells of it."""

    job_id: str
    name: str
    state: str  # CREATED, RUNNING, RESTARTING, FAILING, FAILED, CANCELLING, CANCELED, FINISHED ...

    @property
    def has_ended(self) -> bool:
        """Whether it will never run again."""
        return self.state in _ENDED


@dataclass(frozen=True)
class Checkpoint:
    """A completed checkpoint."""

    number: int
    size_bytes: int
    duration_ms: int
    path: str  # what --savepoint_path takes


class Server:
    """One process of the cluster, which comes back to the same port."""

    def __init__(self, process: ServerProcess, port: int) -> None:
        self._process, self._port = process, port

    @property
    def name(self) -> str:
        """What it is, in words."""
        return self._process.name

    @property
    def log_path(self) -> Path:
        """What it has to say."""
        return self._process.log_path

    @property
    def pid(self) -> int | None:
        """Its process id while it runs, else None."""
        return self._process.pid

    def start(self, *, deadline_s: float = 60.0) -> None:
        """Start it, or start it again; it listens when this returns."""
        self._process.start(self._port, deadline_s=deadline_s)

    def stop(self) -> None:
        """Stop it in order."""
        self._process.stop()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()


class Pool(Server):
    """The worker pool: its workers end with it, as the processes of a container do."""

    @property
    def workers(self) -> list[int]:
        """Process ids of the Python workers, oldest first."""
        import psutil

        if self.pid is None:
            return []
        children = [child for child in psutil.Process(self.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
        return [child.pid for child in sorted(children, key=lambda child: child.create_time())]

    def kill(self) -> None:
        """End it and its workers as a crash would."""
        group = self.pid  # it leads a session of its own
        super().kill()
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


class FlinkCluster:
    """A real cluster for tests, trials and measurements: `with FlinkCluster(folder) as c: ... c.pipeline_options`.

    Args:
        directory: for logs, configuration and checkpoints; kept.
        task_managers: how many, with two slots each.
        config: Flink's configuration, over what is set here.

    A killed worker or task manager makes Flink start the job again from its last checkpoint. A killed job manager takes
    its jobs along, as there is no ZooKeeper: start it again and hand the job in anew, from `newest_checkpoint()` or
    from its committed offsets.

    """

    def __init__(self, directory: Path, task_managers: int = 2, config: Mapping[str, str] | None = None) -> None:
        self.directory = directory.absolute()
        self.checkpoints = self.directory / "checkpoints"
        self.job_options = list(JOB_OPTIONS)
        self._scratch = self.directory / "tmp"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._rest_port, self._job_port, self._pool_port, self.metrics_port = (free_port() for _ in range(4))
        self._write_config(config or {})
        jars = ensure(FLINK)
        self._loopback = write_loopback_jar(jars, self.directory / "loopback.jar")
        staging = write_staging_jar(jars, self.directory / "staging.jar")
        self.job_manager = self._java(
            "job-manager",
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            f"--configDir={self._conf}",
            "--executionMode=cluster",
            heap="512m",
            port=self._rest_port,
        )
        self.task_managers = [self._task_manager(number) for number in range(task_managers)]
        self.job_server = self._java(
            "job-server",
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            f"--job-host={LOOPBACK}",
            f"--job-port={self._job_port}",
            "--artifact-port=0",
            "--expansion-port=0",
            f"--artifacts-dir={self.directory / 'artifacts'}",
            f"--flink-master={LOOPBACK}:{self._rest_port}",
            f"--flink-conf-dir={self._conf}",
            heap="700m",
            port=self._job_port,
            before=[staging],
        )
        settings = self._conf / "pool.toml"
        settings.write_text(f"metrics_port = {self.metrics_port}\n")
        pool = [*_WORKER_POOL, f"--config={settings}", f"--port={self._pool_port}"]
        self.pool = Pool(ServerProcess("the worker pool", pool, self.directory / "pool.log"), self._pool_port)

    @property
    def rest_address(self) -> str:
        """Host and port of the job manager's REST interface, and of Flink's own page."""
        return f"{LOOPBACK}:{self._rest_port}"

    @property
    def pipeline_options(self) -> list[str]:
        """Beam's options for a job on this cluster."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={LOOPBACK}:{self._job_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config={LOOPBACK}:{self._pool_port}",
            *self.job_options,
        ]

    @property
    def servers(self) -> list[Server]:
        """All processes of the cluster, but for the workers that the pool starts."""
        return [self.job_manager, *self.task_managers, self.job_server, self.pool]

    def pids(self) -> list[int]:
        """Process ids of all that runs, the Python workers among them."""
        return [*(server.pid for server in self.servers if server.pid is not None), *self.pool.workers]

    def start(self) -> Self:
        """Start everything; the task managers have reported to the job manager when this returns."""
        for server in self.servers:
            server.start()
        self.wait_for_task_managers()
        return self

    def close(self) -> None:
        """Stop everything; files stay."""
        with ExitStack() as stack:  # all of them, whatever happens to one
            for server in self.servers:
                stack.callback(server.kill)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_for_task_managers(self, deadline_s: float = 60.0) -> None:
        """Wait until all task managers that run have reported; raise LocalServiceError when they do not."""
        wanted = sum(server.pid is not None for server in self.task_managers)
        until_s = time.monotonic() + deadline_s
        while time.monotonic() < until_s:
            with suppress(LocalServiceError):
                if self._rest("/overview")["taskmanagers"] >= wanted:
                    return
            time.sleep(0.1)
        raise LocalServiceError(
            f"the {wanted} task managers did not report to {self.rest_address} within {deadline_s:g} s; the logs are in"
            f" {self.directory}"
        )

    def jobs(self) -> list[FlinkJob]:
        """All jobs that the job manager knows, newest first."""
        found = sorted(self._rest("/jobs/overview")["jobs"], key=lambda job: -job["start-time"])
        return [FlinkJob(job["jid"], job["name"], job["state"]) for job in found]

    def running_job(self) -> FlinkJob | None:
        """Give the newest job that has not ended, else None."""
        return next((job for job in self.jobs() if not job.has_ended), None)

    def latest_checkpoint(self, job_id: str) -> Checkpoint | None:
        """Give a job's latest completed checkpoint, None when there is none yet."""
        found = self._rest(f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
        if found is None:
            return None
        return Checkpoint(found["id"], found["state_size"], found["end_to_end_duration"], found["external_path"])

    def newest_checkpoint(self) -> str | None:
        """Give the newest retained checkpoint of any job, as `--savepoint_path` takes it, whether Flink runs or not."""
        found = self.checkpoints.glob("*/chk-*/_metadata")  # it is written last
        newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
        return None if newest is None else newest.parent.as_uri()

    def cancel(self, job_id: str) -> None:
        """End a job, and return when it has ended; its last checkpoint is retained."""
        self._rest(f"/jobs/{job_id}?mode=cancel", method="PATCH")
        until_s = time.monotonic() + CANCELLED_WITHIN_S
        while not next(job for job in self.jobs() if job.job_id == job_id).has_ended:
            if time.monotonic() > until_s:
                raise LocalServiceError(f"job {job_id} was not cancelled within {CANCELLED_WITHIN_S:g} s")
            time.sleep(0.1)

    def cancel_all(self) -> None:
        """End every job that has not ended."""
        for job in self.jobs():
            if not job.has_ended:
                self.cancel(job.job_id)

    def _rest(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"http://{self.rest_address}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=REST_TIMEOUT_S) as answer:  # noqa: S310  its own address
                return json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise LocalServiceError(f"Flink's REST interface at {self.rest_address} did not answer: {error}") from error

    def _java(
        self, name: str, main_class: str, *arguments: str, heap: str, port: int, before: Sequence[Path] = ()
    ) -> Server:
        command = java_command(
            FLINK,
            main_class,
            *arguments,
            heap=heap,
            temporary=self._scratch,
            before=[self._loopback, *before],
            options=[f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED],
        )
        return Server(ServerProcess(f"the {name.replace('-', ' ')}", command, self.directory / f"{name}.log"), port)

    def _task_manager(self, number: int) -> Server:
        port = free_port()
        return self._java(
            f"task-manager-{number}",
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            f"--configDir={self._conf}",
            "-D",
            f"taskmanager.rpc.port={port}",
            "-D",
            f"taskmanager.resource-id=task-manager-{number}",
            heap="512m",
            port=port,
        )

    def _write_config(self, config: Mapping[str, str]) -> None:
        self._conf = self.directory / "conf"
        self._conf.mkdir(exist_ok=True)
        own = {
            "jobmanager.rpc.address": LOOPBACK,
            "jobmanager.rpc.port": str(free_port()),
            "jobmanager.bind-host": LOOPBACK,
            "taskmanager.host": LOOPBACK,
            "taskmanager.bind-host": LOOPBACK,
            "rest.address": LOOPBACK,
            "rest.port": str(self._rest_port),
            "rest.bind-address": LOOPBACK,
            "rest.retry.max-attempts": "5",  # a job is handed in or fails within seconds
            "rest.retry.delay": "1000",
            **_TASK_MANAGER,
            "cluster.evenly-spread-out-slots": "true",
            "state.backend.type": "hashmap",
            "state.checkpoints.dir": self.checkpoints.as_uri(),
            "state.checkpoints.num-retained": "3",
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff": "500 ms",
            "restart-strategy.exponential-delay.max-backoff": "10 s",
            # A lost task manager is noticed after two beats that it does not answer.
            "heartbeat.interval": "2000",
            "heartbeat.timeout": "30000",
            **config,
        }
        (self._conf / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in own.items()))

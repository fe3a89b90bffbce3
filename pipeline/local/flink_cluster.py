"""A Flink session cluster on this machine: job manager, task managers, Beam's job server and a pool of Python workers.

Each is a process of its own on the loopback address, as each has a machine of its own in production, and can be killed
and started again by itself.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from pipeline.flink.rest import FlinkError, FlinkRest
from pipeline.local import LocalServiceError
from pipeline.local.flink import OPENED
from pipeline.local.jars import FLINK, ensure
from pipeline.local.java import java_command
from pipeline.local.loopback import write_loopback_jar
from pipeline.local.process import LOOPBACK, ServerProcess, free_port
from pipeline.local.residuals import write_residuals_jar
from pipeline.local.service import Startable
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


class FlinkCluster(FlinkRest, Startable):
    """A real cluster for tests, trials and measurements: `with FlinkCluster(folder) as c: ... c.pipeline_options`.

    Args:
        directory: for logs, configuration and checkpoints; kept.
        task_managers: how many, with two slots each.
        config: Flink's configuration, over what is set here.
        bounded_residuals: whether what the reader defers takes one place in Flink's state; False is Beam's released
            runner as it is, whose state grows with every poll.

    A killed worker or task manager makes Flink start the job again from its last checkpoint. A killed job manager takes
    its jobs along, as there is no ZooKeeper: start it again and hand the job in anew, from `newest_checkpoint()` or
    from its committed offsets.

    """

    def __init__(
        self,
        directory: Path,
        task_managers: int = 2,
        config: Mapping[str, str] | None = None,
        *,
        bounded_residuals: bool = True,
    ) -> None:
        self.directory = directory.absolute()
        self.checkpoints = self.directory / "checkpoints"
        self.job_options = list(JOB_OPTIONS)
        self._scratch = self.directory / "tmp"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._rest_port, self._job_port, self._pool_port, self.metrics_port = (free_port() for _ in range(4))
        super().__init__(f"{LOOPBACK}:{self._rest_port}")
        self._write_config(config or {})
        jars = ensure(FLINK)
        self._loopback = write_loopback_jar(jars, self.directory / "loopback.jar")
        staging = write_staging_jar(jars, self.directory / "staging.jar")
        self._residuals = [write_residuals_jar(jars, self.directory / "residuals.jar")] if bounded_residuals else []
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
    def pipeline_options(self) -> list[str]:
        """Beam's options for a job on this cluster."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={LOOPBACK}:{self._job_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config={LOOPBACK}:{self._pool_port}",
            f"--flink_master={self.rest_address}",
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

    def wait_for_task_managers(self, deadline_s: float = 60.0) -> None:
        """Wait until all task managers that run have reported; raise LocalServiceError when they do not."""
        wanted = sum(server.pid is not None for server in self.task_managers)
        until_s = time.monotonic() + deadline_s
        while time.monotonic() < until_s:
            with suppress(FlinkError):
                if self.task_managers_reported() >= wanted:
                    return
            time.sleep(0.1)
        raise LocalServiceError(
            f"the {wanted} task managers did not report to {self.rest_address} within {deadline_s:g} s; the logs are in"
            f" {self.directory}"
        )

    def newest_checkpoint(self) -> str | None:
        """Give the newest retained checkpoint of any job, as `--savepoint_path` takes it, whether Flink runs or not."""
        found = self.checkpoints.glob("*/chk-*/_metadata")  # it is written last
        newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
        return None if newest is None else newest.parent.as_uri()

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
            before=self._residuals,
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
            "execution.buffer-timeout.interval": "5 ms",  # what goes from step to step waits up to 100 ms otherwise
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

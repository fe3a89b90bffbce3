"""The pool that stands beside a Flink task manager: it starts workers, serves what they count, and takes them along."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import apache_beam as beam
import psutil
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.environments import ExternalEnvironment

from pipeline.local.process import free_port
from pipeline.options import Settings

POOL = (sys.executable, "-m", "pipeline.cli", "worker-pool")
DEADLINE_S = 60.0


def settings_of(metrics_port: int) -> dict[str, str]:
    return Settings(metrics_port=metrics_port, bootstrap_servers="127.0.0.1:1", log_format="json").as_environment()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A pool as a process of its own: it, its port, and that of its metrics."""
    port, metrics_port = free_port(), free_port()
    with (tmp_path / "log").open("wb") as log:
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, **settings_of(metrics_port), "PYTHONPATH": paths}
        process = subprocess.Popen([*POOL, f"--port={port}"], env=environment, stderr=log)
        try:
            wait_for(lambda: b"workers can be asked for" in (tmp_path / "log").read_bytes())
            yield process, port, metrics_port
        finally:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class CountChunks(beam.DoFn):
    """Counts as the reader does, in whatever process it is."""

    def process(self, chunks: int) -> Iterator[int]:
        from pipeline import metrics

        metrics.count_read({"chunks": chunks})
        yield os.getpid()


class CountFrozen(beam.DoFn):
    """Says how many objects no garbage collection of its process looks at."""

    def process(self, _: None) -> Iterator[int]:
        import gc

        yield gc.get_freeze_count()


def test_a_worker_runs_counts_and_ends_with_its_pool(pool: tuple[subprocess.Popen[bytes], int, int]) -> None:
    process, port, metrics_port = pool
    with beam.Pipeline(runner=FnApiRunner(default_environment=ExternalEnvironment(f"127.0.0.1:{port}"))) as pipeline:
        pids = pipeline | beam.Create([3, 4], reshuffle=False) | beam.ParDo(CountChunks())
        elsewhere = pids | beam.Map(lambda pid, own: pid != own, os.getpid())
        assert_that(elsewhere, equal_to([True, True]))
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as answer:
        assert "hushword_chunks_total 7.0" in answer.read().decode().splitlines()
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    assert not [worker for worker in workers if worker.is_running()]


def test_what_a_worker_loads_is_left_out_of_its_garbage_collections(
    pool: tuple[subprocess.Popen[bytes], int, int],
) -> None:
    """Also the job's own modules: the worker had them before it knew which job it would serve."""
    _, port, _ = pool
    with beam.Pipeline(runner=FnApiRunner(default_environment=ExternalEnvironment(f"127.0.0.1:{port}"))) as pipeline:
        counts = pipeline | beam.Create([None], reshuffle=False) | beam.ParDo(CountFrozen())
        assert_that(counts | beam.Map(lambda count: count > 150_000), equal_to([True]))


def test_only_this_machine_can_ask(pool: tuple[subprocess.Popen[bytes], int, int]) -> None:
    process, port, _ = pool
    listening = [at.laddr for at in psutil.Process(process.pid).net_connections() if at.status == psutil.CONN_LISTEN]
    assert port in {address.port for address in listening}
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([*POOL, f"--port={port}"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("the port (--port) is taken")

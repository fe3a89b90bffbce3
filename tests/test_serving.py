"""What several processes count is served as one, and the answers to probes mean what they say."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge

from pipeline.health import ROUND_S, START_S, Health
from pipeline.local.process import free_port
from pipeline.options import ConfigError, Settings
from pipeline.serving import application
from pipeline.shared_counts import VARIABLE, SharedCounts

PROCESSES, EACH = 4, 250
# Counts in several processes at once, serves what all of them have counted, and waits to be told to end.
JOB = """
import multiprocessing, sys
from pipeline.shared_counts import SharedCounts

def count(number, each):
    from pipeline import metrics
    for done in range(each):
        metrics.count_read({"chunks": 1, "duplicate_chunks": 1})
        metrics.ROUTES.count("word/xx/0", {"ignored": 1})
        metrics.KERNEL_SECONDS.labels("match").observe(0.003)
        metrics.ASSIGNED_PARTITIONS.set(10 * number + 1)

def main(port, processes, each):
    shared = SharedCounts()
    from pipeline import metrics
    from pipeline.options import Settings
    from pipeline.serving import serve
    workers = [multiprocessing.Process(target=count, args=(n, each)) for n in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    metrics.ASSIGNED_PARTITIONS.set(7)
    serve(Settings(metrics_port=port, bootstrap_servers="127.0.0.1:1"))
    print("ready", flush=True)
    sys.stdin.read()
    shared.close()

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main(*map(int, sys.argv[1:]))
"""


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body, whatever the status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_thousand_of_a_thousand_are_counted_by_several_processes(tmp_path: Path) -> None:
    """Counters and histograms add up though the processes have ended; of a gauge, who spoke last is believed."""
    script, port, directory = tmp_path / "job.py", free_port(), tmp_path / "counts"
    script.write_text(JOB)
    directory.mkdir()
    (directory / "counter_1.db").write_bytes(b"left behind by an earlier job")
    (directory / "notes.txt").write_bytes(b"not ours")
    command = [sys.executable, str(script), str(port), str(PROCESSES), str(EACH)]
    environment = {**os.environ, VARIABLE: str(directory), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as job:
        try:
            assert job.stdout is not None
            assert job.stdout.readline() == b"ready\n"
            status, text = get(port, "/metrics")
            unready, reasons = get(port, "/readyz")
            absent, _ = get(port, "/")
        finally:
            job.kill()
    assert (status, unready, absent) == (200, 503, 404)
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    total = str(float(PROCESSES * EACH))
    assert total == "1000.0"
    assert found["hushword_chunks_total"] == total
    assert found['hushword_chunks_left_out_total{reason="duplicate"}'] == total
    assert found['hushword_route_ignored_total{route="word/xx/0"}'] == total
    assert found['hushword_kernel_seconds_count{stage="match"}'] == total
    assert found['hushword_kernel_seconds_bucket{le="0.005",stage="match"}'] == total
    assert found['hushword_kernel_seconds_bucket{le="0.0025",stage="match"}'] == "0.0"
    assert found["hushword_assigned_partitions"] == "7.0"
    assert "pid=" not in text
    assert not any("no partition" in reason for reason in json.loads(reasons)["reasons"])
    assert any("media topic" in reason for reason in json.loads(reasons)["reasons"])
    assert (directory / "notes.txt").exists()


def test_where_to_count_must_be_said_before_it_is_too_late() -> None:
    """This process has imported prometheus_client long ago."""
    with pytest.raises(RuntimeError, match="imported before"):
        SharedCounts()


def test_a_port_that_is_taken_is_an_error_of_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the settings."""
    import socket

    from pipeline.serving import serve

    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} \(settings metrics_host and metrics_port\)"):
            serve(Settings(metrics_port=port))


# ---- probes ----------------------------------------------------------------------------------------------------------


class Told:
    """What the processes have told, a broker that is there or not, and a clock."""

    def __init__(self) -> None:
        self.now_s, self.missing = 1000.0, ["the broker is gone"]
        self.registry = CollectorRegistry()
        self.health = Health(self.registry, lambda: self.missing, lambda: self.now_s)

    def tell(self, **values: float) -> None:
        for name, value in values.items():
            full = f"hushword_{name}"
            gauge = self.registry._names_to_collectors.get(full) or Gauge(full, "-", registry=self.registry)
            assert isinstance(gauge, Gauge)
            gauge.set(value)

    def rounds(self, poll_s: float, batch_s: float) -> None:
        self.tell(last_poll_timestamp_seconds=poll_s, last_batch_timestamp_seconds=batch_s)

    def get(self, path: str) -> tuple[str, Any]:
        environ: dict[str, Any] = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        answers: list[str] = []

        def start_response(status: str, headers: Sequence[tuple[str, str]]) -> None:
            answers.append(status)
            assert dict(headers)["Content-Type"] == "application/json"

        body = b"".join(application(self.registry, self.health)(environ, start_response))
        return answers[0], json.loads(body)


def test_it_is_not_ready_before_everything_is_there() -> None:
    """Broker, catalogue, partitions: each has its reason, and the last one that comes makes it ready."""
    told = Told()
    status, body = told.get("/readyz")
    assert status == "503 Service Unavailable"
    assert body["status"] == "failing"
    assert len(body["reasons"]) == 3
    told.tell(catalogue_ready=0, assigned_partitions=0)
    assert len(told.get("/readyz")[1]["reasons"]) == 3
    told.tell(catalogue_ready=1)
    assert [reason for reason in told.get("/readyz")[1]["reasons"] if "media topic" in reason] == []
    told.tell(assigned_partitions=4)
    assert told.get("/readyz")[1]["reasons"] == ["the broker is gone"]
    told.missing = []
    assert told.get("/readyz") == ("200 OK", {"status": "ok", "reasons": []})


def test_a_broker_that_is_gone_makes_it_unready_and_not_dead() -> None:
    """To restart the job would not bring the broker back."""
    told = Told()
    told.tell(catalogue_ready=1, assigned_partitions=4)
    told.rounds(told.now_s, told.now_s)
    assert told.get("/readyz")[0].startswith("503")
    assert told.get("/healthz")[0].startswith("200")


@given(st.floats(0, 3 * ROUND_S), st.floats(0, 3 * ROUND_S))
def test_it_is_alive_while_polls_return_and_bundles_are_decided(poll_ago_s: float, batch_ago_s: float) -> None:
    """Both: a reader that polls beside a step that hangs is no use. And who is not alive is not ready."""
    told = Told()
    told.missing = []
    told.tell(catalogue_ready=1, assigned_partitions=4)
    told.rounds(told.now_s - poll_ago_s, told.now_s - batch_ago_s)
    late = [ago_s for ago_s in (poll_ago_s, batch_ago_s) if told.now_s - (told.now_s - ago_s) > ROUND_S]
    for path in ("/healthz", "/readyz"):
        status, body = told.get(path)
        assert len(body["reasons"]) == len(late)
        assert status.startswith("503" if late else "200")


def test_a_start_may_take_its_time_and_no_longer() -> None:
    """Kernels are compiled the first time; a job that never polls is not alive."""
    told = Told()
    told.now_s += START_S
    assert told.get("/healthz")[0].startswith("200")
    told.now_s += 1
    status, body = told.get("/healthz")
    assert status.startswith("503")
    assert "the reader has not polled since the start" in body["reasons"][0]

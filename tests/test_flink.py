"""The same job on a real Flink, through Beam's job server."""

from collections.abc import Iterator

import pytest
from sounds import write_recording
from stage import truth_of

from pipeline.local.flink import LocalFlink
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.trial import run_trial

# Without the first two a bundle waits a second for more; checkpoints are what a restart on Flink goes by.
OPTIONS = [
    "--max_bundle_time_mills=20",
    "--max_bundle_size=1000",
    "--checkpointing_interval=5000",
    "--parallelism=1",
]

pytestmark = [pytest.mark.flink, pytest.mark.timeout(600)]


@pytest.fixture
def flink() -> Iterator[LocalFlink]:
    with LocalFlink() as server:
        yield server


def test_the_job_decides_on_flink_what_it_decides_locally(
    kafka: str, flink: LocalFlink, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All media and nobody else, as on the local runner; each request once."""
    folder = write_recording(tmp_path_factory.mktemp("recording"), 3, events=2, homes=4, live=6, reruns=1, pairs=1)
    recording = Recording.load(folder)
    trial = run_trial(recording, Settings(), kafka, speed=5.0, beam_args=[*flink.pipeline_options, *OPTIONS])
    ignored = [decision.request_id for decision in trial.decisions]
    assert sorted(ignored) == sorted(truth_of(recording, "ignore", "ignore_by_cache"))
    assert trial.dead_letters == 0

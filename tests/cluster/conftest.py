"""One Flink session cluster for the tests of a module: its start takes a while."""

from collections.abc import Iterator

import pytest

from pipeline.local.flink_cluster import FlinkCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    """Two task managers, on which no job runs."""
    with FlinkCluster(tmp_path_factory.mktemp("flink")) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_job_is_left(cluster: FlinkCluster) -> Iterator[None]:
    yield
    cluster.cancel_all()

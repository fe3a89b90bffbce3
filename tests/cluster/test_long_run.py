"""Minutes of steady traffic on the cluster: the job's own memory is flat, and so is what Flink saves of it."""

import os

import pytest

from bench.figures import say
from bench.job import running_bench
from bench.soak import CATALOGUE_ENTRIES, CHECKPOINT_EVERY_MS, watched
from bench.soak_report import own_state_mb, own_table, reader_mb, service
from bench.soak_samples import climbs
from pipeline.local.flink_cluster import FlinkCluster
from pipeline.local.kafka import LocalKafka

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MINUTES = float(os.environ.get("HUSHWORD_SOAK_MINUTES", "5"))
EVERY_S = 5.0


def test_the_jobs_own_memory_is_flat(cluster: FlinkCluster) -> None:
    """As the scatter of its samples has it; checkpoints complete, and hold one deferred rest and not all of them."""
    cluster.job_options.append(f"--checkpointing_interval={CHECKPOINT_EVERY_MS}")
    with LocalKafka() as kafka:
        servers = kafka.bootstrap_servers
        with running_bench(servers, say, cluster, catalogue_entries=CATALOGUE_ENTRIES) as bench:
            found = watched(bench, kafka, cluster, MINUTES, rate=6.0, every_s=EVERY_S)
    print(own_table(found), service(found), sep="\n")
    warm = found.warm
    assert {tuple(sample.workers) for sample in found.samples} == {tuple(warm[0].workers)}
    assert sum(sample.decisions for sample in warm) > 0
    assert warm[-1].completed > warm[0].completed
    assert warm[-1].failed == warm[0].failed
    assert max(sample.residuals for sample in warm) == 1
    sizes = {
        name: [sample.rss_mb[name] for sample in warm] for name in warm[0].rss_mb if name.startswith("Python worker")
    }
    assert len(sizes) == 4
    sizes["deciding"] = [mb for sample in warm if (mb := own_state_mb(sample)) is not None]
    sizes["reading"] = [mb for sample in warm if (mb := reader_mb(sample)) is not None]
    assert {name: values for name, values in sizes.items() if climbs(values)} == {}

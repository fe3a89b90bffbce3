"""What a job on Flink is refused while it runs: no outage, after which it would go on, but its end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from secured import JOB, PASSWORD, Certificates, SecuredKafka, hear, rights, until

from pipeline.decisions import read_topic
from pipeline.kafka.sender import Sender
from pipeline.kafka.topics import Role, create_topics, topic_names
from pipeline.local.flink_cluster import FlinkCluster
from pipeline.options import Settings
from pipeline.trial import Job, RunError, running_job, trial_settings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with SecuredKafka(Certificates.make(tmp_path_factory.mktemp("certificates"))) as broker:
        yield broker


@contextmanager
def _running(
    broker: SecuredKafka, cluster: FlinkCluster, password: Path, user: str
) -> Iterator[tuple[Settings, Job, Callable[[], None]]]:
    """Run the job of a user until it has decided something; gives what makes it decide again."""
    own = trial_settings(Settings(), broker.bootstrap_servers)
    create_topics(own, 1)
    password.write_text(PASSWORD)
    broker.add_user(user, rights(own, JOB))
    start_us = round(time.time() * 1e6) - 2_000_000
    with (
        running_job(broker.settings_of(user, own, password), cluster.pipeline_options) as job,
        Sender(own, own.audio_topic) as sender,
    ):
        hear(sender, start_us, "before")
        until(job, lambda: len(read_topic(own)) == 3)
        yield own, job, lambda: hear(sender, start_us + 60_000_000, "after")


def _last_words(job: Job, cluster: FlinkCluster) -> str:
    """Wait for its end, of which nothing is left on Flink."""
    with pytest.raises(RunError, match="exit code 1") as ended:
        until(job, lambda: False)
    assert PASSWORD not in str(ended.value)
    assert {job.state for job in cluster.jobs()} == {"CANCELED"}
    return str(ended.value).splitlines()[-1]


@pytest.mark.parametrize(("role", "operation"), [("audio", "READ"), ("decisions", "WRITE")])
def test_a_job_that_loses_a_right_ends_with_a_sentence(
    broker: SecuredKafka, cluster: FlinkCluster, tmp_path: Path, role: Role, operation: str
) -> None:
    """Flink would start it again and again."""
    user = f"job-{role}"
    with _running(broker, cluster, tmp_path / "password", user) as (own, job, decide_again):
        topic = topic_names(own)[role]
        broker.take_right(user, ("TOPIC", topic, operation))
        decide_again()
        said = _last_words(job, cluster)
    assert said.startswith("hushword: the job ended: TopicAuthorizationFailedError"), said
    assert topic in said


def test_a_job_whose_password_is_gone_ends_with_a_sentence(
    broker: SecuredKafka, cluster: FlinkCluster, tmp_path: Path
) -> None:
    """Workers that run have read it; those that are started when they are lost cannot."""
    password = tmp_path / "password"
    with _running(broker, cluster, password, "job-password") as (_, job, _):
        password.unlink()
        for worker in cluster.pool.workers:
            os.kill(worker, signal.SIGKILL)
        said = _last_words(job, cluster)
    assert said.startswith(f"hushword: the job ended: ConfigError: setting sasl_password_file = {password} "), said

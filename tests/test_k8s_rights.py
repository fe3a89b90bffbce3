"""The rights of the manifests on a real broker that insists on them: enough for each one's work, and not for more."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import secured
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import TopicAuthorizationFailedError
from known import write_media
from manifests import find, written
from prometheus_client import CollectorRegistry
from sounds import write_recording
from stage import truth_of

from pipeline.cli import main
from pipeline.control import publish
from pipeline.decisions import read_topic
from pipeline.exporter import Exporter
from pipeline.kafka.topics import admin_client, create_topics
from pipeline.media.topic import known
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import replay
from pipeline.trial import Group, running_job

pytestmark = pytest.mark.k8s

USERS = [user["metadata"]["name"] for user in written("users.yaml")]
OPERATIONS = {"DescribeConfigs": "DESCRIBE_CONFIGS"}
PARTITIONS, WITHIN_S = 2, 120.0
MAY_HEAR = {"hushword-job", "hushword-monitor", "hushword-investigator"}


def rights(user: str) -> list[tuple[str, str, str]]:
    """Give a user's rights as a broker is told them; a group's prefix stands for the group of that name."""
    acls = find(written("users.yaml"), "KafkaUser", user)["spec"]["authorization"]["acls"]
    return [
        (resource["type"].upper(), resource.get("name", "kafka-cluster"), OPERATIONS.get(each, each.upper()))
        for acl in acls
        for resource in (acl["resource"],)
        for each in acl["operations"]
    ]


class Deployed:
    """A broker with the users of the manifests, and the topics."""

    def __init__(self, broker: secured.SecuredKafka, scratch: Path) -> None:
        self._broker, self._password, self._ca = broker, scratch / "password", scratch / "ca.pem"
        self._password.write_text(secured.PASSWORD)
        create_topics(Settings(bootstrap_servers=broker.bootstrap_servers), PARTITIONS)
        for user in USERS:
            broker.add_user(user, rights(user))

    def settings(self, user: str) -> Settings:
        """Reach the broker as somebody."""
        return Settings(
            bootstrap_servers=self._broker.listener("SASL"),
            security_protocol="SASL_SSL",
            ssl_cafile=self._ca,
            sasl_username=user,
            sasl_password_file=self._password,
            start_at="earliest",
        )

    def command(self, monkeypatch: pytest.MonkeyPatch, user: str, *arguments: str) -> int:
        """Give the exit code of a command by somebody."""
        for name, value in self.settings(user).as_environment().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    scratch = tmp_path_factory.mktemp("deployed")
    with secured.SecuredKafka(secured.Certificates.make(scratch)) as broker:
        yield Deployed(broker, scratch)


@pytest.fixture(scope="module")
def heard(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A recording that the gateway's user has sent, and that the job's user has decided about and committed.

    On the topic of known media is a record that is none, of which the job's user has made a dead letter.
    """
    folder = write_recording(tmp_path_factory.mktemp("recording"), 3, events=1, homes=4, live=2, reruns=1)
    recording, settings, audio = (
        Recording.load(folder),
        deployed.settings("hushword-job"),
        deployed.settings("hushword-audio"),
    )
    operator = deployed.settings("hushword-operator")
    publish(operator, operator.media_topic, {"k-bad": b"\xff no fingerprint"})
    media = TopicPartition(settings.media_topic, 0)
    with admin_client(settings) as admin, running_job(settings) as job:
        group = Group(admin, settings)

        def wait_for(condition: Callable[[], bool]) -> None:
            end_s = time.monotonic() + WITHIN_S
            while not condition():
                job.check()
                assert time.monotonic() < end_s, job.tail()
                time.sleep(0.1)

        wait_for(lambda: len(group.committed()) == PARTITIONS)
        ends = replay(recording, audio, audio.audio_topic, 5.0).end_offsets
        wait_for(lambda: group.committed() == ends)
        wait_for(lambda: admin.list_group_offsets(settings.group_id)[settings.group_id][media].offset >= 1)
        assert group.dead_letters() == 1
    return recording


def test_the_job_decides_and_a_gateway_is_told(deployed: Deployed, heard: Recording) -> None:
    told = {decision.request_id for decision in read_topic(deployed.settings("hushword-gateway"))}
    assert told == truth_of(heard, "ignore", "ignore_by_cache")


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("hushword-job", "config check"),
        ("hushword-operator", "shadow on --route alexa/en-US"),
        ("hushword-operator", "shadow status"),
        ("hushword-operator", "media list"),
        ("hushword-operator", "decisions"),
        ("hushword-operator", "erase --household nobody"),
        ("hushword-investigator", "dlq list"),
        ("hushword-investigator", "decisions"),
    ],
)
@pytest.mark.usefixtures("heard")
def test_people_can_do_their_work(deployed: Deployed, monkeypatch: pytest.MonkeyPatch, user: str, command: str) -> None:
    assert deployed.command(monkeypatch, user, *command.split()) == 0


@pytest.mark.usefixtures("heard")
def test_the_operator_alone_keeps_known_media(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table, settings = write_media(tmp_path, {"advert": 7}, "alexa"), deployed.settings("hushword-operator")
    others = sorted({*USERS} - {"hushword-operator", "hushword-job"})
    for user in others:
        assert deployed.command(monkeypatch, user, "media", "add", str(table)) != 0
    assert not known(settings)
    assert deployed.command(monkeypatch, "hushword-operator", "media", "add", str(table)) == 0
    (entry,) = known(settings)
    for user in others:
        assert deployed.command(monkeypatch, user, "media", "remove", entry) != 0
    assert list(known(settings)) == [entry]
    assert deployed.command(monkeypatch, "hushword-operator", "media", "remove", entry) == 0
    assert not known(settings)


def test_an_investigator_is_told_why(deployed: Deployed, heard: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = min(truth_of(heard, "ignore"))
    assert deployed.command(monkeypatch, "hushword-investigator", "explain", ignored) == 0


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("hushword-monitor", "shadow on"),
        ("hushword-gateway", "shadow status"),
        ("hushword-audio", "decisions"),
        ("hushword-audio", "config check"),
        ("hushword-investigator", "shadow on"),
    ],
)
def test_nobody_can_do_another_ones_work(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, user: str, command: str
) -> None:
    assert deployed.command(monkeypatch, user, *command.split()) != 0


@pytest.mark.usefixtures("heard")
def test_the_monitor_sees_everything(deployed: Deployed) -> None:
    registry = CollectorRegistry()
    exporter = Exporter(deployed.settings("hushword-monitor"), registry)
    exporter.start()
    try:
        end_s = time.monotonic() + WITHIN_S
        while not registry.get_sample_value("hushword_exporter_answer_timestamp_seconds"):
            assert time.monotonic() < end_s
            time.sleep(0.1)
    finally:
        exporter.stop()
    lag = {"topic": "wakeword-audio", "partition": "0"}
    assert registry.get_sample_value("hushword_consumer_lag_records", lag) == 0
    assert registry.get_sample_value("hushword_media_topic_bytes")  # takes the cluster's description


@pytest.mark.parametrize("user", USERS)
@pytest.mark.usefixtures("heard")
def test_voices_are_heard_by_those_who_must(deployed: Deployed, user: str) -> None:
    from pipeline.kafka.clients import client_arguments

    settings = deployed.settings(user)
    consumer = KafkaConsumer(**client_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(settings.audio_topic, 0)])
        voices = {}
        with suppress(TopicAuthorizationFailedError):  # a topic that is not even shown is silence
            voices = consumer.poll(timeout_ms=5000)
        assert bool(voices) == (user in MAY_HEAR)
    finally:
        consumer.close()

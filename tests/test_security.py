"""Brokers that are reached in the right way, and in every wrong one: a sentence, an end, and no secret anywhere."""

import logging
import pickle
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kafka.errors import TopicAuthorizationFailedError
from secured import JOB, PASSWORD, Certificates, SecuredKafka, hear, rights, until

import pipeline
from pipeline.cli import main
from pipeline.decisions import read_topic
from pipeline.erase import keeping
from pipeline.job import build
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.sender import Sender
from pipeline.kafka.topics import Role, create_topics, topic_names
from pipeline.options import Settings, load_settings
from pipeline.source import FromCommitted
from pipeline.trial import RunError, running_job, trial_settings

WITHIN_S = 30.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(certificates: Certificates) -> Iterator[SecuredKafka]:
    with SecuredKafka(certificates) as broker:
        settings = Settings(bootstrap_servers=broker.bootstrap_servers)
        create_topics(settings, 1)
        broker.add_user("hushword", rights(settings, JOB))
        broker.add_user("no-reader", rights(settings, JOB | {"audio": "DESCRIBE"}))
        broker.add_user("no-writer", rights(settings, JOB | {"decisions": "DESCRIBE"}))
        broker.add_user("no-stranger", rights(settings, {role: JOB[role] for role in JOB if role != "media"}))
        broker.add_user("no-group", [right for right in rights(settings, JOB) if right[0] != "GROUP"])
        yield broker


class Reach:
    """Flags for the ways to a broker."""

    def __init__(self, broker: SecuredKafka, certificates: Certificates, scratch: Path) -> None:
        self.broker, self.certificates = broker, certificates
        self.password = scratch / "password"
        self.password.write_text(f"{PASSWORD}\n")

    def tls(self, listener: str, cafile: Path | None = None, protocol: str = "SSL") -> list[str]:
        cafile = cafile or self.certificates.folder / "ca.pem"
        address = self.broker.listener(listener)
        return ["--bootstrap-servers", address, "--security-protocol", protocol, "--ssl-cafile", str(cafile)]

    def user(self, name: str = "hushword") -> list[str]:
        who = ["--sasl-username", name, "--sasl-password-file", str(self.password)]
        return [*self.tls("SASL", protocol="SASL_SSL"), *who]


@pytest.fixture
def reach(broker: SecuredKafka, certificates: Certificates, tmp_path: Path) -> Reach:
    return Reach(broker, certificates, tmp_path)


def ends(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, *command: str, flags: Sequence[str]
) -> tuple[int, str]:
    """Run a command to its end, everything logged that can be; gives its exit code and what it said."""
    began_s = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(SystemExit) as ended:
        main([*command, *flags])
    assert time.monotonic() - began_s < WITHIN_S
    said = capsys.readouterr()
    assert PASSWORD not in said.out + said.err + caplog.text
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.err or said.out


def refused(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, flags: Sequence[str], says: str
) -> None:
    """See that the check and the job both end with this one sentence."""
    for command in (("config", "check"), ("run",)):
        code, said = ends(capsys, caplog, *command, flags=flags)
        assert code == 2, said
        assert says in said
        assert said.startswith("hushword: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize("way", ["TLS", "MTLS", "SASL"])
def test_the_right_way_is_open(
    reach: Reach, way: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ours = reach.certificates.issue("ours", "hushword", user="hushword")
    flags = {
        "TLS": reach.tls("TLS"),
        "MTLS": [*reach.tls("MTLS"), "--ssl-certfile", str(ours)],
        "SASL": reach.user(),
    }[way]
    code, said = ends(capsys, caplog, "config", "check", flags=flags)
    assert (code, said.count("are as the job needs them")) == (0, 1), said


def test_a_key_with_a_password_and_a_password_from_the_environment(
    reach: Reach,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = reach.certificates.issue("ours-locked", "hushword", user="hushword", password=PASSWORD.encode())
    flags = [*reach.tls("MTLS"), "--ssl-certfile", str(ours)]
    refused(capsys, caplog, flags, "its key takes another password (setting ssl_key_password_file)")
    assert (
        ends(capsys, caplog, "config", "check", flags=[*flags, "--ssl-key-password-file", str(reach.password)])[0] == 0
    )
    monkeypatch.setenv("HUSHWORD_SSL_KEY_PASSWORD", PASSWORD)
    assert ends(capsys, caplog, "config", "check", flags=flags)[0] == 0
    monkeypatch.setenv("HUSHWORD_SASL_PASSWORD", PASSWORD)
    assert ends(capsys, caplog, "config", "check", flags=reach.user()[:-2])[0] == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("password", "refused the user 'hushword' (SCRAM-SHA-512): no such user, or another password"),
        ("user", "refused the user 'nobody' (SCRAM-SHA-512): no such user, or another password"),
        ("mechanism", "does not know the mechanism SCRAM-SHA-256 (setting sasl_mechanism)"),
        ("no password", "set sasl_password_file, or the environment variable HUSHWORD_SASL_PASSWORD"),
        ("expired", "cannot be trusted: its certificate has expired"),
        ("name", "cannot be trusted: its certificate is not for 127.0.0.1"),
        ("authority", "nobody in ssl_cafile vouches for its certificate"),
        ("plain client", "does not answer without TLS (security_protocol is PLAINTEXT)"),
        ("plain listener", "its listener may have none (security_protocol is SSL)"),
        ("no SASL", "wants a user and a password (security_protocol is SSL: use SASL_SSL)"),
        ("SASL for nothing", "has a listener without SASL (security_protocol is SASL_SSL)"),
        ("no certificate", "it asks for a certificate of ours (ssl_certfile)"),
        ("their certificate", "it does not accept our certificate"),
        ("our old certificate", "it does not accept our certificate"),
        ("cafile", "cannot be used: No such file or directory"),
        ("not PEM", "cannot be used: it is not PEM"),
    ],
)
def test_each_wrong_way_ends_with_a_sentence(
    reach: Reach,
    wrong: str,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = Certificates.make(tmp_path)
    if wrong == "password":
        reach.password.write_text("not it")
    flags = {
        "password": reach.user(),
        "user": reach.user("nobody"),
        "mechanism": [*reach.user(), "--sasl-mechanism", "SCRAM-SHA-256"],
        "no password": reach.user()[:-2],
        "expired": reach.tls("EXPIRED"),
        "name": reach.tls("ELSEWHERE"),
        "authority": reach.tls("TLS", other.folder / "ca.pem"),
        "plain client": ["--bootstrap-servers", reach.broker.listener("TLS")],
        "plain listener": [*reach.tls("TLS"), "--bootstrap-servers", reach.broker.bootstrap_servers],
        "no SASL": reach.tls("SASL"),
        "SASL for nothing": [*reach.user(), "--bootstrap-servers", reach.broker.listener("TLS")],
        "no certificate": reach.tls("MTLS"),
        "their certificate": [*reach.tls("MTLS"), "--ssl-certfile", str(other.issue("theirs", "hushword"))],
        "our old certificate": [
            *reach.tls("MTLS"),
            *("--ssl-certfile", str(reach.certificates.issue("old", "hushword", user="hushword", expired=True))),
        ],
        "cafile": reach.tls("TLS", tmp_path / "none.pem"),
        "not PEM": reach.tls("TLS", reach.password),
    }[wrong]
    refused(capsys, caplog, flags, says)


@pytest.mark.parametrize(
    ("user", "says"),
    [
        (
            "no-reader",
            "topic 'wakeword-audio' (setting audio_topic) has no ACL that allows READ to the user 'no-reader'",
        ),
        ("no-writer", "'wakeword-decisions' (setting decisions_topic) has no ACL that allows WRITE to the user"),
        ("no-stranger", "'media-fingerprints' (setting media_topic) is not shown to the user 'no-stranger'"),
        ("no-group", "group 'hushword' (setting group_id) is not shown to the user 'no-group'"),
    ],
)
def test_a_right_that_is_missing_is_named_before_anything_starts(
    reach: Reach, user: str, says: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    refused(capsys, caplog, reach.user(user), says)


@pytest.mark.parametrize(
    "command",
    [
        ("topics", "create"),
        ("shadow", "status"),
        ("shadow", "on"),
        ("media", "list"),
        ("media", "remove", "k-0"),
        ("dlq", "list"),
        ("decisions",),
        ("erase", "--household", "h"),
        ("explain", "r"),
        ("monitor", "--port", "0"),
    ],
)
def test_every_command_that_connects_says_so_too(
    reach: Reach, command: tuple[str, ...], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    reach.password.write_text("not it")
    code, said = ends(capsys, caplog, *command, flags=reach.user())
    assert code in (1, 2)
    assert "refused the user 'hushword'" in said.splitlines()[-1]


def test_a_reader_that_starts_without_its_right_says_so(reach: Reach) -> None:
    """And not that the topic, which the broker keeps from it, has nothing in it."""
    own = Settings(bootstrap_servers=reach.broker.bootstrap_servers)
    reach.broker.add_user("no-audio", rights(own, {role: JOB[role] for role in JOB if role != "audio"}))
    settings = reach.broker.settings_of("no-audio", own, reach.password)
    with pytest.raises(TopicAuthorizationFailedError, match=own.audio_topic):
        FromCommitted().initial_restriction(settings.model_dump_json())


@pytest.mark.parametrize(
    ("way", "role", "operation"),
    [
        ("password", "audio", "READ"),
        ("certificate", "decisions", "WRITE"),
        pytest.param("password", "decisions", "WRITE", marks=pytest.mark.slow),
    ],
)
def test_the_job_runs_with_its_rights_and_ends_when_it_loses_one(
    reach: Reach, way: str, role: Role, operation: str
) -> None:
    """With TLS and the rights of docs/security.md, no more; what is lost is said, and nothing hangs."""
    own = trial_settings(Settings(), reach.broker.bootstrap_servers)
    user = f"job-{way}-{role}"
    create_topics(own, 1)
    reach.broker.add_user(user, rights(own, JOB))
    if way == "password":
        settings = reach.broker.settings_of(user, own, reach.password)
    else:
        settings = reach.broker.settings_of_certificate(user, own)
    start_us = round(time.time() * 1e6) - 2_000_000
    with running_job(settings) as job:
        with Sender(own, own.audio_topic) as sender:
            hear(sender, start_us, "before")
            until(job, lambda: len(read_topic(own)) == 3)
            reach.broker.take_right(user, ("TOPIC", topic_names(own)[role], operation))
            hear(sender, start_us + 60_000_000, "after")
        with pytest.raises(RunError) as ended:
            until(job, lambda: False)
    said = str(ended.value).splitlines()[-1]
    assert said.startswith("hushword: the job ended: TopicAuthorizationFailedError"), said
    assert topic_names(own)[role] in said
    assert PASSWORD not in str(ended.value)


def test_what_names_a_household_goes_when_it_is_said_to(broker: SecuredKafka) -> None:
    """As created: six hours of voices, seven days of decisions, and a segment more at most."""
    hour_ms = 3_600_000
    kept = keeping(Settings(bootstrap_servers=broker.bootstrap_servers))
    assert {role: (topic.retention_ms, topic.at_most_ms) for role, topic in kept.items()} == {
        "audio": (6 * hour_ms, 7 * hour_ms),
        "dead_letter": (6 * hour_ms, 7 * hour_ms),
        "decisions": (7 * 24 * hour_ms, 8 * 24 * hour_ms),
    }


def test_every_client_is_made_with_the_settings() -> None:
    """A client that is not would reach a secured broker never, or an unsecured one unasked."""
    made = re.compile(r"(?<!class )\b(?:Consumer|KafkaConsumer|Producer|KafkaProducer|KafkaAdminClient)\(\s*(\S+)")
    found = [
        (path.name, first)
        for path in Path(pipeline.__file__).parent.rglob("*.py")
        for first in made.findall(path.read_text())
    ]
    assert len(found) >= 14
    assert [name for name, first in found if not first.startswith("**client_arguments(")] == []


def test_no_secret_is_in_what_is_pickled_printed_or_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings hold paths; what kafka-python is given does not show itself."""
    import apache_beam as beam

    (tmp_path / "password").write_text(PASSWORD)
    settings = Settings(
        security_protocol="SASL_PLAINTEXT", sasl_username="hushword", sasl_password_file=tmp_path / "password"
    )
    job = beam.Pipeline()
    build(job, settings)
    arguments = client_arguments(settings)
    assert arguments["sasl_plain_password"] == PASSWORD
    monkeypatch.setenv("HUSHWORD_SASL_PASSWORD", PASSWORD)
    shown = [
        repr(settings), repr(load_settings()), settings.model_dump_json(), repr(settings.as_environment()),
        repr(pickle.dumps(settings)), str(job.to_runner_api()), repr(arguments), f"{arguments}",
    ]  # fmt: skip
    assert [text for text in shown if PASSWORD in text] == []

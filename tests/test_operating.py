"""What an operator does while the job runs: orders are obeyed by what is asked after them. One job serves them all."""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from sounds import write_recording
from stage import Stage
from test_cli import _run
from test_control import soon
from test_gateway import SOURCE as GATEWAY

from matcher.route import household_digest
from pipeline.control import give, given, publish
from pipeline.decisions import DecisionLine
from pipeline.kafka.topics import admin_client
from pipeline.messages.hushword_pb2 import Control, Decision
from pipeline.recordings.recording import Recording, Request
from pipeline.recordings.replay import replay
from pipeline.trial import Job

HOMES = 4
ROUTE = "computer/en-US"
TOPICS = ("audio", "decisions", "media", "control")
numbers = itertools.count()


class Street:
    """Homes that hear one of some sounds whenever they are told to, and a job that decides about them."""

    def __init__(self, stage: Stage, job: Job, sounds: list[Recording]) -> None:
        self.stage, self.job, self._sounds = stage, job, sounds
        self._epoch_s = time.time()

    def flags(self, *topics: str) -> tuple[str, ...]:
        """For a command that takes the names of these topics."""
        names = ("bootstrap_servers", *(f"{topic}_topic" for topic in topics))
        settings = self.stage.settings
        return tuple(part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(settings, name))))

    def air(self, sound: int) -> list[DecisionLine]:
        """Let every home hear a sound, two minutes and more after what was before; gives what was decided."""
        return self.send(self._sounds[sound].folder, self._sounds[sound].requests)

    def air_for(self, sound: int, seconds: int) -> list[DecisionLine]:
        """Let another home hear it every second; gives what was decided."""
        first = self._sounds[sound].requests[0]
        requests = [
            replace(first, request_id=f"s{n}", household=f"h{n}", device=f"d{n}", start_s=n) for n in range(seconds)
        ]
        return self.send(self._sounds[sound].folder, requests)

    def send(self, folder: Path, heard: Sequence[Request]) -> list[DecisionLine]:
        """Send requests under names that were not there before; gives what was decided when all of it was."""
        number = next(numbers)
        # Beyond what the end marks of the last one promised. Not in the past: the mark of a partition that has nothing
        # to be read follows the clock.
        self._epoch_s += 150.0
        requests = tuple(
            replace(request, request_id=f"{number}-{request.request_id}", household=f"{number}-{request.household}")
            for request in heard
        )
        settings, topic = self.stage.settings, self.stage.settings.audio_topic
        said = replay(Recording(folder, requests, {}), settings, topic, None, epoch_s=self._epoch_s)
        self._epoch_s += max(request.start_s for request in heard)
        self.stage.wait_past(self.job, said.end_offsets)
        ids = {request.request_id for request in requests}
        return [decision for decision in self.stage.decisions() if decision.request_id in ids]

    def air_until(self, sound: int, holds: Callable[[list[DecisionLine]], bool]) -> list[DecisionLine]:
        """Let it air again and again until what is decided is as it should be; bounded."""
        for _ in range(10):
            found = self.air(sound)
            if holds(found):
                return found
        pytest.fail(f"not in ten airings; the last: {found}")


@pytest.fixture(scope="module")
def street(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    sounds = [
        Recording.load(write_recording(tmp_path_factory.mktemp("sound"), seed, events=1, homes=HOMES, live=0))
        for seed in (3, 5, 7)
    ]
    with Stage(kafka, "operating", ignore_rate_window_s=60.0, ignore_rate_requests=20) as stage, stage.job() as job:
        yield Street(stage, job, sounds)


def test_shadow_is_heard_by_what_is_asked_after_it(street: Street, capsys: pytest.CaptureFixture[str]) -> None:
    found = street.air(0)
    assert len(found) == HOMES
    assert not any(decision.shadow for decision in found)
    code, _, _ = _run(capsys, "shadow", "on", "--route", ROUTE, "--reason", "trying it", *street.flags("control"))
    assert code == 0
    found = street.air_until(0, lambda found: all(decision.shadow for decision in found))
    assert len(found) == HOMES
    _run(capsys, "shadow", "off", "--route", ROUTE, *street.flags("control"))
    street.air_until(0, lambda found: len(found) == HOMES and not any(decision.shadow for decision in found))


def test_a_blocked_average_is_gone_everywhere_and_does_not_come_back(
    street: Street, capsys: pytest.CaptureFixture[str]
) -> None:
    media, control = street.flags("media", "control"), street.flags("control")
    assert street.air(0)
    (media_id,) = {decision.media_id for decision in street.air(1)}
    _, out, _ = _run(capsys, "media", "list", "--discovered", "--json", *media)
    listed = {entry["media_id"]: entry for entry in json.loads(out)}
    assert listed[media_id]["households"] == HOMES
    assert 0 < listed[media_id]["first_heard_s"] <= listed[media_id]["last_heard_s"]
    assert not listed[media_id]["blocked"]

    code, out, _ = _run(capsys, "media", "block", media_id, "--reason", "people say it too", *media)
    assert (code, "is withdrawn from computer/en-US" in out) == (0, True)
    street.air_until(1, lambda found: not found)
    assert street.air(1) == []
    assert {decision.reason for decision in street.air(0)} == {"DISCOVERED"}
    tombstones = {
        record.key.decode() for record in street.stage.records(street.stage.settings.media_topic) if not record.value
    }
    assert media_id in tombstones
    _, out, _ = _run(capsys, "media", "list", "--json", *media)
    listed = {entry["media_id"]: entry for entry in json.loads(out)}
    assert [name for name, entry in listed.items() if entry["blocked"]] == [media_id]
    assert listed[media_id]["reason"] == "people say it too"
    _, out, _ = _run(capsys, "media", "list", "--blocked", *media)
    assert media_id in out
    code, out, _ = _run(capsys, "media", "block", media_id, *media)
    assert (code, "is blocked already" in out) == (0, True)

    _run(capsys, "media", "unblock", media_id, *control)
    found = street.air_until(1, bool)
    assert {decision.reason for decision in found} == {"CONCURRENT"}
    code, _, err = _run(capsys, "media", "unblock", media_id, *control)
    assert (code, "is not blocked" in err) == (2, True)
    code, _, err = _run(capsys, "media", "block", "d-nothing", *media)
    assert (code, "there is no average 'd-nothing'" in err) == (2, True)


def test_a_route_that_ignores_everybody_for_long_turns_itself_to_shadow_until_somebody_turns_it_back(
    street: Street, capsys: pytest.CaptureFixture[str]
) -> None:
    """A minute in which every request is ignored, one a second: the order is on the topic, under the guard's name."""
    street.air(0)
    found = sorted(street.air_for(0, 50), key=lambda decision: decision.decided_at_s)
    marks = [decision.shadow for decision in found]
    assert marks == sorted(marks)
    assert 28 <= marks.index(True) <= 36
    assert all(decision.shadow for decision in street.air(0))
    _, out, _ = _run(capsys, "shadow", "status", "--json", *street.flags("control"))
    (order,) = (entry for entry in json.loads(out) if entry["route"] == ROUTE)
    assert (order["shadow"], order["by"]) == (True, f"the guard of {ROUTE}/0")
    assert "% of its requests were ignored over 60 s, which is over ignore_rate_bound" in order["reason"]
    _run(capsys, "shadow", "off", "--route", ROUTE, *street.flags("control"))
    street.air_until(0, lambda found: len(found) == HOMES and not any(decision.shadow for decision in found))


def test_a_request_is_explained_from_its_audio_and_from_that_of_others(
    street: Street, capsys: pytest.CaptureFixture[str]
) -> None:
    """The regrown decision is the one that was published, evidence and all."""
    decisions = street.air(2)
    assert len(decisions) == HOMES
    for decision in decisions:
        code, out, _ = _run(capsys, "explain", decision.request_id, "--json", *street.flags(*TOPICS))
        found = json.loads(out)
        assert code == 0
        assert found["ignored"]
        assert found["published"]["media_id"] == found["ignore"]["media_id"] == decision.media_id
        assert found["ignore"]["score"] == pytest.approx(decision.score, abs=1e-3)
        assert found["ignore"]["audio_used_ms"] == decision.audio_used_ms
        assert found["route"] == ROUTE + "/0"
        assert found["window_requests"] == HOMES - 1
        assert found["notes"] == []
        passed = [step for step in found["steps"] if step["score"] and step["score"] >= step["threshold"]]
        assert passed[-1]["score"] == pytest.approx(decision.score, abs=1e-3)
    code, out, _ = _run(capsys, "explain", decision.request_id, *street.flags(*TOPICS))
    assert code == 0
    assert f"ignored (CONCURRENT) by {decision.media_id} of" in out
    assert "published: IGNORE, CONCURRENT" in out


def test_a_request_that_is_not_there_is_one_sentence(street: Street, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether the id is wrong, the time, or the audio gone: with what is known of it."""
    (decision, *_) = street.air(0)
    code, out, err = _run(capsys, "explain", "nobody", *street.flags(*TOPICS))
    assert (code, out) == (2, "")
    assert "request 'nobody' is not on 'operating-audio' from " in err
    code, _, err = _run(capsys, "explain", decision.request_id, "--around", "2001-01-01", *street.flags(*TOPICS))
    assert code == 2
    assert f"request {decision.request_id!r}" in err
    with admin_client(street.stage.settings) as admin:
        ends = street.stage.committed()
        topic = street.stage.settings.audio_topic
        admin.delete_records({TopicPartition(topic, partition): end for partition, end in ends.items()})
    code, _, err = _run(capsys, "explain", decision.request_id, *street.flags(*TOPICS))
    assert code == 2
    assert (
        f"the audio of request {decision.request_id!r} has left 'operating-audio', and only its decision is left" in err
    )
    assert err.splitlines()[0] == "looking for the request"
    assert len(err.splitlines()) == 2


def test_a_letter_that_is_sent_again_and_refused_again_does_not_go_in_circles(
    street: Street, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job counts how often it has seen it."""
    stage = street.stage
    letters = stage.settings.dead_letter_topic
    before = len(stage.records(letters))
    producer = KafkaProducer(bootstrap_servers=stage.settings.bootstrap_servers)
    producer.send(stage.settings.audio_topic, b"not audio", key=b"bad").get(10)
    producer.close()
    stage.wait(street.job, lambda: len(stage.records(letters)) == before + 1)
    flags = (*street.flags("audio", "dead_letter"), "--error", "not an AudioChunk")
    _, out, _ = _run(capsys, "dlq", "redrive", *flags)
    assert "1 of 1 were sent" in out
    stage.wait(street.job, lambda: len(stage.records(letters)) == before + 2)
    newest = max(
        stage.records(letters), key=lambda record: (record.timestamp, dict(record.headers).get("redriven", b""))
    )
    assert dict(newest.headers)["redriven"] == b"1"
    assert newest.value == b"not audio"
    last = ("--partition", str(newest.partition), "--from-offset", str(newest.offset))
    _, out, _ = _run(capsys, "dlq", "redrive", *flags, *last)
    assert "0 of 1 were sent" in out
    assert "1 left alone: they were sent again before" in out


@contextmanager
def reading(*command: str) -> Iterator[Callable[[int], list[str]]]:
    """Run a program for the length of a `with`; gives what waits for so many lines of its standard output, in all."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)

        def lines(least: int) -> list[str]:
            deadline_s = time.monotonic() + 60
            while True:
                out.seek(0)
                found = out.read().splitlines()
                if len(found) >= least or time.monotonic() > deadline_s:
                    return found
                assert process.poll() is None
                time.sleep(0.05)

        try:
            yield lines
        finally:
            process.kill()
            process.communicate()


def test_decisions_are_followed_and_a_gateway_acts_on_them(street: Street, capsys: pytest.CaptureFixture[str]) -> None:
    """Both hear of the same airings: one prints every decision, the other stops the streams of those to be acted on."""
    settings = street.stage.settings
    topics = street.flags("decisions")
    follow = (sys.executable, "-m", "pipeline.cli", "decisions", "--follow", "--json", *topics)
    gateway = (
        sys.executable, str(GATEWAY), settings.bootstrap_servers, "--audio-topic", settings.audio_topic, *topics[2:],
        "--deadline-s", "30", "--seconds", "120",
    )  # fmt: skip
    with reading(*follow) as followed, reading(*gateway) as acted:
        assert soon(lambda: bool(street.air(0)) and bool(followed(0)) and bool(acted(0)))
        settled = len(followed(0)), len(acted(0))
        found = street.air(0)
        everything = [json.loads(line) for line in followed(settled[0] + HOMES)]
        assert {line["request_id"] for line in everything[-HOMES:]} == {decision.request_id for decision in found}
        assert all(line["latency_ms"] > 0 and line["reason"] == "DISCOVERED" for line in everything[-HOMES:])
        stopped = acted(settled[1] + HOMES)[-HOMES:]
        assert {line.rsplit(" ", 1)[1] for line in stopped} == {decision.request_id for decision in found}
        assert all(line.startswith("stop ") for line in stopped)
    control = street.flags("control")
    _run(capsys, "shadow", "on", *control)
    street.air_until(0, lambda found: any(decision.shadow for decision in found))
    _run(capsys, "shadow", "off", *control)
    listing = ("decisions", "--since", "1h", "--json", *topics)
    code, out, _ = _run(capsys, *listing, "--shadow")
    shadowed = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert shadowed
    assert all(line["shadow"] for line in shadowed)
    _, out, _ = _run(capsys, *listing, "--no-shadow", "--reason", "CONCURRENT", "--locale", "en-US")
    others = [json.loads(line) for line in out.splitlines()]
    assert others
    assert not any(line["shadow"] or line["reason"] != "CONCURRENT" for line in others)
    _, out, _ = _run(capsys, *listing, "--locale", "de-DE")
    assert out == ""
    _, out, _ = _run(capsys, *listing[:3], *listing[4:], "--media", others[0]["media_id"])
    assert out
    assert all(f"  {others[0]['media_id']} of " in line for line in out.splitlines())


def test_a_household_is_erased_and_what_is_left_is_said(street: Street, capsys: pytest.CaptureFixture[str]) -> None:
    """By the broker's own settings; the order names nobody, and the job goes on."""
    settings = street.stage.settings
    with admin_client(settings) as admin:
        change = ConfigResource(ConfigResourceType.TOPIC, settings.decisions_topic, configs={"retention.ms": "7200000"})
        admin.alter_configs([change])
    household = street.air(0)[0].request_id  # any text: of a household that nobody has heard of
    code, out, _ = _run(capsys, "erase", "--household", household, *street.flags(*TOPICS))
    assert code == 0
    assert "'operating-audio': what was written before now is gone in 7 h at most (retention.ms 6 h" in out
    assert "'operating-decisions': what was written before now is gone in 26 h at most (retention.ms 2 h" in out
    assert "tombstones" not in out
    orders = [record for record in street.stage.records(settings.control_topic) if record.key.startswith(b"erase/")]
    assert [record.key.decode() for record in orders] == [f"erase/{household_digest(household)}"]
    assert all(household.encode() not in record.key + record.value for record in orders)
    assert len(street.air(0)) == HOMES
    code, out, err = _run(capsys, "erase", "--household", "", *street.flags(*TOPICS))
    assert (code, out) == (2, "")
    assert "1 to 128 characters" in err


def test_decisions_of_an_erased_household_get_tombstones_where_their_topic_is_compacted(
    kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And orders that nothing can need any more are taken back."""
    with Stage(kafka, "erasing", audio_topic="erasing-audio") as stage:
        settings = stage.settings
        with admin_client(stage.settings) as admin:
            compacted = {"cleanup.policy": "compact,delete"}
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.decisions_topic, configs=compacted)])
        give(settings, {"erase/old": Control(ordered_at_us=1), "erase/new": Control()})
        decided = {
            f"{home}-{n}": Decision(request_id=f"{home}-{n}", household_id=home).SerializeToString()
            for home in ("h1", "h12")
            for n in range(2)
        }
        publish(settings, settings.decisions_topic, decided)
        names = ("bootstrap_servers", "audio_topic", "decisions_topic", "media_topic", "control_topic")
        flags = [part for n in names for part in (f"--{n.replace('_', '-')}", getattr(settings, n))]
        code, out, _ = _run(capsys, "erase", "--household", "h1", *flags)
        assert code == 0
        assert "2 decisions on 'erasing-decisions' have tombstones" in out
        assert "1 older orders to erase are taken back" in out
        gone = {record.key for record in stage.records(settings.decisions_topic) if not record.value}
        assert gone == {b"h1-0", b"h1-1"}
        assert sorted(given(settings)) == sorted(["erase/new", f"erase/{household_digest('h1')}"])

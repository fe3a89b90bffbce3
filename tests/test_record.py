"""What is recorded is what was sent, on a real Kafka: whole, filtered, hashed, interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from kafka import KafkaProducer, TopicPartition
from kafka.admin import NewPartitions
from records import pieces

from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.gather import Gathered, Gatherer, GatherLimits
from pipeline.growing import LINES, MANIFEST, STATE, GrowingRecording, State
from pipeline.kafka.topics import admin_client, create_topics
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.options import Settings, load_settings
from pipeline.pseudonyms import Pseudonyms, share_of
from pipeline.recordings.recording import Recording, Request, write_manifest

RATES_HZ = (16_000, 8000, 44_100, 48_000)
ALL = ("--from", "earliest", "--until", "now")
ROUTES = (("alexa", "en-US"), ("alexa", "de-DE"), ("computer", "en-US"))


def made(folder: Path, requests: int = 12, seconds: float = 0.8, apart_s: float = 0.1) -> Recording:
    """Make a recording of noise at several rates, from homes with two devices each, on several routes."""
    noise = np.random.default_rng(requests)
    (folder / "audio").mkdir(parents=True)
    lines = []
    for n in range(requests):
        rate_hz = RATES_HZ[n % len(RATES_HZ)]
        length = int(rate_hz * (seconds + n % 3 * 0.2))
        soundfile.write(folder / f"audio/r{n}.flac", noise.integers(-9000, 9000, length).astype(np.int16), rate_hz)
        wake_word, locale = ROUTES[n % len(ROUTES)]
        start_s = round(0.25 + n * apart_s + n * 1e-6, 6)
        lines.append(
            Request(f"r{n}", f"audio/r{n}.flac", start_s, wake_word, locale, f"h{n // 2}", f"h{n // 2}d{n % 2}")
        )
    write_manifest(folder, lines)
    return Recording.load(folder)


def content(folder: Path) -> dict[str, Any]:
    """Give all that a recording says of its requests, on its own clock from the first one on."""
    recording = Recording.load(folder)
    first_us = round(recording.requests[0].start_s * 1e6)
    return {
        request.request_id: (
            round(request.start_s * 1e6) - first_us,
            request.wake_word,
            request.locale,
            request.household,
            request.device,
            recording.audio(request)[1],
            recording.audio(request)[0].tobytes(),
        )
        for request in recording.requests
    }


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines()]


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in argv])
    shown = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), shown.out, shown.err


@pytest.fixture
def topic(kafka: str, request: pytest.FixtureRequest) -> list[str]:
    """A topic of one's own, with three partitions: the flags that name it."""
    name = re.sub(r"[^a-z0-9-]", "-", f"record-{request.node.name}".lower())[:200]
    flags = {"bootstrap_servers": kafka, "audio_topic": name}
    create_topics(load_settings(None, flags), partitions=3, roles=["audio"])
    return ["--bootstrap-servers", kafka, "--audio-topic", name]


def replayed(folder: Path, topic: list[str], *more: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", str(folder), "--speed", "full", *topic, *map(str, more)])
    assert not ended.value.code


def send(topic: list[str], values: list[bytes], partition: int | None = None) -> None:
    producer = KafkaProducer(bootstrap_servers=topic[1].split(","), acks="all")
    for value in values:
        producer.send(topic[3], value, AudioChunk.FromString(value).request_id.encode(), partition=partition)
    producer.flush(30)
    producer.close(timeout=10)


# ---- the round trip --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle_ms", [0, 700])
def test_a_recorded_replay_is_the_recording(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str], shuffle_ms: int
) -> None:
    """The same requests with the same samples, rates and times to the microsecond, and no file more."""
    made(tmp_path / "first")
    replayed(tmp_path / "first", topic, "--shuffle-ms", shuffle_ms)
    code, out, _ = run(capsys, "record", tmp_path / "second", *ALL, "--keep-ids", *topic)
    assert code == 0
    assert re.search(r"^12 requests, 12\.0 s of audio, in ", out, re.MULTILINE)
    assert content(tmp_path / "second") == content(tmp_path / "first")
    second = tmp_path / "second"
    assert sorted(file.name for file in second.iterdir()) == ["audio", MANIFEST]
    assert len(list((second / "audio").iterdir())) == 12
    assert all("cut" not in entry for entry in entries(second))


def test_an_end_by_number_and_a_beginning_by_offset(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str]
) -> None:
    """Requests are whole; those that had begun before the offset are said."""
    made(tmp_path / "first")
    replayed(tmp_path / "first", topic)
    where = ["--from", "earliest", "--keep-ids", "--requests", 5]
    code, out, err = run(capsys, "record", tmp_path / "five", *where, *topic)
    assert code == 0
    assert "\n5 requests" in out
    assert "recording: 5 of 5 requests" in err
    first = content(tmp_path / "first")
    for request_id, found in content(tmp_path / "five").items():
        assert found[1:] == first[request_id][1:]
    code, out, _ = run(capsys, "record", tmp_path / "later", "--from", 4, "--until", "now", "--keep-ids", *topic)
    assert code == 0
    later = content(tmp_path / "later")
    assert 0 < len(later) < 12
    assert f"{12 - len(later)} requests left out: they had begun before" in out
    for request_id, found in later.items():
        assert found[1:] == first[request_id][1:]


def test_a_beginning_and_an_end_by_time(capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str]) -> None:
    """What was appended between the two, and what began then is there to its end."""
    spoken = {name: pieces(name, int(time.time() * 1e6), [100, 100, 100]) for name in ("before", "within", "after")}
    send(topic, [piece.value for piece in spoken["before"]])
    time.sleep(0.3)
    began = datetime.now(UTC).isoformat()
    time.sleep(0.3)
    send(topic, [piece.value for piece in spoken["within"][:1]])
    time.sleep(0.3)
    ended = datetime.now(UTC).isoformat()
    time.sleep(0.3)
    send(topic, [piece.value for piece in [*spoken["within"][1:], *spoken["after"]]])
    code, _, _ = run(capsys, "record", tmp_path / "part", "--from", began, "--until", ended, "--keep-ids", *topic)
    assert code == 0
    (entry,) = entries(tmp_path / "part")
    assert (entry["request_id"], entry["samples"]) == ("within", 4800)
    code, _, _ = run(capsys, "record", tmp_path / "half", "--from", "earliest", "--for", "0.5s", "--keep-ids", *topic)
    assert code == 0
    assert [entry["request_id"] for entry in entries(tmp_path / "half")] == ["before"]
    code, _, _ = run(capsys, "record", tmp_path / "all", "--from", "-1h", "--until", "now", "--keep-ids", *topic)
    assert code == 0
    assert {entry["request_id"] for entry in entries(tmp_path / "all")} == set(spoken)


def test_what_breaks_off_is_kept_as_far_as_it_goes_and_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str]
) -> None:
    """A hole, a device that vanished, a request without beginning, a record that is none."""
    now_us = int(time.time() * 1e6)
    spoken = {name: pieces(name, now_us, [100] * 4) for name in ("whole", "hole", "vanished", "begun")}
    kept = {"whole": {0, 1, 2, 3}, "hole": {0, 1, 3}, "vanished": {0, 1, 2}, "begun": {1, 2, 3}}
    send(topic, [piece.value for name, seqs in kept.items() for piece in spoken[name] if piece.seq in seqs])
    send(topic, [AudioChunk(request_id="bad").SerializeToString(), spoken["whole"][1].value])
    where = [*ALL, "--keep-ids", "--request-timeout-s", 1]
    code, out, _ = run(capsys, "record", tmp_path / "cut", *where, *topic)
    assert code == 0
    assert {entry["request_id"]: (entry["samples"], entry.get("cut")) for entry in entries(tmp_path / "cut")} == {
        "whole": (6400, None),
        "hole": (3200, "gap"),
        "vanished": (4800, "no final chunk"),
    }
    assert "2 of them end before their last chunk (gap: 1, no final chunk: 1)" in out
    assert "1 requests left out: they had begun before" in out
    assert "1 records could not be read" in out


def test_filters_and_samples(capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str]) -> None:
    """By locale, by wake word, by a hash of the request id; the rest is said."""
    first = made(tmp_path / "first", requests=30, seconds=0.2, apart_s=0.02)
    replayed(tmp_path / "first", topic)
    where = [*ALL, "--keep-ids"]

    def recorded(name: str, *more: object) -> tuple[set[str], str]:
        code, out, _ = run(capsys, "record", tmp_path / name, *where, *more, *topic)
        assert code == 0
        return set(content(tmp_path / name)), out

    for option, value in (("locale", "en-US"), ("wake_word", "computer")):
        found, out = recorded(option, f"--{option.replace('_', '-')}", value)
        assert found == {request.request_id for request in first.requests if getattr(request, option) == value}
        assert "chunks of other locales or wake words left out" in out
    both, _ = recorded("both", "--locale", "en-US", "--locale", "de-DE")
    assert len(both) == 30
    sampled, out = recorded("sampled", "--sample", 0.4)
    assert sampled == {request.request_id for request in first.requests if share_of(request.request_id) < 0.4}
    assert 0 < len(sampled) < 30
    assert "chunks of requests that are not in the sample left out" in out


def test_ids_are_hashed_with_a_key(capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str]) -> None:
    """The same within a recording and under the same key, others under another, and none of the topic's anywhere."""
    first = made(tmp_path / "first")
    replayed(tmp_path / "first", topic)
    for name in ("one", "two"):
        (tmp_path / f"{name}.key").write_bytes(name.encode() * 16)
    keys: dict[str, list[object]] = {"drawn": [], "again": []}
    keys |= {name: ["--key-file", tmp_path / f"{name[:3]}.key"] for name in ("one", "one too", "two")}
    found = {}
    for name, key in keys.items():
        code, _, _ = run(capsys, "record", tmp_path / name, *ALL, *key, *topic)
        assert code == 0
        recording = Recording.load(tmp_path / name)
        assert len({request.household for request in recording.requests}) == 6
        assert len({request.device for request in recording.requests}) == 12
        by_audio = {recording.audio(r)[0].tobytes(): (r.request_id, r.household, r.device) for r in recording.requests}
        found[name] = [by_audio[first.audio(request)[0].tobytes()] for request in first.requests]
        assert all(re.fullmatch("[0-9a-f]{32}", hashed) for mine in found[name] for hashed in mine)
        homes = {(ids[1], request.household) for ids, request in zip(found[name], first.requests, strict=True)}
        assert len(homes) == 6
    assert found["one"] == found["one too"]
    ids = [set(sum(found[name], ())) for name in ("drawn", "again", "one", "two")]
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_a_repeated_id_is_recorded_once_and_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str]
) -> None:
    """A topic into which a recording was replayed twice."""
    made(tmp_path / "first", requests=4)
    replayed(tmp_path / "first", topic)
    replayed(tmp_path / "first", topic)
    code, out, _ = run(capsys, "record", tmp_path / "second", *ALL, "--keep-ids", *topic)
    assert code == 0
    assert content(tmp_path / "second") == content(tmp_path / "first")
    assert re.search(r"\d+ chunks came after their request was over", out)


# ---- the topic changes -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_partition_that_is_added_is_recorded_too(tmp_path: Path, topic: list[str]) -> None:
    """From its first record on."""
    folder = tmp_path / "folder"
    now_us = int(time.time() * 1e6)
    with hushword("record", folder, "--from", "earliest", "--keep-ids", "--requests", 8, *topic) as recording:
        send(topic, [piece.value for n in range(4) for piece in pieces(f"before{n}", now_us, [100, 100])])
        until(lambda: lines(folder) == 4, recording)
        with admin_client(Settings(bootstrap_servers=topic[1])) as admin:
            admin.create_partitions({topic[3]: NewPartitions(4)})
        time.sleep(1)  # the cluster makes it
        added = [piece.value for n in range(4) for piece in pieces(f"added{n}", now_us, [100, 100])]
        send(topic, added, partition=3)
        recording.communicate(timeout=60)
        assert recording.returncode == 0
    assert set(content(folder)) == {f"{name}{n}" for name in ("before", "added") for n in range(4)}


@pytest.mark.slow
def test_what_retention_has_deleted_cannot_be_resumed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str]
) -> None:
    """And that is said, rather than gone on without it."""
    folder = tmp_path / "folder"
    now_us = int(time.time() * 1e6)
    send(topic, [piece.value for piece in pieces("one", now_us, [100, 100])], partition=0)
    with hushword("record", folder, "--from", "earliest", *topic) as recording:
        until(lambda: lines(folder) == 1, recording)
        recording.send_signal(signal.SIGINT)
        recording.communicate(timeout=60)
    send(topic, [piece.value for piece in pieces("two", now_us, [100, 100])], partition=0)
    with admin_client(Settings(bootstrap_servers=topic[1])) as admin:
        admin.delete_records({TopicPartition(topic[3], 0): 3})
    code, _, err = run(capsys, "record", folder, "--resume", "--until", "now", *topic)
    assert code == 1
    assert "its retention has deleted it" in err


# ---- interrupted -----------------------------------------------------------------------------------------------------


@contextmanager
def hushword(*argv: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command as a process of its own, killed in the end if it has not ended."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, argv)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], process: subprocess.Popen[str], within_s: float = 60) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def lines(folder: Path) -> int:
    path = folder / LINES
    return path.read_text(encoding="utf-8").count("\n") if path.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_recording_goes_on_with_nothing_lost_or_twice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str], number: signal.Signals
) -> None:
    """Stopped while requests are being spoken; ids that are hashed stay the same."""
    made(tmp_path / "first", requests=40, seconds=1.0)
    second = tmp_path / "second"
    with hushword("replay", tmp_path / "first", *topic) as replaying:
        with hushword("record", second, "--from", "earliest", *topic) as recording:
            until(lambda: lines(second) >= 5, recording)
            recording.send_signal(number)
            out, _ = recording.communicate(timeout=60)
        assert recording.returncode == (-9 if number == signal.SIGKILL else 128 + number)
        left = lines(second)
        if number != signal.SIGKILL:
            assert re.search(r"stopped with [1-9]\d* requests still being spoken: --resume goes on", out)
            assert len(content(second)) == left
        replaying.communicate(timeout=60)
        assert replaying.returncode == 0
    assert left < 40
    assert stat_mode(second / STATE) == 0o600
    code, out, _ = run(capsys, "record", second, "--resume", "--until", "now", *topic)
    assert code == 0
    assert out.startswith("40 requests")
    found, first = content(second), content(tmp_path / "first")
    assert sorted(values[5:] for values in found.values()) == sorted(values[5:] for values in first.values())
    assert sorted((v[0], v[6]) for v in found.values()) == sorted((v[0], v[6]) for v in first.values())
    assert len({values[3] for values in found.values()}) == 20
    assert sorted(file.name for file in second.iterdir()) == ["audio", MANIFEST]


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_replay_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, topic: list[str], number: signal.Signals
) -> None:
    """In loops and copies, from its state file: a recording of it has every request once, whole."""
    made(tmp_path / "first", requests=10, seconds=1.0)
    state = tmp_path / "first" / "replay.json"

    def requests_done() -> int:
        return int(json.loads(state.read_text(encoding="utf-8"))["requests"]) if state.exists() else 0

    argv = ["replay", tmp_path / "first", "--loops", 2, "--copies", 2, "--shuffle-ms", 50, *topic]
    with hushword(*argv) as replaying:
        until(lambda: requests_done() >= 3, replaying)
        replaying.send_signal(number)
        out, _ = replaying.communicate(timeout=60)
    assert replaying.returncode == (-9 if number == signal.SIGKILL else 130)
    assert ("--resume goes on from there" in out) == (number == signal.SIGINT)
    code, out, err = run(capsys, "replay", tmp_path / "first", "--resume", "--speed", "full", *topic)
    assert code == 0
    assert "replaying: 40 of 40 requests" in err
    assert not state.exists()
    where = [*ALL, "--keep-ids"]
    code, out, _ = run(capsys, "record", tmp_path / "second", *where, *topic)
    assert code == 0
    assert out.startswith("40 requests")
    assert "end before" not in out
    assert number == signal.SIGKILL or "twice" not in out
    first, second = content(tmp_path / "first"), content(tmp_path / "second")
    for request_id, values in second.items():
        assert values[5:] == first[request_id.split("~")[0]][5:]
    assert sorted(file.name for file in (tmp_path / "first").iterdir()) == ["audio", MANIFEST]


# ---- what a kill leaves, without Kafka -------------------------------------------------------------------------------


def gathered(request_id: str) -> Gathered:
    """Give a request that is over."""
    gathers = Gatherer(GatherLimits(), {0: 0}, lambda _chunk, _appended_us: True)
    now_us = 1_800_000_000_000_000
    for offset, piece in enumerate(pieces(request_id, now_us, [100, 100], household_id="h", device_id="d")):
        gathers.take(0, offset, now_us, piece.value)
    (request,) = gathers.release()
    assert isinstance(request, Gathered)
    return request


def test_audio_without_its_line_and_half_a_line_are_undone(tmp_path: Path) -> None:
    """A kill between any two writes leaves a recording that goes on."""
    folder = tmp_path / "folder"
    names = Pseudonyms(None)
    growing = GrowingRecording.begin(folder, State(topic="t", ids="kept"), names)
    growing.add(gathered("a"))
    growing.keep()
    growing.add(gathered("b"))
    text = (folder / LINES).read_bytes()
    os.truncate(folder / LINES, len(text) - 5)
    (folder / "audio" / "c.flac.partial").write_bytes(b"half")
    with pytest.raises(InputError, match="another process is recording"):
        GrowingRecording.resume(folder, GrowingRecording.left(folder), names)
    growing._lines.close()
    again = GrowingRecording.resume(folder, GrowingRecording.left(folder), names)
    assert again.counts == {"requests": 1}
    assert again.has("a")
    assert not again.has("b")
    again.add(gathered("b"))
    again.close(complete=True)
    assert set(content(folder)) == {"a", "b"}
    assert sorted(file.name for file in (folder / "audio").iterdir()) == ["a.flac", "b.flac"]


@pytest.mark.parametrize("request_id", ["../../escaped", "/etc/x", "a/b", "..", "ü" * 128, "a" * 128, "A b"])
def test_ids_that_are_kept_do_not_leave_the_folder(tmp_path: Path, request_id: str) -> None:
    """Whatever a device calls its request."""
    folder = tmp_path / "folder"
    growing = GrowingRecording.begin(folder, State(topic="t", ids="kept"), Pseudonyms(None))
    growing.add(gathered(request_id))
    growing.close(complete=True)
    assert len(list((folder / "audio").iterdir())) == 1
    assert set(content(folder)) == {request_id}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_kinds_of_ids_never_share_a_pseudonym() -> None:
    """Nobody learns that a household and its device have one name."""
    names = Pseudonyms(b"k" * 32)
    assert len({names.request("x"), names.household("x"), names.device("x"), names.check}) == 4


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--from", "yesterday"), "--from yesterday is no time"),
        (("--until", "10m"), "--until 10m is no time"),
        (("--for", "ten"), "--for ten is not a duration such as 90s"),
        (("--for", "1m", "--requests", "5"), "a recording has one end"),
        (("--sample", "1.5"), "--sample 1.5 is not a share"),
        (("--keep-ids", "--key-file", "x"), "give one of the two"),
        (("--key-file", "/nowhere"), "the key file /nowhere cannot be read"),
        (("--resume",), "there is nothing to resume: no recording was interrupted in"),
        (("--resume", "--from", "earliest"), "leave --from out"),
    ],
)
def test_a_bad_input_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: tuple[str, ...], says: str
) -> None:
    """Before anything is made."""
    code, out, err = run(capsys, "record", tmp_path / "new", *argv)
    assert (code, out) == (2, "")
    assert says in err
    assert not (tmp_path / "new").exists()

"""Ids of households and devices hashed at the edge: nothing that the job says or writes has them, or any audio."""

import base64
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson
from kafka import KafkaProducer
from records import RATE_HZ, noise, pieces, record
from stage import Stage

from matcher.route import household_digest
from pipeline import trial
from pipeline.cli import main
from pipeline.control import given
from pipeline.local.process import free_port
from pipeline.messages.hushword_pb2 import AudioChunk, Decision
from pipeline.options import ConfigError, Settings, load_settings
from pipeline.pseudonyms import Pseudonyms

KEY = b"a key that nobody guesses, 32 byte"
HOME, DEVICE = "home-marked-4711", "device-marked-4711"
LOUD_JOB = (sys.executable, str(Path(__file__).parent / "loud_job.py"), "run")


def sound() -> bytes:
    """What everybody hears: PCM of two seconds."""
    return noise(7, 2 * RATE_HZ).tobytes()


def traces_of_audio() -> list[str]:
    """Some of its bytes in the ways in which bytes get into text."""
    found = []
    for start in (3200, 16_000, 48_000):
        part = sound()[start : start + 12]
        found += [repr(part)[2:-1], part.hex(), base64.b64encode(part).decode(), str(list(part))[1:-1]]
        found.append(", ".join(map(str, noise(7, 2 * RATE_HZ)[start // 2 : start // 2 + 4])))
    return found


class Heard:
    """What a job has said and written about four homes that heard one thing, and a record that it could not read."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        with stage.job() as job:
            start_us = round(time.time() * 1e6) - 2_500_000  # what is older than a window is compared with nothing
            producer = KafkaProducer(bootstrap_servers=stage.settings.bootstrap_servers, linger_ms=5)
            for home in range(4):
                own = {"household_id": f"{HOME}-{home}", "device_id": f"{DEVICE}-{home}"}
                for piece in pieces(f"r{home}", start_us, [100] * 20, samples=noise(7, 2 * RATE_HZ), **own):
                    producer.send(stage.settings.audio_topic, piece.value, key=piece.request_id.encode())
            bad = record(household_id=HOME, device_id=DEVICE, audio=sound()[:3201], capture_time_us=start_us)
            producer.send(stage.settings.audio_topic, bad.SerializeToString())
            mark = AudioChunk(low_mark_us=start_us + 10_000_000).SerializeToString()
            for partition in range(stage.partitions):
                producer.send(stage.settings.audio_topic, mark, partition=partition)
            producer.close()
            stage.wait(job, lambda: len(stage.decisions()) == 4)
            stage.wait(job, lambda: len(stage.records(stage.settings.dead_letter_topic)) == 1)
            stage.wait(job, lambda: "low_mark" in self._scrape(stage.settings))
            self.metrics = self._scrape(stage.settings)
            self.log = job.log.read_text()
        values = [found.value for found in stage.records(stage.settings.decisions_topic)]
        self.decisions = {decision.request_id: decision for decision in map(Decision.FromString, values)}
        self.letters = stage.records(stage.settings.dead_letter_topic)
        self.averages = stage.records(stage.settings.media_topic)

    @staticmethod
    def _scrape(settings: Settings) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.metrics_port}/metrics", timeout=10) as page:
            return str(page.read(), "utf-8")

    def said(self) -> str:
        """All that came out but the decisions; of a dead letter what was added to it: it is its record, as it was."""
        letters = [repr(letter.headers) + repr(letter.key) for letter in self.letters]
        averages = [repr(found.key) + repr(found.value) for found in self.averages]
        return "\n".join([self.log, self.metrics, *letters, *averages])


@pytest.fixture(scope="module", params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["hashed", "clear"])
def heard(request: pytest.FixtureRequest, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    key = tmp_path_factory.mktemp("key") / "ids.key"
    key.write_bytes(KEY)
    own = {"metrics_port": free_port(), "hash_ids": request.param, "hash_ids_key_file": key if request.param else None}
    with pytest.MonkeyPatch.context() as patch, Stage(kafka, f"ids-{request.param}", 2, **own) as stage:
        patch.setattr(trial, "JOB_COMMAND", LOUD_JOB)
        yield Heard(stage)


def test_nothing_says_who_asked_or_what_was_heard(heard: Heard) -> None:
    """Everything logged that can be."""
    assert " DEBUG " in heard.log
    assert "ignore request r0" in heard.log
    assert len(heard.averages) >= 1
    assert HOME not in heard.said()
    assert DEVICE not in heard.said()
    assert KEY.decode() not in heard.said()
    assert [trace for trace in traces_of_audio() if trace in heard.said()] == []
    (letter,) = heard.letters
    assert {name for name, _ in letter.headers} == {"topic", "partition", "offset", "timestamp", "stage", "error"}


def test_a_decision_has_the_ids_that_were_sent_or_their_hashes(heard: Heard) -> None:
    """A gateway goes by the id of the request, which stays; or makes the same hashes."""
    names = Pseudonyms(KEY if heard.stage.settings.hash_ids else None)
    assert {name: (d.household_id, d.device_id) for name, d in heard.decisions.items()} == {
        f"r{home}": (names.household(f"{HOME}-{home}"), names.device(f"{DEVICE}-{home}")) for home in range(4)
    }
    assert (HOME in MessageToJson(heard.decisions["r0"])) != heard.stage.settings.hash_ids


def test_explain_and_erase_go_by_the_same_ids(heard: Heard, capsys: pytest.CaptureFixture[str]) -> None:
    """An operator names a household as the gateway does."""
    settings = heard.stage.settings
    own = ["bootstrap_servers", "audio_topic", "decisions_topic", "media_topic", "control_topic"]
    flags = [part for name in own for part in (f"--{name.replace('_', '-')}", str(getattr(settings, name)))]
    if settings.hash_ids:
        flags += ["--hash-ids", "--hash-ids-key-file", str(settings.hash_ids_key_file)]
    names = Pseudonyms(KEY if settings.hash_ids else None)
    said = run(capsys, "explain", "r1", "--json", *flags)
    assert json.loads(said)["device"] == names.device(f"{DEVICE}-1")
    assert json.loads(said)["household"] == names.household(f"{HOME}-1")
    said = run(capsys, "erase", "--household", f"{HOME}-1", *flags)
    assert HOME not in said
    assert list(given(settings)) == [f"erase/{household_digest(names.household(f'{HOME}-1'))}"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    return said.out


@pytest.mark.parametrize(
    ("key", "says"), [(None, "cannot be read"), (b"short", "a key that cannot be guessed has 16 or more")]
)
def test_a_key_that_is_none_ends_the_job_before_it_starts(
    key: bytes | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ids.key"
    if key is not None:
        path.write_bytes(key)
    with pytest.raises(SystemExit) as ended:
        main(["run", "--hash-ids", "--hash-ids-key-file", str(path)])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    with pytest.raises(ConfigError, match="hash_ids takes a key"):
        load_settings(None, {"hash_ids": True})

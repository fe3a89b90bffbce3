"""Dead letters are counted, shown without audio, and sent back as they were, but not in circles."""

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer
from records import record
from test_cli import _run

from pipeline.dlq import HEAD_BYTES, head_of, hexdump
from pipeline.kafka.topics import create_topics, delete_topics
from pipeline.messages.internal_pb2 import DeadLetter
from pipeline.options import Settings
from pipeline.reading import records
from pipeline.sinks import _headers
from pipeline.wire import times_redriven

names = itertools.count()
DAY_MS = 86_400_000


class Dead:
    """Topics of a test's own, and letters as the job writes them."""

    def __init__(self, kafka: str) -> None:
        name = f"dlq-{next(names)}"
        self.settings = Settings(
            bootstrap_servers=kafka,
            audio_topic=name,
            decisions_topic=f"{name}-decisions",
            media_topic=f"{name}-media",
            control_topic=f"{name}-control",
        )
        create_topics(self.settings, 2)
        self.flags = ("--bootstrap-servers", kafka, "--audio-topic", name)
        self._producer = KafkaProducer(bootstrap_servers=kafka, acks="all")

    def letter(self, value: bytes, stage: str, error: str, **fields: Any) -> str:
        """Write a letter, and give its id."""
        now_ms = round(time.time() * 1000)
        letter = DeadLetter(
            **{"value": value, "stage": stage, "error": error, "topic": self.settings.audio_topic, "partition": 1,
               "timestamp_ms": now_ms, "key": b"r", "has_key": True} | fields
        )  # fmt: skip
        key = letter.key if letter.has_key else None
        sent = self._producer.send(self.settings.dead_letter_topic, letter.value, key=key, headers=_headers(letter))
        at = sent.get(10)
        return f"{at.partition}:{at.offset}"

    def audio(self) -> list[Any]:
        """Give what is on the audio topic."""
        return list(records(self.settings, self.settings.audio_topic))

    def close(self) -> None:
        self._producer.close()
        delete_topics(self.settings)


@pytest.fixture
def dead(kafka: str) -> Iterator[Dead]:
    made = Dead(kafka)
    yield made
    made.close()


def test_letters_are_counted_by_what_was_wrong(dead: Dead, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers in the messages do not make reasons of their own."""
    _, out, _ = _run(capsys, "dlq", "list", *dead.flags)
    assert "there are none" in out
    for hours in ("+25.1", "-31.0", "+99.9"):
        newest = dead.letter(b"x", "time", f"capture time is {hours} h from the time of arrival")
    dead.letter(b"x", "decode", "not an AudioChunk", redriven=2)
    code, out, _ = _run(capsys, "dlq", "list", "--json", *dead.flags)
    found = json.loads(out)
    assert code == 0
    assert [(group["letters"], group["stage"], group["redriven"]) for group in found] == [
        (3, "time", 0),
        (1, "decode", 1),
    ]
    assert found[0]["newest_id"] == newest
    assert abs(found[0]["last_s"] - time.time()) < 3600
    _, out, _ = _run(capsys, "dlq", "list", *dead.flags)
    assert newest in out


def test_a_letter_is_shown_without_its_audio(dead: Dead, capsys: pytest.CaptureFixture[str]) -> None:
    chunk = record(request_id="the request", audio=b"SOUND" * 200, sample_rate_hz=12_345)
    name = dead.letter(chunk.SerializeToString(), "audio", "unknown sample rate 12345 Hz", offset=77, has_key=False)
    code, out, _ = _run(capsys, "dlq", "show", name, *dead.flags)
    assert code == 0
    for text in (
        "unknown sample rate 12345 Hz",
        dead.settings.audio_topic,
        "77",
        "key:         none",
        "the request",
        "12345 Hz",
    ):
        assert text in out
    assert "SOUND" not in out
    for wrong, says in (
        ("7:0", "there is no letter 7:0"),
        ("1:99", "there is no letter 1:99"),
        ("x", "PARTITION:OFFSET"),
    ):
        code, out, err = _run(capsys, "dlq", "show", wrong, *dead.flags)
        assert (code, out) == (2, "")
        assert says in err


def test_letters_are_sent_again_as_they_were_and_where_they_were(
    dead: Dead, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes, key and partition; with a mark. What was sent again before, or would be refused again, is left alone."""
    now_ms = round(time.time() * 1000)
    dead.letter(b"first", "decode", "bad", key=b"k1")
    dead.letter(b"second", "audio", "odd", has_key=False, partition=0)
    dead.letter(b"loop", "decode", "bad", redriven=1)
    dead.letter(b"ancient", "decode", "bad", timestamp_ms=now_ms - 2 * DAY_MS)
    code, out, _ = _run(capsys, "dlq", "redrive", "--dry-run", *dead.flags)
    assert (code, dead.audio()) == (0, [])
    assert "2 of 4 would be sent" in out
    code, out, _ = _run(capsys, "dlq", "redrive", "--stage", "decode", *dead.flags)
    assert code == 0
    assert "1 of 3 were sent" in out
    assert "1 left alone: they were sent again before" in out
    assert "1 left alone: captured over 86400 s ago" in out
    (sent,) = dead.audio()
    assert (sent.key, sent.value, sent.partition, sent.headers) == (b"k1", b"first", 1, [("redriven", b"1")])
    _run(capsys, "dlq", "redrive", "--error", "odd", *dead.flags)
    (odd,) = (found for found in dead.audio() if found.partition == 0)
    assert (odd.key, odd.value) == (None, b"second")
    _run(capsys, "dlq", "redrive", "--again", "--stage", "decode", "--since", "1h", *dead.flags)
    (again,) = (found for found in dead.audio() if found.value == b"loop")
    assert again.headers == [("redriven", b"2")]


def test_a_range_of_offsets_is_sent(dead: Dead, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        dead.letter(b"%d" % number, "decode", "bad", key=b"same", timestamp_ms=round(time.time() * 1000) - 60_000)
    partition = next(iter(records(dead.settings, dead.settings.dead_letter_topic))).partition
    span = ("--partition", str(partition), "--from-offset", "2", "--to-offset", "4")
    _, out, _ = _run(capsys, "dlq", "redrive", *span, *dead.flags)
    assert "3 of 3 were sent" in out
    assert "3 of those sent are older than the window of 10 s" in out
    assert [found.value for found in dead.audio()] == [b"2", b"3", b"4"]


@given(st.binary(max_size=300))
def test_a_dump_says_every_byte(data: bytes) -> None:
    """Sixteen a line, in hexadecimal."""
    lines = list(hexdump(data))
    assert b"".join(bytes.fromhex(line[10:57]) for line in lines) == data
    assert all(int(line[:8], 16) == 16 * number for number, line in enumerate(lines))


@given(st.binary(max_size=2000), st.integers(2, 400))
def test_no_audio_is_in_the_head(audio: bytes, more: int) -> None:
    sound = b"\xf7" * more + audio
    head, _ = head_of(record(audio=sound).SerializeToString())
    assert len(head) <= HEAD_BYTES
    assert b"\xf7\xf7" not in head  # one may stand in the length of the audio


@pytest.mark.parametrize(
    ("headers", "times"),
    [([], 0), ([("redriven", b"3")], 3), ([("redriven", None)], 0), ([("redriven", b"-1")], 0), ([("x", b"3")], 0),
     ([("redriven", b"\xff")], 0), ([("redriven", b"9" * 50)], 0)],
)  # fmt: skip
def test_a_mark_that_is_no_number_is_none(headers: list[tuple[str, bytes | None]], times: int) -> None:
    """Anybody can write headers."""
    assert times_redriven(headers) == times

"""Records of the audio topic: what is refused, at which stage, and that nothing else can come of any bytes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import EPOCH_US, record

from pipeline.chunks import MAX_ID_LENGTH, MAX_SEQ, RATES_HZ, BadRecordError, Chunk, LowMark, read_record
from pipeline.messages.hushword_pb2 import AudioChunk, Encoding

DAY_US = 86_400_000_000
STAGES = {"decode", "fields", "audio", "time"}


def read(value: bytes | None, appended_us: int = EPOCH_US) -> Chunk | LowMark:
    return read_record(value, appended_us, DAY_US)


REFUSED: dict[str, tuple[bytes | None, str, str]] = {
    "tombstone": (None, "decode", "empty record"),
    "no bytes": (b"", "decode", "empty record"),
    "garbage": (b"\xff" * 40, "decode", "not an AudioChunk"),
    "cut in the middle": (record().SerializeToString()[:200], "decode", "not an AudioChunk"),
    "an id that is not UTF-8": (b"\x0a\x02\xff\xfe", "decode", "not an AudioChunk"),
    "another message": (AudioChunk(locale="x").SerializeToString(), "fields", "request_id is missing"),
    "no request": (record(request_id="").SerializeToString(), "fields", "request_id is missing"),
    "no household": (record(household_id="").SerializeToString(), "fields", "household_id is missing"),
    "no device": (record(device_id="").SerializeToString(), "fields", "device_id is missing"),
    "long request id": (record(request_id="r" * 129).SerializeToString(), "fields", "request_id is longer than 128"),
    "long household": (record(household_id="h" * 129).SerializeToString(), "fields", "household_id is longer than 128"),
    "long device": (record(device_id="d" * 129).SerializeToString(), "fields", "device_id is longer than 128"),
    "no wake word": (record(wake_word="").SerializeToString(), "fields", "wake_word is missing"),
    "a wake word with a slash": (record(wake_word="a/b").SerializeToString(), "fields", "wake_word is missing or not"),
    "a shouted wake word": (record(wake_word="ALEXA").SerializeToString(), "fields", "wake_word is missing or not"),
    "a wake word and a newline": (record(wake_word="alexa\n").SerializeToString(), "fields", "wake_word"),
    "a long wake word": (record(wake_word="a" * 33).SerializeToString(), "fields", "wake_word is missing or not"),
    "no locale": (record(locale="").SerializeToString(), "fields", "locale is missing"),
    "a locale with a slash": (record(locale="en/US").SerializeToString(), "fields", "locale is missing or not"),
    "absurd seq": (record(seq=MAX_SEQ + 1).SerializeToString(), "fields", "seq is over"),
    "no encoding": (record(encoding=0).SerializeToString(), "audio", "unknown encoding ENCODING_UNSPECIFIED"),
    "unknown encoding": (record(encoding=77).SerializeToString(), "audio", "unknown encoding 77"),
    "no rate": (record(sample_rate_hz=0).SerializeToString(), "audio", "unknown sample rate 0 Hz"),
    "unknown rate": (record(sample_rate_hz=11_025).SerializeToString(), "audio", "unknown sample rate 11025 Hz"),
    "no PCM": (record(audio=b"").SerializeToString(), "audio", "no audio"),
    "truncated PCM": (record(audio=b"\0" * 3199).SerializeToString(), "audio", "truncated PCM"),
    "one byte of PCM": (record(audio=b"\0").SerializeToString(), "audio", "truncated PCM"),
    "too much PCM": (record(audio=b"\0" * 32_002).SerializeToString(), "audio", "more than 1000 ms"),
    "no time": (record(capture_time_us=0).SerializeToString(), "time", "missing or before 1970"),
    "before 1970": (record(capture_time_us=-1).SerializeToString(), "time", "missing or before 1970"),
    "two days ago": (record(capture_time_us=EPOCH_US - 2 * DAY_US).SerializeToString(), "time", "-48.0 h from"),
    "in two days": (record(capture_time_us=EPOCH_US + 2 * DAY_US).SerializeToString(), "time", "+48.0 h from"),
    "the end of time": (record(capture_time_us=2**63 - 1).SerializeToString(), "time", "from the time of arrival"),
    "an absurd low mark": (AudioChunk(low_mark_us=1).SerializeToString(), "time", "from the time of arrival"),
    "a low mark before 1970": (AudioChunk(low_mark_us=-5).SerializeToString(), "time", "before 1970"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    """Each has its stage and a sentence."""
    value, stage, says = REFUSED[case]
    with pytest.raises(BadRecordError) as refused:
        read(value)
    assert refused.value.stage == stage
    assert says in str(refused.value)


def test_a_good_record_is_read_as_it_was_written() -> None:
    """Every field arrives, and the end is the start plus the audio."""
    message = record(seq=3, final=True)
    chunk = read(message.SerializeToString())
    assert isinstance(chunk, Chunk)
    assert (chunk.request_id, chunk.household, chunk.device) == ("request-1", "household-1", "device-1")
    assert (chunk.wake_word, chunk.locale, chunk.seq, chunk.rate_hz, chunk.final) == ("alexa", "en-US", 3, 16_000, True)
    assert (chunk.start_us, chunk.end_us) == (EPOCH_US, EPOCH_US + 100_000)
    assert chunk.samples.tobytes() == message.audio


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": "r" * MAX_ID_LENGTH, "household_id": "ü" * MAX_ID_LENGTH, "device_id": "d\n/ d"},
        {"seq": MAX_SEQ},
        {"wake_word": "hey computer-2", "locale": "zh-Hant-TW"},
        {"audio": b"\0\0"},
        {"audio": b"\0" * 32_000},
        {"capture_time_us": EPOCH_US - DAY_US},
        {"capture_time_us": EPOCH_US + DAY_US},
    ],
)
def test_the_edges_of_what_is_allowed(fields: dict[str, Any]) -> None:
    """The longest, the shortest, the earliest and the latest are still good."""
    assert isinstance(read(record(**fields).SerializeToString()), Chunk)


@pytest.mark.parametrize("rate_hz", sorted(RATES_HZ))
def test_every_rate_is_allowed_up_to_a_second(rate_hz: int) -> None:
    """A chunk's length is measured at its own rate."""
    chunk = read(record(sample_rate_hz=rate_hz, audio=bytes(2 * rate_hz)).SerializeToString())
    assert isinstance(chunk, Chunk)
    assert chunk.end_us - chunk.start_us == 1_000_000
    with pytest.raises(BadRecordError, match="more than 1000 ms"):
        read(record(sample_rate_hz=rate_hz, audio=bytes(2 * rate_hz + 2)).SerializeToString())


def test_a_low_mark_is_no_chunk() -> None:
    """A record with a low mark alone says a time; with a request in it, it is a chunk like any other."""
    assert read(AudioChunk(low_mark_us=EPOCH_US).SerializeToString()) == LowMark(EPOCH_US)
    assert isinstance(read(record(low_mark_us=EPOCH_US).SerializeToString()), Chunk)


def test_unknown_fields_are_left_alone() -> None:
    """A later version may send more: field 500, ten bytes of it."""
    later = record().SerializeToString() + b"\xa2\x1f\x0a" + b"z" * 10
    assert isinstance(read(later), Chunk)


# ---- whatever the bytes ----------------------------------------------------------------------------------------------

texts = st.text(max_size=140)
any_message = st.builds(
    AudioChunk,
    request_id=texts,
    household_id=texts,
    device_id=texts,
    wake_word=st.sampled_from(["alexa", "a/b"]) | texts,
    locale=st.sampled_from(["en-US", "en/US"]) | texts,
    seq=st.integers(0, 2**32 - 1),
    sample_rate_hz=st.sampled_from(sorted(RATES_HZ)) | st.integers(0, 2**32 - 1),
    encoding=st.sampled_from(Encoding.values()) | st.integers(-(2**31), 2**31 - 1),
    audio=st.binary(max_size=300),
    capture_time_us=st.integers(EPOCH_US - 2 * DAY_US, EPOCH_US + 2 * DAY_US) | st.integers(-(2**63), 2**63 - 1),
    final=st.booleans(),
    low_mark_us=st.just(0) | st.integers(-(2**63), 2**63 - 1),
)


def read_or_refused(value: bytes) -> Chunk | LowMark | BadRecordError:
    try:
        return read(value)
    except BadRecordError as error:
        return error


def whole_or_refused(value: bytes) -> None:
    """Either something that is as it must be, or a BadRecordError with a known stage."""
    found = read_or_refused(value)
    if isinstance(found, BadRecordError):
        assert found.stage in STAGES
        assert len(str(found)) < 200
    elif isinstance(found, Chunk):
        assert 0 < len(found.request_id) <= MAX_ID_LENGTH
        assert "/" not in found.wake_word + found.locale
        assert found.rate_hz in RATES_HZ
        assert found.samples.dtype == np.int16
        assert 0 < found.end_us - found.start_us <= 1_000_000
        assert abs(found.start_us - EPOCH_US) <= DAY_US
    else:
        assert abs(found.us - EPOCH_US) <= DAY_US


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_in_order(value: bytes) -> None:
    """Nothing but BadRecordError comes of them."""
    whole_or_refused(value)


@given(any_message)
def test_random_fields_are_refused_in_order(message: AudioChunk) -> None:
    """Messages that parse, with anything in them."""
    whole_or_refused(message.SerializeToString())


@given(st.data())
def test_damaged_records_are_refused_in_order(data: st.DataObject) -> None:
    """Good records with bytes changed, cut out or put in."""
    message = record(audio=bytes(range(200)), low_mark_us=data.draw(st.sampled_from([0, 1])))
    value = bytearray(message.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value) - 1))
        damage: Callable[[], None] = data.draw(
            st.sampled_from(
                [
                    lambda at=at: value.__setitem__(at, value[at] ^ (1 << data.draw(st.integers(0, 7)))),
                    lambda at=at: value.__delitem__(slice(at, at + data.draw(st.integers(1, 9)))),
                    lambda at=at: value.__setitem__(slice(at, at), data.draw(st.binary(min_size=1, max_size=9))),
                ]
            )
        )
        damage()
        if not value:
            break
    whole_or_refused(bytes(value))


@given(any_message)
def test_what_is_said_about_a_record_holds_no_voice_and_nobody(message: AudioChunk) -> None:
    """The sentence goes into headers and logs: no ids, no texts and no audio of the record are in it."""
    secrets = {"request_id": "SECRET-R", "household_id": "SECRET-H", "device_id": "SECRET-D"}
    for name, secret in secrets.items():
        if getattr(message, name):
            setattr(message, name, secret + getattr(message, name))
    for name in ("wake_word", "locale"):
        if getattr(message, name) not in {"alexa", "en-US"}:
            setattr(message, name, "SECRET/" + getattr(message, name))
    message.audio = b"SECRET" + message.audio
    found = read_or_refused(message.SerializeToString())
    if isinstance(found, BadRecordError):
        assert "SECRET" not in found.stage + str(found)

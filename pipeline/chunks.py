"""Records of the audio topic, checked: what is wrong with one is said here, once, and it becomes a dead letter."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from pipeline.messages.hushword_pb2 import PCM_S16LE, AudioChunk, Encoding
from pipeline.pseudonyms import CLEAR, Pseudonyms

# Where a record can fail.
Stage = Literal["decode", "fields", "audio", "time", "request"]
STAGES: tuple[str, ...] = get_args(Stage)
# That of a record of the media topic.
MEDIA_STAGE = "media"
LETTER_STAGES = (*STAGES, MEDIA_STAGE)
RATES_HZ = frozenset({8000, 16_000, 22_050, 24_000, 44_100, 48_000})
MAX_ID_LENGTH = 128
MAX_CHUNK_MS = 1000
MAX_SEQ = 10_000
MAX_REQUEST_S = 60.0  # nobody talks to a device for so long: what is longer is cut
# Audio of a second at 48 kHz has 96,000 bytes, and the longest ids some 1,500.
MAX_RECORD_BYTES = 128 << 10
# Chunks follow each other without a hole; clocks and rounding leave less than this between them.
HOLE_US = 50_000
# Routes are made of these two, so they are kept to what a wake word and a BCP 47 tag look like.
WAKE_WORD = re.compile(r"[a-z0-9][a-z0-9 _-]{0,31}")
LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}")


class BadRecordError(ValueError):
    """A record that cannot be used; the message is for the dead letter's header and holds no audio and no ids."""

    def __init__(self, stage: Stage, message: str) -> None:
        """`stage` is where it failed; metrics count by it."""
        super().__init__(message)
        self.stage = stage


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """One chunk of one request's audio.

    Attributes:
        samples: int16 (n,) at `rate_hz`, n > 0.
        start_us: capture time of the first sample, microseconds of Unix time.
        end_us: capture time just after the last one.

    """

    request_id: str
    household: str
    device: str
    wake_word: str
    locale: str
    seq: int
    rate_hz: int
    samples: npt.NDArray[np.int16]
    start_us: int
    end_us: int
    final: bool

    @property
    def identity(self) -> tuple[str, str, str, str, int]:
        """What all chunks of one request have in common."""
        return self.device, self.household, self.wake_word, self.locale, self.rate_hz


@dataclass(frozen=True, slots=True)
class LowMark:
    """A promise that its partition brings nothing captured before `us` any more.

    Attributes:
        us: microseconds of Unix time.
        lags: until the next mark, append times say nothing about this partition's capture times.

    """

    us: int
    lags: bool = False


def read_record(
    value: bytes | None, appended_us: int, max_clock_skew_us: int, names: Pseudonyms = CLEAR
) -> Chunk | LowMark:
    """Parse and check one record's value.

    Args:
        value: of the record; None is a tombstone, which has no meaning here.
        appended_us: the broker's append time, to tell an absurd capture time.
        max_clock_skew_us: how far from it a capture time may lie.
        names: what the household and the device are called from here on.

    Raises:
        BadRecordError: with what is wrong.

    """
    if not value:
        raise BadRecordError("decode", "empty record")
    if len(value) > MAX_RECORD_BYTES:
        raise BadRecordError("decode", f"a record of more than {MAX_RECORD_BYTES >> 10} KiB")
    try:
        message = AudioChunk.FromString(value)
    except DecodeError:
        raise BadRecordError("decode", "not an AudioChunk") from None
    if message.low_mark_us and not message.request_id and not message.audio:
        _check_time(message.low_mark_us, appended_us, max_clock_skew_us)
        return LowMark(message.low_mark_us, message.lags)
    for name in ("request_id", "household_id", "device_id"):
        text = getattr(message, name)
        if not text:
            raise BadRecordError("fields", f"{name} is missing")
        if len(text) > MAX_ID_LENGTH:
            raise BadRecordError("fields", f"{name} is longer than {MAX_ID_LENGTH} characters")
    if not WAKE_WORD.fullmatch(message.wake_word):
        raise BadRecordError("fields", "wake_word is missing or not a lower-case word")
    if not LOCALE.fullmatch(message.locale):
        raise BadRecordError("fields", "locale is missing or not a BCP 47 tag")
    if message.seq > MAX_SEQ:
        raise BadRecordError("fields", f"seq is over {MAX_SEQ}")
    if message.encoding != PCM_S16LE:
        raise BadRecordError("audio", f"unknown encoding {_encoding_name(message.encoding)}")
    if message.sample_rate_hz not in RATES_HZ:
        raise BadRecordError("audio", f"unknown sample rate {message.sample_rate_hz} Hz")
    if not message.audio:
        raise BadRecordError("audio", "no audio")
    if len(message.audio) % 2:
        raise BadRecordError("audio", "truncated PCM: half a sample at the end")
    count = len(message.audio) // 2
    if count * 1000 > MAX_CHUNK_MS * message.sample_rate_hz:
        raise BadRecordError("audio", f"more than {MAX_CHUNK_MS} ms of audio in one chunk")
    _check_time(message.capture_time_us, appended_us, max_clock_skew_us)
    return Chunk(
        request_id=message.request_id,
        household=names.household(message.household_id),
        device=names.device(message.device_id),
        wake_word=message.wake_word,
        locale=message.locale,
        seq=message.seq,
        rate_hz=message.sample_rate_hz,
        samples=np.frombuffer(message.audio, "<i2"),
        start_us=message.capture_time_us,
        end_us=message.capture_time_us + count * 1_000_000 // message.sample_rate_hz,
        final=message.final,
    )


def _check_time(us: int, appended_us: int, max_clock_skew_us: int) -> None:
    if us <= 0:
        raise BadRecordError("time", "capture time is missing or before 1970")
    if abs(us - appended_us) > max_clock_skew_us:
        hours = (us - appended_us) / 3.6e9
        raise BadRecordError("time", f"capture time is {hours:+.1f} h from the time of arrival")


def _encoding_name(number: int) -> str:
    return Encoding.Name(number) if number in Encoding.values() else str(number)

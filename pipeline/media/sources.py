"""Clean recordings of what airs, where in them the wake word is said, and the entries that they make."""

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from matcher.bits import Bits
from matcher.grid import HOP_MS, SAMPLE_RATE_HZ, log_energies
from matcher.known_entry import EntryError, entry_words
from pipeline.chunks import LOCALE, WAKE_WORD
from pipeline.errors import InputError
from pipeline.media.entries import MAX_TITLE, media_id_of
from pipeline.messages.hushword_pb2 import MediaFingerprint

COLUMNS = ("file", "title", "wake_word", "locale", "at_s")
OPTIONAL_COLUMNS = ("valid_from", "valid_until")

FULL_SCALE = 32768
_BLOCK_FRAMES = 1 << 16
# What is looked at where the wake word should be. Of 36 simulated advertisements the quietest has -18 dB of full scale
# there, and their bands change by 4.7 to 15.9 dB in 80 ms; steady noise changes by 2.4 to 2.8, a tone by 1.3.
_WORD_MS = 700
LEAST_LEVEL_DB = -60.0
_LEAST_CHANGE_DB = 3.0
_CHANGE_FRAMES = 80 // HOP_MS


class SourceError(InputError):
    """A recording, or what is said of it, that can be no entry; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Mention:
    """One time that a recording says the wake word.

    Attributes:
        file: the recording.
        title: for people.
        wake_word: as requests carry it.
        locale: BCP 47, as requests carry it.
        at_s: where in the recording the wake word begins, seconds from its first sample.
        valid_from_us: event time from which it decides, microseconds of Unix time; 0 for ever.
        valid_until_us: event time up to which it decides; 0 for ever.

    """

    file: Path
    title: str
    wake_word: str
    locale: str
    at_s: float
    valid_from_us: int = 0
    valid_until_us: int = 0

    def __post_init__(self) -> None:
        """Refuse what requests cannot carry either.

        Raises:
            SourceError: with what is wrong.

        """
        if not WAKE_WORD.fullmatch(self.wake_word):
            raise SourceError(f"{self.wake_word!r} is no wake word: it takes lower case, such as alexa")
        if not LOCALE.fullmatch(self.locale):
            raise SourceError(f"{self.locale!r} is no locale: it takes a BCP 47 tag, such as en-US")
        if len(self.title) > MAX_TITLE or not self.title.isprintable():
            raise SourceError(f"a title has at most {MAX_TITLE} characters, all of them printable")
        if not math.isfinite(self.at_s) or self.at_s < 0:
            raise SourceError(f"{self.at_s:g} is no place in a recording: it takes seconds from 0 on")
        if 0 < self.valid_until_us <= self.valid_from_us:
            raise SourceError("it would be valid until before it is valid from")


def time_us(text: str, *, until: bool = False) -> int:
    """Give microseconds of Unix time for an ISO 8601 date or time, UTC where it names no zone; 0 for nothing.

    A date is its beginning, or with `until` its end: what is valid until the 3rd is valid on the 3rd.

    Raises:
        SourceError: it is neither.

    """
    text = text.strip()
    if not text:
        return 0
    try:
        try:
            at = datetime.combine(date.fromisoformat(text) + timedelta(days=until), datetime.min.time())
        except ValueError:
            at = datetime.fromisoformat(text)
        us = round((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1e6)
    except (ValueError, OverflowError) as error:
        raise SourceError(f"{text!r} is no time: it takes 2026-01-31 or 2026-01-31T20:15:00") from error
    if us <= 0:
        raise SourceError(f"{text!r} lies before 1970")
    return us


def read_csv(path: Path) -> list[Mention]:
    """Read a table of mentions: the columns COLUMNS, perhaps OPTIONAL_COLUMNS, in any order.

    Args:
        path: UTF-8; files in it are named relative to it.

    Raises:
        SourceError: the table or one of its lines is not as it must be; the message names the line and the column.

    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            columns = table.fieldnames or []
            missing = [name for name in COLUMNS if name not in columns]
            if missing:
                raise SourceError(f"{path}, line 1: there is no column {missing[0]!r}: it takes {','.join(COLUMNS)}")
            unknown = [name for name in columns if name not in COLUMNS + OPTIONAL_COLUMNS]
            if unknown:
                raise SourceError(f"{path}, line 1: nobody knows a column {unknown[0]!r}")
            if len(set(columns)) < len(columns):
                raise SourceError(f"{path}, line 1: a column is there twice")
            mentions = [_mention(row, path, f"{path}, line {table.line_num}") for row in table]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a table: {error}") from error
    except csv.Error as error:
        raise SourceError(f"{path}, line {table.reader.line_num}: not CSV: {error}") from error
    if not mentions:
        raise SourceError(f"{path} names no recordings")
    return mentions


def _mention(row: dict[Any, Any], path: Path, where: str) -> Mention:
    if None in row or None in row.values():
        raise SourceError(f"{where}: it has {'more' if None in row else 'fewer'} cells than line 1 has columns")
    cells = {name: str(cell).strip() for name, cell in row.items()}
    for name in COLUMNS:
        if not cells[name] and name != "title":
            raise SourceError(f"{where}, column {name}: there is nothing in it")
    try:
        at_s = float(cells["at_s"])
    except ValueError as error:
        raise SourceError(f"{where}, column at_s: {cells['at_s']!r} is no number of seconds") from error
    times = {}
    for name in OPTIONAL_COLUMNS:
        try:
            times[name] = time_us(cells.get(name, ""), until=name == "valid_until")
        except SourceError as error:
            raise SourceError(f"{where}, column {name}: {error}") from error
    if "\0" in cells["file"]:
        raise SourceError(f"{where}, column file: no file has such a name")
    # Each cell by itself, so that the message names the column that is wrong.
    fine = {"title": "", "wake_word": "alexa", "locale": "en-US", "at_s": 0.0}
    for name, value in {**{n: cells[n] for n in ("title", "wake_word", "locale")}, "at_s": at_s}.items():
        try:
            Mention(Path(), **{**fine, name: value})  # type: ignore[arg-type]
        except SourceError as error:
            raise SourceError(f"{where}, column {name}: {error}") from error
    try:
        return Mention(
            path.parent / cells["file"], cells["title"], cells["wake_word"], cells["locale"], at_s,
            times["valid_from"], times["valid_until"],
        )  # fmt: skip
    except SourceError as error:
        raise SourceError(f"{where}, column valid_until: {error}") from error


def read_audio(path: Path) -> npt.NDArray[np.float32]:
    """Read a recording of any format that libsndfile or, where it is installed, PyAV knows.

    Args:
        path: the file; channels are averaged.

    Returns:
        float32 (n,), n > 0, at SAMPLE_RATE_HZ, on the int16 scale.

    Raises:
        SourceError: it is no audio.

    """
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    parts: list[npt.NDArray[np.float32]] = []
    stream: Any = None
    for block, rate_hz in _blocks(path):
        mono = block.mean(axis=1, dtype=np.float32)
        if rate_hz != SAMPLE_RATE_HZ:
            stream = stream or soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
            mono = stream.resample_chunk(mono)
        parts.append(mono)
    if stream is not None:
        parts.append(stream.resample_chunk(np.empty(0, np.float32), last=True))
    samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if not len(samples):
        raise SourceError(f"{path}: there is no audio in it")
    if not np.isfinite(samples).all():
        raise SourceError(f"{path}: some of its samples are no numbers")
    samples *= np.float32(FULL_SCALE)
    return samples


def _blocks(path: Path) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
    """Samples (n, channels), full scale 1, and their rate."""
    try:
        with soundfile.SoundFile(path) as file:
            for block in file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
                yield block, file.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        refused = str(error)
    else:
        return
    try:
        import av
    except ImportError:
        raise SourceError(
            f"{path}: it cannot be read as audio: {refused} (the extra hushword[media] reads m4a, mp4 and others)"
        ) from None
    try:
        with av.open(path) as container:
            if not container.streams.audio:
                raise SourceError(f"{path}: there is no audio in it")
            planar = av.AudioResampler(format="fltp")
            for frame in container.decode(audio=0):
                for part in planar.resample(frame):
                    yield part.to_ndarray().T, part.sample_rate
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{path}: it cannot be read as audio: {error}") from error


def fingerprint(
    mention: Mention, bits: Bits, samples: npt.NDArray[np.float32] | None = None, added_us: int | None = None
) -> MediaFingerprint:
    """Make the entry of one mention.

    Args:
        mention: what to take from where.
        bits: the kind of bits.
        samples: float32 (n,) as `read_audio` gives them; read from the mention's file where not given.
        added_us: microseconds of Unix time; now where not given.

    Raises:
        SourceError: the recording cannot be read, or is too short there, or nobody speaks there.

    """
    if samples is None:
        samples = read_audio(mention.file)
    wake_word_ms, long_s = round(mention.at_s * 1000), len(samples) / SAMPLE_RATE_HZ
    if mention.at_s >= long_s:
        raise SourceError(
            f"{mention.file}: it is {long_s:.2f} s long, so that no wake word begins at {mention.at_s:g} s"
        )
    try:
        words, clear = entry_words(samples, wake_word_ms, bits)
    except EntryError as error:
        raise SourceError(f"{mention.file}, at {mention.at_s:g} s: {error}") from error
    _check_speech(samples, mention)
    return MediaFingerprint(
        media_id=media_id_of(words, mention.wake_word, mention.locale),
        kind=MediaFingerprint.KNOWN,
        wake_word=mention.wake_word,
        locale=mention.locale,
        bits=bits.name,
        words=words.astype("<u8").tobytes(),
        clear=clear.astype("<u8").tobytes(),
        title=mention.title,
        source=mention.file.name,
        wake_word_ms=wake_word_ms,
        valid_from_us=mention.valid_from_us,
        valid_until_us=mention.valid_until_us,
        added_us=round(time.time() * 1e6) if added_us is None else added_us,
    )


def _check_speech(samples: npt.NDArray[np.float32], mention: Mention) -> None:
    """Refuse silence and steady sound; music is not told from speech.

    Raises:
        SourceError: that is what there is.

    """
    start = round(mention.at_s * SAMPLE_RATE_HZ)
    word = np.ascontiguousarray(samples[start : start + _WORD_MS * SAMPLE_RATE_HZ // 1000])
    power = float(np.mean(np.square(word, dtype=np.float64)))
    if power < FULL_SCALE**2 * 10 ** (LEAST_LEVEL_DB / 10):
        raise SourceError(f"{mention.file}, at {mention.at_s:g} s: it is silent where the wake word should be")
    energies_db = 10 / math.log(10) * log_energies(word)
    if np.abs(energies_db[_CHANGE_FRAMES:] - energies_db[:-_CHANGE_FRAMES]).mean() < _LEAST_CHANGE_DB:
        raise SourceError(
            f"{mention.file}, at {mention.at_s:g} s: there is steady sound, not speech, where the wake word should be"
        )

"""The known media as one file: a header and an entry a line, in JSON."""

import base64
import binascii
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from matcher.bits import Bits
from pipeline.errors import FailedError, InputError
from pipeline.media.entries import check_entry
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.wire import BadMediaError

VERSION = 1
# Fields of a line, and of the message; the last in base64.
_TEXTS = ("media_id", "wake_word", "locale", "title", "source")
_NUMBERS = ("wake_word_ms", "households", "valid_from_us", "valid_until_us", "added_us")
_BYTES = ("words", "clear")
_NEEDED = ("media_id", "wake_word", "locale", "words")
_HOUSEHOLDS_END, _NUMBER_END = 1 << 32, 1 << 63


def write_entries(path: Path, bits: str, entries: Collection[MediaFingerprint]) -> None:
    """Write a file; one that is there is replaced when the new one is whole.

    Raises:
        FailedError: it cannot be written.

    """
    growing = path.with_name(f".{path.name}.partial")
    try:
        with growing.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"hushword_media": VERSION, "bits": bits, "entries": len(entries)}) + "\n")
            file.writelines(_line(entry) + "\n" for entry in entries)
        growing.replace(path)
    except OSError as error:
        raise FailedError(f"{path} cannot be written: {error}") from error
    finally:
        growing.unlink(missing_ok=True)


def entries_said(path: Path, bits: Bits) -> int:
    """Give how many entries a file says that it has.

    Raises:
        InputError: it is no such file, or of other bits.

    """
    for _, line in _lines(path):
        return _header(path, line, bits)
    raise InputError(f"{path} is empty: it takes a file that `hushword media export` wrote")


def read_entries(path: Path, bits: Bits) -> Iterator[MediaFingerprint]:
    """Give the entries of a file, each one checked.

    Raises:
        InputError: the file or one of its lines is not as it must be, or it ends too soon; the message names the line.

    """
    said = entries_said(path, bits)
    names: set[str] = set()
    for number, line in _lines(path):
        if number == 1:
            continue
        try:
            entry = _entry(line, bits)
        except BadMediaError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        if entry.media_id in names:
            raise InputError(f"{path}, line {number}: {entry.media_id} was there before")
        names.add(entry.media_id)
        yield entry
    if len(names) != said:
        raise InputError(f"{path} says that it has {said} entries, and has {len(names)}: it is not whole")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from enumerate(file, start=1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _header(path: Path, line: str, bits: Bits) -> int:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or "hushword_media" not in header:
        raise InputError(f"{path}, line 1: this is no header: it takes a file that `hushword media export` wrote")
    if header["hushword_media"] != VERSION:
        raise InputError(f"{path}, line 1: it is of version {header['hushword_media']}, and only {VERSION} can be read")
    if header.get("bits") != bits.name:
        raise InputError(
            f"{path} has fingerprints of bits {header.get('bits')!r}, and these settings have {bits.name}: they cannot"
            " be compared, so that the recordings must be added anew"
        )
    entries: Any = header.get("entries")
    if not _is_number(entries, _NUMBER_END):
        raise InputError(f"{path}, line 1: entries must be a whole number, not {entries!r}")
    return int(entries)


def _line(entry: MediaFingerprint) -> str:
    plain = {name: getattr(entry, name) for name in _TEXTS + _NUMBERS}
    packed = {name: base64.b64encode(getattr(entry, name)).decode() for name in _BYTES}
    return json.dumps(plain | packed, ensure_ascii=False)


def _entry(line: str, bits: Bits) -> MediaFingerprint:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadMediaError("not valid JSON") from error
    if not isinstance(plain, dict):
        raise BadMediaError("not a JSON object")
    for name in _NEEDED:
        if name not in plain:
            raise BadMediaError(f"there is no {name}")
    fields: dict[str, Any] = {}
    for name, value in plain.items():
        end = _HOUSEHOLDS_END if name == "households" else _NUMBER_END
        if name in (*_TEXTS, *_BYTES) and not _is_text(value):
            raise BadMediaError(f"{name} must be a text")
        if name in _NUMBERS and not _is_number(value, end):
            raise BadMediaError(f"{name} must be a whole number from 0 on, not {value!r}")
        if name not in (*_TEXTS, *_NUMBERS, *_BYTES):
            raise BadMediaError(f"nobody knows a field {name!r}")
        fields[name] = value
    for name in _BYTES:
        try:
            fields[name] = base64.b64decode(fields.get(name, ""), validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadMediaError(f"{name} are not base64: {error}") from error
    entry = MediaFingerprint(kind=MediaFingerprint.KNOWN, bits=bits.name, **fields)
    check_entry(entry, bits)
    return entry


def _is_text(value: object) -> bool:
    """Whether it is text that can be written down: JSON can name half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end

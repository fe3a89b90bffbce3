"""A recording that grows: requests are in it whole or not at all, and another process can go on with it.

Beside the audio lie, until the recording is complete, `record.jsonl`, a line for each request that is over, and
`record.json`, how far the topic was read. A request counts once its line is there: audio without a line is what a kill
has left, and is made again. manifest.jsonl is made from the lines whenever the work ends in good order.
"""

import fcntl
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.atomic import replace_text
from pipeline.errors import FailedError, InputError
from pipeline.gather import Gathered
from pipeline.pseudonyms import Pseudonyms

LINES, STATE, MANIFEST = "record.jsonl", "record.json", "manifest.jsonl"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.~-]{0,119}")


class State(BaseModel):
    """What a recording was begun with, and how far the topic was read."""

    model_config = ConfigDict(extra="forbid")

    topic: str
    locales: list[str] = Field(default_factory=list)
    wake_words: list[str] = Field(default_factory=list)
    sample: float = 1.0
    ids: Literal["kept", "hashed"] = "hashed"
    key: str | None = None  # hex, if it was drawn for this recording: it goes when the recording is complete
    key_check: str = "none"
    from_ms: int | None = None  # append times
    for_ms: int | None = None
    until_ms: int | None = None
    requests: int | None = None
    next: dict[int, int] = Field(default_factory=dict)
    needed: dict[int, int] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)


class GrowingRecording:
    """The folder; for one process at a time."""

    def __init__(self, folder: Path, state: State, names: Pseudonyms) -> None:
        self.folder, self.state, self._names = folder, state, names
        self.counts: Counter[str] = Counter()
        self.audio_s = 0.0
        self._before: set[str] = set()
        self._lines = (folder / LINES).open("a", encoding="utf-8")
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lines.close()
            raise InputError(f"another process is recording to {folder}") from None

    @classmethod
    def begin(cls, folder: Path, state: State, names: Pseudonyms) -> Self:
        """Begin one in a new or empty folder, for its owner's eyes only.

        Raises:
            InputError: the folder cannot be made.

        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / "audio").mkdir()
            replace_text(folder / STATE, state.model_dump_json())
            return cls(folder, state, names)
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror}") from error

    @staticmethod
    def left(folder: Path) -> State:
        """Read how far an interrupted recording has come.

        Raises:
            InputError: there is none, or it is damaged.

        """
        try:
            return State.model_validate_json((folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"there is nothing to resume: no recording was interrupted in {folder}") from None
        except (OSError, ValidationError) as error:
            raise InputError(f"{folder / STATE} does not say how far the recording is: {error}") from error

    @classmethod
    def resume(cls, folder: Path, state: State, names: Pseudonyms) -> Self:
        """Go on with one: what a kill has left half done is undone.

        Raises:
            FailedError: its lines are damaged.

        """
        growing = cls(folder, state, names)
        os.truncate(folder / LINES, (folder / LINES).read_bytes().rfind(b"\n") + 1)  # a line that was cut off
        files = set()
        for entry in growing.entries():
            growing._count(entry)
            growing._before.add(entry["request_id"])
            files.add(entry.get("file"))
        for file in (folder / "audio").iterdir():
            if f"audio/{file.name}" not in files:
                file.unlink()
        return growing

    def has(self, request_id: str) -> bool:
        """Tell whether a request of the topic is in the recording, or was left out before it was resumed."""
        name = self._names.request(request_id)
        return name in self._before or (self.folder / _file(name)).exists()

    def had(self, request_id: str) -> bool:
        """Tell whether it was there when the recording was resumed."""
        return self._names.request(request_id) in self._before

    def add(self, request: Gathered) -> None:
        """Write a request's audio, then its line.

        Raises:
            FailedError: the disk is full, or the folder gone.

        """
        import soundfile

        first = request.first
        name = self._names.request(first.request_id)
        entry = {
            "request_id": name,
            "file": _file(name),
            "wake_word": first.wake_word,
            "locale": first.locale,
            "household": self._names.household(first.household),
            "device": self._names.device(first.device),
            "capture_time_us": first.start_us,
            "sample_rate_hz": first.rate_hz,
            "samples": len(request.samples),
        }
        if request.cut is not None:
            entry["cut"] = request.cut
        path = self.folder / _file(name)
        growing = path.with_name(f"{path.name}.partial")
        try:
            soundfile.write(growing, request.samples, first.rate_hz, format="FLAC", subtype="PCM_16")
            growing.replace(path)
            self._write(entry)
        except (soundfile.SoundFileError, OSError) as error:
            raise FailedError(f"{path} cannot be written: {error}") from error

    def leave_out(self, request_id: str) -> None:
        """Note a request whose beginning is not there."""
        self._write({"request_id": self._names.request(request_id), "left_out": "no first chunk"})

    def keep(self) -> None:
        """Put down how far the topic was read, behind all lines.

        Raises:
            FailedError: the disk is full, or the folder gone.

        """
        try:
            self._lines.flush()
            os.fsync(self._lines.fileno())
            replace_text(self.folder / STATE, self.state.model_dump_json())
        except OSError as error:
            raise FailedError(f"{self.folder} cannot be written to: {error}") from error

    def close(self, *, complete: bool) -> None:
        """Make the manifest; with `complete`, nobody goes on with this recording, and what for that is there goes.

        Raises:
            FailedError: the disk is full, or the folder gone.

        """
        self.keep()
        self._lines.close()
        whole = [entry["capture_time_us"] for entry in self.entries() if "file" in entry]
        zero_us = min(whole, default=0)
        growing = self.folder / f".{MANIFEST}.partial"
        try:
            with growing.open("w", encoding="utf-8") as manifest:
                for entry in self.entries():
                    if "file" in entry:
                        start_s = (entry["capture_time_us"] - zero_us) / 1e6
                        manifest.write(json.dumps({**entry, "start_s": start_s}) + "\n")
            growing.replace(self.folder / MANIFEST)
            if complete:
                (self.folder / STATE).unlink()
                (self.folder / LINES).unlink()
        except OSError as error:
            raise FailedError(f"{self.folder} cannot be written to: {error}") from error

    def entries(self) -> Iterator[dict[str, Any]]:
        """Give the lines.

        Raises:
            FailedError: one is damaged.

        """
        with (self.folder / LINES).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    entry: dict[str, Any] = json.loads(line)
                except json.JSONDecodeError as error:
                    raise FailedError(f"{self.folder / LINES}, line {number}: not valid JSON: {error.msg}") from error
                yield entry

    def _write(self, entry: dict[str, Any]) -> None:
        self._lines.write(json.dumps(entry) + "\n")
        self._lines.flush()
        self._count(entry)

    def _count(self, entry: dict[str, Any]) -> None:
        if "file" not in entry:
            self.counts["no first chunk"] += 1
            return
        self.counts["requests"] += 1
        self.audio_s += entry["samples"] / entry["sample_rate_hz"]
        if "cut" in entry:
            self.counts[entry["cut"]] += 1


def _file(name: str) -> str:
    """Give the place of a request's audio; an id that no file system would take gives another name."""
    if not _FILE_NAME.fullmatch(name):
        name = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return f"audio/{name}.flac"

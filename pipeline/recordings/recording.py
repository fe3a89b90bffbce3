"""Recordings: a folder with manifest.jsonl and audio; what devices send and the truth about it are kept apart."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError

EXPECTATIONS = ("accept", "ignore", "ignore_by_cache")


class RecordingError(InputError):
    """A recording cannot be read; the message names the file and the line."""


@dataclass(frozen=True)
class Request:
    """What a device sends: nothing in here says whether a person or a television spoke."""

    request_id: str
    file: str  # below the recording's folder
    start_s: float  # of its first sample, from the recording's start
    wake_word: str
    locale: str  # BCP 47
    household: str
    device: str


@dataclass(frozen=True)
class Truth:
    """What was really heard in one request; for scoring only."""

    request_id: str
    kind: str  # "live", "media", "rerun" ...
    event: str | None  # the airing it heard
    expect: str  # one of EXPECTATIONS
    snr_db: float | None
    wake_word_start_s: float | None  # in the request's own time
    households_in_event: int  # distinct households that heard the airing while it was on; 0 without an event
    noise: str | None = None  # what else was to be heard: "babble" ...
    voice: str | None = None  # who speaks, where the simulator says so
    source: str | None = None  # the clean recording of what aired, where that is known
    known: bool = False  # whether that is in the catalogue of known media: nothing that a manifest says


@dataclass(frozen=True)
class Recording:
    """The requests of a recording by their start, and the truth of those that are labelled, by request id."""

    folder: Path
    requests: tuple[Request, ...]
    truth: dict[str, Truth] = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest; audio is read later, request by request. Unknown fields of a line are left alone.

        Raises:
            RecordingError: there is no manifest, or one of its lines is not as it must be.

        """
        manifest = folder / "manifest.jsonl"
        try:
            lines = manifest.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecordingError(f"{manifest} cannot be read: a recording is a folder with this file in it") from error
        requests: dict[str, Request] = {}
        labels: list[tuple[str, dict[str, Any]]] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{manifest}, line {number}"
            entry = _entry(line, where)
            request = _request(entry, where)
            if request.request_id in requests:
                raise RecordingError(f"{where}: request_id {request.request_id!r} was there before")
            if not (folder / request.file).is_file():
                raise RecordingError(f"{where}: there is no file {request.file}")
            requests[request.request_id] = request
            if entry.get("expect") is not None:
                labels.append((where, entry))
        if not requests:
            raise RecordingError(f"{manifest} has no requests")
        ordered = sorted(requests.values(), key=lambda request: (request.start_s, request.request_id))
        return cls(folder, tuple(ordered), _truth(labels, requests))

    def audio(self, request: Request) -> tuple[npt.NDArray[np.int16], int]:
        """Read one request's samples, shape (n,), and their rate in Hz.

        Raises:
            RecordingError: the file cannot be read, has no samples, or more than one channel.

        """
        return self.samples(request.file)

    def samples(self, file: str) -> tuple[npt.NDArray[np.int16], int]:
        """Read one file's samples; as `audio`, by the name below the recording's folder."""
        import soundfile

        path = self.folder / file
        try:
            samples, sample_rate_hz = soundfile.read(path, dtype="int16")
        except (soundfile.SoundFileError, OSError) as error:
            raise RecordingError(f"{path} cannot be read as audio: {error}") from error
        if samples.ndim != 1 or samples.size == 0:
            raise RecordingError(f"{path} must have one channel and at least one sample, not shape {samples.shape}")
        return cast("npt.NDArray[np.int16]", samples), int(sample_rate_hz)

    def duration_s(self, request: Request) -> float:
        """Say how long one request's audio is, from its header alone.

        Raises:
            RecordingError: the file cannot be read.

        """
        import soundfile

        path = self.folder / request.file
        try:
            return float(soundfile.info(path).duration)
        except (soundfile.SoundFileError, OSError) as error:
            raise RecordingError(f"{path} cannot be read as audio: {error}") from error

    def excerpt(self, start_s: float, end_s: float) -> Self:
        """Give the part whose requests start in [start_s, end_s), on the same clock and with its own event sizes."""
        requests = tuple(request for request in self.requests if start_s <= request.start_s < end_s)
        kept = {request.request_id: request for request in requests}
        truth = [self.truth[request_id] for request_id in kept if request_id in self.truth]
        return type(self)(self.folder, requests, _with_event_sizes(truth, kept))


def check_folder(folder: Path, needed_bytes: int = 0) -> None:
    """Refuse a folder that holds something, and a disk without room.

    Raises:
        InputError: so.

    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: a recording is a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} holds something already: name a new folder, or empty this one first")
    parent = folder.absolute().parent
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        raise InputError(f"{folder} needs about {needed_bytes / 1e6:.0f} MB, and the disk has {free / 1e6:.0f} MB")


def write_manifest(folder: Path, requests: Iterable[Request], truth: Iterable[Truth] = ()) -> None:
    """Write manifest.jsonl; the audio files are the caller's. households_in_event is left out: reading derives it."""
    labels = {label.request_id: label for label in truth}
    lines = []
    for request in requests:
        entry: dict[str, Any] = dict(vars(request))
        if request.request_id in labels:
            derived = ("households_in_event", "known")
            entry |= {name: v for name, v in vars(labels[request.request_id]).items() if name not in derived}
        lines.append(json.dumps(entry) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise RecordingError(f"{where}: not valid JSON: {error.msg}") from error
    if not isinstance(entry, dict):
        raise RecordingError(f"{where}: not a JSON object")
    return entry


def _request(entry: dict[str, Any], where: str) -> Request:
    texts = {}
    for name in ("request_id", "file", "wake_word", "locale", "household", "device"):
        value = entry.get(name)
        if not isinstance(value, str) or not value:
            raise RecordingError(f"{where}: {name} must be a text, not {value!r}")
        texts[name] = value
    start_s = _number(entry, "start_s", where)
    if start_s is None or start_s < 0:
        raise RecordingError(f"{where}: start_s must be a number of seconds from 0 on, not {entry.get('start_s')!r}")
    return Request(start_s=start_s, **texts)


def _number(entry: dict[str, Any], name: str, where: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    # bool is an int to Python; json reads NaN and Infinity, which no field here can be
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise RecordingError(f"{where}: {name} must be a number, not {value!r}")
    return float(value)


def _truth(labels: list[tuple[str, dict[str, Any]]], requests: dict[str, Request]) -> dict[str, Truth]:
    truth = []
    for where, entry in labels:
        expect, event = entry["expect"], entry.get("event")
        if expect not in EXPECTATIONS:
            raise RecordingError(f"{where}: expect must be one of {', '.join(EXPECTATIONS)}, not {expect!r}")
        truth.append(
            Truth(
                request_id=entry["request_id"],
                kind=str(entry.get("kind") or "unknown"),
                event=None if event is None else str(event),
                expect=expect,
                snr_db=_number(entry, "snr_db", where),
                wake_word_start_s=_number(entry, "wake_word_start_s", where),
                households_in_event=0,
                noise=None if entry.get("noise") is None else str(entry["noise"]),
                voice=None if entry.get("voice") is None else str(entry["voice"]),
                source=None if entry.get("source") is None else str(entry["source"]),
            )
        )
    return _with_event_sizes(truth, requests)


def _with_event_sizes(truth: list[Truth], requests: dict[str, Request]) -> dict[str, Truth]:
    households: defaultdict[str, set[str]] = defaultdict(set)
    for label in truth:
        # A re-run airs later: who hears it adds nothing to the size of the first airing.
        if label.event is not None and label.expect != "ignore_by_cache":
            households[label.event].add(requests[label.request_id].household)
    return {
        label.request_id: Truth(
            **{
                **vars(label),
                "households_in_event": len(households.get(label.event, ())) if label.event is not None else 0,
            }
        )
        for label in truth
    }

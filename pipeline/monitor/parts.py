"""What the model is made of: requests, events, seconds, and the short names of homes."""

import base64
import hashlib
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from matcher.growth import Growth
from pipeline.messages import hushword_pb2 as pb

MAX_MEMBERS = 24  # of an event, whose fingerprints are kept as long as it is
MAX_LATENCIES = 100  # a second
MAX_HOMES = 2000  # told apart per event

Words = npt.NDArray[np.uint64]


class Changing(Protocol):
    """What carries the number of its latest change."""

    version: int


@dataclass(slots=True, eq=False)
class Request:
    """One request; ids stay here, the page gets labels."""

    label: str
    home: str
    at_ms: int  # its first sample
    until_ms: int  # the newest audio of it
    growth: Growth | None = None  # as of its latest look
    decision: pb.Decision | None = None
    quiet_ms: int = 0  # when its decision was appended; 0: none was
    event: str = ""
    version: int = 0


@dataclass(slots=True, eq=False)
class Event:
    """One airing: decisions on one recording that came together."""

    key: str
    media_id: str
    airing: int
    first_ms: int
    last_ms: int
    decision: pb.Decision  # the first
    requests: int = 0
    homes: set[str] = field(default_factory=set)
    told_homes: int = 0  # as the latest decisions count them: for when there are too many to be told apart
    members: list[Request] = field(default_factory=list)
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_MEMBERS * 4))
    used_ms: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_MEMBERS * 4))
    version: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give it as the page's list shows it."""
        return {
            "key": self.key,
            "media": self.media_id,
            "airing": self.airing,
            "first": self.first_ms,
            "last": self.last_ms,
            "requests": self.requests,
            "homes": len(self.homes) if len(self.homes) < MAX_HOMES else max(MAX_HOMES, self.told_homes),
            "rate": round(median(self.rates), 4),
            "used_ms": round(median(self.used_ms)),
            "reason": pb.Decision.Reason.Name(self.decision.reason),
            "wake_word": self.decision.wake_word,
            "locale": self.decision.locale,
            "shadow": self.decision.shadow,
        }


@dataclass(slots=True, eq=False)
class Second:
    """What happened in one second."""

    requests: float = 0.0  # estimated while only a share is read
    quiet: int = 0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_LATENCIES))
    version: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """What `why` needs about one event."""

    version: int
    media_id: str
    members: Sequence[tuple[str, Growth, pb.Decision]]  # home's label, growth, decision; the first to decide first
    average: Words | None
    stranger: tuple[str, Growth] | None  # a request that nobody ignored


class Labels:
    """Short names for homes and requests. Keyed anew in each process: nobody can compute an id's label."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = os.urandom(16) if key is None else key

    def of(self, name: str, length: int) -> str:
        """Give `length` letters and digits."""
        digest = hashlib.blake2b(name.encode(), key=self._key, digest_size=10).digest()
        return base64.b32encode(digest).decode().lower()[:length]

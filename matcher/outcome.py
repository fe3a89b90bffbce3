"""What a route comes to."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from matcher.catalogue import Average


class Reason(Enum):
    """Why a request is ignored."""

    CONCURRENT = 1
    DISCOVERED = 2
    KNOWN = 3


@dataclass(frozen=True, slots=True)
class Ignore:
    """One request to be ignored, and why."""

    request_id: str
    household: str
    device: str
    reason: Reason
    media_id: str
    households: int
    bit_error_rate: float
    bits_compared: int
    alignment_ms: int
    score: float
    log_odds: float
    audio_used_ms: int
    decided_at_us: int
    audio_appended_us: int
    catalogue_version: int
    calibration: str = ""  # where it is not the route's


@dataclass
class Outcome:
    """What came of some growths: decisions, averages made or changed, averages that left, and counts."""

    ignores: list[Ignore] = field(default_factory=list)
    averages: dict[str, Average] = field(default_factory=dict)
    dropped_averages: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, later: "Outcome") -> None:
        """Take in what came of later growths."""
        self.ignores += later.ignores
        self.averages.update(later.averages)
        # Those that are there again are not withdrawn: averages are told before what was dropped.
        dropped = [media_id for media_id in self.dropped_averages if media_id not in later.averages]
        self.dropped_averages = dropped + later.dropped_averages
        self.counts.update(later.counts)

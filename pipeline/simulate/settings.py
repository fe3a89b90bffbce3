"""What may be chosen of a scene, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError

Span = tuple[float, float]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"minutes": 1.0, "homes": 60, "events": 3, "event_size": "1,8,20", "live_per_minute": 30.0, "reruns": 0},
    "evening": {"minutes": 120.0, "homes": 300, "events": 60, "event_size": "1-40", "live_per_minute": 8.0},
    "superbowl": {"minutes": 2.0, "homes": 500, "events": 3, "event_size": "150-250", "live_per_minute": 60.0},
    "noisy": {
        "minutes": 5.0, "homes": 200, "events": 24, "event_size": "3-5", "snr_db": "0,5,10", "live_per_minute": 20.0,
        "reruns": 0, "twins": 6, "overlap": 0.5,
    },
    "crowded": {
        "minutes": 1.0, "homes": 4000, "events": 52, "event_size": "3-60", "live_per_minute": 4240.0, "reruns": 0,
        "crowd": True,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All that a scene depends on; equal settings give equal bytes."""

    minutes: float = 10.0
    homes: int | None = None  # None: twice the largest event, at least 100
    events: int = 14
    event_size: str = "1-40"
    snr_db: str = "0,5,10,15,20,25"
    live_per_minute: float = 14.0
    request_s: str = "2.5-3"
    reruns: int | None = None  # None: one for every three events
    wake_words: tuple[str, ...] = ("alexa",)
    locales: tuple[str, ...] = ("en-US",)  # of homes; the clips are English of any accent
    split: str = "all"
    seed: int = 0
    twins: int = 0  # events during which another advertisement of the same voice airs to homes of its own
    overlap: float = 0.0  # share of requests beside which somebody talks: over the television, or the television
    # More people and airings at once than there are clips: each clip comes again and again, at another tempo each time.
    crowd: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated, in a sentence."""
        if not 0.5 <= self.minutes <= 24 * 60:
            raise InputError(f"--minutes {self.minutes:g} is not between 0.5 and 1440")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed} is negative")
        if not self.wake_words:
            raise InputError("--wake-words names no wake word")
        if not self.locales or any(locale.split("-")[0] != "en" for locale in self.locales):
            raise InputError(
                f"--locale {','.join(self.locales)}: the clips are English, so take en-US, en-GB and the like"
            )
        largest = max(high for _, high in self.event_sizes)
        if min(low for low, _ in self.event_sizes) < 1 or any(x != int(x) for span in self.event_sizes for x in span):
            raise InputError(f"--event-size {self.event_size} must be made of whole numbers from 1 on")
        if self.homes is not None and self.homes // len(self.locales) < largest:
            raise InputError(f"--homes {self.homes} is fewer than an event of {largest:g} homes in one locale needs")
        if min(self.live_per_minute, self.events, self.reruns or 0, self.homes or 1) < 0:
            raise InputError("--live-per-minute, --events, --reruns and --homes cannot be negative")
        _ = self.snrs_db
        if not all(1 <= low <= high <= 30 for low, high in self.request_spans_s):
            raise InputError(f"--request-s {self.request_s}: a request lasts 1 to 30 s")

    @property
    def event_sizes(self) -> list[Span]:
        """Spans of households in an event."""
        return parse_spans(self.event_size, "--event-size")

    @property
    def snrs_db(self) -> list[Span]:
        """Spans of signal-to-noise ratios."""
        return parse_spans(self.snr_db, "--snr")

    @property
    def request_spans_s(self) -> list[Span]:
        """Spans of lengths of requests."""
        return parse_spans(self.request_s, "--request-s")

    @property
    def home_count(self) -> int:
        """Homes in the scene."""
        return self.homes or len(self.locales) * max(100, 2 * int(max(high for _, high in self.event_sizes)))


def parse_spans(text: str, option: str) -> list[Span]:
    """Read a mix such as "1-40" or "0,5,10-25": each part a number or a span of two, each as likely as the others."""
    spans = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        try:
            span = (float(low), float(high or low))
        except ValueError:
            span = (1.0, 0.0)
        if not 0 <= span[0] <= span[1] <= 10_000:
            raise InputError(f"{option} {text!r} is not a mix such as 5,10-20: {part!r} is neither a number nor a span")
        spans.append(span)
    return spans


def settings_from(preset: str | None, given: Mapping[str, Any]) -> Settings:
    """Combine a preset with what was given; None means not given."""
    if preset is not None and preset not in PRESETS:
        raise InputError(f"--preset {preset} is none of {', '.join(PRESETS)}")
    chosen = dict(PRESETS[preset]) if preset is not None else {}
    return Settings(**(chosen | {name: value for name, value in given.items() if value is not None}))

"""Airings as the live page hears of them: what a chunk adds, what is decided, and a model that has heard both."""

import time
from collections.abc import Callable

import numpy as np
from sounds import fingerprint_of, hear, say

from matcher.growth import Growth
from pipeline.messages import hushword_pb2 as pb
from pipeline.monitor.model import Model

NOW_MS = 1_800_000_000_000


def grown(
    name: str, home: str, *, at_ms: int = NOW_MS, audio_ms: int = 2000, words: np.ndarray | None = None
) -> Growth:
    words = fingerprint_of(name, np.empty(0, np.int16)) if words is None else words
    return Growth(name, home, "device", 0, 0, words, 20.0, audio_ms, (at_ms + audio_ms) * 1000)


def ignored(name: str, home: str, media: str = "d-1", *, at_ms: int = NOW_MS + 1200, **fields: object) -> pb.Decision:
    told = {
        "decision_id": f"decision on {name}",
        "request_id": name,
        "household_id": home,
        "wake_word": "alexa",
        "locale": "en-US",
        "verdict": pb.Decision.IGNORE,
        "reason": pb.Decision.CONCURRENT,
        "media_id": media,
        "households": 3,
        "bit_error_rate": 0.25,
        "audio_used_ms": 1100,
        "audio_appended_us": (at_ms - 100) * 1000,
    }
    return pb.Decision(**{**told, **fields})


def aired(homes: int, *, ad_seed: int = 1, strangers: int = 1, media: str = "d-1") -> Model:
    """Make a model of one airing, with real fingerprints."""
    filled = Model()
    for n in range(homes):
        words = fingerprint_of(f"tv-{n}", hear(ad_seed, n))
        filled.heard(grown(f"tv-{n}", f"home {n}", words=words))
        filled.decided(ignored(f"tv-{n}", f"home {n}", media), NOW_MS + 1200)
    for n in range(strangers):
        words = fingerprint_of(f"person-{n}", say(n, 500 + n))
        filled.heard(grown(f"person-{n}", f"home {900 + n}", words=words))
    return filled


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)

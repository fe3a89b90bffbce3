"""Airings and people as growths for tests of one route: each decides by words that match or do not."""

from collections.abc import Iterable, Sequence

from sounds import (
    growths,
    heard_words,
    plain_calibration,
    random_words,
)

from matcher.growth import Growth
from matcher.outcome import Ignore, Outcome
from matcher.policy import Policy
from matcher.route import Route

S = 1_000_000
LONG_AGO = -(2**61)


def route(policy: Policy | None = None, name: str = "w/l/0") -> Route:
    return Route(name, policy or Policy(), plain_calibration())


def airing(
    medium: str,
    homes: Iterable[str],
    at_us: int = 0,
    *,
    error_rate: float = 0.2,
    device: str = "",
    total_ms: int = 2400,
) -> list[list[Growth]]:
    """Each home's request for a medium: their triggers lie within 200 ms."""
    out = []
    for i, home in enumerate(homes):
        late_words = (0, 4, -2, 2, -4, 0)[i % 6]  # even: words of noise have nothing in common with their neighbours
        name = f"{medium}@{at_us}-{home}{device}"
        words = heard_words(medium, name, error_rate, late_words)
        start_us = at_us + 20_000 * late_words
        out.append(growths(name, home, words, start_us, device=home + device, total_ms=total_ms))
    return out


def people(names: Iterable[str], at_us: int = 0) -> list[list[Growth]]:
    return [
        growths(f"live-{name}", f"home of {name}", random_words(name), at_us + 30_000 * i)
        for i, name in enumerate(names)
    ]


def one_by_one(route: Route, ordered: Sequence[Growth]) -> list[Outcome]:
    return [route.hear([growth], LONG_AGO) for growth in ordered]


def ignores(outcomes: Iterable[Outcome]) -> list[Ignore]:
    return [ignore for outcome in outcomes for ignore in outcome.ignores]


def ids(found: Iterable[Ignore]) -> list[str]:
    return sorted(ignore.request_id for ignore in found)

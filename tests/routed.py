"""An hour's small business of one route, as growths with words that match or do not: for what decides by them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from sounds import growths, heard_words, in_order, random_words

from matcher.catalogue import Average
from matcher.growth import Growth
from matcher.route import AIRING_US
from pipeline.messages.internal_pb2 import Batch
from pipeline.wire import growth_to_message

ROUTE = "computer/en-US/0"
START_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
# After so long an event of one airing is over.
CLOSED_US = AIRING_US + 10 * SECOND_US


def airing(medium: str, homes: int, at_us: int, total_ms: int = 2400, chunk_ms: int = 160) -> list[list[Growth]]:
    """Give what some homes send when a medium airs."""
    return [
        growths(
            f"{medium}-{home}-{at_us}",
            f"home {medium} {home}",
            heard_words(medium, (home, at_us)),
            at_us + 20_000 * home,
            chunk_ms=chunk_ms,
            total_ms=total_ms,
            level_range_db=12.0 + 3 * home,
        )
        for home in range(homes)
    ]


def live(name: str, at_us: int) -> list[Growth]:
    """Give what a person's device sends."""
    return growths(f"live-{name}", f"home of {name}", random_words(name), at_us, chunk_ms=160, total_ms=2000)


@dataclass(frozen=True)
class Traffic:
    """Airings as (medium, homes, start in ms, length in ms), and when people spoke, in ms."""

    airings: tuple[tuple[str, int, int, int], ...]
    people_ms: tuple[int, ...]

    def heard(self) -> list[Growth]:
        """Give all growths in the order of capture."""
        requests: list[list[Growth]] = []
        for medium, homes, at_ms, total_ms in self.airings:
            requests += airing(medium, homes, START_US + 1000 * at_ms, total_ms)
        requests += [live(f"p{number}", START_US + 1000 * at_ms) for number, at_ms in enumerate(self.people_ms)]
        return in_order(*requests)


@st.composite
def traffic(draw: st.DrawFn, seconds: int = 20) -> Traffic:
    """Give airings to two to five homes, some of them again, and people in between."""
    airings: list[tuple[str, int, int, int]] = []
    for number in range(draw(st.integers(1, 3))):
        at_ms = draw(st.integers(0, 1000 * seconds))
        airings.append((f"m{number}", draw(st.integers(2, 5)), at_ms, draw(st.sampled_from([1200, 2400]))))
        if draw(st.booleans()):
            airings.append((f"m{number}", 1, at_ms + 1000 * draw(st.integers(3, 90)), 2400))
    return Traffic(tuple(airings), tuple(draw(st.lists(st.integers(0, 1000 * seconds), max_size=4))))


def batched(heard: Sequence[Growth], sizes: Sequence[int]) -> list[Batch]:
    """Cut growths into batches of these sizes, over and over; those of size 0 have a mark only, as the last one has."""
    made: list[Batch] = []
    mark_us, at = START_US, 0
    for size in itertools.cycle(sizes):
        part, at = heard[at : at + size], at + size
        if part:
            mark_us = part[-1].end_us
        made.append(batch(part, mark_us))
        if at >= len(heard):
            break
    return [*made, batch([], mark_us + CLOSED_US)]


def batch(heard: Sequence[Growth], low_mark_us: int) -> Batch:
    """Give what one poll brought for the route."""
    made = Batch(low_mark_us=low_mark_us)
    made.growths.extend(growth_to_message(growth) for growth in heard)
    made.progress.routes.append(ROUTE)
    return made


def joined(first: Batch, second: Batch) -> Batch:
    """Give two polls' batches as if one poll had brought both."""
    both = Batch(low_mark_us=second.low_mark_us, progress=second.progress)
    both.growths.extend([*first.growths, *second.growths])
    return both


def average_of(medium: str, origin: str, at_us: int, households: int = 3, ttl_us: int = 3600 * SECOND_US) -> Average:
    """Give what another shard would publish about a medium."""
    words = heard_words(medium, "average", error_rate=0.05)
    votes = np.full(len(words), 3, np.uint8)
    return Average(f"d-{medium}", words, votes, households, at_us, at_us, at_us + ttl_us, origin)

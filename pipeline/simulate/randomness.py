"""Random numbers that depend on names, not on the order in which they are drawn."""

import math
import zlib
from collections.abc import Sequence

import numpy as np

from pipeline.simulate.settings import Span


def rng_for(seed: int, *names: str | int) -> np.random.Generator:
    """Give the generator of one named thing, so that any worker draws for it what any other would have drawn.

    Args:
        seed: of the whole scene, 0 or more.
        *names: what is drawn for, for example "room", "h0012".

    """
    return np.random.default_rng([seed, *(zlib.crc32(str(name).encode()) for name in names)])


def draw_mix(rng: np.random.Generator, spans: Sequence[Span], count: int, *, whole: bool) -> list[float]:
    """Deal the spans in turn, and draw within each: whole numbers evenly in their logarithm, others evenly."""
    drawn = []
    for i in range(count):
        low, high = spans[i % len(spans)]
        if whole:
            drawn.append(float(min(high, math.floor(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))))
        else:
            drawn.append(float(rng.uniform(low, high)))
    rng.shuffle(drawn)
    return drawn

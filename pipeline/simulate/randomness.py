"""Random numbers that depend on names, not on the order in which they are drawn."""

import zlib

import numpy as np


def rng_for(seed: int, *names: str | int) -> np.random.Generator:
    """Give the generator of one named thing, so that any worker draws for it what any other would have drawn.

    Args:
        seed: of the whole scene, 0 or more.
        *names: what is drawn for, for example "room", "h0012".

    """
    return np.random.default_rng([seed, *(zlib.crc32(str(name).encode()) for name in names)])

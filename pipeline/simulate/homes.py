"""Homes: a room, a television, one to three devices. No two are alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.simulate.broadcast import PATHS, Colour, draw_loudspeaker, draw_microphone
from pipeline.simulate.randomness import rng_for
from pipeline.simulate.rooms import Room, draw_room


@dataclass(frozen=True)
class Home:
    """What does not change in a home from one request to the next."""

    household: str
    locale: str  # of its devices, BCP 47
    room: Room
    path: str  # by which broadcasts arrive
    delay_s: float  # of that way, against the fastest
    loudspeaker: Colour
    microphones: tuple[Colour, ...]
    ppm: tuple[float, ...]  # error of each device's clock

    def device(self, number: int) -> str:
        """Name one of its devices."""
        return f"{self.household}-d{number}"


def draw_homes(seed: int, count: int, locales: Sequence[str]) -> list[Home]:
    """Draw all homes of a scene, the locales in turn; a home does not depend on how many there are."""
    return [_draw_home(seed, f"h{number:04d}", locales[number % len(locales)]) for number in range(count)]


def _draw_home(seed: int, household: str, locale: str) -> Home:
    rng = rng_for(seed, "home", household)
    devices = int(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05]))
    # Most homes hear a broadcast within a second; streams lag by some more.
    delay_s = float(rng.uniform(0.0, 0.9) if rng.random() < 0.9 else rng.uniform(0.9, 4.0))
    return Home(
        household,
        locale,
        draw_room(rng, devices),
        str(rng.choice(list(PATHS))),
        delay_s,
        draw_loudspeaker(rng),
        tuple(draw_microphone(rng) for _ in range(devices)),
        tuple(float(x) for x in rng.uniform(-50, 50, devices).round(1)),
    )

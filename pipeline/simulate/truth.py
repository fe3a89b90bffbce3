"""What a perfect listener would decide: the rule that the labels of a recording follow."""

from collections.abc import Iterable
from dataclasses import dataclass

EVENT_HOUSEHOLDS = 3  # so many homes hearing one thing make it media
CACHE_AFTER_S = 60.0  # by then what was discovered once must be known


@dataclass(frozen=True)
class Airing:
    """One broadcast of one advertisement, and how many households it woke."""

    event: str
    clip_file: str
    locale: str  # an advertisement is aired in one country
    at_s: float  # when the fastest home hears the wake word
    households: int
    devices: int
    tempo: float = 1.0  # of this cut of it: 1.02 is two percent faster and higher


def expectation(airing: Airing, airings: Iterable[Airing]) -> str:
    """Give the right decision on a request woken by an airing, among all airings of the recording.

    Returns:
        "ignore" when three or more households hear it; "ignore_by_cache" when fewer do but so many heard the same
        advertisement in the same locale a minute or more before; else "accept", because one or two homes prove nothing.

    """
    if airing.households >= EVENT_HOUSEHOLDS:
        return "ignore"
    if _source(airing, airings) is not None:
        return "ignore_by_cache"
    return "accept"


def kind(airing: Airing, airings: Iterable[Airing]) -> str:
    """Give the manifest's name for what woke a device: media, media_same_household or rerun."""
    if expectation(airing, airings) == "ignore_by_cache":
        return "rerun"
    return "media_same_household" if airing.households == 1 and airing.devices > 1 else "media"


def event_of(airing: Airing, airings: Iterable[Airing]) -> str:
    """Name the event a request belongs to: a re-run belongs to the airing that made it known."""
    source = _source(airing, airings) if airing.households < EVENT_HOUSEHOLDS else None
    return airing.event if source is None else source.event


def _source(airing: Airing, airings: Iterable[Airing]) -> Airing | None:
    """Find the latest airing that made the advertisement known by the time of this one."""
    known = [
        other
        for other in airings
        if (other.clip_file, other.locale) == (airing.clip_file, airing.locale)
        and other.households >= EVENT_HOUSEHOLDS
        and other.at_s + CACHE_AFTER_S <= airing.at_s
    ]
    return max(known, key=lambda other: other.at_s, default=None)

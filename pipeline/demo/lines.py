"""What happens in the street as lines of text, for logs and for terminals that cannot be drawn on."""

from collections.abc import Iterator, Sequence

from pipeline.demo.street import Decided, OnAir, Street, ends_s, wakes_s

_ROUND_UP_S = 4.0  # from an advertisement's wake word to the line that sums it up: the last homes hear it late

_TOGETHER_S = 0.2  # decisions of one moment, in whatever order they are read


def happened(street: Street, after_s: float, until_s: float) -> list[str]:
    """Tell what happened in (after_s, until_s], each line with its time."""
    found = sorted(_moments(street, until_s), key=lambda moment: moment[0])
    return [f"{at_s:5.1f} s  {text}" for at_s, text in found if after_s < at_s <= until_s]


def discovery(decided: Sequence[Decided]) -> str:
    """Say what hushword found out, from the first decisions on an airing."""
    together = [one.line for one in decided if one.at_s < decided[0].at_s + _TOGETHER_S]
    line = min(together, key=lambda line: line.households)
    rate = "" if line.bit_error_rate is None else f", {line.bit_error_rate:.0%} of the bits differ (chance: 50%)"
    return f"one recording in {line.households} homes{rate}"


def _moments(street: Street, until_s: float) -> Iterator[tuple[float, str]]:
    for airing in street.airings:
        yield from _airing(street, airing, until_s)
    for heard in street.scene.heard:
        if heard.kind == "live":
            yield wakes_s(heard), f"a person     home {street.home_number(heard) + 1}: “{heard.clip.text}”"
    for heard, _ in street.people(until_s):
        for decided in street.decided(until_s):
            if decided.line.request_id == heard.request_id:
                yield decided.at_s, f"WRONG        the person in home {street.home_number(heard) + 1} was ignored"


def _airing(street: Street, airing: OnAir, until_s: float) -> Iterator[tuple[float, str]]:
    yield airing.begins_s, f"television   “{airing.clip.text}”"
    yield airing.at_s, "television   the wake word reaches the first homes"
    decided = street.found(airing, until_s)
    if decided:
        used_ms = decided[0].line.audio_used_ms
        yield decided[0].at_s, f"hushword     {discovery(decided)}: stay asleep, after {used_ms} ms of audio"
    heard = [one for one in street.scene.heard if one.event == airing.event]
    summed_up_s = max(airing.at_s + _ROUND_UP_S, *(ends_s(one) for one in heard))
    in_time = sum(one.at_s <= summed_up_s for one in decided)
    yield summed_up_s, f"hushword     {in_time} of the {len(heard)} devices that it woke were kept quiet"

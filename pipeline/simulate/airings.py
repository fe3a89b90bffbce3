"""What is on air: which advertisement, when, and in whose homes."""

from collections.abc import Sequence

import numpy as np

from pipeline.errors import InputError
from pipeline.simulate.clips import Clip, choose
from pipeline.simulate.homes import Home
from pipeline.simulate.randomness import draw_mix, rng_for
from pipeline.simulate.settings import Settings
from pipeline.simulate.truth import CACHE_AFTER_S, EVENT_HOUSEHOLDS, Airing

SAME_ACTOR_APART_S = 60.0  # so that no two airings can be taken for one
CROWD_ADVERT_APART_S = 12.0  # another cut of an advertisement airs when the window has forgotten the last one
_GOLDEN = 0.618034  # its multiples keep apart, however many of them are taken
BUSY_S = 6.0  # a home is woken by one thing at a time
CROWD_TEMPO = 0.15  # how far the tempo of a clip that comes again and again is moved


def plan_airings(settings: Settings, homes: list[Home]) -> tuple[list[Airing], dict[str, list[tuple[Home, int]]]]:
    """Events over the recording, then re-runs of those that were large enough to be known."""
    rng = rng_for(settings.seed, "airings")
    seconds = settings.minutes * 60
    if settings.events == 0:
        return [], {}
    adverts = choose("advert", settings.split, settings.wake_words)
    by_file = {clip.file: clip for clip in adverts}
    sizes = draw_mix(rng, settings.event_sizes, settings.events, whole=True)
    small = [size < EVENT_HOUSEHOLDS for size in sizes]
    troupes = _troupes(rng, adverts, small)
    on_air: list[tuple[float, Clip]] = []
    airings: list[Airing] = []
    audiences: dict[str, list[tuple[Home, int]]] = {}
    slot = (seconds - 8.0) / settings.events
    for number, size in enumerate(sizes):
        for _ in range(20):
            at_s = round(2.0 + slot * (number + rng.uniform(0.1, 0.9)), 3)
            clip = _advert_for(rng, troupes[small[number]], on_air, at_s, settings)
            if clip is not None:
                break
        else:
            raise InputError(
                f"{settings.events} events in {settings.minutes:g} minutes are too many for the advertisements there"
                " are: no actor is heard twice within a minute, so take fewer --events or more --minutes"
            )
        on_air.append((at_s, clip))
        event = f"e{number:02d}"
        locale = settings.locales[int(rng.integers(len(settings.locales)))]
        rested = _rested([home for home in homes if home.locale == locale], int(size), at_s, airings, audiences)
        audiences[event] = _audience(rng, rested, int(size))
        uses = sum(other.clip_file == clip.file for other in airings)
        airings.append(_airing(event, clip, at_s, audiences[event], _tempo(uses) if settings.crowd else 1.0))
    _add_twins(settings, homes, airings, audiences)
    on_air += [(a.at_s, by_file[a.clip_file]) for a in airings[settings.events :]]
    first_airings = len(airings)
    known = [airing for airing in airings if airing.households >= EVENT_HOUSEHOLDS]
    wanted = settings.reruns if settings.reruns is not None else round(len(known) / 3)
    for _ in range(50 * wanted):
        if len(airings) == first_airings + wanted or not known:
            break
        first = known[int(rng.integers(len(known)))]
        if first.at_s + CACHE_AFTER_S > seconds - 5:
            continue
        at_s = round(rng.uniform(first.at_s + CACHE_AFTER_S, seconds - 5), 3)
        clip = by_file[first.clip_file]
        if all(abs(at_s - other_s) >= SAME_ACTOR_APART_S for other_s, other in on_air if other.voice == clip.voice):
            on_air.append((at_s, clip))
            event = f"x{len(airings):02d}"
            rested = _rested([home for home in homes if home.locale == first.locale], 1, at_s, airings, audiences)
            audiences[event] = _audience(rng, rested, 1)[:1]
            airings.append(_airing(event, clip, at_s, audiences[event]))
    return airings, audiences


def _rested(
    homes: list[Home], size: int, at_s: float, airings: list[Airing], audiences: dict[str, list[tuple[Home, int]]]
) -> list[Home]:
    """Leave out homes that another airing wakes at about that time, unless too few would be left."""
    busy = {home.household for a in airings if abs(a.at_s - at_s) < 2 * BUSY_S for home, _ in audiences[a.event]}
    rested = [home for home in homes if home.household not in busy]
    return rested if len(rested) >= size else homes


def _airing(event: str, clip: Clip, at_s: float, audience: list[tuple[Home, int]], tempo: float = 1.0) -> Airing:
    locale = audience[0][0].locale
    return Airing(event, clip.file, locale, at_s, len({home.household for home, _ in audience}), len(audience), tempo)


def _tempo(uses: int) -> float:
    """Give the tempo of an advertisement that was on so often before: any seven in a row are 2.7 % and more apart."""
    return round(1 + CROWD_TEMPO * (2 * ((0.5 + uses * _GOLDEN) % 1) - 1), 4)


def _add_twins(
    settings: Settings, homes: list[Home], airings: list[Airing], audiences: dict[str, list[tuple[Home, int]]]
) -> None:
    """Air another advertisement of the same voice in other homes, beside some large events and within a second."""
    rng = rng_for(settings.seed, "twins")
    adverts = choose("advert", settings.split, settings.wake_words)
    by_file = {clip.file: clip for clip in adverts}
    paired = []
    for airing in airings:
        clip = by_file[airing.clip_file]
        others = [c for c in adverts if (c.voice, c.wake_word) == (clip.voice, clip.wake_word) and c.file != clip.file]
        if airing.households >= EVENT_HOUSEHOLDS and others:
            paired.append((airing, others))
    count = min(settings.twins, len(paired))
    sizes = draw_mix(rng, settings.event_sizes, count, whole=True)
    for number, place in enumerate(sorted(rng.choice(len(paired), count, replace=False))):
        first, others = paired[int(place)]
        at_s = round(first.at_s + float(rng.uniform(-1, 1)), 3)
        same_locale = [home for home in homes if home.locale == first.locale]
        event, size = f"t{number:02d}", max(EVENT_HOUSEHOLDS, int(sizes[number]))
        audiences[event] = _audience(rng, _rested(same_locale, size, at_s, airings, audiences), size)
        airings.append(_airing(event, others[int(rng.integers(len(others)))], at_s, audiences[event]))


def _troupes(rng: np.random.Generator, adverts: Sequence[Clip], small: list[bool]) -> dict[bool, list[Clip]]:
    """Divide the actors between small events (True) and large ones: what many homes heard is known ever after."""
    voices = sorted({clip.voice for clip in adverts})
    rng.shuffle(voices)
    at_least = min(sum(small), 2)
    at_most = len(voices) - min(len(small) - sum(small), 2)
    few = set(voices[: min(max(at_least, round(sum(small) / len(small) * len(voices))), at_most)])
    return {True: [c for c in adverts if c.voice in few], False: [c for c in adverts if c.voice not in few]}


def _advert_for(
    rng: np.random.Generator, adverts: list[Clip], on_air: list[tuple[float, Clip]], at_s: float, settings: Settings
) -> Clip | None:
    """Draw one of the advertisements least often on air whose actor was not heard within a minute.

    In a crowd it is the advertisement that must not have been on air, within the window.
    """

    def rested(clip: Clip) -> bool:
        if settings.crowd:
            return all(abs(at_s - s) >= CROWD_ADVERT_APART_S for s, other in on_air if other.file == clip.file)
        return all(abs(at_s - s) >= SAME_ACTOR_APART_S for s, other in on_air if other.voice == clip.voice)

    free = [clip for clip in adverts if rested(clip)]
    times = [sum(other.file == clip.file for _, other in on_air) for clip in free]
    least = [clip for clip, n in zip(free, times, strict=True) if n == min(times)]
    return least[int(rng.integers(len(least)))] if least else None


def _audience(rng: np.random.Generator, homes: list[Home], size: int) -> list[tuple[Home, int]]:
    """Draw homes and which of their devices wake: one at least, each further one more often than not."""
    several = [home for home in homes if len(home.microphones) > 1]
    # Half of the events in a single home wake several devices there: its own echo must never make an event.
    together = size == 1 and bool(several) and rng.random() < 0.5
    pool = several if together else homes
    audience = []
    for place in rng.choice(len(pool), size, replace=False):
        home = pool[int(place)]
        first = int(rng.integers(len(home.microphones)))
        audience += [
            (home, device)
            for device in range(len(home.microphones))
            if device == first or together or (size > 1 and rng.random() < 0.7)
        ]
    return audience

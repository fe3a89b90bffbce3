"""The plan of a scene: who hears what, where and when. All numbers are drawn here; nothing sounds yet."""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.errors import InputError
from pipeline.simulate.clips import Clip, choose
from pipeline.simulate.homes import Home, draw_homes
from pipeline.simulate.noise import NOISES
from pipeline.simulate.randomness import rng_for
from pipeline.simulate.rooms import Source, distance_m, draw_talker
from pipeline.simulate.settings import Settings, Span
from pipeline.simulate.truth import CACHE_AFTER_S, EVENT_HOUSEHOLDS, Airing, event_of, expectation, kind

PRE_ROLL_S = 0.5
JITTER_MS = 80.0
DURATION_S = (2.5, 3.0)
TEMPO = 0.03  # a person says a thing a little faster and higher, or slower and lower, each time
SAME_WORDS_APART_S = 30.0  # a synthetic voice that repeats its words too soon would be one recording heard twice
SAME_ACTOR_APART_S = 60.0  # so that no two airings can be taken for one
_BUSY_S = 6.0  # a home is woken by one thing at a time
_EDGE_S = 1.5


@dataclass(frozen=True)
class Heard:
    """One request: what woke one device."""

    request_id: str
    start_s: float  # of its first sample, from the recording's start
    duration_s: float
    home: Home
    device: int
    clip: Clip
    kind: Literal["live", "media", "media_same_household", "rerun"]
    event: str | None
    households_in_event: int
    expect: str
    snr_db: float
    jitter_ms: float  # by how much later than 0.5 s before the wake word the request starts
    noise: str
    tempo: float  # 1.02: two percent faster and higher
    talker: Source | None  # None: the television

    @property
    def wake_word_start_s(self) -> float:
        """In the request's own time."""
        return PRE_ROLL_S - self.jitter_ms / 1000

    @property
    def distance_m(self) -> float:
        """From the talker's mouth, or the television's nearer loudspeaker, to the device."""
        return min(distance_m(source.place_m, self.home.room.devices_m[self.device]) for source in self.sources)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The talker, or the television's loudspeakers."""
        return (self.talker,) if self.talker is not None else self.home.room.television


@dataclass(frozen=True)
class Scene:
    """All requests by their start, and the airings behind them."""

    settings: Settings
    heard: tuple[Heard, ...]
    airings: tuple[Airing, ...]

    @property
    def adverts(self) -> list[Clip]:
        """The advertisements that were on, by file name."""
        files = {airing.clip_file for airing in self.airings}
        clips = choose("advert", self.settings.split, self.settings.wake_words)
        return sorted((clip for clip in clips if clip.file in files), key=lambda clip: clip.file)


def plan(settings: Settings) -> Scene:
    """Draw a scene.

    Raises:
        InputError: what was asked for cannot be had: too many events for the advertisements, people for the voices.

    """
    homes = draw_homes(settings.seed, settings.home_count, settings.locales)
    airings, audiences = _plan_airings(settings, homes)
    busy: defaultdict[str, list[float]] = defaultdict(list)
    heard = []
    clips = {clip.file: clip for clip in choose("advert", settings.split, settings.wake_words)}
    for airing in airings:
        for home, device in audiences[airing.event]:
            draft = _media(airing, airings, clips[airing.clip_file], home, device)
            heard.append(_in_time(draft, airing.at_s + home.delay_s, settings))
            busy[home.household].append(airing.at_s + home.delay_s)
    heard += _plan_live(settings, homes, busy)
    heard.sort(key=lambda h: (h.start_s, h.home.household, h.device))
    heard = _with_snrs(heard, settings)
    return Scene(settings, tuple(replace(h, request_id=f"r{i:05d}") for i, h in enumerate(heard)), tuple(airings))


def _plan_airings(settings: Settings, homes: list[Home]) -> tuple[list[Airing], dict[str, list[tuple[Home, int]]]]:
    """Events over the recording, then re-runs of those that were large enough to be known."""
    rng = rng_for(settings.seed, "airings")
    seconds = settings.minutes * 60
    if settings.events == 0:
        return [], {}
    adverts = choose("advert", settings.split, settings.wake_words)
    sizes = _draw_mix(rng, settings.event_sizes, settings.events, whole=True)
    small = [size < EVENT_HOUSEHOLDS for size in sizes]
    troupes = _troupes(rng, adverts, small)
    on_air: list[tuple[float, Clip]] = []
    airings: list[Airing] = []
    audiences: dict[str, list[tuple[Home, int]]] = {}
    slot = (seconds - 8.0) / settings.events
    for number, size in enumerate(sizes):
        for _ in range(20):
            at_s = round(2.0 + slot * (number + rng.uniform(0.1, 0.9)), 3)
            clip = _advert_for(rng, troupes[small[number]], on_air, at_s)
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
        airings.append(_airing(event, clip, at_s, audiences[event]))
    known = [airing for airing in airings if airing.households >= EVENT_HOUSEHOLDS]
    wanted = settings.reruns if settings.reruns is not None else round(len(known) / 3)
    by_file = {clip.file: clip for clip in adverts}
    for _ in range(50 * wanted):
        if len(airings) == settings.events + wanted or not known:
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
    busy = {home.household for a in airings if abs(a.at_s - at_s) < 2 * _BUSY_S for home, _ in audiences[a.event]}
    rested = [home for home in homes if home.household not in busy]
    return rested if len(rested) >= size else homes


def _airing(event: str, clip: Clip, at_s: float, audience: list[tuple[Home, int]]) -> Airing:
    locale = audience[0][0].locale
    return Airing(event, clip.file, locale, at_s, len({home.household for home, _ in audience}), len(audience))


def _troupes(rng: np.random.Generator, adverts: Sequence[Clip], small: list[bool]) -> dict[bool, list[Clip]]:
    """Divide the actors between small events (True) and large ones: what many homes heard is known ever after."""
    voices = sorted({clip.voice for clip in adverts})
    rng.shuffle(voices)
    at_least = min(sum(small), 2)
    at_most = len(voices) - min(len(small) - sum(small), 2)
    few = set(voices[: min(max(at_least, round(sum(small) / len(small) * len(voices))), at_most)])
    return {True: [c for c in adverts if c.voice in few], False: [c for c in adverts if c.voice not in few]}


def _advert_for(
    rng: np.random.Generator, adverts: list[Clip], on_air: list[tuple[float, Clip]], at_s: float
) -> Clip | None:
    """Draw one of the advertisements least often on air whose actor was not heard within a minute."""
    free = [
        clip
        for clip in adverts
        if all(abs(at_s - s) >= SAME_ACTOR_APART_S for s, other in on_air if other.voice == clip.voice)
    ]
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


def _media(airing: Airing, airings: list[Airing], clip: Clip, home: Home, device: int) -> Heard:
    return Heard(
        request_id="", start_s=0.0, duration_s=0.0, home=home, device=device, clip=clip,
        kind=kind(airing, airings),  # type: ignore[arg-type]
        event=event_of(airing, airings), households_in_event=airing.households,
        expect=expectation(airing, airings), snr_db=0.0, jitter_ms=0.0, noise="", tempo=1.0, talker=None,
    )  # fmt: skip


def _plan_live(settings: Settings, homes: list[Home], busy: defaultdict[str, list[float]]) -> list[Heard]:
    """People, at any time, in homes where nothing else happens just then."""
    rng = rng_for(settings.seed, "live")
    clips = choose("live", settings.split, settings.wake_words)
    count = round(settings.live_per_minute * settings.minutes)
    end_s = settings.minutes * 60 - 3.0
    times_s = np.sort(rng.uniform(_EDGE_S, end_s, count)).round(3).tolist()
    words_free_s: defaultdict[tuple[str, str], float] = defaultdict(float)  # when a voice may say a text again
    voice_free_s: defaultdict[str, float] = defaultdict(float)
    used: defaultdict[str, int] = defaultdict(int)
    for times in busy.values():
        times.sort()
    live = []
    for drawn_s in times_s:
        # Where all words have just been said, the next person waits until some are allowed again.
        at_s = max(drawn_s, min(words_free_s[c.voice, c.text] for c in clips))
        idle = [h for h in homes if all(abs(at_s - other_s) > _BUSY_S for other_s in _near(busy[h.household], at_s))]
        if at_s > end_s or not idle:
            limit = f"{len(homes)} homes" if not idle else f"{len(clips)} clips, none heard twice in half a minute,"
            raise InputError(f"--live-per-minute {settings.live_per_minute:g} is more than {limit} allow")
        free = [c for c in clips if at_s >= words_free_s[c.voice, c.text]]
        # A voice that was silent for half a minute if there is one, then the recording least often heard.
        rested = [c for c in free if at_s >= voice_free_s[c.voice]] or free
        least = min(used[clip.file] for clip in rested)
        fresh = [clip for clip in rested if used[clip.file] == least]
        clip = fresh[int(rng.integers(len(fresh)))]
        home = idle[int(rng.integers(len(idle)))]
        used[clip.file] += 1
        words_free_s[clip.voice, clip.text] = voice_free_s[clip.voice] = at_s + SAME_WORDS_APART_S
        busy[home.household].append(at_s)
        busy[home.household].sort()
        device = int(rng.integers(len(home.microphones)))
        draft = Heard(
            request_id="", start_s=0.0, duration_s=0.0, home=home, device=device, clip=clip, kind="live", event=None,
            households_in_event=0, expect="accept", snr_db=0.0, jitter_ms=0.0, noise="",
            tempo=round(float(1 + rng.uniform(-TEMPO, TEMPO)), 4), talker=draw_talker(rng, home.room, device),
        )  # fmt: skip
        live.append(_in_time(draft, at_s, settings))
    return live


def _near(times_s: list[float], at_s: float) -> list[float]:
    """Give the neighbours of a time in a sorted list."""
    place = bisect_left(times_s, at_s)
    return times_s[max(0, place - 1) : place + 1]


def _in_time(heard: Heard, wake_word_at_s: float, settings: Settings) -> Heard:
    """Draw what differs from request to request: trigger, length, noise; the start follows."""
    rng = rng_for(settings.seed, "request", heard.home.device(heard.device), round(wake_word_at_s * 1000))
    jitter_ms = round(float(rng.uniform(-JITTER_MS, JITTER_MS)), 1)
    start_s = max(0.0, wake_word_at_s - PRE_ROLL_S + jitter_ms / 1000)
    return replace(
        heard,
        start_s=round(start_s, 4),
        duration_s=round(float(rng.uniform(*DURATION_S)), 3),
        jitter_ms=jitter_ms,
        noise=str(rng.choice(NOISES)),
    )


def _with_snrs(heard: list[Heard], settings: Settings) -> list[Heard]:
    """Deal the signal-to-noise ratios evenly, to people and to televisions alike."""
    rng = rng_for(settings.seed, "snr")
    dealt = {}
    for live in (True, False):
        places = [i for i, h in enumerate(heard) if (h.kind == "live") == live]
        for i, snr_db in zip(places, _draw_mix(rng, settings.snrs_db, len(places), whole=False), strict=True):
            dealt[i] = round(float(snr_db), 1)
    return [replace(h, snr_db=dealt[i]) for i, h in enumerate(heard)]


def _draw_mix(rng: np.random.Generator, spans: list[Span], count: int, *, whole: bool) -> list[float]:
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

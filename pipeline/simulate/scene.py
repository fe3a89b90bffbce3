"""The plan of a scene: who hears what, where and when. All numbers are drawn here; nothing sounds yet."""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.errors import InputError
from pipeline.simulate.airings import BUSY_S, CROWD_TEMPO, plan_airings
from pipeline.simulate.beside import Beside, draw_person, draw_television
from pipeline.simulate.clips import Clip, choose
from pipeline.simulate.homes import Home, draw_homes
from pipeline.simulate.noise import NOISES
from pipeline.simulate.randomness import draw_mix, rng_for
from pipeline.simulate.rooms import Source, distance_m, draw_talker
from pipeline.simulate.settings import Settings
from pipeline.simulate.truth import Airing, event_of, expectation, kind

PRE_ROLL_S = 0.5
JITTER_MS = 80.0
TEMPO = 0.03  # a person says a thing a little faster and higher, or slower and lower, each time
SAME_WORDS_APART_S = 30.0  # a synthetic voice that repeats its words too soon would be one recording heard twice
CROWD_PITCH = 0.2  # how far a person's pitch is moved in a crowd, with its formants
CROWD_NOISES = ("pink", "fan", "kitchen", "babble")  # music takes as long to make as all the rest of a request
_PLASTIC = (0.754878, 0.569840)  # the multiples of the two keep apart in the plane
_EDGE_S = 1.5
_ASKED = 50  # homes of a crowd that are asked before nobody is said to be free


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
    beside: Beside | None = None  # who else talks
    pitch: float = 1.0  # of the voice, and of its formants, beyond what the tempo does: a person of another size

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
    airings, audiences = plan_airings(settings, homes)
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
    heard = _with_overlaps(_with_snrs(heard, settings), settings)
    return Scene(settings, tuple(replace(h, request_id=f"r{i:05d}") for i, h in enumerate(heard)), tuple(airings))


def _person(uses: int) -> tuple[float, float]:
    """Give tempo and pitch of a person with a voice that so many had before, as far apart as there is room."""
    tempo, pitch = (2 * ((0.5 + uses * step) % 1) - 1 for step in _PLASTIC)
    return round(1 + CROWD_TEMPO * tempo, 4), round((1 + CROWD_PITCH) ** pitch, 4)


def _media(airing: Airing, airings: list[Airing], clip: Clip, home: Home, device: int) -> Heard:
    return Heard(
        request_id="", start_s=0.0, duration_s=0.0, home=home, device=device, clip=clip,
        kind=kind(airing, airings),  # type: ignore[arg-type]
        event=event_of(airing, airings), households_in_event=airing.households,
        expect=expectation(airing, airings), snr_db=0.0, jitter_ms=0.0, noise="", tempo=airing.tempo, talker=None,
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
    voiced: defaultdict[str, int] = defaultdict(int)
    for times in busy.values():
        times.sort()
    live = []
    for drawn_s in times_s:
        # Where all words have just been said, the next person waits until some are allowed again.
        at_s = drawn_s if settings.crowd else max(drawn_s, min(words_free_s[c.voice, c.text] for c in clips))
        near = [homes[i] for i in rng.integers(len(homes), size=_ASKED)] if settings.crowd else homes
        idle = [h for h in near if all(abs(at_s - other_s) > BUSY_S for other_s in _near(busy[h.household], at_s))]
        if at_s > end_s or not idle:
            limit = f"{len(homes)} homes" if not idle else f"{len(clips)} clips, none heard twice in half a minute,"
            raise InputError(f"--live-per-minute {settings.live_per_minute:g} is more than {limit} allow")
        free = clips if settings.crowd else [c for c in clips if at_s >= words_free_s[c.voice, c.text]]
        # A voice that was silent for half a minute if there is one, then the recording least often heard.
        rested = free if settings.crowd else [c for c in free if at_s >= voice_free_s[c.voice]] or free
        least = min(used[clip.file] for clip in rested)
        fresh = [clip for clip in rested if used[clip.file] == least]
        clip = fresh[int(rng.integers(len(fresh)))]
        home = idle[int(rng.integers(len(idle)))]
        tempo, pitch = _person(voiced[clip.voice]) if settings.crowd else (None, 1.0)
        voiced[clip.voice] += 1
        used[clip.file] += 1
        words_free_s[clip.voice, clip.text] = voice_free_s[clip.voice] = at_s + SAME_WORDS_APART_S
        busy[home.household].append(at_s)
        busy[home.household].sort()
        device = int(rng.integers(len(home.microphones)))
        draft = Heard(
            request_id="", start_s=0.0, duration_s=0.0, home=home, device=device, clip=clip, kind="live", event=None,
            households_in_event=0, expect="accept", snr_db=0.0, jitter_ms=0.0, noise="",
            tempo=tempo or round(float(1 + rng.uniform(-TEMPO, TEMPO)), 4),
            talker=draw_talker(rng, home.room, device), pitch=pitch,
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
        duration_s=round(_length_s(rng, settings), 3),
        jitter_ms=jitter_ms,
        noise=str(rng.choice(CROWD_NOISES if settings.crowd else NOISES)),
    )


def _length_s(rng: np.random.Generator, settings: Settings) -> float:
    spans_s = settings.request_spans_s
    low_s, high_s = spans_s[int(rng.integers(len(spans_s)))] if len(spans_s) > 1 else spans_s[0]
    return float(rng.uniform(low_s, high_s))


def _with_snrs(heard: list[Heard], settings: Settings) -> list[Heard]:
    """Deal the signal-to-noise ratios evenly, to people and to televisions alike."""
    rng = rng_for(settings.seed, "snr")
    dealt = {}
    for live in (True, False):
        places = [i for i, h in enumerate(heard) if (h.kind == "live") == live]
        for i, snr_db in zip(places, draw_mix(rng, settings.snrs_db, len(places), whole=False), strict=True):
            dealt[i] = round(float(snr_db), 1)
    return [replace(h, snr_db=dealt[i]) for i, h in enumerate(heard)]


def _with_overlaps(heard: list[Heard], settings: Settings) -> list[Heard]:
    """Let somebody talk beside the wanted share of requests, of people and of televisions alike."""
    if settings.overlap == 0:
        return heard
    rng = rng_for(settings.seed, "overlaps")
    people = choose("live", settings.split, settings.wake_words)
    adverts = choose("advert", settings.split, settings.wake_words)
    found = list(heard)
    for live in (True, False):
        places = [i for i, h in enumerate(heard) if (h.kind == "live") == live]
        for i in sorted(rng.choice(places, round(settings.overlap * len(places)), replace=False).tolist()):
            one = heard[i]
            found[i] = replace(
                one,
                beside=draw_television(rng, adverts) if live else draw_person(rng, one.home, one.device, people),
            )
    return found

"""What goes on in the homes at a moment, as somebody sees it who knows the truth. Pure: time is handed in.

All times are seconds from the scene's start.
"""

import threading
from dataclasses import dataclass
from enum import IntEnum

from pipeline.decisions import DecisionLine
from pipeline.simulate.clips import SAMPLE_RATE_HZ, Clip, read
from pipeline.simulate.scene import Heard, Scene

_LINGER_S = 4.0  # how long a home shows what became of it
_GRACE_S = 1.5  # from a request's last sample to the decision that may still come
_AFTER_AIRING_S = 6.0  # an advertisement's words stay to be read


class Doing(IntEnum):
    """What a home does; where several things go on in one, the highest shows."""

    ASLEEP = 0
    SERVED = 1  # a person was answered
    QUIET = 2  # told to stay asleep
    TALKING = 3  # a person talks
    WOKEN = 4  # the television said the wake word
    ANSWERED_TV = 5  # and nobody said that it was the television
    WRONGED = 6  # a person was ignored


@dataclass(frozen=True)
class OnAir:
    """One airing of an advertisement."""

    event: str
    clip: Clip
    at_s: float  # when the fastest home hears the wake word
    households: int
    duration_s: float  # of its speech

    @property
    def begins_s(self) -> float:
        """When its first word is said."""
        return self.at_s - self.clip.wake_word_start_s

    @property
    def ends_s(self) -> float:
        """When its last word is said."""
        return self.begins_s + self.duration_s

    def spoken(self, now_s: float) -> str:
        """Give the words said so far, as if spoken evenly before the wake word and after it."""
        text, since_s = self.clip.text, now_s - self.begins_s
        wake_word_at = max(text.lower().find(self.clip.wake_word.replace("_", " ")), 0)
        before_s = self.clip.wake_word_start_s
        if since_s < before_s:
            shown = wake_word_at * since_s / before_s
        else:
            share = (since_s - before_s) / max(self.duration_s - before_s, 0.1)
            shown = wake_word_at + (len(text) - wake_word_at) * share
        if shown >= len(text):
            return text
        return text[: text.rfind(" ", 0, max(int(shown), 0) + 1) + 1].rstrip()


@dataclass(frozen=True)
class Decided:
    """A decision and when it was read from the topic."""

    at_s: float
    line: DecisionLine


@dataclass(frozen=True)
class Counts:
    """How it stands; requests, so a home with two devices may count twice."""

    woken: int  # by the television
    quiet: int
    answered_tv: int
    talked: int  # people
    served: int
    wronged: int


class Street:
    """The scene, and the decisions that came so far; one thread adds, others look."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.homes = scene.settings.home_count
        clips = {clip.file: clip for clip in scene.adverts}
        self.airings = tuple(
            OnAir(a.event, clips[a.clip_file], a.at_s, a.households, len(read(a.clip_file)) / SAMPLE_RATE_HZ)
            for a in sorted(scene.airings, key=lambda airing: airing.at_s)
        )
        self._heard = {heard.request_id: heard for heard in scene.heard}
        self._number = {h.home.household: int(h.home.household[1:]) for h in scene.heard}
        self._decided: dict[str, Decided] = {}
        self._lock = threading.Lock()

    def hear(self, line: DecisionLine, at_s: float) -> None:
        """Take note of a decision; the first for a request counts."""
        if line.request_id in self._heard:
            with self._lock:
                self._decided.setdefault(line.request_id, Decided(at_s, line))

    def decided(self, now_s: float) -> list[Decided]:
        """Give the decisions read by now, in their order."""
        with self._lock:
            return [decided for decided in self._decided.values() if decided.at_s <= now_s]

    def home_number(self, heard: Heard) -> int:
        """Give its place in the street, from 0."""
        return self._number[heard.home.household]

    def homes_doing(self, now_s: float) -> list[Doing]:
        """Give what each home does."""
        doing = [Doing.ASLEEP] * self.homes
        for heard in self.scene.heard:
            number = self._number[heard.home.household]
            doing[number] = max(doing[number], self._doing(heard, now_s))
        return doing

    def counts(self, now_s: float) -> Counts:
        """Count what has happened by now."""
        begun = [heard for heard in self.scene.heard if wakes_s(heard) <= now_s]
        decided = {d.line.request_id for d in self.decided(now_s)}
        media = [heard for heard in begun if heard.kind != "live"]
        live = [heard for heard in begun if heard.kind == "live"]
        return Counts(
            woken=len(media),
            quiet=sum(heard.request_id in decided for heard in media),
            answered_tv=sum(heard.request_id not in decided and _over_s(heard) <= now_s for heard in media),
            talked=len(live),
            served=sum(heard.request_id not in decided and ends_s(heard) <= now_s for heard in live),
            wronged=sum(heard.request_id in decided for heard in live),
        )

    def on_air(self, now_s: float) -> OnAir | None:
        """Give the advertisement that is on, or was a moment ago."""
        found = [a for a in self.airings if a.begins_s <= now_s < max(a.ends_s, a.at_s) + _AFTER_AIRING_S]
        return found[-1] if found else None

    def found(self, airing: OnAir, now_s: float) -> list[Decided]:
        """Give the decisions on an airing's requests."""
        return [d for d in self.decided(now_s) if self._heard[d.line.request_id].event == airing.event]

    def people(self, now_s: float) -> list[tuple[Heard, Doing]]:
        """Give those who have talked, the latest first."""
        begun = [heard for heard in self.scene.heard if heard.kind == "live" and wakes_s(heard) <= now_s]
        decided = {d.line.request_id for d in self.decided(now_s)}

        def became(heard: Heard) -> Doing:
            if heard.request_id in decided:
                return Doing.WRONGED
            return Doing.SERVED if ends_s(heard) <= now_s else Doing.TALKING

        return [(heard, became(heard)) for heard in sorted(begun, key=wakes_s, reverse=True)]

    def _doing(self, heard: Heard, now_s: float) -> Doing:
        if now_s < wakes_s(heard):
            return Doing.ASLEEP
        with self._lock:
            decided = self._decided.get(heard.request_id)
        if decided is not None and decided.at_s <= now_s:
            if heard.kind == "live":
                return Doing.WRONGED  # stays to be seen
            return Doing.QUIET if now_s < ends_s(heard) + _LINGER_S else Doing.ASLEEP
        if heard.kind != "live":
            if now_s < _over_s(heard):
                return Doing.WOKEN
            return Doing.ANSWERED_TV if now_s < _over_s(heard) + _LINGER_S else Doing.ASLEEP
        if now_s < ends_s(heard):
            return Doing.TALKING
        return Doing.SERVED if now_s < ends_s(heard) + _LINGER_S else Doing.ASLEEP


def wakes_s(heard: Heard) -> float:
    """When the wake word begins in a home."""
    return heard.start_s + heard.wake_word_start_s


def ends_s(heard: Heard) -> float:
    """When the last of its audio was captured."""
    return heard.start_s + heard.duration_s


def _over_s(heard: Heard) -> float:
    return ends_s(heard) + _GRACE_S

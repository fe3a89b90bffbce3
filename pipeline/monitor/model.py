"""What the page knows: the last minute's requests, the latest events and five minutes of figures, all of it bounded.

Pure: no Kafka and no clock. All times are milliseconds of Unix time by the broker's clock, so that audio, decisions and
the page agree about them whatever the devices' clocks say. One thread may write while others read.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import takewhile
from statistics import median
from typing import Any

import numpy as np

from matcher.catalogue import Average
from matcher.growth import Growth
from pipeline.messages import hushword_pb2 as pb
from pipeline.monitor.parts import MAX_HOMES, MAX_MEMBERS, Case, Changing, Event, Labels, Request, Second

WINDOW_S = 60
SERIES_S = 300
MAX_REQUESTS = 4000
MAX_EVENTS = 200
MAX_AVERAGES = 1000
MAX_SEEN = 20_000  # decisions that are recognised when they are told again
AIRING_APART_MS = 10_000  # decisions on one recording so far apart belong to two airings of it


class Model:
    """The picture. Every change has a number, and what changed last stands last: news are the tail."""

    def __init__(self, labels: Labels | None = None) -> None:
        self._labels = labels or Labels()
        self._lock = threading.Lock()
        self._version = 0
        self._requests: OrderedDict[str, Request] = OrderedDict()
        self._events: OrderedDict[str, Event] = OrderedDict()
        self._airings: OrderedDict[str, tuple[int, str]] = OrderedDict()  # by media id: number and key of the latest
        self._series: OrderedDict[int, Second] = OrderedDict()
        self._averages: OrderedDict[str, Average] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._heard = 0.0
        self._ended_ms: int | None = None
        self._status: dict[str, Any] = {
            "phase": "waiting", "note": "", "silent_since": None, "share": 1.0, "behind": None, "shadow": False,
        }  # fmt: skip

    # ---- what happens --------------------------------------------------------------------------------------------

    def set_status(self, **status: Any) -> None:
        """Replace some of: phase (waiting, following or ended), note, silent_since (ms), share, behind (records)."""
        with self._lock:
            self._status |= status

    def end(self, note: str, now_ms: int) -> None:
        """Let the time stand still: nothing more will come."""
        with self._lock:
            self._ended_ms = now_ms
            self._status |= {"phase": "ended", "note": note, "silent_since": None}

    def heard(self, growth: Growth) -> None:
        """Take what one chunk adds to a request."""
        appended_ms = growth.appended_us // 1000
        with self._lock:
            request = self._requests.get(growth.request_id)
            if request is None:
                at_ms = appended_ms - growth.audio_ms
                request = self._begin(growth.request_id, growth.household, at_ms)
            if not request.until_ms:
                weight = 1.0 / self._status["share"]
                self._heard += weight
                second = self._second(request.at_ms)
                second.requests += weight
            request.until_ms = max(request.until_ms, appended_ms)
            request.growth = growth
            self._changed(self._requests, growth.request_id, request)

    def decided(self, decision: pb.Decision, appended_ms: int) -> None:
        """Take a decision; one that was told before changes nothing."""
        with self._lock:
            if decision.decision_id in self._seen:
                self._counts["told_again"] += 1
                return
            self._seen[decision.decision_id] = None
            _bound(self._seen, MAX_SEEN)
            request = self._requests.get(decision.request_id)
            if request is None:  # its audio is on its way, or was not read
                at_ms = decision.audio_appended_us // 1000 - decision.audio_used_ms
                request = self._begin(decision.request_id, decision.household_id, at_ms)
            event = self._event(decision, appended_ms)
            request.decision, request.quiet_ms, request.event = decision, appended_ms, event.key
            if len(event.members) < MAX_MEMBERS:
                event.members.append(request)
            self._changed(self._requests, decision.request_id, request)
            self._counts.update(quiet=1, late=decision.late)
            self._status["shadow"] = decision.shadow
            second = self._second(appended_ms)
            second.quiet += 1
            if decision.audio_appended_us:
                second.latencies_ms.append(appended_ms - decision.audio_appended_us / 1000)

    def count(self, what: str, number: int = 1) -> None:
        """Count dead letters (`dead_letters`) and records that are not what their topic holds (`unreadable`)."""
        with self._lock:
            self._counts[what] += number

    def learned(self, media_id: str, average: Average | None) -> None:
        """Take an average of the media topic; None withdraws it."""
        with self._lock:
            self._averages.pop(media_id, None)
            if average is not None:
                self._averages[media_id] = average
                _bound(self._averages, MAX_AVERAGES)

    # ---- what is shown -------------------------------------------------------------------------------------------

    def news(self, version: int, now_ms: int) -> dict[str, Any]:
        """Give what changed after `version` (0: everything), as JSON has it, and the version now."""
        with self._lock:
            now_ms = now_ms if self._ended_ms is None else self._ended_ms
            oldest_ms = now_ms - WINDOW_S * 1000
            return {
                "version": self._version,
                "reset": version == 0,
                "now": now_ms,
                "status": dict(self._status),
                "figures": self._figures(now_ms),
                "requests": [
                    [r.label, r.home, r.at_ms, r.until_ms, r.quiet_ms, r.event]
                    for r in _since(self._requests, version)
                    if max(r.until_ms, r.quiet_ms) >= oldest_ms
                ],
                "events": [event.to_json() for event in _since(self._events, version)][::-1],
                "series": self._series_since(version),
            }

    def case(self, key: str) -> Case | None:
        """Give what is known about an event; None when it is not, or no longer, known."""
        with self._lock:
            event = self._events.get(key)
            if event is None:
                return None
            homes: set[str] = set()
            members = []
            for one in event.members:
                if one.growth is not None and one.decision is not None and one.home not in homes:
                    homes.add(one.home)
                    members.append((one.home, one.growth, one.decision))
            average = self._averages.get(event.media_id)
            version = max([event.version, *(one.version for one in event.members)])
            return Case(
                version, event.media_id, members, None if average is None else average.words,
                self._stranger(event),
            )  # fmt: skip

    # ---- within --------------------------------------------------------------------------------------------------

    def _begin(self, request_id: str, household: str, at_ms: int) -> Request:
        request = Request(self._labels.of(request_id, 8), self._labels.of(household, 4), at_ms, 0)
        self._requests[request_id] = request
        if len(self._requests) > MAX_REQUESTS:
            self._requests.popitem(last=False)
            self._counts["requests_dropped"] += 1
        return request

    def _event(self, decision: pb.Decision, appended_ms: int) -> Event:
        number, key = self._airings.get(decision.media_id, (0, ""))
        event = self._events.get(key)
        if event is None or appended_ms > event.last_ms + AIRING_APART_MS:
            number += 1
            key = f"{decision.media_id}.{number}"
            event = Event(key, decision.media_id, number, appended_ms, appended_ms, decision)
            self._airings[decision.media_id] = number, key
            self._airings.move_to_end(decision.media_id)
            _bound(self._airings, 2 * MAX_EVENTS)
            self._counts["events"] += 1
        event.requests += 1
        event.first_ms, event.last_ms = min(event.first_ms, appended_ms), max(event.last_ms, appended_ms)
        event.told_homes = max(event.told_homes, decision.households)
        if len(event.homes) < MAX_HOMES:
            event.homes.add(self._labels.of(decision.household_id, 4))
        event.rates.append(decision.bit_error_rate)
        event.used_ms.append(decision.audio_used_ms)
        self._changed(self._events, key, event)
        _bound(self._events, MAX_EVENTS)
        return event

    def _second(self, at_ms: int) -> Second:
        second = self._series.setdefault(at_ms // 1000, Second())
        self._changed(self._series, at_ms // 1000, second)
        while len(self._series) > SERIES_S:
            del self._series[min(self._series)]
        return second

    def _changed(self, among: OrderedDict[Any, Any], key: object, one: Changing) -> None:
        self._version += 1
        one.version = self._version
        among[key] = one
        among.move_to_end(key)

    def _figures(self, now_ms: int) -> dict[str, Any]:
        recent = [s for at_s, s in self._series.items() if at_s > now_ms // 1000 - SERIES_S]
        latest = [s for at_s, s in self._series.items() if now_ms // 1000 - 11 < at_s < now_ms // 1000]
        latencies_ms = [one for second in recent for one in second.latencies_ms]
        quantiles = np.percentile(latencies_ms, (50, 90, 99)) if latencies_ms else None
        return {
            "requests": round(self._heard),
            "quiet": self._counts["quiet"],
            "recent_requests": round(sum(s.requests for s in recent)),
            "recent_quiet": sum(s.quiet for s in recent),
            "per_s": round(sum(s.requests for s in latest) / 10, 1),
            "latency_ms": None if quantiles is None else [round(float(q)) for q in quantiles],
            "events": self._counts["events"],
            "known": len(self._averages),
            "late": self._counts["late"],
            "dead_letters": self._counts["dead_letters"],
            "unreadable": self._counts["unreadable"],
            "dropped": self._counts["requests_dropped"],
        }

    def _series_since(self, version: int) -> list[list[float | None]]:
        rows: list[list[float | None]] = []
        for at_s, second in self._series.items():
            if second.version > version:
                latencies = second.latencies_ms
                p50, worst = (round(median(latencies)), round(max(latencies))) if latencies else (None, None)
                rows.append([at_s, round(second.requests, 1), second.quiet, p50, worst])
        return sorted(rows)

    def _stranger(self, event: Event) -> tuple[str, Growth] | None:
        """Give the longest request that nobody ignored, of another home, near the event if there is one."""
        others = [
            (len(r.growth.words), -abs(r.at_ms - event.first_ms), r.home, r.growth)
            for r in self._requests.values()
            if not r.quiet_ms and r.growth is not None and r.home not in event.homes
        ]
        return max(others, key=lambda other: other[:2])[2:] if others else None


def _since(among: OrderedDict[Any, Any], version: int) -> Iterator[Any]:
    """Give what changed after `version`, the newest first."""
    return takewhile(lambda one: one.version > version, reversed(among.values()))


def _bound(among: OrderedDict[Any, Any], most: int) -> None:
    while len(among) > most:
        among.popitem(last=False)

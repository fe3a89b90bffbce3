"""What the job measures, for Prometheus: docs/metrics.md has the table. No household, device or request is a label.

Several processes may count at once (pipeline/serving.py adds them up), so each gauge says which process is believed:
the one that spoke last, because a route or a reader that moves to another worker leaves its old numbers behind.
"""

import threading
from collections.abc import Mapping
from itertools import product
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from matcher.catalogue import Catalogue
from matcher.route import Route
from pipeline.chunks import LETTER_STAGES
from pipeline.messages.hushword_pb2 import Decision

# Wake words and locales are what devices say they are: so many routes of a process have a name, the rest share one.
MAX_ROUTES = 64
OTHER_ROUTES = "other"
# The rest's numbers are added up over so many of them.
MAX_OTHER_ROUTES = 1024
DECISION_LABELS = list(product(list(Decision.Reason.keys())[1:], ("true", "false"), ("true", "false")))
KERNEL_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def _gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(name, what, labels, multiprocess_mode="mostrecent")


CHUNKS = Counter("hushword_chunks", "Audio chunks read that could be used.")
AUDIO_BYTES = Counter("hushword_audio_bytes", "PCM bytes in the chunks read.")
REQUESTS = Counter("hushword_requests", "Requests whose first chunk was heard.")
CHUNKS_LEFT_OUT = Counter("hushword_chunks_left_out", "Chunks read that were not heard.", ["reason"])
REQUESTS_LEFT_OUT = Counter("hushword_requests_left_out", "Requests that a bound ended: accepted.", ["reason"])
REQUEST_GAPS = Counter("hushword_request_gaps", "Requests that ended at a hole in their audio.")
CHUNKS_RELEASED_EARLY = Counter("hushword_chunks_released_early", "Chunks that did not wait for a partition behind.")
LOW_MARK_RECORDS = Counter("hushword_low_mark_records", "Low mark records read.")
DEAD_LETTERS = Counter("hushword_dead_letters", "Records written to the dead letters.", ["reason"])
OPEN_REQUESTS = _gauge("hushword_open_requests", "Requests being assembled.")
HELD_CHUNKS = _gauge("hushword_held_chunks", "Chunks that wait for the low mark, or for a missing one.")
ASSIGNED_PARTITIONS = _gauge("hushword_assigned_partitions", "Partitions of the audio topic that are read.")
READER_LAG = _gauge("hushword_reader_lag_records", "Records of the audio topic that are not read yet.")
READER_BEHIND = _gauge("hushword_reader_behind_seconds", "How old live audio was when it was read, at the least.")
EFFORT = _gauge("hushword_effort_ratio", "Share of the budget of comparisons that is spent.")
UNMATCHED = _gauge("hushword_unmatched_ratio", "Share of the households whose requests pass unmatched: accepted.")
LOW_MARK = _gauge("hushword_low_mark_timestamp_seconds", "The low mark, a capture time.")
LAST_POLL = _gauge("hushword_last_poll_timestamp_seconds", "When the reader's loop last came round.")
LAST_BATCH = _gauge("hushword_last_batch_timestamp_seconds", "When a route last heard something.")

KERNEL_SECONDS = Histogram(
    "hushword_kernel_seconds", "Time spent in the kernels, by bundle.", ["stage"], buckets=KERNEL_BUCKETS_S
)
FINGERPRINTING = KERNEL_SECONDS.labels("fingerprint")
MATCHING = KERNEL_SECONDS.labels("match")

ROUTE_REQUESTS = Counter("hushword_route_requests", "Requests that entered a window.", ["route"])
ROUTE_IGNORED = Counter("hushword_route_ignored", "Requests ignored.", ["route"])
WINDOW_REQUESTS = _gauge("hushword_window_requests", "Requests in the window.", ("route",))
WINDOW_CAPACITY = _gauge("hushword_window_capacity_requests", "Bound of each window.")
WINDOW_OVERFLOW = Counter("hushword_window_overflow", "Requests that a full window had no room for: accepted.")
GROWTHS_LEFT_OUT = Counter("hushword_growths_left_out", "Growths that no request could take.", ["reason"])
LOOKS = Counter("hushword_looks", "Times that a request was compared with others.")
COMPARISONS = Counter("hushword_comparisons", "Pairs of fingerprints compared.", ["against"])
COMPARISONS_LEFT_OUT = Counter("hushword_comparisons_left_out", "Pairs that were not drawn.")
EVENTS = Counter("hushword_events", "Media events found.")
EVENTS_OPEN = _gauge("hushword_events_open", "Media events that requests can still join.", ("route",))
AVERAGES = Counter("hushword_averages", "Averages written to the media topic.")
AVERAGES_DROPPED = Counter("hushword_averages_dropped", "Averages withdrawn from the media topic.")
CATALOGUE_AVERAGES = _gauge("hushword_catalogue_averages", "Averages in the catalogue.", ("route",))
CATALOGUE_VERSION = _gauge("hushword_catalogue_version", "Version of the catalogue.", ("route",))
CATALOGUE_NEWEST = _gauge(
    "hushword_catalogue_newest_timestamp_seconds", "When the newest average was discovered.", ("route",)
)
CATALOGUE_READY = _gauge("hushword_catalogue_ready", "1 once the media topic has been read to its end.")
KNOWN_ENTRIES = _gauge("hushword_known_entries", "Entries of known media in the reader.")
KNOWN_CAPACITY = _gauge("hushword_known_capacity_entries", "Bound of them.")
KNOWN_VERSION = _gauge("hushword_known_version", "Version of known media: how far the media topic was read.")
KNOWN_LOOKS = Counter("hushword_known_looks", "Times that a request was held against known media.")
MEDIA_RECORDS_LEFT_OUT = Counter(
    "hushword_media_records_left_out", "Records of the media topic that this version leaves alone.", ["reason"]
)
BLOCKED = Counter("hushword_blocked", "Requests, events and averages that sound like something blocked.")
BLOCKED_OVERFLOW = Counter("hushword_blocked_overflow", "Blocked averages that had to make room: blocked no longer.")
ERASED = Counter("hushword_erased", "What was erased of households that are to be forgotten.", ["reason"])
ORDERS = Counter("hushword_orders", "Orders of operators read from the control topic.")
ORDERS_LEFT_OUT = Counter(
    "hushword_orders_left_out", "Records of the control topic that are no orders for this version.", ["reason"]
)
ORDERS_FOLLOWED = _gauge("hushword_orders_followed", "1 while the control topic is followed; 0: everything in shadow.")
ROUTE_SHADOW = _gauge("hushword_route_shadow", "1 while the route decides for the record only.", ("route",))
ROUTES_TURNED_TO_SHADOW = Counter(
    "hushword_routes_turned_to_shadow", "Times that a route turned itself to shadow, because most of it was ignored."
)
DECISIONS = Counter("hushword_decisions", "Decisions that the broker has.", ["reason", "late", "shadow"])
ASKED_AGAIN = Counter(
    "hushword_asked_again", "Households that asked again within ten seconds of an IGNORE: a proxy for false ignores."
)
COMMITS_REFUSED = Counter("hushword_commits_refused", "Commits of offsets that the broker refused.")

# An alert on a rate needs the zero before the first one.
for _stage in LETTER_STAGES:
    DEAD_LETTERS.labels(_stage)
for _reason in ("other_kind", "malformed"):
    ORDERS_LEFT_OUT.labels(_reason)
for _reason in ("other_kind", "other_bits", "malformed", "known_entries"):
    MEDIA_RECORDS_LEFT_OUT.labels(_reason)
for _labels in DECISION_LABELS:
    DECISIONS.labels(*_labels)

# What pipeline.assembly.Assembler counts, and what comes of it.
OF_READER: Mapping[str, Counter] = {
    "chunks": CHUNKS,
    "audio_bytes": AUDIO_BYTES,
    "requests": REQUESTS,
    "low_marks": LOW_MARK_RECORDS,
    "gaps": REQUEST_GAPS,
    "held_overflow": CHUNKS_RELEASED_EARLY,
    "duplicate_chunks": CHUNKS_LEFT_OUT.labels("duplicate"),
    "chunks_after_gap": CHUNKS_LEFT_OUT.labels("after_gap"),
    "requests_over_household_rate": REQUESTS_LEFT_OUT.labels("household_rate"),
    "requests_unmatched": REQUESTS_LEFT_OUT.labels("overload"),
    "chunks_unmatched": CHUNKS_LEFT_OUT.labels("overload"),
    "requests_too_long": REQUESTS_LEFT_OUT.labels("too_long"),
    "chunks_over_limit": CHUNKS_LEFT_OUT.labels("open_requests"),
    "known_looks": KNOWN_LOOKS,
    "chunks_of_routes_over_limit": CHUNKS_LEFT_OUT.labels("routes"),
}
# What matcher.route.Route counts, likewise; those of the second table by route.
OF_ROUTE: Mapping[str, Counter] = {
    "looks": LOOKS,
    "events": EVENTS,
    "comparisons": COMPARISONS.labels("window"),
    "catalogue_comparisons": COMPARISONS.labels("catalogue"),
    "comparisons_left_out": COMPARISONS_LEFT_OUT,
    "window_overflow": WINDOW_OVERFLOW,
    "too_late": GROWTHS_LEFT_OUT.labels("too_late"),
    "asked_again": ASKED_AGAIN,
    "erased_requests": ERASED.labels("request"),
    "erased_votes": ERASED.labels("vote"),
    "erased_growths": ERASED.labels("growth"),
    "blocked": BLOCKED,
    "blocked_overflow": BLOCKED_OVERFLOW,
}
BY_ROUTE: Mapping[str, Counter] = {"requests": ROUTE_REQUESTS, "ignored": ROUTE_IGNORED}


def decision_labels(decision: Decision) -> tuple[str, str, str]:
    """Give a decision's values for the labels reason, late and shadow.

    Raises:
        ValueError: a reason that this version does not know.

    """
    return Decision.Reason.Name(decision.reason), str(decision.late).lower(), str(decision.shadow).lower()


def count_read(counts: Mapping[str, int]) -> None:
    """Add what a reader has counted."""
    for name, number in counts.items():
        OF_READER[name].inc(number)


class Routes:
    """What is known of each route, under labels that stay few."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._named: set[str] = set()
        self._others: dict[str, tuple[float, ...]] = {}
        self._newest: dict[str, tuple[int, float]] = {}

    def label(self, route: str) -> str:
        """Give the route's own name while there is room, or the one that all others share."""
        with self._lock:
            if route not in self._named and len(self._named) < MAX_ROUTES:
                self._named.add(route)
            return route if route in self._named else OTHER_ROUTES

    def count(self, route: str, counts: Mapping[str, int]) -> None:
        """Add what a route has counted."""
        for name, number in counts.items():
            if name in BY_ROUTE:
                BY_ROUTE[name].labels(self.label(route)).inc(number)
            else:
                OF_ROUTE[name].inc(number)

    def show(self, route: Route) -> None:
        """Tell the state that a route is in."""
        label = self.label(route.name)
        state: tuple[float, ...] = (
            len(route.window.requests),
            len(route.events),
            len(route.catalogue.averages),
            route.catalogue.version,
            self._newest_s(route.name, route.catalogue),
        )
        if label == OTHER_ROUTES:
            state = self._together(route.name, state)
        window, events, averages, version, newest_s = state
        WINDOW_REQUESTS.labels(label).set(window)
        EVENTS_OPEN.labels(label).set(events)
        CATALOGUE_AVERAGES.labels(label).set(averages)
        CATALOGUE_VERSION.labels(label).set(version)
        if newest_s:
            CATALOGUE_NEWEST.labels(label).set(newest_s)

    def _newest_s(self, route: str, catalogue: Catalogue) -> float:
        """Give the discovery of the newest average; a catalogue is looked through only when it has changed."""
        with self._lock:
            version, newest_s = self._newest.pop(route, (-1, 0.0))
            if version != catalogue.version:
                newest_s = max((average.discovered_us for average in catalogue.averages.values()), default=0) / 1e6
            self._newest[route] = catalogue.version, newest_s
            _keep_newest(self._newest, MAX_ROUTES + MAX_OTHER_ROUTES)
            return newest_s

    def _together(self, route: str, state: tuple[float, ...]) -> tuple[float, ...]:
        """Sizes add up; of versions and times, the highest stands for all."""
        with self._lock:
            self._others.pop(route, None)
            self._others[route] = state
            _keep_newest(self._others, MAX_OTHER_ROUTES)
            window, events, averages, version, newest_s = zip(*self._others.values(), strict=True)
        return sum(window), sum(events), sum(averages), max(version), max(newest_s)


def _keep_newest(entries: dict[str, Any], most: int) -> None:
    while len(entries) > most:
        del entries[next(iter(entries))]


ROUTES = Routes()

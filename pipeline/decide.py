"""Decides, keyed by route: the thin, stateful step around `matcher.route.Route`.

A busy route's window is megabytes, too much to write in every bundle. The working set lives in the worker's memory
under a version; Beam's state is its truth: a snapshot, the batches since, and the version they lead to. Memory whose
version is not the state's is thrown away and rebuilt, so a bundle that failed leaves nothing behind.
"""

import logging
import os
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec

from matcher.catalogue import Average
from matcher.outcome import Ignore, Outcome
from matcher.route import Route
from pipeline import metrics
from pipeline.control import BLOCK, ERASE, Controls, shadow_key
from pipeline.follow import media_follower
from pipeline.guard import Guard
from pipeline.matching import load_calibration, policy_of
from pipeline.messages.hushword_pb2 import Control, MediaFingerprint
from pipeline.messages.internal_pb2 import Batch, RouteState, Verdicts
from pipeline.options import Settings
from pipeline.snapshot import restore, snapshot
from pipeline.source import DEAD_LETTERS
from pipeline.wire import average_from_message, average_to_message, decision, growth_from_message

log = logging.getLogger(__name__)

# Batches that a rebuild has to go through, at most: some seconds of a busy route.
COMPACT_BATCHES = 256


class _Working:
    """A route in memory, and the version of the state that it is the equal of."""

    def __init__(self, route: Route, guard: Guard, version: bytes) -> None:
        self.route, self.guard, self.version, self.batches = route, guard, version, 0
        self.heard = 0  # how much of the follower's news the route has taken
        self.obeyed = -1  # how many of the orders; below 0 while it has not looked


class DecideRequests(beam.DoFn):
    """(route, Batch) in, (route, Verdicts) out."""

    VERSION = ReadModifyWriteStateSpec("version", BytesCoder())
    SNAPSHOT = ReadModifyWriteStateSpec("snapshot", BytesCoder())
    BATCHES = BagStateSpec("batches", BytesCoder())

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def setup(self) -> None:
        """Read the catalogue to its end before the first look."""
        self._calibration = load_calibration(self._settings)
        self._policy = policy_of(self._settings)
        self._working: dict[str, _Working] = {}
        self._follower = media_follower(self._settings, self._calibration.bits)
        metrics.CATALOGUE_READY.set(0)
        self._follower.start()
        metrics.CATALOGUE_READY.set(1)
        metrics.WINDOW_CAPACITY.set(self._settings.window_requests)
        self._controls = Controls(self._settings)
        self._controls.start()

    def teardown(self) -> None:
        """Stop following."""
        self._follower.stop()
        self._controls.stop()

    def process(
        self,
        element: tuple[str, bytes],
        version: Any = beam.DoFn.StateParam(VERSION),  # noqa: B008
        saved: Any = beam.DoFn.StateParam(SNAPSHOT),  # noqa: B008
        batches: Any = beam.DoFn.StateParam(BATCHES),  # noqa: B008
    ) -> Iterator[tuple[str, bytes]]:
        """Hear one batch."""
        name, data = element
        batch = Batch.FromString(data)
        metrics.LAST_BATCH.set_to_current_time()
        if name == DEAD_LETTERS:
            yield name, Verdicts(dead_letters=batch.dead_letters, progress=batch.progress).SerializeToString()
            return
        working = self._current(name, version.read() or b"", saved, batches)
        told = self._learn(working, batch) | self._obey(working, batch)
        began_s = time.perf_counter()
        outcome, tripped = _hear(working, batch)
        if batch.growths:
            metrics.MATCHING.observe(time.perf_counter() - began_s)
        # A mark alone changes nothing that the next one would not, unless something was learned or goes out.
        if batch.growths or told or outcome.averages or outcome.dropped_averages:
            # A token and not a count: after a failed bundle the same count may stand for other batches.
            working.version = os.urandom(8)
            version.write(working.version)
            working.batches += 1
            # What was erased must not stand in the batches of before any longer.
            if working.batches < COMPACT_BATCHES and not batch.erased:
                batches.add(batch.SerializeToString() if told else data)
            else:
                batches.clear()
                state = RouteState(route=snapshot(working.route), guard=working.guard.to_message())
                saved.write(state.SerializeToString())
                working.batches = 0
        metrics.ROUTES.count(name, outcome.counts)
        metrics.ROUTES.show(working.route)
        shadow, tripped_us = self._settings.shadow or self._controls.in_shadow(name), working.guard.tripped_us
        metrics.ORDERS_FOLLOWED.set(self._controls.is_current)
        metrics.ROUTE_SHADOW.labels(metrics.ROUTES.label(name)).set(shadow or tripped_us > 0)
        verdicts = Verdicts(dropped_averages=outcome.dropped_averages, progress=batch.progress)
        verdicts.decisions.extend(
            self._decision(name, ignore, shadow=shadow or 0 < tripped_us <= ignore.decided_at_us)
            for ignore in outcome.ignores
        )
        if tripped is not None:
            self._announce(name, tripped, verdicts)
        verdicts.averages.extend(
            average_to_message(average, name, self._calibration.bits).SerializeToString()
            for average in outcome.averages.values()
        )
        yield name, verdicts.SerializeToString()

    def _current(self, name: str, version: bytes, saved: Any, batches: Any) -> _Working:
        working = self._working.get(name)
        if working is not None and working.version == version:
            return working
        data = saved.read() if version else None
        guard = Guard.of(self._settings)
        if data:
            state = RouteState.FromString(data)
            route = restore(state.route, name, self._policy, self._calibration)
            guard.restore(state.guard)
        else:
            route = Route(name, self._policy, self._calibration)
        working = self._working[name] = _Working(route, guard, version)
        for block in batches.read() if version else ():
            _hear(working, Batch.FromString(block))
            working.batches += 1
        return working

    def _learn(self, working: _Working, batch: Batch) -> bool:
        """Note in the batch what came on the media topic since the last time, for the route to hear before the rest.

        In the state it stands in that order too: who learned first and replayed then would find in old batches what
        was never said of them.
        """
        news, working.heard = self._follower.since(working.heard)
        route = working.route
        for media_id, average in news:
            if average is None:
                if media_id in route.events or media_id in route.catalogue.averages:
                    batch.withdrawn.append(media_id)
            elif _is_news(route, average):
                batch.learned.append(
                    average_to_message(average, route.name, self._calibration.bits).SerializeToString()
                )
        return bool(batch.learned or batch.withdrawn)

    def _obey(self, working: _Working, batch: Batch) -> bool:
        """Note in the batch, in the same way, what was ordered about media, households and the shadow of this route."""
        anew = working.obeyed < 0
        orders, working.obeyed = self._controls.since(max(0, working.obeyed))
        route = working.route
        for key, order in orders:
            if key == shadow_key(route.name) and order is not None and order.shadow == Control.OFF:
                batch.released = bool(working.guard.tripped_us)
            about, _, name = key.partition("/")
            if about == ERASE and order is not None and _is_due(route, name, order, anew=anew):
                # Capture times may be ahead of the clock of whoever ordered it.
                until_us = order.ordered_at_us if anew else max(order.ordered_at_us, route.now_us)
                batch.erased.add(digest=name, until_us=until_us)
            if about != BLOCK:
                continue
            if order is None:
                if name in route.blocked.averages:
                    batch.unblocked.append(name)
            elif name not in route.blocked.averages and _is_for(route, order.block):
                batch.blocked.append(order.block.SerializeToString())
        return bool(batch.blocked or batch.unblocked or batch.released or batch.erased)

    def _announce(self, name: str, rate: float, verdicts: Verdicts) -> None:
        """Turn all shards of the route to shadow, unless somebody has, and say so."""
        key = shadow_key(name)
        window_s = self._settings.ignore_rate_window_s
        reason = f"{rate:.0%} of its requests were ignored over {window_s:.0f} s, which is over ignore_rate_bound"
        log.error("%s works in shadow from now on, until somebody turns it back: %s", name, reason)
        metrics.ROUTES_TURNED_TO_SHADOW.inc()
        if not self._controls.is_ordered(key):
            order = Control(
                by=f"the guard of {name}", reason=reason, ordered_at_us=round(time.time() * 1e6), shadow=Control.ON
            )
            verdicts.order.key, verdicts.order.value = key, order.SerializeToString()

    def _decision(self, name: str, ignore: Ignore, *, shadow: bool) -> bytes:
        waited_ms = time.time() * 1000 - ignore.audio_appended_us / 1000
        message = decision(
            ignore,
            name,
            self._calibration.version,
            late=waited_ms > self._settings.deadline_ms,
            shadow=shadow,
        )
        return message.SerializeToString()


def _is_news(route: Route, average: Average) -> bool:
    """Tell whether an average is for this route and other than what it has.

    Its own come back to it late and in old versions: what it has itself is newer.
    """
    if average.origin.rsplit("/", 1)[0] != route.name.rsplit("/", 1)[0] or average.media_id in route.events:
        return False
    known = route.catalogue.averages.get(average.media_id)
    if known is None:
        return True
    return average.origin != route.name and average_to_message(known, "//", "") != average_to_message(average, "//", "")


def _is_due(route: Route, digest: str, order: Control, *, anew: bool) -> bool:
    """Tell whether an order to erase is still to be obeyed; one who reads all orders anew has obeyed most of them."""
    known_us = route.erased_until_us.get(digest, 0)
    return not anew or (known_us < order.ordered_at_us and order.ordered_at_us > route.now_us - route.policy.window_us)


def _is_for(route: Route, block: MediaFingerprint) -> bool:
    """Tell whether a route could come to hear what is blocked, and can read its words."""
    return route.name.rsplit("/", 1)[0] == f"{block.wake_word}/{block.locale}" and block.bits == route.calibration.bits


def _hear(working: _Working, batch: Batch) -> tuple[Outcome, float | None]:
    """Let a route hear a batch, and its guard what came of it; gives the rate at which the guard trips, if it does."""
    route, guard = working.route, working.guard
    outcome = Outcome()
    if batch.released:
        guard.release()
    for media_id in batch.withdrawn:
        route.forget(media_id)
    for blocked in batch.blocked:
        outcome.add(route.block(average_from_message(MediaFingerprint.FromString(blocked))))
    for media_id in batch.unblocked:
        route.unblock(media_id)
    for erased in batch.erased:
        outcome.add(route.erase(erased.digest, erased.until_us))
    for learned in batch.learned:
        outcome.add(route.learn(average_from_message(MediaFingerprint.FromString(learned))))
    tripped = None
    growths = map(growth_from_message, batch.growths)
    # By slots of the guard, so that it does not matter how growths were batched; nearly always there is one.
    for slot, together in groupby(growths, key=lambda growth: guard.slot(growth.end_us)):
        heard = route.hear(list(together), route.now_us, batch.halvings)
        if guard.count(slot, heard.counts["requests"], heard.counts["ignored"]):
            tripped = guard.rate()
        outcome.add(heard)
    outcome.add(route.hear([], batch.low_mark_us))
    return outcome, tripped

"""A route's whole state as bytes, and back."""

import numpy as np

from matcher.event import Event
from matcher.evidence import Calibration
from matcher.policy import Policy
from matcher.route import Route
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.messages.internal_pb2 import RouteSnapshot
from pipeline.wire import average_from_message, average_to_message, known_from_message, known_to_message


def snapshot(route: Route) -> bytes:
    """Give everything that a route's next decisions depend on."""
    message = RouteSnapshot(low_mark_us=route.now_us, catalogue_version=route.catalogue.version)
    for request in route.window.requests.values():
        message.requests.add(
            request_id=request.request_id,
            household=request.household,
            device=request.device,
            start_us=request.start_us,
            words=_to_bytes(route.window.fingerprint(request)),
            audio_ms=request.audio_ms,
            level_range_db=request.level_range_db,
            alignment=request.alignment,
            looked_ms=request.looked_ms,
            matched=request.matched,
            ignored=request.ignored,
            event=request.event,
            leaning=None if request.leaning is None else known_to_message(request.leaning),
        )
    for event in route.events.values():
        entry = message.events.add(
            media_id=event.media_id,
            discovered_us=event.discovered_us,
            households=sorted(event.households),
            rebuilt_us=event.rebuilt_us,
            last_joined_us=event.last_joined_us,
            published_households=event.published_households,
            known=None if event.known is None else known_to_message(event.known),
        )
        households = {request_id: household for household, request_id in event.voters.items()}
        for request_id, row in sorted(event.members.items(), key=lambda member: member[1]):
            entry.members.add(
                request_id=request_id,
                household=households[request_id],
                alignment=event.alignments[row],
                words=_to_bytes(event.words[row, : event.lengths[row]]),
            )
    for average in route.catalogue.averages.values():
        message.averages.append(average_to_message(average, route.name, route.calibration.bits).SerializeToString())
    for household, at_us in route.ignored_at_us.items():
        message.ignored.add(household=household, at_us=at_us)
    for digest, until_us in route.erased_until_us.items():
        message.erased.add(digest=digest, until_us=until_us)
    for request_id, at_us in route.recognised_at_us.items():
        message.recognised.add(request_id=request_id, at_us=at_us)
    for average in route.blocked.averages.values():
        message.blocked.append(average_to_message(average, route.name, route.calibration.bits).SerializeToString())
    return message.SerializeToString()


def restore(data: bytes, name: str, policy: Policy, calibration: Calibration) -> Route:
    """Give a route that goes on as the one that `snapshot` was taken of would have."""
    message = RouteSnapshot.FromString(data)
    route = Route(name, policy, calibration)
    for entry in message.averages:
        route.catalogue.put(average_from_message(MediaFingerprint.FromString(entry)))
    for entry in message.blocked:
        route.blocked.put(average_from_message(MediaFingerprint.FromString(entry)))
    route.ignored_at_us = {entry.household: entry.at_us for entry in message.ignored}
    route.erased_until_us = {entry.digest: entry.until_us for entry in message.erased}
    route.recognised_at_us = {entry.request_id: entry.at_us for entry in message.recognised}
    route.catalogue.version = message.catalogue_version
    route.now_us = message.low_mark_us
    for saved in message.requests:
        request, _ = route.window.add(saved.request_id, saved.household, saved.device, saved.start_us)
        if request is None:
            continue  # the window was made smaller since
        request.looked_ms = saved.looked_ms
        route.window.put(request, _from_bytes(saved.words), saved.level_range_db)
        request.audio_ms = saved.audio_ms
        request.alignment = saved.alignment
        if saved.matched:
            route.window.mark_matched(request)
        if saved.ignored:
            route.window.mark_ignored(request)
        request.event = saved.event
        request.leaning = known_from_message(saved.leaning) if saved.HasField("leaning") else None
    for kept in message.events:
        event = Event(kept.media_id, kept.discovered_us)
        for member in kept.members:
            event.join(member.request_id, member.household, member.alignment, _from_bytes(member.words), 0)
        event.households = set(kept.households)
        event.rebuilt_us = kept.rebuilt_us
        event.last_joined_us = kept.last_joined_us
        event.published_households = kept.published_households
        event.known = known_from_message(kept.known) if kept.HasField("known") else None
        route.events[event.media_id] = event
    return route


def _to_bytes(words: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> bytes:
    return words.astype("<u8").tobytes()


def _from_bytes(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.frombuffer(data, "<u8").astype(np.uint64)

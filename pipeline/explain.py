"""`hushword explain`: the audio of one request and of those around it is read again, and its route watched."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from pipeline.errors import InputError
from pipeline.flags import AsJson, ConfigFile, with_settings
from pipeline.options import Settings, load_settings
from pipeline.times import time_ms

if TYPE_CHECKING:
    from matcher.growth import Growth
    from matcher.route import Route
    from pipeline.messages.hushword_pb2 import AudioChunk, Decision
    from pipeline.trace import Explanation, Step

AROUND_MS = 120_000
# Append times are only near capture times: so many windows of audio before and after are read.
WINDOWS = 3
SHOWN_STEPS = 12


class NotFoundError(InputError):
    """There is no audio of this request any more, or there never was."""


_SETTINGS = (
    "bootstrap_servers", "audio_topic", "decisions_topic", "media_topic", "control_topic", "window_s",
    "window_requests", "partners", "shards", "false_ignore_budget", "budget_concurrency", "airing_share",
    "catalogue_entries", "discovery_delay_ms", "max_clock_skew_s", "hash_ids", "hash_ids_key_file",
)  # fmt: skip


@with_settings(*_SETTINGS)
def command(
    request_id: Annotated[str, typer.Argument(help="As the gateway named it.", metavar="REQUEST_ID")],
    config: ConfigFile = None,
    since: Annotated[str, typer.Option(help="Look for it from here on: 15m, 2h, or a time.", metavar="TIME")] = "1h",
    around: Annotated[
        str | None, typer.Option(help="Look for it within two minutes of this time instead.", metavar="TIME")
    ] = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Say why a request was ignored, or how near it came: its route is regrown from the audio topic."""
    settings = load_settings(config, flags)
    now_s = time.time()
    first_ms, last_ms = time_ms(since, now_s), None
    if around is not None:
        first_ms, last_ms = time_ms(around, now_s) - AROUND_MS, time_ms(around, now_s) + AROUND_MS
    from pipeline.progress import PhaseProgress

    with PhaseProgress(Console(stderr=True, highlight=False, soft_wrap=True)) as progress:
        found = explain(settings, request_id, first_ms, last_ms, progress)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        _show(found, Console())


def explain(
    settings: Settings,
    request_id: str,
    since_ms: int,
    until_ms: int | None,
    progress: Callable[[str, int, int], None] = lambda _phase, _done, _total: None,
) -> "Explanation":
    """Read a request's audio and that of those around it, and let its route decide again.

    Args:
        settings: of the job that is to be explained.
        request_id: looked for on the audio topic.
        since_ms: append time from which to look, milliseconds of Unix time.
        until_ms: up to which; None for now.
        progress: told about every phase: its name, how much is done, and of how much.

    Raises:
        NotFoundError: one sentence that says what is not there.
        TopicError: a topic cannot be read.

    """
    from pipeline.pseudonyms import pseudonyms_of
    from pipeline.trace import Explanation, Trace

    names = pseudonyms_of(settings)
    progress("looking for the request", 0, 0)
    published = _published(settings, request_id, since_ms)
    own, appended_ms = _own(settings, request_id, since_ms, until_ms, published)
    progress("reading what was asked around it", 0, 0)
    heard, notes = _around(settings, own, appended_ms)
    route, growths, entries = _route(settings, own[0], appended_ms[1], heard)
    trace = Trace(request_id)
    route.observer = trace
    ignore = None
    neighbours: set[str] = set()
    for number, growth in enumerate(growths, start=1):
        progress("deciding again", number, len(growths))
        trace.at_us = growth.end_us
        outcome = route.hear([growth], -(2**62))
        ignore = next((found for found in outcome.ignores if found.request_id == request_id), ignore)
        if request_id in route.window.requests:
            neighbours |= route.window.requests.keys()
    if published is not None and ignore is None:
        notes.append("what ran ignored it: it knew media, or requests, that are not there any more")
    if published is None and ignore is not None:
        notes.append("what ran published nothing about it: it was down, in overload, or set otherwise")
    own_growths = [growth for growth in growths if growth.request_id == request_id]
    return Explanation(
        request_id=request_id,
        route=route.name,
        household=names.household(own[0].household_id),
        device=names.device(own[0].device_id),
        start_us=own[0].capture_time_us,
        audio_ms=max((growth.audio_ms for growth in own_growths), default=0),
        window_requests=len(neighbours - {request_id}),
        averages=len(route.catalogue.averages),
        known_entries=entries,
        blocked_averages=len(route.blocked.averages),
        ignore=ignore,
        published=None if published is None else _plain(published),
        steps=tuple(trace.steps),
        nearest=trace.nearest(),
        notes=tuple(notes),
    )


def _published(settings: Settings, request_id: str, since_ms: int) -> "Decision | None":
    from pipeline.messages.hushword_pb2 import Decision
    from pipeline.reading import records

    key = request_id.encode()
    for record in records(settings, settings.decisions_topic, since_ms=since_ms):
        if record.key == key and record.value:
            return Decision.FromString(record.value)
    return None


def _own(
    settings: Settings, request_id: str, since_ms: int, until_ms: int | None, published: "Decision | None"
) -> tuple[list["AudioChunk"], tuple[int, int]]:
    """Find the request's own chunks, by seq, and the first and last append time of them."""
    from google.protobuf.message import DecodeError

    from pipeline.control import when
    from pipeline.messages.hushword_pb2 import AudioChunk
    from pipeline.reading import records

    chunks: dict[int, AudioChunk] = {}
    appended_ms: list[int] = []
    oldest_ms = None
    wanted = request_id.encode()
    for record in records(settings, settings.audio_topic, since_ms=since_ms, until_ms=until_ms):
        oldest_ms = min(oldest_ms or record.timestamp, record.timestamp)
        if not record.value or wanted not in record.value:
            continue
        try:
            chunk = AudioChunk.FromString(record.value)
        except DecodeError:
            continue  # a dead letter
        if chunk.request_id == request_id:
            chunks[chunk.seq] = chunk
            appended_ms.append(record.timestamp)
    if chunks:
        return [chunks[seq] for seq in sorted(chunks)], (min(appended_ms), max(appended_ms))
    if published is not None:
        raise NotFoundError(
            f"the audio of request {request_id!r} has left {settings.audio_topic!r}, and only its decision is left:"
            f" IGNORE by {published.media_id} of {published.households} households, score {published.score:.2f}"
        )
    ends = "now" if until_ms is None else when(until_ms * 1000)
    oldest = (
        "and has nothing at all from then" if oldest_ms is None else f"where the oldest is {when(oldest_ms * 1000)}"
    )
    raise NotFoundError(
        f"request {request_id!r} is not on {settings.audio_topic!r} from {when(since_ms * 1000)} to {ends}, {oldest}:"
        " its audio has left with the topic's retention, the id is wrong, or --since and --around look elsewhere"
    )


def _around(
    settings: Settings, own: list["AudioChunk"], appended_ms: tuple[int, int]
) -> tuple[list[tuple[Any, "AudioChunk"]], list[str]]:
    """Read the chunks of the request's wake word and locale that were captured within a window of it."""
    from google.protobuf.message import DecodeError

    from pipeline.messages.hushword_pb2 import AudioChunk
    from pipeline.reading import connected, records

    span_ms = round(WINDOWS * settings.window_s * 1000)
    first_us = own[0].capture_time_us - round(2e6 * settings.window_s)
    last_us = own[-1].capture_time_us + round(1e6 * settings.window_s)
    found = []
    first: dict[int, int] = {}
    since_ms, until_ms = appended_ms[0] - span_ms, appended_ms[1] + span_ms
    for record in records(settings, settings.audio_topic, since_ms=since_ms, until_ms=until_ms):
        first.setdefault(record.partition, record.offset)
        try:
            chunk = AudioChunk.FromString(record.value or b"")
        except DecodeError:
            continue
        same = (chunk.wake_word, chunk.locale) == (own[0].wake_word, own[0].locale)
        if same and first_us <= chunk.capture_time_us <= last_us:
            found.append((record, chunk))
    with connected(settings, settings.audio_topic) as (consumer, partitions):
        begin = {at.partition: offset for at, offset in consumer.beginning_offsets(partitions).items()}
    cut = any(0 < begin[partition] == offset for partition, offset in first.items())
    return found, ["the topic's retention has taken some of the audio around it"] if cut else []


def _route(
    settings: Settings, own: "AudioChunk", appended_ms: int, heard: list[tuple[Any, "AudioChunk"]]
) -> tuple["Route", list["Growth"], int]:
    """Grow fingerprints as the job's reader does, and make a route: both know what was known then."""
    import zlib

    from matcher.route import Route
    from pipeline.assembly import Assembler, AssemblyLimits, nothing
    from pipeline.chunks import BadRecordError
    from pipeline.control import BLOCK, given
    from pipeline.known import KnownCatalogue
    from pipeline.matching import load_bits, load_calibration, policy_of
    from pipeline.media.topic import fingerprints
    from pipeline.messages.hushword_pb2 import AudioChunk, MediaFingerprint
    from pipeline.pseudonyms import pseudonyms_of
    from pipeline.wire import BadMediaError, average_from_message, entry_from_message

    partitions = sorted({record.partition for record, _ in heard})
    limits = AssemblyLimits(
        window_us=int(settings.window_s * 1e6),
        max_clock_skew_us=int(settings.max_clock_skew_s * 1e6),
        max_held=len(heard) + 1,
        max_open=len(heard) + 1,
        household_requests_per_minute=len(heard) + 1,
        shards=settings.shards,
    )
    scope = f"{own.wake_word}/{own.locale}"
    media = [
        message
        for message in fingerprints(settings).values()
        if message.bits == load_bits(settings).name and f"{message.wake_word}/{message.locale}" == scope
    ]
    known = KnownCatalogue.of_settings(settings)
    for message in media:
        if known is not None and message.kind == MediaFingerprint.KNOWN and message.added_us <= appended_ms * 1000:
            with suppress(BadMediaError):  # the job has made a dead letter of it
                known.put(message.wake_word, message.locale, entry_from_message(message))
    names = pseudonyms_of(settings)
    of = nothing if known is None else known.of
    assembler = Assembler(limits, load_bits(settings), dict.fromkeys(partitions, 0), known=of, names=names)
    for record, _ in heard:
        try:
            assembler.take(record.partition, record.offset, record.timestamp * 1000, record.value)
        except BadRecordError:
            continue  # the job has made a dead letter of it
    # Nothing more comes: as a replay says it.
    mark_us = max(chunk.capture_time_us for _, chunk in heard) + 3_600_000_000
    mark = AudioChunk(low_mark_us=mark_us).SerializeToString()
    for partition in partitions:
        assembler.take(partition, 2**62, mark_us, mark)
    name = f"{scope}/{zlib.crc32(names.household(own.household_id).encode()) % settings.shards}"
    growths = assembler.release().get(name, [])

    calibration = load_calibration(settings)
    route = Route(name, policy_of(settings), calibration)
    for key, order in given(settings).items():
        if key.startswith(f"{BLOCK}/") and f"{order.block.wake_word}/{order.block.locale}" == scope:
            route.block(average_from_message(order.block))
    before_us = min((growth.start_us for growth in growths), default=0)
    for message in media:
        if message.kind == MediaFingerprint.DISCOVERED and message.discovered_us < before_us:
            route.learn(average_from_message(message))
    return route, growths, 0 if known is None else len(known)


def _plain(decision: "Decision") -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    plain: dict[str, Any] = MessageToDict(decision, preserving_proto_field_name=True)
    return plain


def _show(found: "Explanation", console: Console) -> None:
    from pipeline.control import when

    console.print(f"[bold]{found.request_id}[/bold] of {found.device} at {when(found.start_us)}, route {found.route}")
    console.print(found.sentence(), highlight=False)
    console.print(
        f"{found.audio_ms} ms of audio; {found.window_requests} other requests in its window,"
        f" {found.averages} averages and {found.known_entries} entries known, {found.blocked_averages} blocked",
        highlight=False,
    )
    published = found.published
    console.print(
        "published: nothing (accept)"
        if published is None
        else f"published: IGNORE, {published['reason']}, {published['media_id']}, score {published['score']:.2f}"
        + (", shadow" if published.get("shadow") else "")
        + (", late" if published.get("late") else ""),
        highlight=False,
    )
    for note in found.notes:
        console.print(f"note: {note}", highlight=False)
    table = Table(
        Column("audio", justify="right"), "tried", Column("of", justify="right"), Column("score", justify="right"),
        Column("needed", justify="right"), Column("nearest", overflow="fold"),
    )  # fmt: skip
    steps = found.steps if len(found.steps) <= SHOWN_STEPS else found.steps[-SHOWN_STEPS:]
    for step in steps:
        score = "-" if step.score is None else f"{step.score:.2f}"
        needed = "-" if step.threshold is None else f"{step.threshold:.2f}"
        table.add_row(f"{step.audio_ms} ms", step.kind, str(step.compared), score, needed, _nearest(step))
    if steps:
        console.print(table)
    if len(steps) < len(found.steps):
        console.print(f"the last {len(steps)} of {len(found.steps)} steps; --json has all of them", highlight=False)


def _nearest(step: "Step") -> str:
    lines = []
    for candidate in step.candidates[:3]:
        score = "-" if candidate.score is None else f"{candidate.score:.2f}"
        lines.append(f"{candidate.name} {score} ({candidate.bit_error_rate:.3f} wrong, {candidate.alignment_ms:+} ms)")
    return "\n".join(lines)

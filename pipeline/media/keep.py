"""`hushword media block`, `unblock`, `remove` and `promote`: what becomes of single entries and averages."""

import time
from typing import Annotated, Any

import typer

from pipeline.errors import InputError
from pipeline.flags import ConfigFile, with_settings
from pipeline.options import load_settings

MediaId = Annotated[str, typer.Argument(help="As decisions carry it, such as d-0123456789abcdef.", metavar="ID")]


@with_settings("bootstrap_servers", "media_topic", "control_topic")
def block(
    media_id: MediaId,
    config: ConfigFile = None,
    reason: Annotated[str, typer.Option(help="Why, for those who come after.")] = "",
    **flags: Any,
) -> None:
    """Withdraw an average everywhere, within a second; what sounds like it is accepted from then on."""
    settings = load_settings(config, flags)
    from pipeline.control import BLOCK, give, given, publish
    from pipeline.kafka.topics import check_cluster
    from pipeline.media.topic import fingerprints
    from pipeline.messages.hushword_pb2 import Control, MediaFingerprint

    check_cluster(settings, {"media": ("READ", "WRITE"), "control": ("READ", "WRITE")})
    key = f"{BLOCK}/{media_id}"
    found = fingerprints(settings).get(media_id)
    if found is None and key in given(settings):
        print(f"{media_id} is blocked already")
        return
    if found is None:
        raise InputError(f"there is no average {media_id!r} on {settings.media_topic!r}: see `hushword media list`")
    if found.kind != MediaFingerprint.DISCOVERED:
        raise InputError(
            f"{media_id!r} was not discovered, but made from a recording: `hushword media remove {media_id}` removes it"
        )
    # First the order: an average that is only gone would be found again before the order comes.
    give(settings, {key: Control(block=found, reason=reason)})
    publish(settings, settings.media_topic, {media_id: None})
    print(
        f"{media_id}, heard in {found.households} households, is withdrawn from {found.wake_word}/{found.locale};"
        " what sounds like it is accepted"
    )


@with_settings("bootstrap_servers", "control_topic")
def unblock(media_id: MediaId, config: ConfigFile = None, **flags: Any) -> None:
    """Take a block back: the sound can be discovered again, the average itself does not return."""
    settings = load_settings(config, flags)
    from pipeline.control import BLOCK, give, given

    key = f"{BLOCK}/{media_id}"
    if key not in given(settings):
        raise InputError(f"{media_id!r} is not blocked: see `hushword media list --blocked`")
    give(settings, {key: None})
    print(f"{media_id} is blocked no more: it decides again when three households have heard it again")


@with_settings("bootstrap_servers", "media_topic")
def remove(
    media_ids: Annotated[
        list[str], typer.Argument(help="Of known media, such as k-0123456789abcdef.", metavar="ID...")
    ],
    config: ConfigFile = None,
    **flags: Any,
) -> None:
    """Remove entries of known media from every worker: all that are named, or none when one is not there."""
    settings = load_settings(config, flags)
    from pipeline.control import publish
    from pipeline.kafka.topics import check_cluster
    from pipeline.media.topic import fingerprints
    from pipeline.messages.hushword_pb2 import MediaFingerprint

    check_cluster(settings, {"media": ("READ", "WRITE")})
    there = fingerprints(settings)
    for media_id in media_ids:
        if media_id not in there:
            raise InputError(f"there is no entry {media_id!r} on {settings.media_topic!r}: see `hushword media list`")
        if there[media_id].kind != MediaFingerprint.KNOWN:
            raise InputError(
                f"{media_id!r} was discovered, and would be again: `hushword media block {media_id}` withdraws it"
            )
    publish(settings, settings.media_topic, dict.fromkeys(media_ids))
    for media_id in dict.fromkeys(media_ids):
        title = there[media_id].title
        print(f"{media_id}{f' ({title})' if title else ''} is removed")


@with_settings("bootstrap_servers", "media_topic", "bits", "filters")
def promote(
    media_id: MediaId,
    title: Annotated[str, typer.Option(help="For people: what it is.")],
    config: ConfigFile = None,
    valid_from: Annotated[str | None, typer.Option(help="An ISO date or time. [default: now]", metavar="TIME")] = None,
    valid_until: Annotated[
        str | None,
        typer.Option(help="An ISO date or time; a date is its whole day. [default: for ever]", metavar="TIME"),
    ] = None,
    **flags: Any,
) -> None:
    """Make known media of a discovered average, which does not expire then; the average goes on until it does."""
    settings = load_settings(config, flags)
    from pipeline.control import when
    from pipeline.kafka.topics import check_cluster
    from pipeline.matching import load_bits
    from pipeline.media.entries import promoted
    from pipeline.media.sources import time_us
    from pipeline.media.topic import MediaWriter, fingerprints
    from pipeline.wire import BadMediaError

    now_us = round(time.time() * 1e6)
    from_us = now_us if valid_from is None else time_us(valid_from)
    until_us = time_us(valid_until or "", until=True)
    bits = load_bits(settings)
    check_cluster(settings, {"media": ("READ", "WRITE")})
    there = fingerprints(settings)
    average = there.get(media_id)
    if average is None:
        raise InputError(f"there is no average {media_id!r} on {settings.media_topic!r}: see `hushword media list`")
    try:
        entry = promoted(average, title, from_us, until_us, now_us, bits)
    except BadMediaError as error:
        raise InputError(f"{media_id!r} cannot become known media: {error}") from error
    if entry.media_id in there:
        print(f"{media_id} is known already, as {entry.media_id}")
        return
    with MediaWriter(settings) as writer:
        writer.put(entry)
        writer.flush()
    until = f" until {when(until_us)}" if until_us else ""
    print(
        f"{media_id}, heard in {average.households} households, is known media now{until}: {entry.media_id} ({title})"
    )

"""`hushword media`: what is known about media, and the withdrawal of an average that does harm."""

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from pipeline.errors import InputError
from pipeline.flags import AsJson, ConfigFile, with_settings
from pipeline.options import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.messages.hushword_pb2 import Control, MediaFingerprint

app = typer.Typer(help="Averages of media: list them, withdraw one, take that back.", no_args_is_help=True)

MediaId = Annotated[str, typer.Argument(help="As decisions carry it, such as d-0123456789abcdef.", metavar="ID")]


@app.command("list")
@with_settings("bootstrap_servers", "media_topic", "control_topic")
def list_media(
    config: ConfigFile = None,
    discovered: Annotated[bool, typer.Option("--discovered", help="Only what was discovered.")] = False,
    blocked: Annotated[bool, typer.Option("--blocked", help="Only what is blocked.")] = False,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """List what decides, and what is blocked: households, first and last heard."""
    settings = load_settings(config, flags)
    from pipeline.control import when

    entries = [
        entry
        for entry in _entries(settings)
        if (entry["kind"] == "DISCOVERED" or not discovered) and (entry["blocked"] or not blocked)
    ]
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    if not entries:
        print("there are none")
        return
    # Ids are there to be copied, whatever the width.
    table = Table(Column("id", no_wrap=True), "route", "homes", "first heard", "last heard", "blocked")
    for entry in entries:
        times = [when(round(entry[name] * 1e6)) for name in ("first_heard_s", "last_heard_s")]
        route = f"{entry['wake_word']}/{entry['locale']}"
        table.add_row(entry["media_id"], route, str(entry["households"]), *times, _why(entry))
    Console().print(table)


@app.command()
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
    from pipeline.messages.hushword_pb2 import Control, MediaFingerprint
    from pipeline.topics import check_cluster

    check_cluster(settings, roles=["media", "control"])
    key = f"{BLOCK}/{media_id}"
    found = averages(settings).get(media_id)
    if found is None and key in given(settings):
        print(f"{media_id} is blocked already")
        return
    if found is None:
        raise InputError(f"there is no average {media_id!r} on {settings.media_topic!r}: see `hushword media list`")
    if found.kind != MediaFingerprint.DISCOVERED:
        raise InputError(f"{media_id!r} was not discovered, but made from a recording: it is not for blocking")
    # First the order: an average that is only gone would be found again before the order comes.
    give(settings, {key: Control(block=found, reason=reason)})
    publish(settings, settings.media_topic, {media_id: None})
    print(
        f"{media_id}, heard in {found.households} households, is withdrawn from {found.wake_word}/{found.locale};"
        " what sounds like it is accepted"
    )


@app.command()
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


def _entries(settings: Settings) -> list[dict[str, Any]]:
    """Everything on the media topic, and what is blocked and no longer there; the last heard comes first."""
    from pipeline.control import BLOCK, given

    orders = {
        key.removeprefix(f"{BLOCK}/"): order
        for key, order in given(settings).items()
        if key.startswith(f"{BLOCK}/") and order.HasField("block")
    }
    media = {media_id: order.block for media_id, order in orders.items()} | averages(settings)
    entries = [_entry(media_id, message, orders.get(media_id)) for media_id, message in media.items()]
    return sorted(entries, key=lambda entry: (-entry["last_heard_s"], entry["media_id"]))


def _entry(media_id: str, message: "MediaFingerprint", order: "Control | None") -> dict[str, Any]:
    from pipeline.messages.hushword_pb2 import MediaFingerprint

    return {
        "media_id": media_id,
        "kind": MediaFingerprint.Kind.Name(message.kind),
        "wake_word": message.wake_word,
        "locale": message.locale,
        "households": message.households,
        "first_heard_s": message.discovered_us / 1e6,
        "last_heard_s": (message.last_heard_us or message.discovered_us) / 1e6,
        "valid_until_s": message.valid_until_us / 1e6,
        "words": len(message.votes),
        "origin": message.origin,
        "blocked": order is not None,
        "blocked_by": order.by if order is not None else None,
        "blocked_at_s": order.ordered_at_us / 1e6 if order is not None else None,
        "reason": order.reason if order is not None else None,
    }


def _why(entry: dict[str, Any]) -> str:
    if not entry["blocked"]:
        return "" if entry["valid_until_s"] > time.time() else "(no longer valid)"
    return f"by {entry['blocked_by']}" + (f": {entry['reason']}" if entry["reason"] else "")


def averages(settings: Settings) -> dict[str, "MediaFingerprint"]:
    """Give the newest fingerprint of each id on the media topic."""
    found: dict[str, MediaFingerprint] = {}
    for media_id, message in _records(settings):
        found.pop(media_id, None)
        if message is not None:
            found[media_id] = message
    return found


def _records(settings: Settings) -> Iterator[tuple[str, "MediaFingerprint | None"]]:
    from google.protobuf.message import DecodeError

    from pipeline.messages.hushword_pb2 import MediaFingerprint
    from pipeline.reading import records

    for record in records(settings.bootstrap_servers, settings.media_topic):
        try:
            message = MediaFingerprint.FromString(record.value) if record.value else None
        except DecodeError:
            continue  # the job counts it, and leaves it alone too
        yield (record.key or b"").decode(errors="replace"), message

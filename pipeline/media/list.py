"""`hushword media list` and `show`: what is known of what airs."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from pipeline.errors import InputError
from pipeline.flags import AsJson, ConfigFile, with_settings
from pipeline.options import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.messages.hushword_pb2 import Control, MediaFingerprint


@with_settings("bootstrap_servers", "media_topic", "control_topic")
def list_media(
    config: ConfigFile = None,
    known: Annotated[bool, typer.Option("--known", help="Only known media, from recordings.")] = False,
    discovered: Annotated[bool, typer.Option("--discovered", help="Only what was discovered.")] = False,
    blocked: Annotated[bool, typer.Option("--blocked", help="Only what is blocked.")] = False,
    valid: Annotated[bool, typer.Option("--valid", help="Only what decides now.")] = False,
    wake_word: Annotated[str | None, typer.Option(help="Only of this wake word.")] = None,
    locale: Annotated[str | None, typer.Option(help="Only of this locale, such as en-US.")] = None,
    title: Annotated[str | None, typer.Option(help="Only with this in the title, in any case.", metavar="TEXT")] = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """List what decides, and what is blocked: known media by their title, averages by who heard them."""
    settings = load_settings(config, flags)
    from pipeline.kafka.topics import check_cluster

    check_cluster(settings, {"media": ("READ",), "control": ("READ",)})
    kinds = {kind for kind, wanted in (("KNOWN", known), ("DISCOVERED", discovered)) if wanted}
    entries = [
        entry
        for entry in _entries(settings)
        if (not kinds or entry["kind"] in kinds)
        and (entry["blocked"] or not blocked)
        and (entry["valid"] or not valid)
        and wake_word in (None, entry["wake_word"])
        and locale in (None, entry["locale"])
        and (title or "").casefold() in entry["title"].casefold()
    ]
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    if not entries:
        print("there are none")
        return
    console = Console()
    for table in (_known_table(entries), _discovered_table(entries)):
        if table.row_count:
            console.print(table)


@with_settings("bootstrap_servers", "media_topic", "control_topic")
def show(
    media_id: Annotated[str, typer.Argument(help="As decisions carry it.", metavar="ID")],
    config: ConfigFile = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Show all fields of an entry or an average, and a picture of its fingerprint: time from left to right."""
    settings = load_settings(config, flags)
    from pipeline.kafka.topics import check_cluster
    from pipeline.media.picture import picture

    check_cluster(settings, {"media": ("READ",), "control": ("READ",)})
    media, orders = _media(settings)
    if media_id not in media:
        raise InputError(f"there is no {media_id!r} on {settings.media_topic!r}: see `hushword media list`")
    entry = _entry(media_id, media[media_id], orders.get(media_id))
    if as_json:
        print(json.dumps(entry, indent=2))
        return
    from pipeline.control import when

    console = Console()
    fields = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in entry.items():
        if name.endswith("_s"):
            fields.add_row(name.removesuffix("_s"), when(round((value or 0) * 1e6)))
        elif value not in (None, ""):
            fields.add_row(name, Text(str(value)))
    console.print(fields)
    console.print(picture(media[media_id], console.width))


def _media(settings: Settings) -> tuple[dict[str, "MediaFingerprint"], dict[str, "Control"]]:
    """Everything on the media topic, and what is blocked and no longer there; and the orders to block, by id."""
    from pipeline.control import BLOCK, given
    from pipeline.media.topic import fingerprints

    orders = {
        key.removeprefix(f"{BLOCK}/"): order
        for key, order in given(settings).items()
        if key.startswith(f"{BLOCK}/") and order.HasField("block")
    }
    return {media_id: order.block for media_id, order in orders.items()} | fingerprints(settings), orders


def _entries(settings: Settings) -> list[dict[str, Any]]:
    """Known media first, the last added before; then averages, the last heard before."""
    media, orders = _media(settings)
    entries = [_entry(media_id, message, orders.get(media_id)) for media_id, message in media.items()]
    newest = {entry["media_id"]: max(entry["added_s"], entry["last_heard_s"]) for entry in entries}
    return sorted(entries, key=lambda e: (e["kind"] != "KNOWN", -newest[e["media_id"]], e["media_id"]))


def _entry(media_id: str, message: "MediaFingerprint", order: "Control | None") -> dict[str, Any]:
    from pipeline.messages.hushword_pb2 import MediaFingerprint

    known = message.kind == MediaFingerprint.KNOWN
    begun = message.valid_from_us <= time.time() * 1e6
    # Known media without an end are valid for ever; an average always has one.
    over = message.valid_until_us <= time.time() * 1e6 and not (known and message.valid_until_us == 0)
    return {
        "media_id": media_id,
        "kind": MediaFingerprint.Kind.Name(message.kind)
        if message.kind in MediaFingerprint.Kind.values()
        else str(message.kind),
        "title": message.title,
        "wake_word": message.wake_word,
        "locale": message.locale,
        "valid": begun and not over and order is None,
        "valid_from_s": message.valid_from_us / 1e6,
        "valid_until_s": message.valid_until_us / 1e6,
        "added_s": message.added_us / 1e6,
        "source": message.source,
        "wake_word_at_ms": message.wake_word_ms,
        "households": message.households,
        "first_heard_s": message.discovered_us / 1e6,
        "last_heard_s": (message.last_heard_us or message.discovered_us) / 1e6,
        "agreement": None if known or not message.agreement else round(message.agreement, 4),
        "origin": message.origin,
        "bits": message.bits,
        "words": len(message.words) // 8,
        "blocked": order is not None,
        "blocked_by": order.by if order is not None else None,
        "blocked_at_s": order.ordered_at_us / 1e6 if order is not None else None,
        "reason": order.reason if order is not None else None,
    }


def _known_table(entries: list[dict[str, Any]]) -> Table:
    from pipeline.control import when

    # Ids are there to be copied, whatever the width.
    table = Table(Column("known", no_wrap=True), "title", "route", "valid from", "valid until", "added")
    for entry in entries:
        if entry["kind"] == "KNOWN":
            times = [when(round(entry[name] * 1e6)) for name in ("valid_from_s", "valid_until_s", "added_s")]
            table.add_row(entry["media_id"], Text(entry["title"]), f"{entry['wake_word']}/{entry['locale']}", *times)
    return table


def _discovered_table(entries: list[dict[str, Any]]) -> Table:
    from pipeline.control import when

    numbers = (Column(name, justify="right", no_wrap=True) for name in ("homes", "agree"))
    table = Table(Column("discovered", no_wrap=True), "route", *numbers, "first heard", "last heard", "blocked")
    for entry in entries:
        if entry["kind"] != "KNOWN":
            times = [when(round(entry[name] * 1e6)) for name in ("first_heard_s", "last_heard_s")]
            agreement = "-" if entry["agreement"] is None else f"{entry['agreement']:.1%}"
            route = f"{entry['wake_word']}/{entry['locale']}"
            table.add_row(entry["media_id"], route, str(entry["households"]), agreement, *times, Text(_why(entry)))
    return table


def _why(entry: dict[str, Any]) -> str:
    if not entry["blocked"]:
        return "" if entry["valid_until_s"] > time.time() else "(no longer valid)"
    return f"by {entry['blocked_by']}" + (f": {entry['reason']}" if entry["reason"] else "")

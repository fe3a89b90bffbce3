"""`hushword media export-device`: what airs most, as a device carries it."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipeline.errors import FailedError, InputError
from pipeline.flags import ConfigFile
from pipeline.options import Settings, load_settings

if TYPE_CHECKING:
    from matcher.device import DeviceBits, Pack
    from pipeline.messages.hushword_pb2 import MediaFingerprint

EXPORT_DEVICE_SETTINGS = ("bootstrap_servers", "media_topic", "decisions_topic", "false_ignore_budget")
WEEK_S = 7 * 24 * 3600
_U32 = 2**32 - 1


def export_device(
    out: Annotated[Path, typer.Option(help="The pack.", metavar="FILE")],
    wake_word: Annotated[str, typer.Option(help="As requests carry it, such as alexa.")],
    locale: Annotated[str, typer.Option(help="As requests carry it, such as en-US.")],
    count: Annotated[int, typer.Option(min=1, max=250, help="Entries at most.")] = 50,
    sources: Annotated[
        Path | None,
        typer.Option(
            help="A table of recordings instead of the topics: file,title,wake_word,locale,at_s.", metavar="CSV"
        ),
    ] = None,
    config: ConfigFile = None,
    **flags: Any,
) -> None:
    """Write the pack with which devices recognise what airs now by themselves.

    First comes what is valid now, of that what was ignored most often in the last seven days.
    """
    settings = load_settings(config, flags)
    from matcher.device import device_bits, pack_bytes

    bits = device_bits()
    now_us = time.time_ns() // 1000
    entries = _from_recordings(sources, bits) if sources is not None else _from_topic(settings)
    route = [e for e in entries if (e.wake_word, e.locale, e.bits) == (wake_word, locale, bits.source)]
    heard = Counter[str]() if sources is not None else _heard(settings, now_us)
    chosen = choose(route, heard, now_us, count)
    if not chosen:
        where = str(sources) if sources is not None else f"topic {settings.media_topic!r}"
        raise InputError(f"{where} has no known media for {wake_word}/{locale} that is valid now, or will be")
    data = pack_bytes(pack_of(chosen, bits, settings.false_ignore_budget, now_us // 1_000_000), bits.name)
    try:
        out.write_bytes(data)
    except OSError as error:
        raise FailedError(f"{out} cannot be written: {error}") from error
    console = Console(highlight=False)
    for number, entry in enumerate(chosen):
        console.print(f"{number:3d}  {entry.media_id}  heard {heard[entry.media_id]}  {entry.title}", soft_wrap=True)
    console.print(
        f"{out}: {len(chosen)} entries of {len(route)}, {len(data)} bytes, {len(data) / len(chosen):.0f} an entry;"
        f" a live request is ignored with a probability of {settings.false_ignore_budget:g}",
        soft_wrap=True,
    )


def choose(
    entries: Iterable["MediaFingerprint"], heard: Mapping[str, int], now_us: int, count: int
) -> list["MediaFingerprint"]:
    """Choose what a device is to carry.

    Args:
        entries: of one route.
        heard: how often each media id was heard lately.
        now_us: microseconds of Unix time; what is valid no more is left out, what is not yet valid comes last.
        count: how many at most.

    """
    open_ones = [entry for entry in entries if not 0 < entry.valid_until_us <= now_us]
    return sorted(
        open_ones,
        key=lambda e: (e.valid_from_us > now_us, -heard.get(e.media_id, 0), -e.added_us, e.media_id),
    )[:count]


def pack_of(chosen: Iterable["MediaFingerprint"], bits: "DeviceBits", budget: float, made_s: int) -> "Pack":
    """Make the pack of some entries; strangers' fingerprints make up for those that a device's own mean lacks.

    Args:
        chosen: entries of the kind of bits that the device's are chosen from.
        bits: the device's.
        budget: the probability that a live request is ignored by chance.
        made_s: seconds of Unix time.

    """
    import numpy as np

    from matcher.device import LEAST_ENTRIES, Pack, PackEntry, media_digest
    from matcher.evidence import shipped_calibration
    from matcher.known_null import LEAD_WORDS

    entries = [
        PackEntry(
            media_digest(entry.media_id),
            # From where requests begin.
            bits.words(np.frombuffer(entry.words, "<u8").astype(np.uint64)[LEAD_WORDS:]),
            # Not before it is valid, nor after.
            min(_U32, -(-entry.valid_from_us // 1_000_000)),
            min(_U32, entry.valid_until_us // 1_000_000),
        )
        for entry in chosen
    ]
    looks = bits.looks(budget, len(entries))
    cohort = shipped_calibration(bits.source).cohort[: max(0, LEAST_ENTRIES - len(entries))]
    entries += [PackEntry(0, bits.words(words), decides=False) for words in cohort]
    return Pack(bits.bits_id, made_s, looks, entries)


def _from_topic(settings: Settings) -> list["MediaFingerprint"]:
    from pipeline.media.topic import known

    return list(known(settings).values())


def _from_recordings(table: Path, bits: "DeviceBits") -> list["MediaFingerprint"]:
    from matcher.bits import bits_named
    from pipeline.media.sources import fingerprint, read_csv

    source = bits_named(bits.source)
    return [fingerprint(mention, source) for mention in read_csv(table)]


def _heard(settings: Settings, now_us: int) -> Counter[str]:
    """How often each entry was recognised in the last week: decisions told twice count once."""
    from google.protobuf.message import DecodeError

    from pipeline.messages.hushword_pb2 import Decision
    from pipeline.reading import records

    by_request: dict[str, str] = {}
    since_ms = now_us // 1000 - WEEK_S * 1000
    for record in records(settings, settings.decisions_topic, since_ms=since_ms):
        try:
            decision = Decision.FromString(record.value or b"")
        except DecodeError:
            continue  # `hushword decisions` says so
        if decision.reason == Decision.KNOWN and decision.verdict == Decision.IGNORE:
            by_request[decision.request_id] = decision.media_id
    return Counter(by_request.values())

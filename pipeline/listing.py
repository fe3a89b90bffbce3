"""`hushword decisions`: the decisions topic as lines, now or as they come."""

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.flags import ConfigFile, with_settings
from pipeline.options import load_settings
from pipeline.times import time_ms

if TYPE_CHECKING:
    from pipeline.messages.hushword_pb2 import Decision


@with_settings("bootstrap_servers", "decisions_topic")
def decisions(
    config: ConfigFile = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as they come, until Ctrl-C.")] = False,
    since: Annotated[
        str | None,
        typer.Option(help="From here on: 15m, 2h, or a time [default: 1h; with --follow, now].", metavar="TIME"),
    ] = None,
    reason: Annotated[
        Literal["CONCURRENT", "DISCOVERED", "KNOWN"] | None, typer.Option(help="Only of this reason.")
    ] = None,
    late: Annotated[bool | None, typer.Option(help="Only late ones, or none of them.")] = None,
    shadow: Annotated[bool | None, typer.Option(help="Only those in shadow, or none of them.")] = None,
    wake_word: Annotated[str | None, typer.Option(help="Only of this wake word.")] = None,
    locale: Annotated[str | None, typer.Option(help="Only of this locale, such as en-US.")] = None,
    media: Annotated[str | None, typer.Option(help="Only by this event or average.", metavar="ID")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    **flags: Any,
) -> None:
    """List decisions, or follow them as a gateway does."""
    settings = load_settings(config, flags)
    since_ms = None if since is None and follow else time_ms(since or "1h", time.time())
    from google.protobuf.message import DecodeError

    from pipeline import reading
    from pipeline.messages.hushword_pb2 import Decision

    wanted: dict[str, Any] = {
        "wake_word": wake_word,
        "locale": locale,
        "media_id": media,
        "late": late,
        "shadow": shadow,
    }
    wanted["reason"] = None if reason is None else Decision.Reason.Value(reason)
    read = reading.follow if follow else reading.records
    for record in read(settings, settings.decisions_topic, since_ms=since_ms):
        try:
            decision = Decision.FromString(record.value or b"")
        except DecodeError as error:
            print(f"partition {record.partition}, offset {record.offset} is no decision: {error}", file=sys.stderr)
            continue
        if all(value is None or getattr(decision, name) == value for name, value in wanted.items()):
            print(_json(decision, record.timestamp) if as_json else _line(decision, record.timestamp), flush=True)


def _json(decision: "Decision", appended_ms: int) -> str:
    from google.protobuf.json_format import MessageToDict

    plain = MessageToDict(decision, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps({**plain, "latency_ms": _latency_ms(decision, appended_ms), "appended_ms": appended_ms})


def _line(decision: "Decision", appended_ms: int) -> str:
    from pipeline.control import when
    from pipeline.messages.hushword_pb2 import Decision

    reasons = Decision.Reason
    reason = reasons.Name(decision.reason) if decision.reason in reasons.values() else str(decision.reason)
    marks = "".join(f" {name}" for name in ("late", "shadow") if getattr(decision, name))
    return (
        f"{when(appended_ms * 1000)}  {decision.request_id}  {decision.wake_word}/{decision.locale}  {reason}"
        f"  {decision.media_id} of {decision.households}  score {decision.score:.1f}"
        f"  audio {decision.audio_used_ms} ms  latency {_latency_ms(decision, appended_ms):.0f} ms{marks}"
    )


def _latency_ms(decision: "Decision", appended_ms: int) -> float:
    return round(appended_ms - decision.audio_appended_us / 1000, 3)

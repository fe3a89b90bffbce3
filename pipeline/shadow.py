"""`hushword shadow`: the kill switch. In shadow everything is decided and published, and nobody acts on it."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.flags import AsJson, ConfigFile, with_settings
from pipeline.options import load_settings

app = typer.Typer(help="The kill switch: decide for the record only, on every route or on one.", no_args_is_help=True)

Scope = Annotated[
    str | None, typer.Option("--route", help="Only this one, such as alexa/en-US.", metavar="WAKE/LOCALE")
]
Reason = Annotated[str, typer.Option(help="Why, for those who come after; it stands in the logs.")]


@app.command()
@with_settings("bootstrap_servers", "control_topic")
def on(config: ConfigFile = None, route: Scope = None, reason: Reason = "", **flags: Any) -> None:
    """Turn every worker to shadow, within a second."""
    from pipeline.messages.hushword_pb2 import Control

    _order(config, route, Control(shadow=Control.ON, reason=reason), flags)
    print(f"shadow is on for {route or 'every route'}: decisions are published with shadow=true and not acted on")


@app.command()
@with_settings("bootstrap_servers", "control_topic")
def off(config: ConfigFile = None, route: Scope = None, reason: Reason = "", **flags: Any) -> None:
    """Let decisions be acted on again."""
    from pipeline.control import SHADOW, given
    from pipeline.messages.hushword_pb2 import Control

    settings = _order(config, route, Control(shadow=Control.OFF, reason=reason), flags)
    print(f"shadow is off for {route or 'every route that has no order of its own'}")
    for key, order in sorted(given(settings).items()):
        scope, _, own = key.partition("/")
        if scope != SHADOW or order.shadow == Control.OFF or own == route:
            continue
        if own and route is None:
            print(f"{own} stays in shadow: `hushword shadow off --route {own}`")
        if not own:
            print(f"every route is in shadow still, and so is {route}: `hushword shadow off`")


@app.command()
@with_settings("bootstrap_servers", "control_topic")
def status(config: ConfigFile = None, route: Scope = None, as_json: AsJson = False, **flags: Any) -> None:
    """Say what was ordered last, by whom, and why."""
    settings = load_settings(config, flags)
    from pipeline.control import SHADOW, given, shadow_key, when
    from pipeline.messages.hushword_pb2 import Control

    wanted = shadow_key(route)
    rows = []
    for key, order in sorted(given(settings).items()):
        scope, _, own = key.partition("/")
        if scope == SHADOW and (route is None or key in (SHADOW, wanted)):
            rows.append((own, order.shadow != Control.OFF, order))
    if as_json:
        found = [
            {
                "route": name or None,
                "shadow": is_on,
                "by": o.by,
                "ordered_at_s": o.ordered_at_us / 1e6,
                "reason": o.reason,
            }
            for name, is_on, o in rows
        ]
        print(json.dumps(found, indent=2))
        return
    if not rows:
        print("shadow was never ordered: decisions are acted on, but for workers that were started with --shadow")
        return
    table = Table("route", "shadow", "ordered", "by", "reason")
    for name, is_on, order in rows:
        table.add_row(name or "every", "on" if is_on else "off", when(order.ordered_at_us), order.by, order.reason)
    Console().print(table)


def _order(config: Any, route: str | None, order: Any, flags: dict[str, Any]) -> Any:
    settings = load_settings(config, flags)
    from pipeline.control import give, shadow_key
    from pipeline.kafka.topics import check_cluster

    key = shadow_key(route)
    check_cluster(settings, {"control": ("READ", "WRITE")})
    give(settings, {key: order})
    return settings

"""Flags that several commands share."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import BROKER_SETTINGS, Settings

ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output instead of tables.")]


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag per field of Settings (those named, or all); they arrive as keyword arguments.

    Who connects to brokers names bootstrap_servers, and gets all flags that it takes to reach them.

    A flag's default is None, "not given", so that the environment and the file can speak; its help is the field's.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        kept = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        flags = []
        wanted = [*names, *(BROKER_SETTINGS if "bootstrap_servers" in names else ())] or Settings.model_fields
        for name in dict.fromkeys(wanted):
            field = Settings.model_fields[name]
            # Only a switch needs its type; all other values are Settings' business to parse, and to refuse.
            kind = bool if field.annotation is bool else str
            default = "" if field.default_factory else f" [default: {field.default}]"
            option = typer.Option(help=f"{field.description}{default}", metavar=None if kind is bool else "VALUE")
            flags.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
                )
            )
        command.__signature__ = signature.replace(parameters=[*kept, *flags])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in [*kept, *flags]} | {"return": None}
        return command

    return decorate

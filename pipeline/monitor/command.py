"""`hushword monitor`: the command."""

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipeline.monitor.address import listen, require_extra
from pipeline.options import load_settings

HOST, PORT = "127.0.0.1", 8470
MONITOR_SETTINGS = (
    "bootstrap_servers", "audio_topic", "decisions_topic", "media_topic", "dead_letter_topic", "group_id",
    "false_ignore_budget", "bits", "filters", "calibration", "hash_ids", "hash_ids_key_file",
)  # fmt: skip


def monitor(
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this machine's own, it takes a token.", metavar="HOST")
    ] = HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: any that is free.", metavar="PORT")
    ] = PORT,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that opens the page; or in HUSHWORD_MONITOR_TOKEN.", metavar="FILE"),
    ] = None,
    since_s: Annotated[
        float | None,
        typer.Option("--since", min=0, help="Begin so many seconds ago. [default: with what comes now]", metavar="S"),
    ] = None,
    **flags: Any,
) -> None:
    """Serve a page that shows what is heard and decided, as it happens, and why."""
    settings = load_settings(config, flags)
    require_extra()
    from pipeline.kafka.topics import Rights, check_cluster
    from pipeline.monitor.access import read_token

    token = read_token(host, token_file)
    listening = listen(host, port)
    read: Rights = ("READ",)
    check_cluster(settings, {"audio": read, "decisions": read, "media": read, "dead_letter": read})
    from pipeline.monitor.server import Monitor

    signal.signal(signal.SIGTERM, _terminated)
    page = Monitor(settings, listening, token)
    page.start()
    try:
        page.follow(settings, None if since_s is None else time.time() - since_s)
        print(f"hushword can be watched at {page.address}{'?token=...' if token else ''} until Ctrl-C", flush=True)
        page.wait()
    finally:
        page.stop()


def _terminated(_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)

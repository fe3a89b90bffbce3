"""`hushword monitor`: the command."""

import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.monitor.address import listen, require_extra
from pipeline.options import Settings

HOST, PORT = "127.0.0.1", 8470

Host = Annotated[str, typer.Option(help="Address to listen on; other than this machine's own, it takes a token.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: any that is free.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="File with the token that opens the page; or in HUSHWORD_MONITOR_TOKEN.", metavar="FILE"),
]
Since = Annotated[
    float | None,
    typer.Option("--since", min=0, help="Begin so many seconds ago.", show_default="with what comes from now on"),
]


def monitor(settings: Settings, host: str, port: int, token_file: Path | None, since_s: float | None) -> None:
    """Serve the page until a signal comes.

    Raises:
        InputError: the extra is not installed, the token, the address or the cluster is not as it must be.
        FailedError: what feeds the page has failed.

    """
    require_extra()
    from pipeline.monitor.access import read_token
    from pipeline.topics import check_cluster

    token = read_token(host, token_file)
    listening = listen(host, port)
    check_cluster(settings)
    from pipeline.monitor.server import Monitor

    page = Monitor(settings, listening, token)
    page.start()
    try:
        page.follow(settings, None if since_s is None else time.time() - since_s)
        print(f"hushword can be watched at {page.address}{'?token=...' if token else ''} until Ctrl-C", flush=True)
        page.wait()
    finally:
        page.stop()

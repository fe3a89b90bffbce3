"""`hushword worker-pool`: the command."""

import logging
import signal
import threading
from contextlib import ExitStack
from typing import Annotated

import typer

from pipeline.flags import ConfigFile
from pipeline.logs import configure_logs
from pipeline.options import load_settings
from pipeline.shared_counts import SharedCounts

PORT = 50_000  # what Beam's documentation calls it by

log = logging.getLogger(__name__)


def worker_pool(
    config: ConfigFile = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port on 127.0.0.1.", metavar="PORT")] = PORT,
) -> None:
    """Start Python workers for a Flink task manager on this machine, and serve what they count."""
    settings = load_settings(config)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    configure_logs(settings.log_format)  # before Beam's imports, which have something to say
    with ExitStack() as stack:
        if settings.metrics_port is not None:
            stack.callback(SharedCounts().close)  # workers inherit where to count
            from pipeline.serving import serve

            serve(settings)
        from pipeline.flink.worker_pool import HOST, WorkerPool

        stack.enter_context(WorkerPool(port))
        log.info("workers can be asked for at %s:%d", HOST, port)
        told.wait()

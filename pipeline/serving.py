"""Serves what all processes of the job have counted at /metrics, and the answers to probes at /healthz and /readyz."""

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.multiprocess import MultiProcessCollector

from pipeline.health import Broker, Health, Verdict
from pipeline.options import ConfigError, Settings

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Quiet(WSGIRequestHandler):
    """Logs no requests: probes come every few seconds."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base's
        """Say nothing."""


class _Server6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


def serve(settings: Settings) -> WSGIServer:
    """Serve on `metrics_host` and `metrics_port` from a thread; SharedCounts must have been made before.

    Raises:
        ConfigError: the address cannot be had.

    """
    if settings.metrics_port is None:
        raise ValueError("metrics_port is not set")
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    broker = Broker(settings)
    health = Health(registry, broker.missing)
    host = settings.metrics_host
    try:
        server = make_server(
            host,
            settings.metrics_port,
            application(registry, health),
            server_class=_Server6 if ":" in host else ThreadingWSGIServer,
            handler_class=_Quiet,
        )
    except OSError as error:
        where = f"{host}:{settings.metrics_port} (settings metrics_host and metrics_port)"
        raise ConfigError(f"metrics cannot be served at {where}: {error.strerror}") from error
    broker.start()
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def application(registry: CollectorRegistry, health: Health) -> App:
    """Give the WSGI application of the three paths."""
    metrics = make_wsgi_app(registry)
    probes: dict[str, Callable[[], Verdict]] = {"/healthz": health.alive, "/readyz": health.ready}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        probe = probes.get(path)
        if probe is None:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /healthz or /readyz\n"]
        verdict = probe()
        status = "200 OK" if verdict.well else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [verdict.to_json().encode()]

    return app

"""Runs the page: a socket, uvicorn in a thread of its own, and the two threads that keep the model current."""

import socket
import threading
import time

import uvicorn
from prometheus_client import CollectorRegistry

from pipeline.errors import FailedError
from pipeline.exporter import Exporter
from pipeline.monitor.address import address_of
from pipeline.monitor.app import monitor_app
from pipeline.monitor.follower import Follower
from pipeline.monitor.model import Model
from pipeline.monitor.watch import Watch
from pipeline.options import Settings

_STARTED_WITHIN_S = 10.0


class Monitor:
    """A page that can be looked at from `start` on, and shows topics from `follow` on."""

    def __init__(self, settings: Settings, listening: socket.socket, token: str | None = None) -> None:
        """`listening` is closed in the end."""
        self.model = Model()
        self._registry = CollectorRegistry()
        self._socket = listening
        app = monitor_app(self.model, self._registry, settings, token)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # addresses may have a token in them
            server_header=False,
            timeout_graceful_shutdown=1,  # streams of news never end by themselves
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="monitor", daemon=True
        )
        self._follower: Follower | None = None
        self._watch: Watch | None = None
        self._exporter: Exporter | None = None

    @property
    def address(self) -> str:
        """Where the page is."""
        return address_of(self._socket)

    def start(self) -> None:
        """Serve; the page answers when this returns."""
        self._thread.start()
        deadline_s = time.monotonic() + _STARTED_WITHIN_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                raise FailedError(f"the page at {self.address} did not start")
            time.sleep(0.01)

    def follow(self, settings: Settings, since_s: float | None = None) -> None:
        """Show these topics, once: from now on, or what was appended since `since_s` (Unix time) too."""
        self._follower = follower = Follower(settings, self.model, since_s)
        self._watch = Watch(settings, self.model, lambda: follower.ends)
        self._exporter = Exporter(settings, self._registry)
        for thread in (self._follower, self._watch, self._exporter):
            thread.start()

    def unfollow(self, note: str) -> None:
        """Leave the broker; the page stays as it is, and says why."""
        for thread in (self._watch, self._follower, self._exporter):
            if thread is not None:
                thread.stop()
        self.model.end(note, round(time.time() * 1000))

    def wait(self) -> None:
        """Return when the server has ended, or when what feeds the page has failed."""
        while self._thread.is_alive():
            self._thread.join(0.5)
            for thread in (self._watch, self._follower):
                if thread is not None and not thread.is_alive():
                    raise FailedError(f"the page is not kept current any more: {thread.name} has ended")

    def stop(self) -> None:
        """Stop everything."""
        for thread in (self._watch, self._follower, self._exporter):
            if thread is not None:
                thread.stop()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._socket.close()

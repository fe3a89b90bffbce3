"""The web application: the page, its news as server-sent events, the case of an event, and `/metrics`. Read-only."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pipeline.matching import load_bits, load_calibration
from pipeline.monitor.access import Access
from pipeline.monitor.model import Model
from pipeline.monitor.why import explain
from pipeline.options import Settings

STATIC = Path(__file__).parent / "static"
NEWS_EVERY_S = 0.25  # however much happens
MAX_READERS = 20


def monitor_app(
    model: Model,
    registry: CollectorRegistry,
    settings: Settings,
    token: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Make the application.

    Args:
        model: what is shown; somebody else keeps it current.
        registry: what `/metrics` gives.
        settings: the job's, for what it decides by.
        token: who does not bring it is refused; None: everybody on this machine may look.
        clock: s of Unix time.

    """
    views = _Views(model, registry, settings, clock)
    return Starlette(
        routes=[
            Route("/", views.page),
            Route("/news", views.news),
            Route("/why/{key}", views.why),
            Route("/metrics", views.metrics),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Access, token=token)],
    )


class _Views:
    def __init__(
        self, model: Model, registry: CollectorRegistry, settings: Settings, clock: Callable[[], float]
    ) -> None:
        self._model, self._registry, self._settings, self._clock = model, registry, settings, clock
        self._readers = 0
        self._cases: dict[tuple[str, int, bool], dict[str, Any]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def page(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def metrics(self, request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(await run_in_threadpool(encode, self._registry), headers={"Content-Type": media_type})

    async def news(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self._readers >= MAX_READERS:
            return PlainTextResponse(f"{MAX_READERS} pages are open already\n", status_code=503)
        headers = {"X-Accel-Buffering": "no"}  # a proxy must hand them on as they come
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=headers)

    async def why(self, request: Request) -> Response:
        case = self._model.case(request.path_params["key"])
        if case is None:
            # Not a 404: a page may well ask for what has just been dropped, and browsers complain of those aloud.
            return JSONResponse({"error": "This event is not kept any more."})
        # An answer from before anybody else was heard lacks the stranger: it is worked out again.
        at = request.path_params["key"], case.version, case.stranger is None
        async with self._one_at_a_time:
            if at not in self._cases:
                bits, calibration = load_bits(self._settings), load_calibration(self._settings)
                budget = self._settings.false_ignore_budget
                self._cases[at] = await run_in_threadpool(explain, case, bits, calibration, budget)
                while len(self._cases) > MAX_READERS:
                    del self._cases[next(iter(self._cases))]
            return JSONResponse(self._cases[at])

    async def _stream(self) -> AsyncIterator[str]:
        self._readers += 1
        try:
            version = 0
            while True:
                news = self._model.news(version, round(self._clock() * 1000))
                version = news["version"]
                yield f"data: {json.dumps(news, separators=(',', ':'))}\n\n"
                await asyncio.sleep(NEWS_EVERY_S)
        finally:
            self._readers -= 1

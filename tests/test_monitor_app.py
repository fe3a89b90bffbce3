"""The live page's server: what it sends, and to whom."""

import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from airings import NOW_MS, aired, ignored, until
from prometheus_client import CollectorRegistry, Counter
from rich.console import Console
from starlette.testclient import TestClient

from matcher.bits import GRADIENT
from pipeline.cli import main
from pipeline.demo.command import _page
from pipeline.kafka.topics import create_topics
from pipeline.monitor import access
from pipeline.monitor.access import TOKEN_VARIABLE, read_token
from pipeline.monitor.address import AddressError, listen
from pipeline.monitor.app import MAX_READERS, STATIC, monitor_app
from pipeline.monitor.model import Model
from pipeline.monitor.server import Monitor
from pipeline.options import ConfigError, Settings
from pipeline.trial import trial_settings

EVERYWHERE = "0.0.0.0"  # noqa: S104
TOKEN = "correct horse battery staple"  # noqa: S105


# ---- the application -------------------------------------------------------------------------------------------------


@contextmanager
def client(
    page: Model | None = None, token: str | None = None, base_url: str = "http://127.0.0.1"
) -> Iterator[TestClient]:
    registry = CollectorRegistry()
    Counter("seen", "For the test.", registry=registry).inc()
    with TestClient(
        monitor_app(page or Model(), registry, Settings(bits=GRADIENT.name), token),
        base_url=base_url,
        follow_redirects=False,
    ) as open_client:
        yield open_client


def test_every_answer_has_the_headers() -> None:
    with client() as web:
        for path in ("/", "/static/page.js", "/metrics", "/why/none", "/nothing"):
            headers = web.get(path).headers
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"


def test_the_page_takes_nothing_from_elsewhere_and_has_nothing_inline() -> None:
    with client() as web:
        page = web.get("/").text
        assert "://" not in page
        assert " style=" not in page
        assert "<style" not in page
        assert page.count("<script") == page.count("<script src=")
        for line in page.splitlines():
            for mark in ('src="', 'href="'):
                for place in line.split(mark)[1:]:
                    address = place.split('"')[0]
                    if address.startswith("/static/"):
                        assert web.get(address).status_code == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str) -> None:
    """WCAG AA: a contrast of 4.5 between text and what it stands on, 3 for what is only drawn."""
    _, light, dark = (STATIC / "style.css").read_text(encoding="utf-8").split(":root {")
    block = {"light": light, "dark": dark}[scheme].split("}")[0]
    colors = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block))
    for ground in ("ground", "panel"):
        for text in ("ink", "soft", "quiet", "bad"):
            assert _contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for drawn in ("quiet", "through", "awake", "bit", "differs", "focus"):
        assert _contrast(colors[drawn], colors["panel"]) >= 3, drawn


def _contrast(one: str, other: str) -> float:
    """Give the ratio of two colours' relative luminances, as WCAG 2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/news", "/why/d-1.1", "/metrics", "/static/page.js"])
def test_it_is_read_only(method: str, path: str) -> None:
    with client(aired(3)) as web:
        assert web.request(method, path).status_code == 405


def test_metrics_are_those_of_the_registry() -> None:
    with client() as web:
        assert "seen_total 1.0" in web.get("/metrics").text


def test_files_beside_the_page_are_not_served() -> None:
    with client() as web:
        assert web.get("/static/..%2fapp.py").status_code == 404


def test_an_event_can_be_asked_about() -> None:
    with client(aired(4)) as web:
        assert len(web.get("/why/d-1.1").json()["homes"]) == 4
        assert "not kept" in web.get("/why/d-9.1").json()["error"]


def test_another_name_for_this_machine_is_refused() -> None:
    """A page of elsewhere may have a name that leads here; it must not read this one."""
    with client(base_url="http://rebound.example") as web:
        assert web.get("/").status_code == 400


@pytest.mark.parametrize("path", ["/", "/news", "/why/d-1.1", "/metrics", "/static/page.js"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{access.COOKIE}={TOKEN}"}])
def test_without_the_token_nothing_is_seen(path: str, headers: dict[str, str]) -> None:
    with client(aired(3), TOKEN) as web:
        answer = web.get(path, headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "hushword" not in answer.text


def test_the_token_opens_once_and_leaves_a_cookie() -> None:
    with client(token=TOKEN, base_url="http://monitor.example") as web:
        opened = web.get("/", params={"token": TOKEN})
        assert (opened.status_code, opened.headers["Location"]) == (303, "/")
        cookie = opened.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert TOKEN not in cookie
        assert web.get("/").status_code == 200
        assert web.get("/metrics").status_code == 200


def test_the_token_opens_as_a_header() -> None:
    with client(token=TOKEN, base_url="http://monitor.example") as web:
        assert web.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.7", "monitor.example"])
def test_no_token_no_listening_elsewhere(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["monitor", "--host", host])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--token-file" in said


def test_where_the_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token("127.0.0.1", None) is None
    assert read_token("::1", None) is None
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token("127.0.0.1", file)
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    assert read_token(EVERYWHERE, file) == TOKEN
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    with pytest.raises(ConfigError, match="5 characters"):
        read_token(EVERYWHERE, None)


# ---- the server ------------------------------------------------------------------------------------------------------


def test_news_come_as_they_happen_and_pages_are_counted() -> None:
    monitor = Monitor(Settings(), listen("127.0.0.1", 0))
    monitor.start()
    try:
        with httpx.Client(base_url=monitor.address, timeout=20) as web, web.stream("GET", "/news") as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            lines = (json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line)
            assert next(lines)["reset"]
            monitor.model.decided(ignored("r", "h"), NOW_MS)
            assert next(news for news in lines if news["events"])["figures"]["quiet"] == 1
        streams = [httpx.Client(base_url=monitor.address, timeout=20) for _ in range(MAX_READERS + 1)]
        opened = [web.send(web.build_request("GET", "/news"), stream=True) for web in streams]
        assert {answer.status_code for answer in opened} == {200, 503}
        for one in (*opened, *streams):
            one.close()
    finally:
        monitor.stop()
    assert "monitor" not in {thread.name for thread in threading.enumerate()}


def test_without_the_extra_it_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with it; the demonstration goes on without its page."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        main(["monitor"])
    assert ended.value.code == 2
    assert "hushword[monitor]" in capsys.readouterr().err
    console = Console(file=io.StringIO())
    with _page(console, wanted=True) as page:
        assert page is None
    assert isinstance(console.file, io.StringIO)
    assert "hushword[monitor]" in console.file.getvalue()


def test_an_address_that_is_taken_is_a_sentence() -> None:
    monitor = Monitor(Settings(), listen("127.0.0.1", 0))
    port = int(monitor.address.rstrip("/").rpartition(":")[2])
    monitor.start()
    try:
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}"):
            listen("127.0.0.1", port)
    finally:
        monitor.stop()


def test_the_command_serves_until_ctrl_c(kafka: str) -> None:
    settings = trial_settings(Settings(), kafka)
    create_topics(settings, 1)
    # A shell starts what it runs in the background deaf to Ctrl-C, and its children inherit that.
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from pipeline.cli import main; "
    monitor = subprocess.Popen(
        [sys.executable, "-c", f"{hears}main(['monitor', '--port', '0'])"],
        env={**os.environ, **settings.as_environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert monitor.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", monitor.stdout.readline())
        assert address is not None, monitor.communicate()[1]
        assert "hushword" in httpx.get(address[0], timeout=20).text
        until(lambda: "hushword_topic_end_offset{" in httpx.get(f"{address[0]}metrics", timeout=20).text)
        monitor.send_signal(signal.SIGINT)
        assert "Traceback" not in monitor.communicate(timeout=30)[1]
        assert monitor.returncode == 130
    finally:
        monitor.kill()

"""The live page's server side: what the model keeps and forgets, what is sent, and who may see it."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from sounds import fingerprint_of, hear, say
from starlette.testclient import TestClient

from matcher.bits import GRADIENT
from matcher.evidence import shipped_calibration
from matcher.route import Growth
from pipeline.cli import main
from pipeline.messages import hushword_pb2 as pb
from pipeline.monitor import access, model
from pipeline.monitor.access import TOKEN_VARIABLE, read_token
from pipeline.monitor.app import MAX_READERS, STATIC, monitor_app
from pipeline.monitor.follower import Share
from pipeline.monitor.model import Labels, Model
from pipeline.monitor.server import Monitor
from pipeline.monitor.watch import behind
from pipeline.monitor.why import MAX_SHOWN, explain
from pipeline.options import ConfigError, Settings

NOW_MS = 1_800_000_000_000
EVERYWHERE = "0.0.0.0"  # noqa: S104
TOKEN = "correct horse battery staple"  # noqa: S105


def grown(
    name: str, home: str, *, at_ms: int = NOW_MS, audio_ms: int = 2000, words: np.ndarray | None = None, first: int = 0
) -> Growth:
    words = np.empty(0, GRADIENT.words(np.zeros((9, 33), np.float32)).dtype) if words is None else words
    return Growth(name, home, "device", 0, 0, first, words, audio_ms, (at_ms + audio_ms) * 1000)


def ignored(name: str, home: str, media: str = "d-1", *, at_ms: int = NOW_MS + 1200, **fields: object) -> pb.Decision:
    told = {
        "decision_id": f"decision on {name}",
        "request_id": name,
        "household_id": home,
        "wake_word": "alexa",
        "locale": "en-US",
        "verdict": pb.Decision.IGNORE,
        "reason": pb.Decision.CONCURRENT,
        "media_id": media,
        "households": 3,
        "bit_error_rate": 0.25,
        "audio_used_ms": 1100,
        "audio_appended_us": (at_ms - 100) * 1000,
    }
    return pb.Decision(**{**told, **fields})


def aired(homes: int, *, ad_seed: int = 1, strangers: int = 1, media: str = "d-1") -> Model:
    """Make a model of one airing, with real fingerprints."""
    filled = Model()
    for n in range(homes):
        words = fingerprint_of(f"tv-{n}", hear(ad_seed, n))
        filled.heard(grown(f"tv-{n}", f"home {n}", words=words))
        filled.decided(ignored(f"tv-{n}", f"home {n}", media), NOW_MS + 1200)
    for n in range(strangers):
        words = fingerprint_of(f"person-{n}", say(n, 500 + n))
        filled.heard(grown(f"person-{n}", f"home {900 + n}", words=words))
    return filled


# ---- the model -------------------------------------------------------------------------------------------------------


def test_a_request_is_heard_told_to_sleep_and_counted() -> None:
    page = aired(4)
    news = page.news(0, NOW_MS + 3000)
    assert [news["figures"][name] for name in ("requests", "quiet", "events")] == [5, 4, 1]
    assert news["figures"]["latency_ms"] == [100, 100, 100]
    states = {(at, until, quiet > 0) for _, _, at, until, quiet, _ in news["requests"]}
    assert states == {(NOW_MS, NOW_MS + 2000, True), (NOW_MS, NOW_MS + 2000, False)}
    (event,) = news["events"]
    assert (event["homes"], event["requests"], event["rate"], event["airing"]) == (4, 4, 0.25, 1)


def test_no_id_of_a_home_or_a_request_leaves_the_model() -> None:
    page = aired(3)
    told = json.dumps([page.news(0, NOW_MS), explain(page.case("d-1.1"), shipped_calibration(GRADIENT.name), 1e-6)])
    assert not [name for name in ("home 0", "tv-0", "person-0", "device") if name in told]


def test_labels_are_the_same_within_a_process_and_others_in_the_next() -> None:
    labels = Labels()
    assert labels.of("home", 4) == labels.of("home", 4)
    assert labels.of("home", 16) != Labels().of("home", 16)


def test_news_are_what_changed_since() -> None:
    page = aired(3)
    version = page.news(0, NOW_MS)["version"]
    assert not page.news(version, NOW_MS)["requests"]
    page.decided(ignored("late", "home 7"), NOW_MS + 1500)
    news = page.news(version, NOW_MS + 2000)
    assert [len(news[what]) for what in ("requests", "events", "series")] == [1, 1, 1]
    assert not news["reset"]
    assert news["events"][0]["homes"] == 4


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40), st.integers(0, 40))
def test_news_in_parts_are_the_whole(steps: list[tuple[int, bool]], cut: int) -> None:
    """Whoever takes the news in two parts knows what one knows who took them at once."""
    page, known, version = Model(), {}, 0
    for number, (request, decided) in enumerate(steps):
        if number == cut:
            news = page.news(0, NOW_MS)
            known, version = {row[0]: row for row in news["requests"]}, news["version"]
        if decided:
            page.decided(ignored(f"r{request}", f"h{request}"), NOW_MS + number)
        else:
            page.heard(grown(f"r{request}", f"h{request}", at_ms=NOW_MS + number))
    known |= {row[0]: row for row in page.news(version, NOW_MS)["requests"]}
    assert known == {row[0]: row for row in page.news(0, NOW_MS)["requests"]}


def test_a_decision_told_again_counts_once() -> None:
    page = aired(3)
    page.decided(ignored("tv-0", "home 0", "d-2"), NOW_MS + 9000)
    news = page.news(0, NOW_MS + 9000)
    assert (news["figures"]["quiet"], len(news["events"])) == (3, 1)


def test_the_same_recording_later_is_another_airing() -> None:
    page = aired(3)
    for n, after_ms in enumerate((5_000, 60_000, 61_000)):
        page.decided(ignored(f"again-{n}", f"home {n}", reason=pb.Decision.DISCOVERED), NOW_MS + after_ms)
    events = page.news(0, NOW_MS + 62_000)["events"]
    assert [(event["airing"], event["requests"]) for event in events] == [(1, 4), (2, 2)]


def test_a_decision_may_come_before_its_audio() -> None:
    page = Model()
    page.decided(ignored("r", "h"), NOW_MS + 1200)
    page.heard(grown("r", "h"))
    news = page.news(0, NOW_MS + 2000)
    assert news["figures"]["requests"] == len(news["requests"]) == 1
    assert news["requests"][0][4] == NOW_MS + 1200


def test_everything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand events, and all that is kept is the newest."""
    for name, most in (("MAX_REQUESTS", 300), ("MAX_EVENTS", 20), ("MAX_SEEN", 100)):
        monkeypatch.setattr(model, name, most)
    page = Model()
    for n in range(10_000):
        page.heard(grown(f"r{n}", f"h{n}", at_ms=NOW_MS + 100 * n))
        page.decided(ignored(f"r{n}", f"h{n}", f"d-{n}"), NOW_MS + 100 * n + 900)
    at_ms = NOW_MS + 1_000_000
    news = page.news(0, at_ms)
    assert (len(news["requests"]), len(news["events"])) == (300, 20)
    assert news["figures"]["dropped"] == 9700
    assert len(news["series"]) <= model.SERIES_S
    assert {event["media"] for event in news["events"]} == {f"d-{n}" for n in range(9980, 10_000)}
    assert len(page._airings) <= 40
    assert len(page._seen) == 100
    assert page.case("d-0.1") is None
    assert not page.news(0, at_ms + 70_000)["requests"]


def test_time_stands_still_in_the_end() -> None:
    page = aired(3)
    page.end("over", NOW_MS + 3000)
    news = page.news(0, NOW_MS + 900_000)
    assert (news["now"], news["status"]["phase"], news["status"]["note"]) == (NOW_MS + 3000, "ended", "over")
    assert len(news["requests"]) == 4


def test_words_without_their_beginning_are_left_out() -> None:
    page = Model()
    page.decided(ignored("r", "h"), NOW_MS)
    page.heard(grown("r", "h", words=fingerprint_of("r", say(1, 1))[50:], first=50))
    case = page.case("d-1.1")
    assert case is not None
    assert not case.members


# ---- why -------------------------------------------------------------------------------------------------------------


def test_homes_of_one_airing_are_surer_than_the_stranger() -> None:
    case = aired(MAX_SHOWN + 4).case("d-1.1")
    assert case is not None
    why = explain(case, shipped_calibration(GRADIENT.name), 1e-6)
    assert len(why["homes"]) == MAX_SHOWN
    *_, (heard_ms, score, rate) = why["homes"][0]["growth"]
    assert heard_ms > 2000
    assert score > why["threshold"] > why["stranger"]["growth"][-1][1]
    assert rate < why["chance"] - 0.05 < why["stranger"]["growth"][-1][2]
    first = np.frombuffer(base64.b64decode(why["homes"][0]["words"]), np.uint8)
    average = np.frombuffer(base64.b64decode(why["homes"][0]["against"]), np.uint8)
    # What is sent is in step: the picture has the errors that the curve ends with.
    begins = why["homes"][0]["from"] * why["bits"] // 8
    common = min(len(first), len(average) - begins)
    differ = np.unpackbits(first[:common] ^ average[begins : begins + common]).mean()
    assert differ == pytest.approx(rate, abs=0.02)


def test_without_their_sound_there_is_no_evidence() -> None:
    page = Model()
    for n in range(3):
        page.decided(ignored(f"r{n}", f"h{n}"), NOW_MS)
    case = page.case("d-1.1")
    assert case is not None
    assert explain(case, shipped_calibration(GRADIENT.name), 1e-6)["homes"] == []


# ---- how much is read ------------------------------------------------------------------------------------------------


def test_the_share_follows_the_load() -> None:
    """Too much halves it until it fits; less lets it grow again; all chunks of a request are in or out."""
    share = Share(most_per_s=100)
    for second, offered in enumerate((50, 50, 1000, 1000)):
        share.offer(offered, float(second))
    assert share.share == 0.0625
    keys = [f"request-{n}".encode() for n in range(4000)]
    taken = [key for key in keys if share.takes(key)]
    assert 150 < len(taken) < 350
    assert share.takes(None)
    for second in range(4, 20):
        share.offer(10, float(second))
    assert share.share == 1.0


def test_requests_are_estimated_while_a_share_is_read() -> None:
    page = Model()
    page.set_status(share=0.25)
    page.heard(grown("r", "h"))
    assert page.news(0, NOW_MS)["figures"]["requests"] == 4


def test_how_far_the_job_is_behind() -> None:
    assert behind({0: 10, 1: 20}, {}) is None
    assert behind({0: 10, 1: 20}, {0: 4, 1: 20}) == 6


# ---- the application -------------------------------------------------------------------------------------------------


@contextmanager
def client(
    page: Model | None = None, token: str | None = None, base_url: str = "http://127.0.0.1"
) -> Iterator[TestClient]:
    registry = CollectorRegistry()
    Counter("seen", "For the test.", registry=registry).inc()
    with TestClient(
        monitor_app(page or Model(), registry, token), base_url=base_url, follow_redirects=False
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
        assert "SameSite=strict" in cookie
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
    monitor = Monitor(Settings(), "127.0.0.1", 0)
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


def test_an_address_that_is_taken_is_a_sentence() -> None:
    monitor = Monitor(Settings(), "127.0.0.1", 0)
    port = int(monitor.address.rstrip("/").rpartition(":")[2])
    monitor.start()
    try:
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            Monitor(Settings(), "127.0.0.1", port)
    finally:
        monitor.stop()

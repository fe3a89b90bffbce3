"""The live page in a real Chromium, fed by a real Kafka: what it shows, what it survives, and how much it bears."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airings import until
from kafka import KafkaProducer
from playwright.sync_api import Browser, Page, sync_playwright
from sounds import write_recording

from pipeline.kafka.topics import create_topics
from pipeline.local.kafka import LocalKafka
from pipeline.messages import hushword_pb2 as pb
from pipeline.monitor.address import listen
from pipeline.monitor.server import Monitor
from pipeline.monitor.why import MAX_SHOWN
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.trial import running_trial, trial_settings

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WITHIN_MS = 60_000
PARTITIONS = 3
FLOOD = 10_000
# Counts messages from the server, and the frames from a key that is pressed to the one in which it has had its effect.
COUNTING = """
    window.counted = {messages: 0, frames: null};
    const Source = window.EventSource;
    window.EventSource = class extends Source {
        constructor(address) {
            super(address);
            this.addEventListener("message", () => { window.counted.messages += 1; });
        }
    };
    addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        const button = document.activeElement;
        let frames = 0;
        const look = () => {
            frames += 1;
            if (button.getAttribute("aria-current") === "true") window.counted.frames = frames;
            else if (frames < 1000) requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
    }, {capture: true});
"""
MOST_FRAMES = 3


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), "the package chromium is missing: `make test-browser` installs it"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Browser, address: str, **context: Any) -> Iterator[Page]:
    """Open the page; whatever it complains of, a forbidden style or script among it, is an error in the end."""
    complaints: list[str] = []
    with browser.new_context(**context) as own:
        page = own.new_page()
        page.set_default_timeout(WITHIN_MS)
        page.add_init_script(COUNTING)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        yield page
    assert complaints == []


@contextmanager
def monitored(settings: Settings) -> Iterator[Monitor]:
    monitor = Monitor(settings, listen("127.0.0.1", 0))
    monitor.start()
    try:
        monitor.follow(settings)
        until(lambda: monitor.model.news(0, 0)["status"]["phase"] == "following")
        yield monitor
    finally:
        monitor.stop()


def says(page: Page, element: str, text: str) -> None:
    """Wait until an element says something."""
    page.wait_for_function(
        "([id, text]) => document.getElementById(id).textContent.replace(/\\u202f/g, '').includes(text)",
        arg=[element, text],
    )


def ignored(number: int, media: str) -> bytes:
    now_us = round(time.time() * 1e6)
    return pb.Decision(
        decision_id=f"decision {number}", request_id=f"request {number}", household_id=f"home {number}",
        device_id="d", wake_word="alexa", locale="en-US", verdict=pb.Decision.IGNORE, reason=pb.Decision.CONCURRENT,
        media_id=media, households=3, bit_error_rate=0.3, audio_used_ms=1000, audio_appended_us=now_us,
    ).SerializeToString()  # fmt: skip


def own_topics(bootstrap_servers: str) -> Settings:
    settings = trial_settings(Settings(), bootstrap_servers)
    create_topics(settings, PARTITIONS)
    return settings


def nodes(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('*').length"))


def test_the_page_shows_what_the_topics_say(browser: Browser, kafka: str, tmp_path: Path) -> None:
    """The job hears a recording; its decisions, and nothing else, are on the page. Keys alone lead to the evidence."""
    recording = Recording.load(write_recording(tmp_path / "recording", 3, events=2, homes=5, live=6))
    settings = own_topics(kafka)
    with monitored(settings) as monitor, opened(browser, monitor.address) as page:
        with running_trial(settings, PARTITIONS) as running:
            trial = running.collect(running.play(recording, speed=4.0))
        quiet = len(trial.decisions)
        assert quiet == 10
        says(page, "tile-quiet", f"{quiet} in all")
        says(page, "tile-requests", f"{len(recording.requests)} in all")
        says(page, "count-quiet", str(quiet))
        says(page, "count-through", str(len(recording.requests) - quiet))
        says(page, "status-text", "live")
        shown = page.eval_on_selector_all(
            ".event", "all => all.map(one => [one.dataset.key, one.querySelector('span span').textContent])"
        )
        by_media = Counter(decision.media_id for decision in trial.decisions)
        assert {key: text.split(" ")[0] for key, text in shown} == {f"{m}.1": str(n) for m, n in by_media.items()}
        _open_by_keys(page)
        why = monitor.model.case(page.get_attribute(".event[aria-current=true]", "data-key") or "")
        assert why is not None
        # The average, the homes, and one that was not among them; each is painted.
        assert page.locator(".strips canvas").count() == min(len(why.members), MAX_SHOWN) + 2
        assert page.eval_on_selector_all(".strips canvas", "all => all.every((one) => one.getContext('2d')"
            ".getImageData(0, 0, one.width, one.height).data.some((value) => value))")  # fmt: skip
        homes = {home for home, _, _ in why.members}
        assert set(page.locator(".strips .who:not(.more)").all_text_contents()) == {"average", "not in it", *homes}
        assert page.locator(".chart.growth canvas").count() == 1
        assert not [home for home in {r.household for r in recording.requests} if home in page.content()]


def _open_by_keys(page: Page) -> None:
    """Tab to the second event and press Enter: it is the one that is explained, and where the reader is."""
    page.evaluate("document.activeElement.blur()")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('li:nth-child(2) > .event')"):
            break
    key = page.evaluate("document.activeElement.dataset.key")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'detail'")
    assert page.get_attribute(".event[aria-current=true]", "data-key") == key
    says(page, "detail-body", key.split(".")[0])


def test_the_page_survives_the_brokers_restart(browser: Browser) -> None:
    with LocalKafka() as broker:
        settings = own_topics(broker.bootstrap_servers)
        with monitored(settings) as monitor, opened(browser, monitor.address) as page:
            _tell(settings, [ignored(1, "d-before")])
            says(page, "tile-quiet", "1 in all")
            broker.kill()
            says(page, "status-text", "the broker does not answer since")
            broker.start()
            says(page, "status-text", "live")
            _tell(settings, [ignored(2, "d-after")])
            says(page, "tile-quiet", "2 in all")
            assert page.locator(".event").count() == 2


def test_ten_thousand_events_do_not_slow_the_page(browser: Browser, kafka: str) -> None:
    """Counted, not timed: elements, messages, and frames until a key has had its effect."""
    settings = own_topics(kafka)
    with monitored(settings) as monitor, opened(browser, monitor.address) as page:
        _tell(settings, [ignored(-n, f"d-first-{n}") for n in range(1, 61)])
        says(page, "tile-quiet", "60 in all")
        before = nodes(page)
        page.evaluate("window.counted.messages = 0")
        flood = threading.Thread(target=_tell, args=(settings, [ignored(n, f"d-{n}") for n in range(FLOOD)]))
        flood.start()
        frames = []
        while flood.is_alive() or len(frames) < 5:
            page.evaluate("document.querySelectorAll('.event')[3].focus(); window.counted.frames = null")
            page.keyboard.press("Enter")
            page.wait_for_function("() => window.counted.frames !== null", timeout=10_000)
            frames.append(page.evaluate("window.counted.frames"))
            page.wait_for_function("() => document.activeElement.id === 'detail'")  # where Enter leads, in the end
        flood.join()
        says(page, "tile-quiet", f"{FLOOD + 60} in all")
        assert max(frames) <= MOST_FRAMES
        assert nodes(page) <= before + 10
        assert page.locator(".event").count() <= 41
        assert page.evaluate("window.counted.messages") < FLOOD / 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(browser: Browser, kafka: str, scheme: str) -> None:
    settings = own_topics(kafka)
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme, "has_touch": True}
    with monitored(settings) as monitor, opened(browser, monitor.address, **phone) as page:
        _tell(settings, [ignored(n, "d-one") for n in range(5)])
        says(page, "tile-quiet", "5 in all")
        page.locator(".event").first.tap()
        says(page, "detail-title", "5 homes")
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def _tell(settings: Settings, decisions: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, linger_ms=5)
    try:
        for decision in decisions:
            producer.send(settings.decisions_topic, decision)
        producer.flush(30)
    finally:
        producer.close()

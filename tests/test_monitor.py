"""The live page's server side: what the model keeps and forgets, what is sent, and who may see it."""

import base64
import json
import time

import numpy as np
import pytest
from airings import NOW_MS, aired, grown, ignored, until
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer
from records import pieces

from matcher.bits import GRADIENT
from matcher.evidence import shipped_calibration
from pipeline.kafka.topics import create_topics
from pipeline.local.process import free_port
from pipeline.messages import hushword_pb2 as pb
from pipeline.monitor import model, parts
from pipeline.monitor.follower import Follower, Share
from pipeline.monitor.model import Labels, Model
from pipeline.monitor.watch import Watch, behind
from pipeline.monitor.why import MAX_SHOWN, explain
from pipeline.options import Settings
from pipeline.trial import trial_settings

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
    told = json.dumps(
        [page.news(0, NOW_MS), explain(page.case("d-1.1"), GRADIENT, shipped_calibration(GRADIENT.name), 1e-6)]
    )
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


def test_homes_beyond_counting_are_counted_by_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "MAX_HOMES", 10)
    monkeypatch.setattr(parts, "MAX_HOMES", 10)
    page = Model()
    for n in range(50):
        page.decided(ignored(f"r{n}", f"h{n}", households=max(3, n)), NOW_MS + n)
    (event,) = page._events.values()
    assert len(event.homes) == 10
    assert event.to_json()["homes"] == 49


def test_time_stands_still_in_the_end() -> None:
    page = aired(3)
    page.end("over", NOW_MS + 3000)
    news = page.news(0, NOW_MS + 900_000)
    assert (news["now"], news["status"]["phase"], news["status"]["note"]) == (NOW_MS + 3000, "ended", "over")
    assert len(news["requests"]) == 4


# ---- why -------------------------------------------------------------------------------------------------------------


def test_homes_of_one_airing_are_surer_than_the_stranger() -> None:
    case = aired(MAX_SHOWN + 4).case("d-1.1")
    assert case is not None
    why = explain(case, GRADIENT, shipped_calibration(GRADIENT.name), 1e-6)
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
    assert explain(case, GRADIENT, shipped_calibration(GRADIENT.name), 1e-6)["homes"] == []


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


# ---- what feeds it ---------------------------------------------------------------------------------------------------


def test_the_topics_are_followed(kafka: str) -> None:
    """From their ends on, or from some time ago; records that are not what they should be are counted, no more."""
    settings = trial_settings(Settings(), kafka)
    create_topics(settings, 3)
    audio = [piece.value for piece in pieces("heard", round((time.time() - 3) * 1e6), [200] * 8)]
    send(settings.bootstrap_servers, settings.audio_topic, [*audio, b"no audio chunk"])
    send(kafka, settings.decisions_topic, [ignored("before", "home").SerializeToString()])
    fed = {"latest": Model(), "since": Model()}
    followers = [Follower(settings, fed["latest"]), Follower(settings, fed["since"], since_s=time.time() - 60)]
    for follower in followers:
        follower.start()
    try:
        until(lambda: all(page.news(0, NOW_MS)["status"]["phase"] == "following" for page in fed.values()))
        send(kafka, settings.decisions_topic, [ignored("after", "home").SerializeToString(), b"\xff", b""])
        send(kafka, settings.dead_letter_topic, [b"a letter"])
        until(lambda: all(page.news(0, NOW_MS)["figures"]["dead_letters"] == 1 for page in fed.values()))
        until(lambda: all(page.news(0, NOW_MS)["figures"]["unreadable"] == 2 for page in fed.values()))
        until(lambda: fed["since"].news(0, NOW_MS)["figures"]["requests"] == 1)
        quiet = {name: page.news(0, NOW_MS)["figures"]["quiet"] for name, page in fed.items()}
        assert quiet == {"latest": 1, "since": 2}
        assert fed["latest"].news(0, NOW_MS)["figures"]["requests"] == 0
        assert sum(followers[1].ends.values()) == 9
    finally:
        for follower in followers:
            follower.stop()


def test_the_watch_says_since_when_nobody_answers() -> None:
    page = Model()
    watch = Watch(Settings(bootstrap_servers=f"127.0.0.1:{free_port()}"), page, dict)
    before_ms = time.time() * 1000
    watch.start()
    try:
        until(lambda: page.news(0, NOW_MS)["status"]["silent_since"] is not None)
        assert before_ms - 1 <= page.news(0, NOW_MS)["status"]["silent_since"] <= time.time() * 1000 + 1
    finally:
        watch.stop()


def send(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    try:
        for value in values:
            producer.send(topic, value, partition=0)
        producer.flush(30)
    finally:
        producer.close()

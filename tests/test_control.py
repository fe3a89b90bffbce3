"""Orders of operators: every worker hears them, and one that cannot hear them works in shadow."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaProducer
from routed import START_US, airing, batch
from sounds import in_order
from test_cli import _run
from test_decide import Step, said

from pipeline import control, follow
from pipeline.control import Controls, give, given, shadow_key
from pipeline.errors import InputError
from pipeline.kafka.topics import admin_client, create_topics
from pipeline.messages.hushword_pb2 import Control
from pipeline.options import Settings

US, DE = "alexa/en-US/0", "alexa/de-DE/3"
names = itertools.count()


@pytest.fixture
def settings(kafka: str) -> Settings:
    """A control topic of the test's own, empty."""
    settings = Settings(bootstrap_servers=kafka, control_topic=f"control-{next(names)}")
    create_topics(settings, roles=["control"])
    return settings


@contextmanager
def worker(settings: Settings) -> Iterator[Controls]:
    controls = Controls(settings)
    controls.start()
    try:
        yield controls
    finally:
        controls.stop()


def soon(condition: Callable[[], bool]) -> bool:
    """Whether something comes to hold; bounded, so that a worker that never hears is a failure and not a hang."""
    deadline_s = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return condition()


def flags(settings: Settings) -> tuple[str, ...]:
    return "--bootstrap-servers", settings.bootstrap_servers, "--control-topic", settings.control_topic


def test_one_command_turns_every_worker_to_shadow_and_back(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(settings) as first, worker(settings) as second:
        assert not first.in_shadow(US)
        code, out, _ = _run(capsys, "shadow", "on", "--reason", "it is night", *flags(settings))
        assert (code, "every route" in out) == (0, True)
        assert soon(lambda: all(w.in_shadow(route) for w in (first, second) for route in (US, DE)))
        with worker(settings) as late:
            assert late.in_shadow(US)
        _run(capsys, "shadow", "off", *flags(settings))
        assert soon(lambda: not any(w.in_shadow(route) for w in (first, second) for route in (US, DE)))


def test_one_route_is_turned_by_itself_and_stays_so_when_all_are_turned_back(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(settings) as heard:
        _run(capsys, "shadow", "on", "--route", "alexa/de-DE", *flags(settings))
        assert soon(lambda: heard.in_shadow(DE))
        assert heard.in_shadow("alexa/de-DE/0")
        assert not heard.in_shadow(US)
        _run(capsys, "shadow", "on", *flags(settings))
        assert soon(lambda: heard.in_shadow(US))
        _, out, _ = _run(capsys, "shadow", "off", *flags(settings))
        assert "alexa/de-DE stays in shadow: `hushword shadow off --route alexa/de-DE`" in out
        assert soon(lambda: not heard.in_shadow(US))
        assert heard.in_shadow(DE)
        _run(capsys, "shadow", "off", "--route", "alexa/de-DE", *flags(settings))
        assert soon(lambda: not heard.in_shadow(DE))


def test_the_status_says_who_when_and_why(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = _run(capsys, "shadow", "status", *flags(settings))
    assert "never ordered" in out
    _run(capsys, "shadow", "on", "--route", "alexa/en-US", "--reason", "trouble", *flags(settings))
    _run(capsys, "shadow", "off", "--route", "computer/en-US", *flags(settings))
    _, out, _ = _run(capsys, "shadow", "status", "--json", *flags(settings))
    found = {entry["route"]: entry for entry in json.loads(out)}
    assert {name: entry["shadow"] for name, entry in found.items()} == {"alexa/en-US": True, "computer/en-US": False}
    assert found["alexa/en-US"]["reason"] == "trouble"
    assert found["alexa/en-US"]["by"]
    assert abs(found["alexa/en-US"]["ordered_at_s"] - time.time()) < 3600
    _, out, _ = _run(capsys, "shadow", "status", "--route", "alexa/en-US", *flags(settings))
    assert "trouble" in out
    assert "computer" not in out


@pytest.mark.parametrize("scope", ["alexa", "Alexa!/en-US", "alexa/nowhere at all", "/"])
def test_what_is_no_route_is_refused(scope: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="is not a route"):
        shadow_key(scope)
    code, out, err = _run(capsys, "shadow", "on", "--route", scope)
    assert (code, out) == (2, "")
    assert "is not a route" in err


def test_an_order_that_cannot_be_read_is_shadow(settings: Settings) -> None:
    """Whatever it was to say. What is about something else says nothing of shadow."""
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    producer.send(settings.control_topic, b"\xff\xff", key=b"block/d-1").get(10)
    producer.send(settings.control_topic, b"\xff\xff", key=b"shadow/alexa/en-US").get(10)
    producer.close()
    with worker(settings) as heard:
        assert heard.in_shadow(US)
        assert not heard.in_shadow(DE)
    assert list(given(settings)) == ["block/d-1", "shadow/alexa/en-US"]


def test_a_worker_that_cannot_read_the_orders_works_in_shadow_until_it_can(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "READ_WITHIN_S", 0.5)
    settings = Settings(bootstrap_servers=kafka, control_topic=f"control-{next(names)}")
    with worker(settings) as heard:
        assert heard.in_shadow(US)
        create_topics(settings, roles=["control"])
        assert soon(lambda: not heard.in_shadow(US))
        give(settings, {shadow_key(None): Control(shadow=Control.ON)})
        assert soon(lambda: heard.in_shadow(US))


def test_a_worker_whose_orders_are_taken_away_works_in_shadow(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "ANSWER_MS", 1000)
    with worker(settings) as heard:
        assert not heard.in_shadow(US)
        with admin_client(settings) as admin:
            admin.delete_topics([settings.control_topic])
        assert soon(lambda: heard.in_shadow(US))


def test_shadow_marks_decisions_and_changes_none() -> None:
    """From one batch to the next, while an airing is on."""
    heard = in_order(*airing("m", 4, START_US), *airing("n", 4, START_US + 9_000_000))
    step = Step()
    step.ordered.shadow = True
    first, _, _ = said([step.hear(batch([g for g in heard if g.start_us < START_US + 5_000_000], START_US))])
    step.ordered.shadow = False
    then, _, _ = said([step.hear(batch([g for g in heard if g.start_us > START_US + 5_000_000], START_US))])
    assert [decision.shadow for decision in first] == [True] * 4
    assert [decision.shadow for decision in then] == [False] * 4

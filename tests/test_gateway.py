"""The reference gateway: whatever comes, in whatever order, nobody is stopped who should not be."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages.hushword_pb2 import Decision
from pipeline.wire import decision_id

SOURCE = Path(__file__).parents[1] / "deploy" / "examples" / "gateway.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gateway", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gateway"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gateway = _load()


def ignore(request_id: str, *, late: bool = False, shadow: bool = False) -> Decision:
    return Decision(
        decision_id=decision_id(request_id), request_id=request_id, verdict=Decision.IGNORE, late=late, shadow=shadow
    )


class Devices:
    """What devices were told."""

    def __init__(self, deadline_s: float = 2.0) -> None:
        self.stopped: list[tuple[str, str]] = []
        self.gateway = gateway.Gateway(lambda device, request: self.stopped.append((device, request)), deadline_s)


def test_an_ignore_stops_the_stream_once() -> None:
    devices = Devices()
    devices.gateway.began("r", "kitchen", 0.0)
    assert devices.gateway.heard(ignore("r"), 1.0) == "stopped"
    assert devices.gateway.heard(ignore("r"), 1.1) == "duplicate"
    assert devices.gateway.pass_time(5.0) == []
    assert devices.gateway.heard(ignore("r"), 5.0) == "duplicate"
    assert devices.stopped == [("kitchen", "r")]


def test_what_nothing_comes_about_is_accepted_at_its_deadline_and_stays_so() -> None:
    devices = Devices()
    devices.gateway.began("r", "kitchen", 0.0)
    assert devices.gateway.pass_time(1.9) == []
    assert devices.gateway.pass_time(2.0) == ["r"]
    assert devices.gateway.pass_time(3.0) == []
    assert devices.gateway.heard(ignore("r"), 3.0) == "late"
    assert devices.gateway.heard(ignore("r"), 3.1) == "duplicate"
    assert devices.stopped == []


@pytest.mark.parametrize(
    ("decision", "made"),
    [
        (ignore("r", shadow=True), "shadow"),
        (ignore("r", late=True), "late"),
        (ignore("other"), "unknown request"),
        (Decision(request_id="r", decision_id="d"), "unknown verdict"),
    ],
)
def test_nobody_is_stopped_by_anything_else(decision: Decision, made: str) -> None:
    devices = Devices()
    devices.gateway.began("r", "kitchen", 0.0)
    assert devices.gateway.heard(decision, 1.0) == made
    assert devices.stopped == []
    assert devices.gateway.pass_time(9.0) == ["r"]


def test_shadow_does_not_use_up_a_decision() -> None:
    """Told again after shadow was turned off: it has the same id, and it is acted on."""
    devices = Devices()
    devices.gateway.began("r", "kitchen", 0.0)
    devices.gateway.heard(ignore("r", shadow=True), 0.5)
    assert devices.gateway.heard(ignore("r"), 1.0) == "stopped"


events = st.lists(
    st.tuples(
        st.sampled_from(["began", "ignore", "late", "shadow", "time"]),
        st.sampled_from("abc"),
        st.floats(0.0, 3.0),
    ),
    max_size=60,
)


@given(events)
def test_every_stream_ends_once_and_memory_with_it(made: list[tuple[str, str, float]]) -> None:
    """Stopped or accepted, never both, never twice; and in the end nothing is left of any."""
    devices, now_s = Devices(), 0.0
    began: set[str] = set()
    accepted: list[str] = []
    for kind, request_id, wait_s in made:
        now_s += wait_s
        if kind == "began":
            devices.gateway.began(request_id, "d", now_s)
            began.add(request_id)
        elif kind == "time":
            accepted += devices.gateway.pass_time(now_s)
        else:
            devices.gateway.heard(ignore(request_id, late=kind == "late", shadow=kind == "shadow"), now_s)
    accepted += devices.gateway.pass_time(now_s + 10.0)
    if now_s < gateway.FORGET_AFTER_S:
        ended = sorted([request for _, request in devices.stopped] + accepted)
        assert ended == sorted(began)
    devices.gateway.pass_time(now_s + 100.0)
    assert devices.gateway.streams == {}

"""The job's shape: labels that saved state is found by; and decisions that come late, or are for the record only."""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import apache_beam as beam
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routed import airing, batch
from sounds import in_order
from test_decide import Step

from pipeline import job
from pipeline.job import build
from pipeline.messages.hushword_pb2 import Decision
from pipeline.options import Settings
from pipeline.wire import decision_id

# A runner finds its saved state by these: a new label is a state that starts empty. Change them knowingly.
LABELS = ["Settings", "ReadRequests", "DecideRequests", "WriteVerdicts", "CommitOffsets"]
STATES = {"DecideRequests": ["batches", "snapshot", "version"], "CommitOffsets": ["keyed"]}


@contextmanager
def _wrapped() -> Iterator[None]:
    """Fail as runners do: with an error about an error."""
    try:
        yield
    except Exception:  # noqa: BLE001
        raise RuntimeError("outside")  # noqa: B904


def decided(settings: Settings, appended_s_ago: float) -> list[Decision]:
    """Let four homes hear one thing whose audio the broker has had for so long."""
    start_us = round((time.time() - appended_s_ago) * 1e6) - 2_500_000
    verdicts = Step(settings=settings).hear(batch(in_order(*airing("m", 4, start_us)), start_us))
    return [Decision.FromString(data) for data in verdicts.decisions]


def test_labels_and_states_are_what_they_were() -> None:
    """Pinned: they are the contract with what a runner has saved."""
    pipeline = beam.Pipeline()
    build(pipeline, Settings())
    proto = pipeline.to_runner_api()
    transforms = proto.components.transforms
    root = transforms[proto.root_transform_ids[0]]
    assert [transforms[name].unique_name for name in root.subtransforms] == LABELS
    states = {}
    for transform in transforms.values():
        if transform.spec.urn == beam.portability.common_urns.primitives.PAR_DO.urn:
            payload = beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            if payload.state_specs:
                states[transform.unique_name.split("/")[0]] = sorted(payload.state_specs)
    assert states == STATES


def test_reading_has_a_worker_of_its_own() -> None:
    """Runners start a Python process for each environment; where one reads and decides, decisions come late."""
    pipeline = beam.Pipeline()
    build(pipeline, Settings())
    transforms = pipeline.to_runner_api().components.transforms.values()
    environments = defaultdict(set)
    for transform in transforms:
        if transform.spec.urn == beam.portability.common_urns.primitives.PAR_DO.urn:
            environments[transform.environment_id].add(transform.unique_name.split("/")[0])
    assert sorted(map(sorted, environments.values())) == [
        ["CommitOffsets", "DecideRequests", "WriteVerdicts"],
        ["ReadRequests", "Settings"],
    ]


def test_the_local_runner_is_named_by_its_class() -> None:
    """Plain DirectRunner may be another one, without splittable DoFns."""
    assert isinstance(beam.runners.create_runner(job.LOCAL_RUNNER), beam.runners.portability.fn_api_runner.FnApiRunner)


@pytest.mark.parametrize(("appended_s_ago", "late"), [(3600.0, True), (-3600.0, False)])
def test_a_decision_is_late_when_its_audio_had_waited_beyond_the_deadline(appended_s_ago: float, late: bool) -> None:
    """Measured from the broker's append time of the chunk that sufficed; late ones are sent all the same."""
    decisions = decided(Settings(deadline_ms=1000), appended_s_ago)
    assert len(decisions) == 4
    assert {decision.late for decision in decisions} == {late}


def test_the_deadline_can_be_set() -> None:
    """Five minutes are not late when ten are allowed."""
    assert not any(decision.late for decision in decided(Settings(deadline_ms=600_000), 300.0))


@pytest.mark.parametrize("shadow", [True, False])
def test_shadow_marks_every_decision_and_changes_none(shadow: bool) -> None:
    """They are for the record."""
    decisions = decided(Settings(shadow=shadow), 0.0)
    assert [decision.shadow for decision in decisions] == [shadow] * 4


@given(st.text(min_size=1, max_size=128))
def test_a_decision_id_is_a_function_of_the_request_id_alone(request_id: str) -> None:
    """A UUID of version 5, for any id there can be."""
    assert decision_id(request_id) == decision_id(request_id)
    assert uuid.UUID(decision_id(request_id)).version == 5
    assert decision_id(request_id) != decision_id(request_id + "'")


def test_decision_ids_never_change() -> None:
    """Duplicates from before an upgrade must be recognised after it."""
    assert decision_id("request-1") == "7ea73678-2638-542c-8654-8ffba3c4deaf"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("plain"), "ValueError: plain"),
        (ValueError("two\nlines"), "ValueError: two"),
        (ValueError(), "ValueError: "),
    ],
)
def test_the_innermost_cause_is_what_the_job_ends_with(error: Exception, says: str) -> None:
    """Runners wrap errors many times; a person wants the first line of the first one."""

    with pytest.raises(RuntimeError) as failed, _wrapped(), _wrapped():
        raise error
    assert job._innermost(failed.value) == says

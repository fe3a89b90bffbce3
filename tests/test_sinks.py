"""What is written while the broker is away."""

import threading
import time
from collections.abc import Iterator

import pytest
from stage import Stage

from pipeline.local.kafka import LocalKafka
from pipeline.messages.hushword_pb2 import Decision
from pipeline.messages.internal_pb2 import Verdicts
from pipeline.sinks import WriteVerdicts


@pytest.fixture
def broker() -> Iterator[LocalKafka]:
    """One that a test may kill."""
    with LocalKafka() as kafka:
        yield kafka


def told(do_fn: WriteVerdicts, request_id: str) -> None:
    """Send a decision about audio of this moment, in a bundle of its own."""
    decision = Decision(
        decision_id=f"id of {request_id}",
        request_id=request_id,
        verdict=Decision.IGNORE,
        reason=Decision.CONCURRENT,
        audio_appended_us=round(time.time() * 1e6),
    )
    do_fn.start_bundle()
    do_fn.process(("computer/en-US/0", Verdicts(decisions=[decision.SerializeToString()]).SerializeToString()))
    assert len(list(do_fn.finish_bundle())) == 1


def test_a_decision_that_waited_for_the_broker_is_marked_late(broker: LocalKafka) -> None:
    """It was in time when it was made; whoever reads it after the outage must not act on it as if it still were."""
    with Stage(broker.bootstrap_servers, "sink", partitions=1) as stage:
        do_fn = WriteVerdicts(stage.settings)
        do_fn.setup()
        told(do_fn, "before")
        broker.kill()
        again = threading.Timer(5, broker.start)
        again.start()
        told(do_fn, "during")
        again.join()
        told(do_fn, "after")
        do_fn.teardown()
        found = [
            (decision.request_id, decision.decision_id, decision.late)
            for decision in (
                Decision.FromString(record.value) for record in stage.records(stage.settings.decisions_topic)
            )
        ]
    assert found == [
        ("before", "id of before", False),
        ("during", "id of during", True),
        ("after", "id of after", False),
    ]

"""What the topics alone tell, held against what was put on them; a broker that goes and comes back loses nothing."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition
from prometheus_client import CollectorRegistry

from pipeline import exporter
from pipeline.exporter import LATENCY_BUCKETS_S, Exporter
from pipeline.kafka.topics import create_topics
from pipeline.local.kafka import LocalKafka
from pipeline.messages.hushword_pb2 import Decision
from pipeline.options import Settings

WITHIN_S = 90.0
APPENDED_MS = 1_800_000_000_000


def decision(number: int, latency_ms: float = 100, **fields: Any) -> Decision:
    """Give a decision that the broker appends so long after its audio, when it does so at APPENDED_MS."""
    return Decision(
        decision_id=f"decision-{number}",
        request_id=f"request-{number}",
        household_id="the household",
        device_id="the device",
        verdict=Decision.IGNORE,
        reason=fields.pop("reason", Decision.CONCURRENT),
        audio_appended_us=round((APPENDED_MS - latency_ms) * 1000),
        **fields,
    )


class Measured:
    """An exporter and what it has measured."""

    def __init__(self, settings: Settings | None = None, **options: bool) -> None:
        self.registry = CollectorRegistry()
        self.exporter = Exporter(settings or Settings(), self.registry, **options)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"hushword_{name}", labels)

    def decisions(self) -> float:
        """Decisions of all kinds, each once."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "hushword_topic_decisions_total"
        )


def wait(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {WITHIN_S:.0f} s"
        time.sleep(0.1)


def test_latency_is_from_append_to_append() -> None:
    """Each bucket counts what is at most its bound; the objective of 0.5 s has a bucket of its own."""
    measured = Measured()
    latencies_ms = [-20, 0, 49, 51, 400, 500, 501, 2400, 60_000]
    for number, latency_ms in enumerate(latencies_ms):
        assert measured.exporter.observe(decision(number, latency_ms), APPENDED_MS)
    assert 0.5 in LATENCY_BUCKETS_S
    for bound_s in LATENCY_BUCKETS_S:
        expected = sum(latency_ms <= 1000 * bound_s for latency_ms in latencies_ms)
        assert measured.value("decision_latency_seconds_bucket", le=str(bound_s)) == expected
    assert measured.value("decision_latency_seconds_count") == len(latencies_ms)
    total_s = sum(max(0, latency_ms) for latency_ms in latencies_ms) / 1000
    assert measured.value("decision_latency_seconds_sum") == pytest.approx(total_s)


def test_a_decision_told_again_counts_as_a_duplicate_alone() -> None:
    """Whatever it says the second time: it was made again."""
    measured = Measured()
    assert measured.exporter.observe(decision(1, shadow=True), APPENDED_MS)
    assert not measured.exporter.observe(decision(1, 9000, late=True), APPENDED_MS)
    assert measured.decisions() == 1
    assert measured.value("topic_decisions_total", reason="CONCURRENT", late="false", shadow="true") == 1
    assert measured.value("topic_duplicate_decisions_total") == 1
    assert measured.value("decision_latency_seconds_count") == 1


def test_memory_of_what_was_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, the newest are not."""
    monkeypatch.setattr(exporter, "REMEMBERED_DECISIONS", 3)
    measured = Measured()
    for number in range(10):
        measured.exporter.observe(decision(number), APPENDED_MS)
    assert len(measured.exporter._seen) == 3
    assert [measured.exporter.observe(decision(number), APPENDED_MS) for number in (9, 8, 7, 6)] == [False] * 3 + [True]


@pytest.fixture
def own_kafka() -> Iterator[LocalKafka]:
    """A broker that a test may stop."""
    with LocalKafka() as broker:
        yield broker


def test_what_is_on_the_topics_is_measured_through_a_restart_of_the_broker(
    own_kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the ends at the start on, each record once; nothing on the way out names a household or a device."""
    monkeypatch.setattr(exporter, "ASK_S", 1.0)
    settings = Settings(bootstrap_servers=own_kafka.bootstrap_servers)
    create_topics(settings, partitions=2)

    def publish(topic: str, *values: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> None:
        producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
        for number, value in enumerate(values):
            producer.send(topic, key=b"key %d" % number, value=value, headers=headers or []).get(30)
        producer.close()

    def decisions(numbers: range) -> list[bytes]:
        return [decision(number).SerializeToString() for number in numbers]

    publish(settings.decisions_topic, *decisions(range(5)))  # before the start: not measured
    measured, fed = Measured(settings), Measured(settings, follow_decisions=False)
    for each in (measured, fed):
        each.exporter.start()
    try:
        wait(lambda: all(each.value("exporter_answer_timestamp_seconds") for each in (measured, fed)))
        publish(settings.decisions_topic, *decisions(range(100, 150)), *decisions(range(100, 110)), b"\xff")
        publish(settings.dead_letter_topic, b"audio", b"audio", headers=[("stage", b"audio")])
        publish(settings.dead_letter_topic, b"?", headers=[("stage", b"the household")])
        publish(settings.media_topic, b"x" * 1000)
        publish(settings.audio_topic, *[b"x"] * 20)
        admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        at = TopicPartition(settings.audio_topic, 0)
        admin.alter_group_offsets(settings.group_id, {at: OffsetAndMetadata(3, "", -1)})
        admin.close()
        wait(lambda: measured.decisions() == 50 and measured.value("topic_malformed_decisions_total") == 1)
        assert measured.value("topic_duplicate_decisions_total") == 10

        own_kafka.stop()
        answered_s = measured.value("exporter_answer_timestamp_seconds")
        time.sleep(3 * exporter.ASK_S)
        assert measured.value("exporter_answer_timestamp_seconds") == answered_s
        own_kafka.start()
        publish(settings.decisions_topic, *decisions(range(150, 200)))
        wait(lambda: measured.decisions() == 100)
        assert measured.value("topic_duplicate_decisions_total") == 10
        assert measured.value("decision_latency_seconds_count") == 100

        audio = {"topic": settings.audio_topic, "partition": "0"}
        for each in (measured, fed):
            wait(lambda each=each: each.value("consumer_lag_records", **audio) is not None)
            assert each.value("topic_dead_letters_total", reason="audio") == 2
            assert each.value("topic_dead_letters_total", reason="other") == 1
            ends = [each.value("topic_end_offset", topic=at.topic, partition=str(n)) or 0 for n in range(2)]
            assert sum(ends) == 20
            assert each.value("consumer_lag_records", topic=at.topic, partition="0") == max(0, ends[0] - 3)
            assert each.value("consumer_lag_records", topic=at.topic, partition="1") is None
            assert each.value("media_topic_records") == 1
            assert (each.value("media_topic_bytes") or 0) > 1000
        assert fed.decisions() == 0
        for metric in measured.registry.collect():
            for sample in metric.samples:
                assert not {"the household", "the device"} & set(sample.labels.values())
    finally:
        for each in (measured, fed):
            each.exporter.stop()
    assert not measured.exporter._thread.is_alive()


def test_it_stops_while_no_broker_is_there() -> None:
    """It has tried, and says nothing of what it cannot know."""
    measured = Measured(Settings(bootstrap_servers="127.0.0.1:1"))
    measured.exporter.start()
    time.sleep(0.5)
    measured.exporter.stop()
    assert not measured.exporter._thread.is_alive()
    assert measured.value("exporter_answer_timestamp_seconds") == 0

"""What a consumer is told of partitions that are without a leader for a moment, from a real broker."""

from collections.abc import Iterator

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from pipeline.kafka.consumer import Consumer
from pipeline.kafka.topics import create_topics
from pipeline.options import Settings

TOPIC = "test-leaderless"


@pytest.fixture(scope="module")
def records(kafka: str) -> list[TopicPartition]:
    """Give the partitions of a topic with one record in each."""
    create_topics(Settings(bootstrap_servers=kafka, audio_topic=TOPIC), partitions=2)
    producer = KafkaProducer(bootstrap_servers=kafka)
    partitions = [TopicPartition(TOPIC, number) for number in range(2)]
    for at in partitions:
        producer.send(at.topic, partition=at.partition, value=b"x").get(30)
    producer.close()
    return partitions


@pytest.fixture
def consumer(kafka: str) -> Iterator[Consumer]:
    """Give a consumer that knows the topic."""
    made = Consumer(bootstrap_servers=kafka, enable_auto_commit=False)
    made.partitions_for_topic(TOPIC)
    yield made
    made.close()


def lose_leader(consumer: Consumer, lost: TopicPartition, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client believe, that often it looks, that a partition has no leader."""
    cluster = consumer._client.cluster
    known, left = cluster.leader_for_partition, [times]

    def leader(at: TopicPartition) -> int | None:
        if at != lost or left[0] == 0:
            return known(at)
        left[0] -= 1
        return -1

    monkeypatch.setattr(cluster, "leader_for_partition", leader)


def test_a_leader_that_is_away_for_a_moment_is_waited_for(
    consumer: Consumer, records: list[TopicPartition], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the time: without waiting it would seem to be in no record of the partition."""
    lose_leader(consumer, records[0], 2, monkeypatch)
    assert consumer.end_offsets(records) == dict.fromkeys(records, 1)
    lose_leader(consumer, records[1], 2, monkeypatch)
    assert consumer.beginning_offsets(iter(records)) == dict.fromkeys(records, 0)
    lose_leader(consumer, records[0], 2, monkeypatch)
    found = consumer.offsets_for_times(dict.fromkeys(records, 500))
    assert {at: entry and entry.offset for at, entry in found.items()} == dict.fromkeys(records, 0)
    assert consumer.offsets_for_times(dict.fromkeys(records, 2**42)) == dict.fromkeys(records)


def test_a_leader_that_stays_away_is_an_error(
    consumer: Consumer, records: list[TopicPartition], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of Kafka's, which everybody who reads takes for a broker that does not answer."""
    lose_leader(consumer, records[0], -1, monkeypatch)
    with pytest.raises(KafkaTimeoutError):
        consumer.end_offsets(records, timeout_ms=300)
    with pytest.raises(KafkaTimeoutError):
        consumer.offsets_for_times(dict.fromkeys(records, 500), timeout_ms=300)

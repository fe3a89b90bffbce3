"""What a producer leaves behind that is closed while its broker takes nothing, on a real broker that stands still."""

import os
import signal
from collections.abc import Iterator

import pytest
from kafka.errors import KafkaError, KafkaTimeoutError

from pipeline.kafka.clients import client_arguments
from pipeline.kafka.producer import Producer
from pipeline.kafka.topics import create_topics
from pipeline.local.kafka import LocalKafka
from pipeline.options import Settings


@pytest.fixture(scope="module")
def broker() -> Iterator[LocalKafka]:
    """One of our own, as it is stopped."""
    with LocalKafka() as broker:
        create_topics(Settings(bootstrap_servers=broker.bootstrap_servers), partitions=1)
        yield broker


@pytest.fixture
def standing_still(broker: LocalKafka) -> Iterator[Producer]:
    """Give a producer that has reached a broker which then stopped answering."""
    settings = Settings(bootstrap_servers=broker.bootstrap_servers)
    producer = Producer(**client_arguments(settings))
    producer.send(settings.audio_topic, b"taken").get(30)
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    yield producer
    os.kill(broker.pid, signal.SIGCONT)


def test_it_ends_with_what_it_still_has(standing_still: Producer) -> None:
    """kafka-python's stays, goes on sending what its user was told had failed, and fails again when it is collected."""
    sent = standing_still.send(Settings().audio_topic, b"not taken")
    thread = standing_still._sender
    assert thread.is_alive()
    with pytest.raises(KafkaTimeoutError):
        standing_still.close(0.2)
    with pytest.raises(KafkaError, match="closed"):
        sent.get(30)
    thread.join(30)
    assert not thread.is_alive()
    standing_still.close(0)  # as when it is collected


def test_it_delivers_first_what_is_taken_in_time(broker: LocalKafka) -> None:
    settings = Settings(bootstrap_servers=broker.bootstrap_servers)
    producer = Producer(**client_arguments(settings), linger_ms=200)
    sent = producer.send(settings.audio_topic, b"taken")
    producer.close(30)
    assert sent.get(0).topic == settings.audio_topic

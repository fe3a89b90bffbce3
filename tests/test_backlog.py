"""A backlog is read in the order of capture, and a pause loses nothing of it."""

import itertools
import time

from kafka import KafkaProducer
from records import RATE_HZ, pieces

from pipeline.kafka.topics import create_topics, delete_topics
from pipeline.options import Settings
from pipeline.source import FromCommitted, Reader

PARTITIONS = 4
REQUESTS = 240
POLLS_WITHOUT_ANYTHING = 30

names = itertools.count()


def test_a_backlog_of_four_partitions_is_read_to_its_end(kafka: str) -> None:
    """A fetch holds many seconds, so partitions are paused and resumed all the time."""
    name = f"backlog-{next(names)}"
    settings = Settings(
        bootstrap_servers=kafka,
        audio_topic=name,
        decisions_topic=f"{name}-decisions",
        media_topic=f"{name}-media",
        control_topic=f"{name}-control",
        group_id=name,
        start_at="earliest",
    )
    create_topics(settings, PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=5, batch_size=256 * 1024)
    start_us = round(time.time() * 1e6) - 300_000_000
    sent = 0
    for number in range(REQUESTS):
        for piece in pieces(f"r{number}", start_us + number * 300_000, [100] * 25, rate_hz=RATE_HZ):
            producer.send(name, piece.value, partition=number % PARTITIONS)
            sent += 1
    producer.close()
    reader = Reader(settings, FromCommitted().initial_restriction(settings.model_dump_json()))
    try:
        read, empty = 0, 0
        while read < sent and empty < POLLS_WITHOUT_ANYTHING:
            _, letters, any_read = reader.poll(50)
            assert not letters
            empty = 0 if any_read else empty + 1
            read = sum(position for _, _, position in reader.position.partitions)
        assert read == sent
    finally:
        reader.close()
        delete_topics(settings)

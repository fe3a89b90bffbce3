"""The local Kafka cluster is real: one of three nodes may die or stand still, and nothing acknowledged is lost."""

import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition
from stage import WITHIN_S, Stage

from pipeline.control import Controls, give, shadow_key
from pipeline.errors import FailedError
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.local.kafka_cluster import NODES, LocalKafkaCluster
from pipeline.messages.hushword_pb2 import Control
from pipeline.messages.internal_pb2 import Progress
from pipeline.sinks import CommitOffsets
from pipeline.source import DEAD_LETTERS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafkaCluster]:
    with LocalKafkaCluster() as cluster:
        yield cluster


def test_topics_have_three_copies_and_two_must_take_a_record(kafka: LocalKafkaCluster) -> None:
    with Stage(kafka.bootstrap_servers, "copies") as stage:
        (topic,) = stage.admin.describe_topics([stage.settings.audio_topic])
        assert all(len(partition["isr_nodes"]) == NODES for partition in topic["partitions"])
        # Each node leads something, so that it makes a difference which one is killed.
        assert {partition["leader_id"] for partition in topic["partitions"]} == {1, 2, 3}


def test_what_was_acknowledged_outlives_a_node_and_all_of_them(kafka: LocalKafkaCluster) -> None:
    with Stage(kafka.bootstrap_servers, "kept") as stage:
        topic = stage.settings.decisions_topic
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all", delivery_timeout_ms=60_000)

        def send(value: bytes) -> None:
            for partition in range(stage.partitions):
                producer.send(topic, value, partition=partition).get(60)

        send(b"before")
        kafka.kill(2)
        assert set(kafka.pids) == {1, 3}
        send(b"without one")
        kafka.restart(2)
        kafka.pause(1)
        time.sleep(1)
        kafka.resume(1)
        for number in kafka.pids:
            kafka.kill(number)
        kafka.start()
        send(b"after")
        producer.close(10)
        kept = {record.value for record in stage.records(topic)}
        assert kept == {b"before", b"without one", b"after"}
        assert len(stage.records(topic)) >= 3 * stage.partitions


def test_a_reader_hears_of_new_leaders_while_one_of_the_nodes_stands_still(kafka: LocalKafkaCluster) -> None:
    """From those that answer: the one that stands still is nearly always the one that kafka-python asks."""
    with Stage(kafka.bootstrap_servers, "asked") as stage:
        audio = stage.settings.audio_topic
        consumer = Consumer(**client_arguments(stage.settings), request_timeout_ms=2000, fetch_max_wait_ms=20)
        consumer.assign([TopicPartition(audio, number) for number in range(stage.partitions)])
        consumer.seek_to_beginning()
        consumer.poll(1000)
        kafka.pause(1)
        try:
            until_s = time.monotonic() + 8  # it is asked by fetches, lost, and asked again
            asked = set()
            while time.monotonic() < until_s:
                consumer.poll(20)
                if time.monotonic() > until_s - 7.5:
                    asked.add(consumer._client.least_loaded_node())
        finally:
            kafka.resume(1)
            consumer.close()
        assert asked == {2, 3}


def test_offsets_are_committed_when_the_coordinator_has_died(kafka: LocalKafkaCluster) -> None:
    """By another node: the client that committed before would ask the dead one for ever."""
    with Stage(kafka.bootstrap_servers, "coordinated") as stage:
        do_fn = CommitOffsets(stage.settings)
        do_fn.setup()

        def commits(offset: int) -> bool:
            progress = Progress(routes=[DEAD_LETTERS], needed={0: offset})
            do_fn.process(("reader", (DEAD_LETTERS, progress.SerializeToString())))
            group, at = stage.settings.group_id, TopicPartition(stage.settings.audio_topic, 0)
            try:
                with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)) as admin:
                    found = admin.list_group_offsets(group)[group]
            except KafkaError:  # also when it finds no broker: it is asked again
                return False
            return at in found and found[at].offset == offset

        def commits_in_time(offset: int) -> None:
            until_s = time.monotonic() + WITHIN_S
            while not commits(offset):
                assert time.monotonic() < until_s
                time.sleep(0.2)

        commits_in_time(1)
        (offsets,) = stage.admin.describe_topics(["__consumer_offsets"])
        coordinator = offsets["partitions"][0]["leader_id"]
        kafka.kill(coordinator)
        commits_in_time(2)
        kafka.restart(coordinator)
        do_fn.teardown()


def test_an_order_is_heard_while_the_node_that_led_orders_stands_still(kafka: LocalKafkaCluster) -> None:
    """Another node leads them then, and who gives them and who follows them find it."""
    order = {shadow_key(None): Control(shadow=Control.ON)}
    with Stage(kafka.bootstrap_servers, "ordered") as stage:
        controls = Controls(stage.settings)
        controls.start()
        assert controls.is_current
        (topic,) = stage.admin.describe_topics([stage.settings.control_topic])
        leader = topic["partitions"][0]["leader_id"]
        kafka.pause(leader)
        try:
            until_s = time.monotonic() + WITHIN_S
            while not (controls.is_current and controls.is_ordered(shadow_key(None))):
                assert time.monotonic() < until_s
                with suppress(FailedError):  # until another one leads
                    give(stage.settings, order)
                time.sleep(0.5)
        finally:
            kafka.resume(leader)
            controls.stop()

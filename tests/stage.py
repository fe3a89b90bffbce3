"""Topics of a test's own, jobs that read them, and what they have written: for tests that run_trial is too tidy for."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError

from pipeline.decisions import DecisionLine, read_topic
from pipeline.kafka.consumer import Consumer
from pipeline.kafka.topics import create_topics, delete_topics
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.trial import Job, running_job

# .ci/run names the one that accuracy is held to.
real_recording = pytest.mark.skipif(
    not os.environ.get("HUSHWORD_RECORDING"), reason="HUSHWORD_RECORDING names no recording"
)
WITHIN_S = 120.0


def truth_of(recording: Recording, *expectations: str) -> set[str]:
    """Ids of the requests of which one of these is expected."""
    return {label.request_id for label in recording.truth.values() if label.expect in expectations}


class Stage:
    """Topics and a group; nothing of them is left behind."""

    def __init__(self, bootstrap_servers: str, name: str, partitions: int = 3, **settings: Any) -> None:
        own = {
            "bootstrap_servers": bootstrap_servers,
            "audio_topic": f"{name}-audio",
            "decisions_topic": f"{name}-decisions",
            "media_topic": f"{name}-media",
            "control_topic": f"{name}-control",
            "group_id": name,
            "start_at": "earliest",
        }
        self.settings, self.partitions = Settings(**{**own, **settings}), partitions

    def __enter__(self) -> Self:
        create_topics(self.settings, self.partitions)
        self.admin = KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.admin.close()
        delete_topics(self.settings)

    @contextmanager
    def job(self, *beam_args: str) -> Iterator[Job]:
        """Run the job; it is ready when the `with` begins."""
        with running_job(self.settings, beam_args) as job:
            # The first commit comes when the first bundle has gone through all steps.
            self.wait(job, lambda: len(self.committed()) == self.partitions)
            yield job

    def wait(self, job: Job, condition: Callable[[], bool]) -> None:
        """Wait until something holds while the job runs."""
        deadline_s = time.monotonic() + WITHIN_S
        while not condition():
            job.check()
            assert time.monotonic() < deadline_s, f"not within {WITHIN_S:.0f} s; {job.tail()}"
            time.sleep(0.05)

    def wait_past(self, job: Job, ends: Mapping[int, int]) -> None:
        """Wait until the job has committed everything before these offsets."""
        self.wait(job, lambda: all(self.committed().get(partition, 0) >= end for partition, end in ends.items()))

    def committed(self) -> dict[int, int]:
        """Committed offsets of the audio topic, by partition; none while the group has no coordinator yet."""
        with suppress(KafkaError):
            found = self.admin.list_group_offsets(self.settings.group_id).get(self.settings.group_id, {})
            return {
                at.partition: entry.offset
                for at, entry in found.items()
                if at.topic == self.settings.audio_topic and entry.offset >= 0
            }
        return {}

    def decisions(self) -> list[DecisionLine]:
        """All decisions so far."""
        return read_topic(self.settings)

    def records(self, topic: str) -> list[Any]:
        """Give all records of a topic, from its beginning to where it ends now."""
        consumer = Consumer(bootstrap_servers=self.settings.bootstrap_servers, enable_auto_commit=False)
        try:
            partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            consumer.assign(partitions)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(partitions)
            found: list[Any] = []
            deadline_s = time.monotonic() + WITHIN_S
            while any(consumer.position(at) < ends[at] for at in partitions):
                assert time.monotonic() < deadline_s
                found += [record for records in consumer.poll(200).values() for record in records]
            return found
        finally:
            consumer.close()

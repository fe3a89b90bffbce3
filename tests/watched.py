"""A job that is being watched: what it serves, and what goes wrong on its topics."""

import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kafka import KafkaProducer
from prometheus_client.parser import text_string_to_metric_families
from records import record

from pipeline.chunks import STAGES
from pipeline.decisions import DecisionLine
from pipeline.local.kafka import LocalKafka
from pipeline.messages.hushword_pb2 import Decision, MediaFingerprint
from pipeline.options import Settings
from pipeline.trial import Job

WITHIN_S = 120.0
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """What Prometheus would read."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Served:
    """What the job serves."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def samples(self) -> Samples:
        return samples(self.get("/metrics")[1])


def wait(job: Job, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        job.check()
        assert time.monotonic() < deadline_s, f"not within {WITHIN_S:.0f} s; {job.tail()}"
        time.sleep(0.05)


@contextmanager
def producing(settings: Settings) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    yield producer
    producer.flush(30)
    producer.close()


@contextmanager
def paused(broker: LocalKafka) -> Iterator[None]:
    """Let the broker answer nobody."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def publish_faults(settings: Settings) -> int:
    """One bad record for each reason; a request a minute late, a chunk of it twice and one missing later; odd media.

    Gives the number of chunks that can be used.
    """
    at_us = round(time.time() * 1e6) - 60_000_000

    def chunk(seq: int, **fields: object) -> bytes:
        ids = {"request_id": "late", "household_id": "household-f", "device_id": "device-f", "wake_word": "computer"}
        good = {**ids, "seq": seq, "capture_time_us": at_us + 100_000 * seq}
        return record(**{**good, **fields}).SerializeToString()

    bad = {
        "decode": b"\xff\xff",
        "fields": chunk(0, request_id=""),
        "audio": chunk(0, audio=b"odd"),
        "time": chunk(0, capture_time_us=1),
        "request": chunk(1, household_id="household-g"),
    }
    assert set(bad) == set(STAGES)
    good = [chunk(seq) for seq in (0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11)]
    known = MediaFingerprint(media_id="k", kind=MediaFingerprint.KNOWN).SerializeToString()
    with producing(settings) as producer:
        for value in (*good, *bad.values()):
            producer.send(settings.audio_topic, key=b"late", value=value, partition=0)
        producer.send(settings.media_topic, key=b"k", value=known)
        producer.send(settings.media_topic, key=b"m", value=b"\xff\xff")
    return len(good) + 1  # the household that takes another's id is seen after the chunk is


def publish_requests(settings: Settings, requests: int) -> int:
    """As many requests of one household in this moment; gives the number of their chunks.

    Not earlier: of the minutes before those that were just replayed nobody counts any more.
    """
    at_us = round(time.time() * 1e6)
    with producing(settings) as producer:
        for number in range(requests):
            asked = record(
                request_id=f"late-{number}", household_id="household-h", wake_word="computer", capture_time_us=at_us
            )
            producer.send(settings.audio_topic, key=b"late", value=asked.SerializeToString(), partition=0)
    return requests


def publish_odd_decisions(settings: Settings, again: DecisionLine) -> None:
    """One that was told before, and one that is none."""
    told = Decision(decision_id=again.decision_id, request_id=again.request_id, reason=Decision.CONCURRENT)
    with producing(settings) as producer:
        for value in (told.SerializeToString(), b"\xff\xff"):
            producer.send(settings.decisions_topic, key=b"odd", value=value)

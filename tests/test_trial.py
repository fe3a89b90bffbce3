"""The trial with a stand-in for the job: what it waits for, what it stops, what it says when the job fails."""

import re
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from kafka import KafkaConsumer

from pipeline import trial
from pipeline.options import load_settings
from pipeline.recordings.recording import Recording, Request, write_manifest

# Decides every final chunk, and commits like the job: at the start, and behind what it has decided.
STAND_IN = """
import os, sys
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from pipeline.messages import hushword_pb2 as pb
from pipeline.options import load_settings
settings = load_settings()
mode = os.environ.get("STAND_IN", "")
if mode == "dies":
    sys.exit("it could not be")
consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap_servers, group_id=settings.group_id,
                         enable_auto_commit=False)
producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
parts = [TopicPartition(settings.audio_topic, n) for n in consumer.partitions_for_topic(settings.audio_topic)]
consumer.assign(parts)
consumer.seek_to_beginning()
consumer.commit({part: OffsetAndMetadata(0, "", -1) for part in parts})
while True:
    for part, records in consumer.poll(timeout_ms=200).items():
        for record in records:
            chunk = pb.AudioChunk.FromString(record.value)
            if chunk.final:
                decision = pb.Decision(decision_id=chunk.request_id, request_id=chunk.request_id, media_id="m",
                                       verdict=pb.Decision.IGNORE, reason=pb.Decision.CONCURRENT, households=3,
                                       audio_used_ms=900, decided_at_us=chunk.capture_time_us,
                                       audio_appended_us=record.timestamp * 1000)
                producer.send(settings.decisions_topic, decision.SerializeToString(), key=record.key)
        producer.flush()
        if mode != "stands still":
            consumer.commit({part: OffsetAndMetadata(records[-1].offset + 1, "", -1)})
"""


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    requests = [Request(f"r{n}", f"{n}.flac", n / 2, "alexa", "en-US", f"h{n}", f"d{n}") for n in range(6)]
    for request in requests:
        soundfile.write(tmp_path / request.file, np.zeros(16_000, np.int16), 16_000)
    write_manifest(tmp_path, requests)
    return Recording.load(tmp_path)


@pytest.fixture(autouse=True)
def _stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(trial, "JOB_COMMAND", (sys.executable, str(script)))
    monkeypatch.setenv("PYTHONPATH", str(Path(trial.__file__).parents[1]))


def _topics(kafka: str) -> set[str]:
    consumer = KafkaConsumer(bootstrap_servers=kafka.split(","))
    try:
        return set(consumer.topics())
    finally:
        consumer.close()


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_a_trial_collects_all_decisions_and_leaves_nothing(recording: Recording, kafka: str) -> None:
    """Every request was decided; process and topics are gone, phases were told in their order."""
    topics, children, phases = _topics(kafka), _children(), []
    found = trial.run_trial(
        recording,
        load_settings(),
        kafka,
        speed=None,
        partitions=3,
        progress=lambda phase, done, total: phases.append((phase, done, total)),
    )
    assert {decision.request_id for decision in found.decisions} == {f"r{n}" for n in range(6)}
    assert all(decision.latency_ms is not None and decision.latency_ms >= 0 for decision in found.decisions)
    assert all(0 < decision.decided_at_s < 4 for decision in found.decisions)
    assert (found.replayed.requests, found.dead_letters) == (6, 0)
    assert list(dict.fromkeys(phase for phase, _, _ in phases)) == [
        *("starting the job", "replaying", "waiting for the job", "stopping the job")
    ]
    assert _topics(kafka) == topics
    assert _children() == children


@pytest.mark.parametrize(
    ("mode", "says"),
    [("dies", "ended by itself with exit code 1; .*it could not be"), ("stands still", "committed nothing for 3 s")],
)
def test_a_job_that_fails_is_a_failed_run(
    recording: Recording, kafka: str, monkeypatch: pytest.MonkeyPatch, mode: str, says: str
) -> None:
    """The message has the end of the job's log; nothing is left behind but the log."""
    topics, children = _topics(kafka), _children()
    monkeypatch.setenv("STAND_IN", mode)
    with pytest.raises(trial.RunError, match=f"(?s){says}") as failed:
        trial.run_trial(recording, load_settings(), kafka, speed=None, no_progress_s=3.0)
    log = Path(re.findall(r"the end of its log (\S+):", str(failed.value))[0])
    assert log.is_file()
    log.unlink()
    assert _topics(kafka) == topics
    assert _children() == children


def test_ctrl_c_stops_the_job(recording: Recording, kafka: str) -> None:
    """An interrupt in the middle of a replay ends the job and removes the topics."""
    topics, children = _topics(kafka), _children()

    def interrupt(phase: str, done: int, _total: int) -> None:
        if phase == "replaying" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial.run_trial(recording, load_settings(), kafka, speed=None, progress=interrupt)
    assert _topics(kafka) == topics
    assert _children() == children

"""The job is killed, and fed with what is not audio: what is ignored stays the same."""

import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer
from sounds import write_recording
from stage import Stage, truth_of

from pipeline.chunks import MAX_CHUNK_MS, BadRecordError, read_record
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.recordings.departures import departures
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import END_MARK_AFTER_S, ReplaySummary, replay

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Two airings eight seconds apart, the first of them again in the end, and people."""
    folder = tmp_path_factory.mktemp("recording")
    return Recording.load(write_recording(folder, 8, events=2, homes=4, live=5, reruns=1, minutes=0.5))


# ---- killed ----------------------------------------------------------------------------------------------------------


class Replaying(threading.Thread):
    """A replay that goes on while jobs come and go."""

    def __init__(self, recording: Recording, stage: Stage, speed: float) -> None:
        super().__init__(name="replay", daemon=True)
        self._recording, self._stage, self._speed = recording, stage, speed
        self._summary: ReplaySummary | None = None

    def run(self) -> None:
        settings = self._stage.settings
        self._summary = replay(self._recording, settings, settings.audio_topic, self._speed)

    def end_offsets(self) -> dict[int, int]:
        """Wait for its end."""
        self.join(120)
        assert self._summary is not None, "the replay has failed"
        return self._summary.end_offsets


def test_a_job_that_is_killed_twice_ignores_what_an_undisturbed_one_ignores(recording: Recording, kafka: str) -> None:
    """Once among the decisions about each airing. Duplicates have one id; the re-run is known from before the kills."""
    requests = {request.request_id: request for request in recording.requests}
    with Stage(kafka, "faults-killed") as stage:
        replaying = None
        for event in ("e0", "e1"):
            with stage.job() as job:
                if replaying is None:
                    replaying = Replaying(recording, stage, 1.5)
                    replaying.start()
                stage.wait(
                    job,
                    lambda event=event: any(
                        recording.truth[decision.request_id].event == event
                        and recording.truth[decision.request_id].expect == "ignore"
                        for decision in stage.decisions()
                    ),
                )
                assert replaying.is_alive()
                os.kill(job.pid, signal.SIGKILL)
        before = len(stage.decisions())
        assert replaying is not None
        with stage.job() as job:
            stage.wait_past(job, replaying.end_offsets())
        decisions = stage.decisions()
        averages = {record.key for record in stage.records(stage.settings.media_topic)}

    assert {decision.request_id for decision in decisions} == truth_of(recording, "ignore", "ignore_by_cache")
    by_request = defaultdict(set)
    for decision in decisions:
        by_request[decision.request_id].add(decision.decision_id)
    assert all(len(found) == 1 for found in by_request.values())
    (rerun,) = truth_of(recording, "ignore_by_cache")
    number, decided = next((n, d) for n, d in enumerate(decisions) if d.request_id == rerun)
    assert number >= before
    assert decided.reason == "DISCOVERED"
    assert requests[rerun].start_s > 20
    assert decided.media_id.encode() in averages


def test_a_restart_at_rest_decides_nothing_again_and_keeps_the_averages(recording: Recording, kafka: str) -> None:
    """Everything was committed: the next job knows the media from their topic, and only from there."""
    first, again = recording.excerpt(0, 20), recording.excerpt(20, 60)
    (rerun,) = truth_of(again, "ignore_by_cache")
    with Stage(kafka, "faults-rest") as stage:
        settings, topic = stage.settings, stage.settings.audio_topic
        with stage.job() as job:
            ends = replay(first, settings, topic, None).end_offsets
            stage.wait_past(job, ends)
            os.kill(job.pid, signal.SIGKILL)
        before = stage.decisions()
        with stage.job() as job:
            ends = replay(again, settings, topic, None).end_offsets
            stage.wait_past(job, ends)
        decisions = stage.decisions()
    assert {decision.request_id for decision in before} == truth_of(first, "ignore")
    (after,) = decisions[len(before) :]
    assert (after.request_id, after.reason) == (rerun, "DISCOVERED")
    (event,) = {d.media_id for d in before if first.truth[d.request_id].event == again.truth[rerun].event}
    assert after.media_id == event


# ---- fed with what is not audio --------------------------------------------------------------------------------------


class Fuzz:
    """Records that must be refused, whatever came before them; drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._kinds = (self._noise, self._flipped, self._cut, self._truncated_pcm, self._wrong_field, self._empty)

    def bad(self, good: AudioChunk) -> bytes | None:
        """Give one, made from a good one or from nothing."""
        while True:
            value = self._draw.choice(self._kinds)(good)
            if _refused(value, good.capture_time_us):
                return value

    def key(self, good: AudioChunk, value: bytes | None) -> bytes | None:
        """Give a key: the good one's, none (a record has at least one of key and value), or any."""
        none = None if value is not None else b""
        return self._draw.choice([good.request_id.encode(), none, self._draw.randbytes(8)])

    def _noise(self, _: AudioChunk) -> bytes:
        return self._draw.randbytes(self._draw.randint(1, 9000))

    def _flipped(self, good: AudioChunk) -> bytes:
        value = bytearray(good.SerializeToString())
        for _ in range(self._draw.randint(1, 20)):
            value[self._draw.randrange(min(len(value), 120))] ^= 1 << self._draw.randrange(8)
        return bytes(value)

    def _cut(self, good: AudioChunk) -> bytes:
        value = good.SerializeToString()
        return value[: self._draw.randrange(1, len(value))]

    def _truncated_pcm(self, good: AudioChunk) -> bytes:
        return _changed(good, audio=good.audio[: self._draw.randrange(0, len(good.audio), 2) + 1])

    def _wrong_field(self, good: AudioChunk) -> bytes:
        return _changed(
            good,
            **self._draw.choice(
                [
                    {"request_id": ""},
                    {"household_id": ""},
                    {"device_id": "d" * 500},
                    {"wake_word": "Two Words / and a slash"},
                    {"locale": "nowhere at all"},
                    {"seq": 2**32 - 1},
                    {"sample_rate_hz": 12_345},
                    {"encoding": 9},
                    {"audio": b""},
                    {"audio": bytes(2 * MAX_CHUNK_MS * 16 + 2)},
                    {"capture_time_us": 0},
                    {"capture_time_us": good.capture_time_us + 2 * DAY_US},
                    {"capture_time_us": -(2**63)},
                ]
            ),
        )

    def _empty(self, _: AudioChunk) -> bytes | None:
        return self._draw.choice([b"", None])


def _changed(good: AudioChunk, **fields: object) -> bytes:
    changed = AudioChunk.FromString(good.SerializeToString())
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed.SerializeToString()


def _refused(value: bytes | None, now_us: int) -> bool:
    """Whether a record is refused for what it is: a bit may be turned without making it wrong."""
    try:
        read_record(value, now_us, DAY_US)
    except BadRecordError:
        return True
    return False


def stolen(good: AudioChunk) -> bytes:
    """Give a good record of another device under a request id that is in use."""
    return _changed(good, device_id="somebody else's")


def mixed(recording: Recording, epoch_us: int, count: int, seed: int) -> Iterator[tuple[AudioChunk, list[bool]]]:
    """Give the good records, and how many bad ones come after each (True: of a stolen id); `count` in all."""
    good = [departure.message for departure in departures(recording, epoch_us)]
    draw = random.Random(seed)
    after = Counter(draw.randrange(len(good)) for _ in range(count))
    for number, message in enumerate(good):
        yield message, [draw.random() < 0.1 for _ in range(after[number])]


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])], ids=["300", "10000"]
)
def test_fuzzed_records_become_dead_letters_and_change_nothing(recording: Recording, kafka: str, count: int) -> None:
    """As many letters as bad records, each with the original bytes and where they were; the good ones are decided."""
    epoch_us = round(time.time() * 1e6)
    fuzz = Fuzz(count)
    sent = []
    # A minute that is sent at once is an overload in its first seconds: without a deadline nothing is spared.
    with Stage(kafka, f"faults-fuzz-{count}", deadline_ms=600_000) as stage:
        topic = stage.settings.audio_topic
        with stage.job() as job:
            producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=5)
            for good, bad in mixed(recording, epoch_us, count, seed=count):
                producer.send(topic, good.SerializeToString(), key=good.request_id.encode())
                for steals in bad:
                    value = stolen(good) if steals else fuzz.bad(good)
                    key = good.request_id.encode() if steals else fuzz.key(good, value)
                    sent.append((key, value, producer.send(topic, value, key=key)))
            end_us = epoch_us + round((60 + END_MARK_AFTER_S) * 1e6)
            mark = AudioChunk(low_mark_us=end_us).SerializeToString()
            producer.flush(60)
            marks = [producer.send(topic, mark, partition=partition) for partition in range(stage.partitions)]
            ends = {at.partition: at.offset + 1 for at in (future.get(60) for future in marks)}
            producer.close()
            stage.wait_past(job, ends)
        letters = stage.records(stage.settings.dead_letter_topic)
        decisions = stage.decisions()

    assert len(sent) == count
    expected = {}
    for key, value, future in sent:
        at = future.get(0)
        expected[at.partition, at.offset] = key, value or b"", at.timestamp
    assert len(letters) == count
    stages: Counter[str] = Counter()
    for letter in letters:
        headers = {name: text.decode() for name, text in letter.headers}
        assert list(headers) == ["topic", "partition", "offset", "timestamp", "stage", "error"]
        assert headers["topic"] == topic
        key, value, timestamp = expected.pop((int(headers["partition"]), int(headers["offset"])))
        assert (letter.key, letter.value) == (key, value)
        assert int(headers["timestamp"]) == timestamp
        assert headers["error"]
        stages[headers["stage"]] += 1
    assert not expected
    assert set(stages) == {"decode", "fields", "audio", "time", "request"}
    ignored = [decision.request_id for decision in decisions]
    assert sorted(ignored) == sorted(truth_of(recording, "ignore", "ignore_by_cache"))

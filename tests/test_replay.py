import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, TopicPartition

from pipeline.messages import hushword_pb2 as pb
from pipeline.options import load_settings
from pipeline.recording import Recording, Request
from pipeline.replay import CHUNK_MS, audio_chunk, chunk, departures, replay
from pipeline.topics import create_topics

RATES_HZ = (8000, 16_000, 22_050, 24_000, 44_100, 48_000)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Three overlapping requests of noise, one of them at 44.1 kHz."""
    noise = np.random.default_rng(1)
    lines = []
    for name, start_s, rate_hz, seconds in (("a", 0.5, 16_000, 1.3), ("b", 0.6, 44_100, 0.9), ("c", 1.2, 16_000, 1.0)):
        samples = noise.integers(-9000, 9000, int(rate_hz * seconds)).astype(np.int16)
        soundfile.write(tmp_path / f"{name}.flac", samples, rate_hz)
        same = {"wake_word": "alexa", "locale": "en-US", "household": f"h{name}", "device": f"d{name}"}
        lines.append(json.dumps({"request_id": name, "file": f"{name}.flac", "start_s": start_s, **same}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Recording.load(tmp_path)


@given(st.text(max_size=20), st.integers(1, 200_000), st.sampled_from(RATES_HZ), st.integers(0, 3))
def test_chunks_are_the_request_in_pieces_of_80_to_250_ms(
    request_id: str, samples: int, sample_rate_hz: int, seed: int
) -> None:
    """No gap, no overlap, only the last may be shorter; the same again for the same seed."""
    chunks = chunk(request_id, samples, sample_rate_hz, seed)
    assert chunks[0].first == 0
    assert chunks[-1].last == samples
    assert [part.seq for part in chunks] == list(range(len(chunks)))
    assert all(before.last == after.first for before, after in pairwise(chunks))
    lengths_ms = [1000 * (part.last - part.first) / sample_rate_hz for part in chunks]
    assert all(CHUNK_MS[0] <= length <= CHUNK_MS[1] for length in lengths_ms[:-1])
    assert 0 < lengths_ms[-1] <= CHUNK_MS[1]
    assert chunks == chunk(request_id, samples, sample_rate_hz, seed)


@given(st.floats(0, 1e5), st.integers(1, 60_000), st.sampled_from(RATES_HZ))
def test_messages_reassemble_to_the_samples_and_times_are_contiguous(
    start_s: float, samples: int, sample_rate_hz: int
) -> None:
    """Each capture time is the one before plus the audio between, to the microsecond; one chunk is final."""
    request = Request("r", "r.flac", start_s, "alexa", "en-US", "h", "d")
    audio = np.arange(samples).astype(np.int16)
    epoch_us = 1_700_000_000_000_000
    messages = [
        audio_chunk(request, audio, sample_rate_hz, part, epoch_us) for part in chunk("r", samples, sample_rate_hz)
    ]
    assert b"".join(message.audio for message in messages) == audio.tobytes()
    assert [message.final for message in messages] == [False] * (len(messages) - 1) + [True]
    assert messages[0].capture_time_us == epoch_us + round(start_s * 1e6)
    offset = 0
    for message in messages:
        exact_us = messages[0].capture_time_us + offset * 1e6 / sample_rate_hz
        assert message.capture_time_us == pytest.approx(exact_us, abs=1)
        offset += len(message.audio) // 2


def _end_us(message: pb.AudioChunk) -> float:
    return message.capture_time_us + len(message.audio) / 2 * 1e6 / message.sample_rate_hz


def test_chunks_leave_in_the_order_of_their_last_samples(recording: Recording) -> None:
    """Over all requests, each at the moment of its last sample."""
    sent = list(departures(recording, epoch_us=0))
    assert [departure.at_us for departure in sent] == sorted(departure.at_us for departure in sent)
    assert all(departure.at_us == pytest.approx(_end_us(departure.message), abs=1.5) for departure in sent)
    assert {departure.message.request_id for departure in sent[:6]} >= {"a", "b"}  # interleaved


def test_shuffled_chunks_are_late_by_at_most_the_disorder(recording: Recording) -> None:
    """The same messages, out of order, the same way for the same seed."""
    in_order = [departure.message for departure in departures(recording, epoch_us=0)]
    sent = list(departures(recording, epoch_us=0, shuffle_ms=300))
    messages = [departure.message for departure in sent]
    assert messages != in_order
    assert sorted(map(str, messages)) == sorted(map(str, in_order))
    assert [departure.at_us for departure in sent] == sorted(departure.at_us for departure in sent)
    assert all(-2 <= departure.at_us - _end_us(departure.message) <= 300_002 for departure in sent)
    assert messages == [departure.message for departure in departures(recording, epoch_us=0, shuffle_ms=300)]


def test_replay_through_a_real_broker(recording: Recording, kafka: str) -> None:
    """All audio arrives, a request in one partition and in order, and every partition ends with its mark."""
    settings = load_settings(None, {"bootstrap_servers": kafka, "audio_topic": "test-replay"})
    create_topics(kafka, settings, partitions=3, roles=["audio"])
    heard: list[int] = []
    summary = replay(recording, kafka, "test-replay", speed=20, epoch_s=1_700_000_000, progress=heard.append)
    assert (summary.requests, heard[-1]) == (3, 3)
    assert 2.2 / 20 <= summary.wall_s < 20

    consumer = KafkaConsumer(bootstrap_servers=kafka.split(","), enable_auto_commit=False)
    try:
        partitions = [TopicPartition("test-replay", number) for number in range(3)]
        consumer.assign(partitions)
        assert {at.partition: end for at, end in consumer.end_offsets(partitions).items()} == summary.end_offsets
        consumer.seek_to_beginning()
        values: defaultdict[int, list[pb.AudioChunk]] = defaultdict(list)
        while sum(map(len, values.values())) < sum(summary.end_offsets.values()):
            for batch in consumer.poll(timeout_ms=1000).values():
                for record in batch:
                    message = pb.AudioChunk.FromString(record.value)
                    assert record.key == (message.request_id.encode() or None)
                    values[record.partition].append(message)
    finally:
        consumer.close()

    last_us = max(_end_us(message) for messages in values.values() for message in messages[:-1])
    audio: defaultdict[str, bytes] = defaultdict(bytes)
    for messages in values.values():
        mark = messages.pop()
        assert mark == pb.AudioChunk(low_mark_us=mark.low_mark_us)
        assert mark.low_mark_us == pytest.approx(last_us + 120e6, abs=2)
        for message in messages:
            audio[message.request_id] += message.audio
    for request in recording.requests:
        assert audio[request.request_id] == recording.audio(request)[0].tobytes()

import json
import threading
import time
from collections import defaultdict
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, TopicPartition

from pipeline.chunks import MAX_ID_LENGTH
from pipeline.kafka.topics import create_topics
from pipeline.messages import hushword_pb2 as pb
from pipeline.options import load_settings
from pipeline.recordings.departures import CHUNK_MS, COPY_JITTER_S, Programme, audio_chunk, chunk, departures, played
from pipeline.recordings.recording import Recording, RecordingError, Request
from pipeline.recordings.replay import replay

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
    sent = list(departures(recording, epoch_us=0, programme=Programme(shuffle_ms=300)))
    messages = [departure.message for departure in sent]
    assert messages != in_order
    assert sorted(map(str, messages)) == sorted(map(str, in_order))
    assert [departure.at_us for departure in sent] == sorted(departure.at_us for departure in sent)
    assert all(-2 <= departure.at_us - _end_us(departure.message) <= 300_002 for departure in sent)
    assert messages == [
        departure.message for departure in departures(recording, epoch_us=0, programme=Programme(shuffle_ms=300))
    ]


PROGRAMMES = [
    Programme(),
    Programme(shuffle_ms=400, seed=2),
    Programme(loops=3, copies=2, shuffle_ms=100),
    Programme(from_s=0.6, loops=None, copies=3),
]


@pytest.mark.parametrize("programme", PROGRAMMES)
def test_departures_go_on_behind_any_of_them(recording: Recording, programme: Programme) -> None:
    """What an interrupted replay sends later is what it would have sent."""
    keys = [(d.key, d.message) for d in islice(departures(recording, 0, programme), 150)]
    assert [key for key, _ in keys] == sorted(key for key, _ in keys)
    for index in range(0, len(keys), 7):
        rest = islice(departures(recording, 0, programme, after=keys[index][0]), len(keys) - index - 1)
        assert [(d.key, d.message) for d in rest] == keys[index + 1 :]


def test_a_replay_from_a_time_leaves_out_what_began_before(recording: Recording) -> None:
    """The recording's clock stays; nothing at all is refused."""
    sent = [departure.message for departure in departures(recording, 0, Programme(from_s=0.6))]
    whole = [departure.message for departure in departures(recording, 0)]
    assert sent == [message for message in whole if message.request_id != "a"]
    with pytest.raises(RecordingError, match=r"no request of .* begins at 9 s or later: the last is at 1\.2 s"):
        next(departures(recording, 0, Programme(from_s=9)))


def test_each_loop_has_other_requests_of_the_same_homes(recording: Recording) -> None:
    """The same sound, later by the same time for all."""
    requests = list(played(recording, Programme(loops=3)))
    assert len({request.request_id for request in requests}) == 9
    starts_s = {
        file: [request.start_s for request in requests if request.file == file] for file in ("a.flac", "b.flac")
    }
    assert len({round(later - first, 6) for times in starts_s.values() for first, later in pairwise(times)}) == 1
    assert {(request.file, request.household, request.device) for request in requests} == {
        (request.file, request.household, request.device) for request in recording.requests
    }


def test_copies_come_from_other_homes_and_a_little_later(recording: Recording) -> None:
    """Each with ids of its own, by a jitter that the seed decides."""
    requests = list(played(recording, Programme(copies=4)))
    assert [request.start_s for request in requests] == sorted(request.start_s for request in requests)
    for name in ("request_id", "household", "device"):
        assert len({getattr(request, name) for request in requests}) == 12
    for original in recording.requests:
        later_s = [request.start_s - original.start_s for request in requests if request.file == original.file]
        assert len(set(later_s)) == 4
        assert all(0 <= later <= COPY_JITTER_S + 1e-6 for later in later_s)
    assert requests == list(played(recording, Programme(copies=4)))
    assert requests != list(played(recording, Programme(copies=4, seed=1)))


def test_ids_of_copies_stay_within_what_a_gateway_may_send(recording: Recording) -> None:
    """The longest id, too, has copies and loops."""
    longest = replace(recording.requests[0], request_id="r" * MAX_ID_LENGTH, household="h" * MAX_ID_LENGTH)
    requests = list(played(replace(recording, requests=(longest,)), Programme(copies=3, loops=2)))
    assert len({request.request_id for request in requests}) == 6
    assert len({request.household for request in requests}) == 3
    assert all(len(request.request_id) <= MAX_ID_LENGTH >= len(request.household) for request in requests)


@pytest.mark.parametrize(("name", "ago_s"), [("past", 3600), ("ahead", 0)])
def test_a_replay_that_leaves_the_clock_says_how_far_it_is(
    recording: Recording, kafka: str, name: str, ago_s: float
) -> None:
    """Low marks, behind which no chunk was captured, in every partition; those of the past lag, but for the end's."""
    settings = load_settings(None, {"bootstrap_servers": kafka, "audio_topic": f"test-replay-{name}"})
    create_topics(settings, partitions=3, roles=["audio"])
    programme = Programme(shuffle_ms=200)
    epoch_s = time.time() - ago_s
    summary = replay(recording, settings, settings.audio_topic, speed=1.5, epoch_s=epoch_s, programme=programme)
    for messages in _read(kafka, settings.audio_topic, summary.end_offsets).values():
        marks = [message for message in messages if message.low_mark_us]
        assert [mark.lags for mark in marks] == [bool(ago_s)] * (len(marks) - 1) + [False]
        assert messages[0] == marks[0]
        assert len(marks) > 4
        low_us = 0
        for message in messages:
            if message.low_mark_us:
                low_us = message.low_mark_us
            else:
                assert _end_us(message) >= low_us


def test_a_replay_in_time_leaves_the_marks_to_the_clock(recording: Recording, kafka: str) -> None:
    settings = load_settings(None, {"bootstrap_servers": kafka, "audio_topic": "test-replay-in-time"})
    create_topics(settings, partitions=3, roles=["audio"])
    summary = replay(recording, settings, settings.audio_topic, speed=1)
    for messages in _read(kafka, settings.audio_topic, summary.end_offsets).values():
        assert [bool(message.low_mark_us) for message in messages] == [False] * (len(messages) - 1) + [True]


def test_a_stopped_replay_goes_on_with_nothing_lost_or_twice(recording: Recording, kafka: str) -> None:
    """What was kept is where it goes on; together it is the whole."""
    settings = load_settings(None, {"bootstrap_servers": kafka, "audio_topic": "test-replay-stopped"})
    create_topics(settings, partitions=2, roles=["audio"])
    stop, kept = threading.Event(), []
    epoch_s = time.time()

    def hear(done: int) -> None:
        if done:
            stop.set()

    first = replay(
        recording,
        settings,
        "test-replay-stopped",
        20,
        epoch_s=epoch_s,
        progress=hear,
        keep=lambda key, done: kept.append((key, done)),
        stop=stop,
    )
    assert first.end_offsets == {}
    assert first.requests == 1 == kept[-1][1]
    second = replay(recording, settings, "test-replay-stopped", 20, epoch_s=epoch_s, after=kept[-1][0])
    assert second.requests == 2
    messages = [m for of in _read(kafka, "test-replay-stopped", second.end_offsets).values() for m in of if m.audio]
    whole = [departure.message for departure in departures(recording, round(epoch_s * 1e6))]
    assert sorted(map(str, messages)) == sorted(map(str, whole))


def _read(kafka: str, topic: str, ends: dict[int, int]) -> dict[int, list[pb.AudioChunk]]:
    consumer = KafkaConsumer(bootstrap_servers=kafka.split(","), enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, number) for number in ends]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        values: defaultdict[int, list[pb.AudioChunk]] = defaultdict(list)
        while any(consumer.position(at) < ends[at.partition] for at in partitions):
            for batch in consumer.poll(timeout_ms=1000).values():
                for record in batch:
                    message = pb.AudioChunk.FromString(record.value)
                    assert record.key == (message.request_id.encode() or None)
                    values[record.partition].append(message)
        return values
    finally:
        consumer.close()


def test_replay_through_a_real_broker(recording: Recording, kafka: str) -> None:
    """All audio arrives, a request in one partition and in order, and every partition ends with its mark."""
    settings = load_settings(None, {"bootstrap_servers": kafka, "audio_topic": "test-replay"})
    create_topics(settings, partitions=3, roles=["audio"])
    heard: list[int] = []
    summary = replay(recording, settings, "test-replay", speed=20, progress=heard.append)
    assert (summary.requests, heard[-1]) == (3, 3)
    assert 2.2 / 20 <= summary.wall_s < 20
    values = _read(kafka, "test-replay", summary.end_offsets)

    last_us = max(_end_us(message) for messages in values.values() for message in messages if message.audio)
    audio: defaultdict[str, bytes] = defaultdict(bytes)
    for messages in values.values():
        mark = messages.pop()
        assert mark == pb.AudioChunk(low_mark_us=mark.low_mark_us)
        assert mark.low_mark_us == pytest.approx(last_us + 120e6, abs=2)
        for message in messages:
            audio[message.request_id] += message.audio
    for request in recording.requests:
        assert audio.pop(request.request_id) == recording.audio(request)[0].tobytes()
    assert set(audio) <= {""}  # low marks

"""The reader: its contract with Beam, and what it does with a real topic that changes under it."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from apache_beam.io.iobase import RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaAdminClient, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import NewPartitions
from records import pieces

from matcher.bits import bits_named
from matcher.fingerprint import FIRST_LOOK_MS, LOOK_MS, whole_fingerprint
from pipeline.kafka.topics import create_topics
from pipeline.marks import NEVER_US
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.messages.internal_pb2 import Batch
from pipeline.options import Settings
from pipeline.source import (
    DEAD_LETTERS,
    FromCommitted,
    Position,
    PositionCoder,
    PositionTracker,
    Reader,
    ReadError,
    ReadRequests,
)

WITHIN_S = 60.0
FIVE_LOOKS_MS = [FIRST_LOOK_MS, *[LOOK_MS] * 4]
names = itertools.count()
int64 = st.integers(-(2**63), 2**63 - 1)
positions = st.builds(
    Position.make,
    st.just(dict.fromkeys(range(8), 3)),
    st.dictionaries(st.integers(0, 7), st.integers(0, 2**62), max_size=8),
    int64,
)


# ---- positions -------------------------------------------------------------------------------------------------------


@given(positions)
def test_a_position_survives_its_coder(position: Position) -> None:
    """Bit for bit, and equal positions have equal bytes."""
    coder = PositionCoder()
    assert coder.decode(coder.encode(position)) == position
    assert coder.is_deterministic()
    assert coder.encode(coder.decode(coder.encode(position))) == coder.encode(position)


@given(st.dictionaries(st.integers(0, 2**31 - 1), st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), max_size=9))
def test_a_position_does_not_depend_on_the_order_of_its_partitions(offsets: dict[int, tuple[int, int]]) -> None:
    """Two readers at one place are at one position."""
    backwards = dict(reversed(offsets.items()))
    made = [
        Position.make({p: o[0] for p, o in each.items()}, {p: o[1] for p, o in each.items()}, 5)
        for each in (offsets, backwards)
    ]
    assert made[0] == made[1]
    assert PositionCoder().encode(made[0]) == PositionCoder().encode(made[1])


@given(st.lists(positions, min_size=1, max_size=6), st.integers(0, 6), st.floats(0.01, 1.0))
def test_the_tracker_keeps_beams_contract(claims: list[Position], split_after: int, fraction: float) -> None:
    """What was claimed and what is left are the whole; then nothing can be claimed; a rest that is lost is an error."""
    start, *claims = claims
    tracker = PositionTracker(start)
    assert isinstance(tracker, RestrictionTracker)
    assert tracker.current_restriction() == start
    assert tracker.is_bounded() is False
    assert tracker.current_progress().completed_work > 0
    claimed = start
    for number, claim in enumerate(claims):
        if number == split_after:
            break
        assert tracker.try_claim(claim)
        claimed = claim
    with pytest.raises(ValueError, match="without deferring"):
        tracker.check_done()
    assert tracker.try_split(fraction) is None  # only all that is left can be handed over
    assert tracker.try_split(0) == (start, claimed)
    assert tracker.try_split(0) is None
    tracker.check_done()
    assert not tracker.try_claim(start)
    assert tracker.current_restriction() == start


# ---- a real topic ----------------------------------------------------------------------------------------------------


class Topic:
    """Topics of a test's own, and what devices send to one of them."""

    def __init__(self, bootstrap_servers: str, partitions: int) -> None:
        name = f"source-{next(names)}"
        self.settings = Settings(
            bootstrap_servers=bootstrap_servers,
            audio_topic=name,
            decisions_topic=f"{name}-decisions",
            media_topic=f"{name}-media",
            group_id=name,
            start_at="earliest",
        )
        create_topics(self.settings, partitions, roles=["audio", "media"])
        self.producer = KafkaProducer(
            bootstrap_servers=bootstrap_servers, acks="all", linger_ms=0, metadata_max_age_ms=500
        )
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)

    def send(self, value: bytes, partition: int) -> None:
        self.producer.send(self.settings.audio_topic, value, partition=partition).get(10)

    def speak(self, request_id: str, partition: int) -> None:
        """Send a request of five looks that ended just before: nothing of it waits for records to come."""
        for piece in pieces(request_id, ended_us() - 1000 * sum(FIVE_LOOKS_MS), FIVE_LOOKS_MS):
            self.send(piece.value, partition)

    def close(self) -> None:
        self.producer.close()
        self.admin.delete_topics([self.settings.audio_topic, self.settings.media_topic])
        self.admin.close()


@pytest.fixture
def topic(kafka: str) -> Iterator[Topic]:
    made = Topic(kafka, 2)
    yield made
    made.close()


def ended_us() -> int:
    """Give a capture time that what is appended from now on releases, however fast it comes."""
    return round(time.time() * 1e6) - 2000 * Settings().reorder_ms


class Bundles:
    """Runs the DoFn bundle by bundle, as a runner would: each from what the one before has left."""

    def __init__(self, settings: Settings) -> None:
        self.element = settings.model_dump_json()
        self.do_fn = ReadRequests()
        self.do_fn.setup()
        self.position = FromCommitted().initial_restriction(self.element)
        self.watermark = ManualWatermarkEstimator(None)

    def run(self, position: Position | None = None) -> dict[str, Batch]:
        tracker = ThreadsafeRestrictionTracker(FromCommitted().create_tracker(position or self.position))
        view = RestrictionTrackerView(tracker)
        found = self.do_fn.process(self.element, tracker=view, watermark=self.watermark)
        batches = {route: Batch.FromString(data) for route, data in found}
        tracker.check_done()
        residual, _ = tracker.deferred_status()
        self.position = residual
        return batches

    def until(self, condition: Any) -> list[dict[str, Batch]]:
        """Run bundles until the condition holds for all batches so far."""
        seen: list[dict[str, Batch]] = []
        deadline_s = time.monotonic() + WITHIN_S
        while not condition(seen):
            assert time.monotonic() < deadline_s, f"not within {WITHIN_S:.0f} s"
            seen.append(self.run())

        return seen


def requests_in(seen: list[dict[str, Batch]]) -> list[tuple[str, int]]:
    """Give request and end of all growths, in the order in which they were given out."""
    return [
        (growth.request_id, growth.end_us)
        for batches in seen
        for route, batch in batches.items()
        if route != DEAD_LETTERS
        for growth in batch.growths
    ]


@pytest.fixture
def bundles(topic: Topic) -> Iterator[Bundles]:
    made = Bundles(topic.settings)
    yield made
    made.do_fn.teardown()


def test_requests_of_all_partitions_come_out_in_the_order_of_capture(topic: Topic, bundles: Bundles) -> None:
    """Growths by route, dead letters beside them, and a watermark that follows the mark."""
    started_us = time.time() * 1e6
    topic.speak("a", 0)
    topic.send(b"garbage", 1)
    topic.speak("b", 1)
    time.sleep(0.2)  # what is idle follows the append time of the others: one more has to come
    topic.send(b"more garbage", 0)
    topic.speak("c", 0)
    seen = bundles.until(lambda seen: len(requests_in(seen)) >= 10)
    found = requests_in(seen)
    assert [end_us for _, end_us in found] == sorted(end_us for _, end_us in found)
    assert {request for request, _ in found} >= {"a", "b"}
    letters = [letter for batches in seen for letter in batches.get(DEAD_LETTERS, Batch()).dead_letters]
    assert sorted((letter.value, letter.partition, letter.offset, letter.stage) for letter in letters) == [
        (b"garbage", 1, 0, "decode"),
        (b"more garbage", 0, 5, "decode"),
    ]
    assert all(letter.topic == topic.settings.audio_topic and letter.timestamp_ms > 0 for letter in letters)
    assert bundles.watermark.current_watermark() > Timestamp(micros=round(started_us))


def test_every_route_hears_the_mark_now_and_then(topic: Topic, bundles: Bundles) -> None:
    """Also the one for dead letters, which carries the progress of a topic without requests."""
    first = bundles.run()
    assert set(first) == {DEAD_LETTERS}
    assert dict(first[DEAD_LETTERS].progress.needed) == {0: 0, 1: 0}
    topic.speak("a", 0)
    bundles.until(requests_in)
    seen = bundles.until(lambda seen: any(DEAD_LETTERS in batches for batches in seen))
    assert set(seen[-1]) == {"alexa/en-US/0", DEAD_LETTERS}
    assert seen[-1][DEAD_LETTERS].progress.needed[0] == 0  # its request may have to be read again


def test_a_restriction_that_memory_does_not_fit_makes_a_new_reader(topic: Topic, bundles: Bundles) -> None:
    """After a failed bundle the same position comes again, and what it gave out comes again."""
    topic.speak("a", 0)
    topic.speak("b", 1)
    before = bundles.position
    seen = bundles.until(lambda seen: len(requests_in(seen)) >= 5)
    reader = bundles.do_fn._reader
    bundles.run()
    assert bundles.do_fn._reader is reader  # it goes on with what it has
    bundles.position = before
    again = bundles.until(lambda again: len(requests_in(again)) >= len(requests_in(seen)))
    assert bundles.do_fn._reader is not reader
    assert requests_in(again)[: len(requests_in(seen))] == requests_in(seen)


def test_a_restored_position_rebuilds_what_was_carried(topic: Topic) -> None:
    """In the middle of a request: another process gives out what is missing, and not what was given out before."""
    now_us, lengths_ms = round(time.time() * 1e6), [*FIVE_LOOKS_MS, *[LOOK_MS] * 3]
    cut = pieces("a", ended_us() - 1000 * sum(lengths_ms), lengths_ms)
    for piece in cut[:4]:
        topic.send(piece.value, 0)
    topic.send(b"garbage", 0)
    first = Bundles(topic.settings)
    seen = first.until(lambda seen: len(requests_in(seen)) >= 3 and first.position.partitions[0][2] == 5)
    first.do_fn.teardown()
    for piece in cut[4:]:
        topic.send(piece.value, 0)
    for partition in (0, 1):
        topic.send(AudioChunk(low_mark_us=now_us + 60_000_000).SerializeToString(), partition)
    second = Bundles(topic.settings)
    second.position = PositionCoder().decode(PositionCoder().encode(first.position))
    more = second.until(lambda more: len(requests_in(seen)) + len(requests_in(more)) >= 8)
    second.do_fn.teardown()
    assert requests_in(seen) + requests_in(more) == [("a", piece.end_us) for piece in cut]
    letters = [x.value for batches in [*seen, *more] for batch in batches.values() for x in batch.dead_letters]
    assert letters == [b"garbage"]  # it is read again, and not told again
    words = [
        np.frombuffer(growth.words, "<u8")
        for batches in [*seen, *more]
        for batch in batches.values()
        for growth in batch.growths
    ]
    samples = np.concatenate([np.frombuffer(AudioChunk.FromString(piece.value).audio, "<i2") for piece in cut])
    whole = whole_fingerprint(samples, "a", bits_named(topic.settings.bits))
    for before_it, after_it in itertools.pairwise(words):
        assert len(before_it) < len(after_it)
    for so_far in words:
        np.testing.assert_array_equal(so_far, whole[: len(so_far)])


def test_a_bundle_that_fails_leaves_no_reader_behind(
    topic: Topic, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had read is not forgotten with the bundle: the next one starts where the failed ones did."""
    topic.speak("a", 0)
    topic.speak("b", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "progress", _fails)
        for _ in range(3):
            with pytest.raises(OSError, match="the bundle failed"):
                bundles.run()
    found = requests_in(bundles.until(lambda seen: len(requests_in(seen)) >= 5))
    assert found[0][0] == "a"
    assert len(found) == len(set(found))


def _fails(_: Reader) -> None:
    raise OSError("the bundle failed")


def test_deleted_audio_that_was_never_read_stops_the_start(topic: Topic) -> None:
    """Loudly, with the partition, both offsets and what to do; without committed offsets it is no loss."""
    at = TopicPartition(topic.settings.audio_topic, 1)
    for number in range(6):
        topic.send(b"%d" % number, 1)
    topic.admin.alter_group_offsets(topic.settings.group_id, {at: OffsetAndMetadata(2, "", -1)})
    topic.admin.delete_records({at: 4})
    with pytest.raises(ReadError) as failed:
        FromCommitted().initial_restriction(topic.settings.model_dump_json())
    assert str(failed.value) == (
        f"{at.topic}-1 begins at offset 4, after the committed 2: its retention has deleted audio that was never read;"
        f" reset the offsets of group {topic.settings.group_id!r} to go on without it"
    )
    other = topic.settings.model_copy(update={"group_id": "somebody-else"})
    position = FromCommitted().initial_restriction(other.model_dump_json())
    assert position == Position.make({0: 0, 1: 4}, {0: 0, 1: 4}, NEVER_US)


def test_audio_that_is_deleted_before_it_is_read_fails_the_bundle(topic: Topic, bundles: Bundles) -> None:
    """A position that the log has lost is an error also for a reader that runs."""
    at = TopicPartition(topic.settings.audio_topic, 0)
    for number in range(6):
        topic.send(b"%d" % number, 0)
    topic.admin.delete_records({at: 4})
    with pytest.raises(ReadError, match=f"{at.topic}-0 .*never read"):
        bundles.until(lambda _: False)
    assert bundles.do_fn._reader is None


@pytest.mark.parametrize(("start_at", "begins"), [("earliest", 0), ("latest", 3)])
def test_a_group_without_commits_starts_where_the_settings_say(topic: Topic, start_at: str, begins: int) -> None:
    """And one with commits goes on from there; a partition without one was added since, and is read from its start."""
    for _ in range(3):
        topic.send(b"before", 0)
    settings = topic.settings.model_copy(update={"start_at": start_at})
    position = FromCommitted().initial_restriction(settings.model_dump_json())
    assert position == Position.make({0: begins, 1: 0}, {0: begins, 1: 0}, NEVER_US)
    at = TopicPartition(settings.audio_topic, 0)
    topic.admin.alter_group_offsets(settings.group_id, {at: OffsetAndMetadata(1, "", -1)})
    topic.send(b"nobody was there", 1)
    position = FromCommitted().initial_restriction(settings.model_dump_json())
    assert position == Position.make({0: 1, 1: 0}, {0: 1, 1: 0}, NEVER_US)


def test_a_topic_that_is_not_there_stops_the_start(kafka: str) -> None:
    """With its name."""
    settings = Settings(bootstrap_servers=kafka, audio_topic="nobody-made-this")
    with pytest.raises(ReadError, match="topic 'nobody-made-this' has no partitions"):
        FromCommitted().initial_restriction(settings.model_dump_json())


def test_a_partition_that_is_added_while_reading_is_read(topic: Topic, bundles: Bundles) -> None:
    """From its first record, and without reading the others again."""
    topic.speak("before", 0)
    seen = bundles.until(lambda seen: len(requests_in(seen)) >= 3)
    topic.admin.create_partitions({topic.settings.audio_topic: NewPartitions(3)})
    deadline_s = time.monotonic() + WITHIN_S
    while len(topic.producer.partitions_for(topic.settings.audio_topic)) < 3:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    topic.speak("added", 2)
    for partition in range(3):
        far_us = round(time.time() * 1e6) + 3_600_000_000
        topic.send(AudioChunk(low_mark_us=far_us).SerializeToString(), partition)
    seen += bundles.until(lambda more: len(requests_in([*seen, *more])) >= 10)
    found = requests_in(seen)
    assert [request for request, _ in found].count("added") == 5
    assert len(found) == len(set(found)) == 10
    assert {partition for partition, _, _ in bundles.position.partitions} == {0, 1, 2}


def test_a_backlog_is_merged_however_it_is_drained(topic: Topic, bundles: Bundles) -> None:
    """Ten minutes of two partitions, many fetches long: the one that is ahead waits, and nothing of it is lost."""
    start_us = round(time.time() * 1e6) - 600_000_000
    expected = []
    for number in range(1200):
        (piece,) = pieces(f"{number}", start_us + number * 500_000, [FIRST_LOOK_MS])
        expected.append((piece.request_id, piece.end_us))
        topic.producer.send(topic.settings.audio_topic, piece.value, partition=number % 2)
    for partition in (0, 1):
        topic.send(AudioChunk(low_mark_us=start_us + 700_000_000).SerializeToString(), partition)
    seen = bundles.until(lambda seen: len(requests_in(seen)) >= len(expected))
    assert requests_in(seen) == expected

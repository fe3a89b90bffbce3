"""Known media in the reader, on a real topic: what is there decides, what is not does not, and nothing is lost."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from known import BITS, message
from records import pieces
from sounds import hear
from test_source import WITHIN_S, Bundles, Topic

from pipeline.known import LETTERS, KnownCatalogue, KnownFollower
from pipeline.messages.hushword_pb2 import AudioChunk, MediaFingerprint
from pipeline.messages.internal_pb2 import DeadLetter
from pipeline.source import DEAD_LETTERS

S = 1_000_000


class Media(Topic):
    """Topics, of which one has entries."""

    def put(self, entry: MediaFingerprint) -> None:
        self.write(entry.media_id, entry.SerializeToString())

    def write(self, key: str, value: bytes | None) -> None:
        self.producer.send(self.settings.media_topic, value, key=key.encode()).get(10)

    def ask(self, request_id: str, ad_seed: int) -> None:
        """Send what a home hears of an advertisement, up to now, and that nothing else comes."""
        now_us = round(time.time() * S)
        samples = hear(ad_seed, sum(request_id.encode()))
        for piece in pieces(request_id, now_us - 3 * S, [100] * 30, samples=samples):
            self.send(piece.value, 0)
        for partition in (0, 1):
            self.send(AudioChunk(low_mark_us=now_us + 1).SerializeToString(), partition)


@pytest.fixture
def topic(kafka: str) -> Iterator[Media]:
    made = Media(kafka, 2)
    yield made
    made.close()


@pytest.fixture
def bundles(topic: Media) -> Iterator[Bundles]:
    made = Bundles(topic.settings)
    yield made
    made.do_fn.teardown()


def recognised(bundles: Bundles, request_id: str) -> tuple[str, int] | None:
    """Run until a request is over; gives what it was recognised as and the catalogue's version."""
    found: list[Any] = []

    def is_over(seen: list[Any]) -> bool:
        found[:] = [
            growth
            for batches in seen
            for route, batch in batches.items()
            if route != DEAD_LETTERS
            for growth in batch.growths
            if growth.request_id == request_id
        ]
        return bool(found) and (found[-1].HasField("known") or found[-1].audio_ms >= 2160)

    bundles.until(is_over)
    last = found[-1]
    return (last.known.media_id, last.known.catalogue_version) if last.HasField("known") else None


def after_news(bundles: Bundles, entries: int) -> None:
    """Run until the reader has so many entries."""
    known = follower(bundles)
    deadline_s = time.monotonic() + WITHIN_S
    while len(known.catalogue) != entries:
        assert time.monotonic() < deadline_s
        bundles.run()


def follower(bundles: Bundles) -> KnownFollower:
    known = bundles.do_fn._known
    assert known is not None
    return known


def letters_in(seen: list[Any]) -> list[DeadLetter]:
    return [letter for batches in seen if DEAD_LETTERS in batches for letter in batches[DEAD_LETTERS].dead_letters]


def test_what_is_on_the_topic_at_the_start_is_known_at_the_first_look(topic: Media, bundles: Bundles) -> None:
    """The audio was there before the reader, and so was the entry."""
    topic.ask("early", 5)
    for ad_seed in range(20):
        topic.put(message(ad_seed))
    assert recognised(bundles, "early") == ("k-5", 20)


def test_an_entry_comes_changes_and_goes_while_requests_are_read(topic: Media, bundles: Bundles) -> None:
    """Its version says how far the topic was read."""
    topic.ask("before", 5)
    assert recognised(bundles, "before") is None
    topic.put(message(5))
    after_news(bundles, 1)
    topic.ask("with", 5)
    assert recognised(bundles, "with") == ("k-5", 1)
    topic.ask("another", 6)
    assert recognised(bundles, "another") is None
    topic.put(message(5, valid_until_us=1))
    while follower(bundles).catalogue.version < 2:
        bundles.run()
    topic.ask("no longer", 5)
    assert recognised(bundles, "no longer") is None
    topic.put(message(5))
    topic.put(message(7, locale="de-DE"))
    after_news(bundles, 2)
    topic.ask("again", 5)
    assert recognised(bundles, "again") == ("k-5", 4)
    topic.ask("elsewhere", 7)
    assert recognised(bundles, "elsewhere") is None
    topic.write("k-5", None)
    after_news(bundles, 1)
    topic.ask("after", 5)
    assert recognised(bundles, "after") is None


def test_entries_of_other_bits_and_averages_are_left_alone(topic: Media, bundles: Bundles) -> None:
    """And what takes the name of an entry takes its place."""
    topic.put(message(5))
    topic.put(message(6, bits="gradient64"))
    topic.write("odd", MediaFingerprint(kind=MediaFingerprint.KNOWN, bits="others", words=b"odd").SerializeToString())
    bundles.run()
    assert len(follower(bundles).catalogue) == 1
    topic.put(message(5, bits="gradient64"))
    after_news(bundles, 0)
    assert letters_in([bundles.run() for _ in range(3)]) == []


BAD = {
    "not a message": b"\xff\xff\xff",
    "no words": MediaFingerprint(
        kind=MediaFingerprint.KNOWN, media_id="no words", wake_word="alexa", locale="en-US", bits=BITS.name
    ).SerializeToString(),
    "under another key": message(6).SerializeToString(),
    "an average of nobody": MediaFingerprint(
        kind=MediaFingerprint.DISCOVERED, media_id="d", bits=BITS.name
    ).SerializeToString(),
    "no such wake word": message(7, wake_word="ALEXA!").SerializeToString(),
    "half a word": MediaFingerprint(
        kind=MediaFingerprint.KNOWN,
        media_id="half a word",
        wake_word="alexa",
        locale="en-US",
        bits=BITS.name,
        words=bytes(801),
    ).SerializeToString(),
}


def test_what_is_no_fingerprint_becomes_a_dead_letter_and_no_outage(topic: Media, bundles: Bundles) -> None:
    """Byte for byte, each once; the entries around it decide, and one under a bad record's key goes on deciding."""
    topic.put(message(5))
    for name, value in BAD.items():
        topic.write(name, value)
    topic.write("k-5", b"\xff")
    topic.put(message(8))
    topic.ask("a", 5)
    seen = bundles.until(lambda seen: len(letters_in(seen)) > len(BAD))
    letters = letters_in(seen)
    assert {letter.key.decode(): letter.value for letter in letters} == {**BAD, "k-5": b"\xff"}
    assert {(letter.topic, letter.stage) for letter in letters} == {(topic.settings.media_topic, "media")}
    assert [letter.offset for letter in letters] == list(range(1, len(letters) + 1))
    assert all(letter.error for letter in letters)
    assert len(follower(bundles).catalogue) == 2
    assert letters_in([bundles.run() for _ in range(5)]) == []


def test_letters_that_were_written_are_not_given_again_by_the_next_job(topic: Media, bundles: Bundles) -> None:
    """The progress says what may be committed; who starts after that begins behind it, but knows all entries."""
    topic.put(message(5))
    topic.write("bad", b"\xff")
    seen = bundles.until(lambda seen: letters_in(seen) and seen[-1].get(DEAD_LETTERS))
    (told,) = {tuple(batches[DEAD_LETTERS].progress.media.items()) for batches in seen if DEAD_LETTERS in batches}
    assert told == ((0, 2),)
    committed = {TopicPartition(topic.settings.media_topic, 0): OffsetAndMetadata(2, "", -1)}
    topic.admin.alter_group_offsets(topic.settings.group_id, committed)
    topic.write("worse", b"\xff\xff")
    later = Bundles(topic.settings)
    try:
        found = later.until(letters_in)
        assert [letter.key for letter in letters_in(found)] == [b"worse"]
        assert len(follower(later).catalogue) == 1
        assert follower(later).catalogue.version == 3
    finally:
        later.do_fn.teardown()


def test_letters_of_a_bundle_that_failed_are_given_again(topic: Media, bundles: Bundles) -> None:
    """A reader that is made anew cannot know what became of the last ones."""
    topic.write("bad", b"\xff")
    start = bundles.position
    bundles.until(letters_in)
    topic.ask("a", 5)
    bundles.until(lambda _seen: bundles.position != start)
    again = [bundles.run(start)]
    assert [letter.key for letter in letters_in([*again, bundles.run()])] == [b"bad"]


def test_many_letters_come_some_at_a_time_and_none_is_forgotten(topic: Media, bundles: Bundles) -> None:
    """What is committed stays before those that have not been given yet."""
    for number in range(2 * LETTERS + 7):
        topic.producer.send(topic.settings.media_topic, b"\xff", key=str(number).encode())
    topic.producer.flush()
    seen = bundles.until(lambda seen: len(letters_in(seen)) >= 2 * LETTERS + 7)
    given = 0
    for batches in seen:
        given += len(letters_in([batches]))
        assert all(batch.progress.media[0] == given for batch in batches.values() if letters_in([batches]))
    assert [letter.offset for letter in letters_in(seen)] == list(range(2 * LETTERS + 7))


def test_entries_beyond_the_bound_are_left_out(kafka: str, caplog: pytest.LogCaptureFixture) -> None:
    """Counted, and said once; what is there can still change, and what leaves makes room."""
    topic = Media(kafka, 2)
    topic.settings = topic.settings.model_copy(update={"known_entries": 3})
    bundles = Bundles(topic.settings)
    try:
        for ad_seed in range(6):
            topic.put(message(ad_seed))
        bundles.run()
        known = follower(bundles)
        assert len(known.catalogue) == 3
        assert sum("are full with 3 entries" in record.getMessage() for record in caplog.records) == 1
        topic.put(message(1, valid_until_us=1))
        topic.write("k-0", None)
        topic.put(message(5))
        while known.catalogue.version < 9:
            bundles.run()
        assert len(known.catalogue) == 3
        topic.ask("a", 5)
        assert recognised(bundles, "a") == ("k-5", 9)
    finally:
        bundles.do_fn.teardown()
        topic.close()


def test_requests_do_not_wait_for_a_large_import(monkeypatch: pytest.MonkeyPatch, topic: Media) -> None:
    """What is there at the start is taken in at once; what comes then, so many records at a time."""
    monkeypatch.setattr("pipeline.known.NEWS", 2)
    for seed in range(5):
        topic.put(message(seed))
    catalogue = KnownCatalogue.of_settings(topic.settings)
    assert catalogue is not None
    follower = KnownFollower(topic.settings, catalogue)
    try:
        follower.start(WITHIN_S)
        assert len(catalogue) == 5
        for seed in range(5, 10):
            topic.put(message(seed))
        sizes, until_s = [5], time.monotonic() + WITHIN_S
        while sizes[-1] < 10 and time.monotonic() < until_s:
            follower.catch_up()
            sizes.append(len(catalogue))
    finally:
        follower.stop()
    assert sizes[-1] == 10
    assert max(later - earlier for earlier, later in itertools.pairwise(sizes)) <= 2


def test_without_entries_nobody_follows(kafka: str) -> None:
    topic = Media(kafka, 2)
    topic.settings = topic.settings.model_copy(update={"known_entries": 0})
    bundles = Bundles(topic.settings)
    try:
        topic.put(message(5))
        topic.ask("a", 5)
        assert recognised(bundles, "a") is None
        assert bundles.do_fn._known is None
    finally:
        bundles.do_fn.teardown()
        topic.close()


def test_a_topic_that_cannot_be_followed_any_more_fails_the_bundle(topic: Media, bundles: Bundles) -> None:
    """As that of averages does: nobody is ignored by what may be stale."""
    topic.put(message(5))
    bundles.run()
    follower(bundles)._failure = OSError("gone")
    with pytest.raises(RuntimeError, match="cannot be followed any more"):
        bundles.run()
    bundles.run()  # another one follows from the beginning
    assert len(follower(bundles).catalogue) == 1

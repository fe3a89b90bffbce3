"""Known media in the reader: the entries of all routes, held once, and how they follow the media topic."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from google.protobuf.message import DecodeError
from kafka import TopicPartition

from matcher.evidence import CalibrationError
from matcher.known import KnownMedia
from matcher.known_entry import Entry
from matcher.known_null import KnownCalibration, known_calibration
from pipeline import metrics
from pipeline.chunks import MEDIA_STAGE
from pipeline.follow import Following
from pipeline.matching import load_bits
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.messages.internal_pb2 import DeadLetter
from pipeline.options import Settings
from pipeline.wire import BadMediaError, average_from_message, dead_letter, entry_from_message

log = logging.getLogger(__name__)

# As long as the entries of a full catalogue may take.
READ_TO_END_S = 300.0
# Dead letters of one poll, and those that are given again when a reader begins anew: its last poll may have failed.
LETTERS = 100
# Records that are taken in between two polls, some 0.1 s of work: requests do not wait for the end of a large import.
NEWS = 1000


class KnownCatalogue:
    """Known media by wake word and locale; for one thread."""

    def __init__(self, calibration: KnownCalibration, settings: Settings) -> None:
        """Begin without entries; the settings say how many there may be, and the budget."""
        self.calibration, self.capacity, self.version = calibration, settings.known_entries, 0
        self._settings = settings
        self._media: dict[str, KnownMedia] = {}
        self._scopes: dict[str, str] = {}

    @classmethod
    def of_settings(cls, settings: Settings) -> "KnownCatalogue | None":
        """Make one as the settings say; None where they have no room for any, or nothing was measured for the bits.

        Raises:
            ConfigError: the bits cannot be used.

        """
        if not settings.known_entries:
            return None
        try:
            return cls(known_calibration(load_bits(settings).name), settings)
        except CalibrationError as error:
            log.warning("known media are left out: %s", error)
            return None

    def __len__(self) -> int:
        return len(self._scopes)

    def of(self, wake_word: str, locale: str) -> KnownMedia | None:
        """Give what is known of a wake word and a locale; None where there is nothing."""
        return self._media.get(f"{wake_word}/{locale}")

    def put(self, wake_word: str, locale: str, entry: Entry) -> bool:
        """Add an entry or replace the one of its name; tells whether there was room for it."""
        scope = f"{wake_word}/{locale}"
        before = self._scopes.get(entry.media_id)
        if before is None and len(self._scopes) >= self.capacity:
            return False
        if before is not None and before != scope:
            self.remove(entry.media_id)
        if scope not in self._media:
            self._media[scope] = KnownMedia(
                self.calibration,
                self._settings.false_ignore_budget,
                concurrency=self._settings.budget_concurrency,
                airing_share=self._settings.airing_share,
            )
            self._media[scope].version = self.version
        self._media[scope].put(entry)
        self._scopes[entry.media_id] = scope
        return True

    def remove(self, media_id: str) -> bool:
        """Forget an entry; tells whether there was one."""
        scope = self._scopes.pop(media_id, None)
        if scope is None:
            return False
        self._media[scope].remove(media_id)
        if not len(self._media[scope]):
            del self._media[scope]
        return True

    def become(self, version: int) -> None:
        """Note how far the media topic has been read: every decision says so."""
        self.version = version
        for media in self._media.values():
            media.version = version

    def begin_anew(self) -> None:
        """Forget all requests, for a reader that reads those of a moment ago again."""
        for media in self._media.values():
            media.begin_anew()

    def show(self) -> None:
        """Tell the metrics."""
        metrics.KNOWN_ENTRIES.set(len(self))
        metrics.KNOWN_CAPACITY.set(self.capacity)
        metrics.KNOWN_VERSION.set(self.version)


class KnownFollower(Following):
    """Follows the media topic for its entries.

    Its thread only reads: what was read waits until the thread that looks takes it in, so that a catalogue never
    changes in the middle of a look, and no second copy of it is held.
    """

    def __init__(self, settings: Settings, catalogue: KnownCatalogue) -> None:
        """Prepare to fill a catalogue; nothing is connected yet."""
        super().__init__(settings, settings.media_topic, insists=True, group_id=settings.group_id)
        self.catalogue = catalogue
        # (media id, its newest message or None), a dead letter, or the positions after a poll.
        self._read_in: SimpleQueue[tuple[str, MediaFingerprint | None] | DeadLetter | Mapping[int, int]] = SimpleQueue()
        self._told_before: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._letters: deque[DeadLetter] = deque()
        self._given: deque[DeadLetter] = deque(maxlen=LETTERS)
        self._full = False

    def start(self, within_s: float = READ_TO_END_S) -> None:
        """Start, and return when all entries are there.

        Raises:
            TimeoutError: the end was not reached in this time.
            RuntimeError: the topic cannot be read.

        """
        super().start(within_s)

    def catch_up(self) -> list[DeadLetter]:
        """Take in what has come, and give the records that were no fingerprints, each once, at most LETTERS.

        Raises:
            RuntimeError: the topic cannot be followed any more.

        """
        self._raise_failure()
        self._take_in(NEWS)
        letters = [self._letters.popleft() for _ in range(min(LETTERS, len(self._letters)))]
        self._given.extend(letters)
        return letters

    def begin_anew(self) -> None:
        """Serve a reader that is made anew: the last dead letters are given again, and requests are not known yet."""
        self.catalogue.begin_anew()
        self._letters.extendleft(reversed(self._given))
        self._given.clear()

    def told(self) -> dict[int, int]:
        """Offsets by partition before which all dead letters have been given."""
        told = dict(self._positions)
        for letter in self._letters:
            told[letter.partition] = min(told.get(letter.partition, letter.offset), letter.offset)
        return told

    def _begin(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self._told_before = {at.partition: consumer.committed(at) or 0 for at in partitions}

    def _hear(self, record: Any) -> None:
        media_id = (record.key or b"").decode(errors="replace")
        try:
            message = MediaFingerprint.FromString(record.value) if record.value else None
            if message is not None and message.bits == self.catalogue.calibration.bits:
                _check(media_id, message)
        except (DecodeError, BadMediaError) as error:
            if record.offset >= self._told_before.get(record.partition, 0):
                log.warning("%s-%d offset %d: %s", record.topic, record.partition, record.offset, error)
                self._read_in.put(dead_letter(record, MEDIA_STAGE, error))
            return
        self._read_in.put((media_id, message))

    def _polled(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self._read_in.put({at.partition: consumer.position(at) for at in partitions})

    def _take_in(self, most: int | None = None) -> None:
        there = self._read_in.qsize()
        for _ in range(there if most is None else min(most, there)):
            news = self._read_in.get_nowait()
            if isinstance(news, DeadLetter):
                metrics.MEDIA_RECORDS_LEFT_OUT.labels("malformed").inc()
                self._letters.append(news)
            elif isinstance(news, tuple):
                self._learn(*news)
            else:
                self._positions = dict(news)
                self.catalogue.become(sum(news.values()))
                self.catalogue.show()

    def _learn(self, media_id: str, message: MediaFingerprint | None) -> None:
        """Take the newest of a key: what is no entry for these bits takes the entry of its name away."""
        catalogue = self.catalogue
        if message is None or message.kind != MediaFingerprint.KNOWN or message.bits != catalogue.calibration.bits:
            catalogue.remove(media_id)
            if message is not None and message.bits != catalogue.calibration.bits:
                metrics.MEDIA_RECORDS_LEFT_OUT.labels("other_bits").inc()
            elif message is not None and message.kind == MediaFingerprint.KIND_UNSPECIFIED:
                metrics.MEDIA_RECORDS_LEFT_OUT.labels("other_kind").inc()
        elif not catalogue.put(message.wake_word, message.locale, entry_from_message(message)):
            metrics.MEDIA_RECORDS_LEFT_OUT.labels("known_entries").inc()
            if not self._full:
                log.warning("known media are full with %d entries: %s is left out", len(catalogue), media_id)
            self._full = True
        self._full = self._full and len(catalogue) >= catalogue.capacity


def _check(media_id: str, message: MediaFingerprint) -> None:
    """Raise BadMediaError when nothing can be held against it."""
    if message.kind == MediaFingerprint.DISCOVERED:
        average_from_message(message)
    elif message.kind == MediaFingerprint.KNOWN:
        entry_from_message(message)
        if message.media_id != media_id:
            raise BadMediaError("known media under the key of others")

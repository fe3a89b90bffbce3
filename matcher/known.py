"""Known media: clean recordings of what airs, against which one growing request is enough.

A request whose sound is in the catalogue needs no other household. Alignment is nearly known too: a request begins
about `PREROLL_MS` before its wake word, and so does an entry.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matcher.bits import Bits, frame_count, word_count
from matcher.evidence import Calibration, Evidence, compare
from matcher.fingerprint import MAX_WORDS, seed_of
from matcher.grid import SAMPLE_RATE_HZ, FilterBank

# An entry begins so long before its wake word, as requests do within 100 ms, ...
PREROLL_MS = 500
# ... and goes on for so long after the wake word has begun.
AFTER_MS = 10_000
# A request is held against known media from so much of its audio on, and up to so much.
FIRST_KNOWN_LOOK_MS = 480
FULL_KNOWN_MS = 8000


class EntryError(ValueError):
    """A recording that can be no entry: in one sentence why."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One mention of the wake word in a clean recording.

    Attributes:
        media_id: its name.
        words: uint64 (n,), from PREROLL_MS before the wake word on.
        valid_from_us: event time from which it decides; 0 for ever.
        valid_until_us: event time up to which it decides; 0 for ever.

    """

    media_id: str
    words: npt.NDArray[np.uint64]
    valid_from_us: int = 0
    valid_until_us: int = 0


@dataclass(frozen=True, slots=True)
class KnownMatch:
    """What a request was recognised as.

    Attributes:
        media_id: the entry.
        evidence: word k of the entry is word k + alignment of the request.
        catalogue_version: that of the catalogue then.

    """

    media_id: str
    evidence: Evidence
    catalogue_version: int


def entry_words(samples: npt.NDArray[np.float32], wake_word_ms: float, bits: Bits) -> npt.NDArray[np.uint64]:
    """Fingerprint a recording around one mention of the wake word.

    What lies before the recording's beginning is silence, which agrees with nothing.

    Args:
        samples: float32 (n,) at SAMPLE_RATE_HZ, on the int16 scale: the whole recording.
        wake_word_ms: where in it the wake word begins.
        bits: the kind of bits.

    Returns:
        uint64 (words,).

    Raises:
        EntryError: the recording ends too soon after the wake word begins.

    """
    start = round((wake_word_ms - PREROLL_MS) * SAMPLE_RATE_HZ / 1000)
    end = round((wake_word_ms + AFTER_MS) * SAMPLE_RATE_HZ / 1000)
    heard = samples[max(0, start) : end]
    around = np.concatenate((np.zeros(max(0, -start), np.float32), heard.astype(np.float32)))
    bank = FilterBank(seed_of(f"entry {wake_word_ms:.3f}"))
    words = bits.words(bank.push(around))
    if len(words) < word_count(frame_count(PREROLL_MS + 700), bits):
        left_ms = len(samples) * 1000 / SAMPLE_RATE_HZ - wake_word_ms
        raise EntryError(
            f"{max(0.0, left_ms) / 1000:.2f} s of audio from the wake word on are too little to recognise it by:"
            " it takes 0.7 s"
        )
    return words


class KnownMedia:
    """The entries of one wake word and locale."""

    def __init__(self, calibration: Calibration, budget: float) -> None:
        """`budget` is the probability that a live request is ignored by chance."""
        self.calibration, self.budget = calibration, budget
        self.version = 0
        self.entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, entry: Entry) -> None:
        """Add an entry or replace the one of its name."""
        self.entries[entry.media_id] = entry

    def remove(self, media_id: str) -> bool:
        """Forget an entry; tells whether there was one."""
        return self.entries.pop(media_id, None) is not None

    def words(self, media_id: str) -> npt.NDArray[np.uint64]:
        """Give the words of an entry, uint64 (n,)."""
        return self.entries[media_id].words

    def listen(self, start_us: int) -> "Listening":
        """Begin with a request that started at this event time."""
        return Listening(self, start_us)


class Listening:
    """One growing request, held against all entries that are valid when it starts."""

    def __init__(self, media: KnownMedia, start_us: int) -> None:
        self._media, self._start_us = media, start_us

    def look(self, words: npt.NDArray[np.uint64]) -> KnownMatch | None:
        """Hold what there is of the request against the catalogue as it is now.

        Args:
            words: uint64 (n,), all words so far.

        """
        media = self._media
        words = words[:MAX_WORDS]
        valid = [
            e
            for e in media.entries.values()
            if e.valid_from_us <= self._start_us and not 0 < e.valid_until_us <= self._start_us
        ]
        if not valid:
            return None
        lengths = np.array([len(e.words) for e in valid], np.int32)
        many = np.zeros((len(valid), int(lengths.max())), np.uint64)
        for row, entry in zip(many, valid, strict=True):
            row[: len(entry.words)] = entry.words
        shifts = np.zeros(len(valid), np.float32)
        found = compare(
            media.calibration, words, media.calibration.own_shift(words), many, lengths, shifts, np.arange(len(valid))
        )
        best = int(np.argmax(found.scores))
        if found.scores[best] < 9:
            return None
        return KnownMatch(valid[best].media_id, found.at(best), media.version)

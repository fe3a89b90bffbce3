"""Entries of the catalogue of known media: one mention of the wake word in a clean recording."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matcher.bits import WORD_MS, Bits, frame_count, word_count
from matcher.fingerprint import seed_of
from matcher.grid import SAMPLE_RATE_HZ, FilterBank
from matcher.known_null import LEAD_WORDS

# Requests begin within 100 ms of so long before their wake word; an entry a little before that, ...
REQUEST_PREROLL_MS = 500
PREROLL_MS = REQUEST_PREROLL_MS + LEAD_WORDS * WORD_MS
# ... and it goes on for so long after the wake word has begun.
AFTER_MS = 10_000
# What an entry must have of the sound from its wake word on.
LEAST_AFTER_MS = 700
# How far from its offset the response of an entry's clear bit is, 0.6 of its standard deviation: in a home one of seven
# such bits differs, and of the others every third or second.
ENTRY_CLEAR = 0.72


class EntryError(ValueError):
    """A recording that can be no entry: in one sentence why."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One mention of the wake word in a clean recording.

    Attributes:
        media_id: its name.
        words: uint64 (n,), from PREROLL_MS before the wake word on.
        clear: uint64 (n,), which bits are clear.
        valid_from_us: event time from which it decides; 0 for ever.
        valid_until_us: event time up to which it decides; 0 for ever.

    """

    media_id: str
    words: npt.NDArray[np.uint64]
    clear: npt.NDArray[np.uint64]
    valid_from_us: int = 0
    valid_until_us: int = 0


def entry_words(
    samples: npt.NDArray[np.float32], wake_word_ms: float, bits: Bits
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Fingerprint a recording around one mention of the wake word.

    What lies before the recording's beginning is silence, which agrees with nothing.

    Args:
        samples: float32 (n,) at SAMPLE_RATE_HZ, on the int16 scale: the whole recording.
        wake_word_ms: where in it the wake word begins.
        bits: the kind of bits.

    Returns:
        Words and which of their bits are clear, uint64 (n,) both.

    Raises:
        EntryError: the recording ends too soon after the wake word begins.

    """
    start = round((wake_word_ms - PREROLL_MS) * SAMPLE_RATE_HZ / 1000)
    end = round((wake_word_ms + AFTER_MS) * SAMPLE_RATE_HZ / 1000)
    heard = samples[max(0, start) : end]
    around = np.concatenate((np.zeros(max(0, -start), np.float32), heard.astype(np.float32)))
    words, clear = bits.marked_words(FilterBank(seed_of(f"entry {wake_word_ms:.3f}")).push(around), 0, ENTRY_CLEAR)
    if len(words) < word_count(frame_count(PREROLL_MS + LEAST_AFTER_MS), bits):
        left_ms = len(samples) * 1000 / SAMPLE_RATE_HZ - wake_word_ms
        raise EntryError(
            f"{max(0.0, left_ms) / 1000:.2f} s of audio from the wake word on are too little to recognise it by:"
            f" it takes {LEAST_AFTER_MS / 1000:g} s"
        )
    return words, clear

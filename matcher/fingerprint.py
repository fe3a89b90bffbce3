"""One request's fingerprint, growing while its audio streams in."""

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from matcher.bits import HOPS_PER_WORD, Bits, frame_count, word_count
from matcher.grid import BANDS, HOP_MS, SAMPLE_RATE_HZ, FilterBank, frame_levels

# At the first look some of the clearest cases are sure already. What follows the last is silence after the command,
# which only dilutes a match.
FIRST_LOOK_MS = 800
LOOK_MS = 80
FULL_MS = 2160
# The range of a request's levels lies between these of its frames: what is said above what the room makes beside it.
LOUD_SHARE, QUIET_SHARE = 0.9, 0.1
# How far from its offset the response of a request's clear bit is, a third of its standard deviation.
REQUEST_CLEAR = 0.42
# No kind of bits gives more words than one a word's time.
MAX_WORDS = FULL_MS // (2 * HOP_MS)


def look_due_ms(audio_ms: int) -> int:
    """Give the look that so much audio suffices for: a multiple of LOOK_MS up to FULL_MS, 0 before the first."""
    due_ms = min(audio_ms, FULL_MS) // LOOK_MS * LOOK_MS
    return due_ms if due_ms >= FIRST_LOOK_MS else 0


def seed_of(request_id: str) -> int:
    """Give the number that a request's dither and its draws of partners begin with: no two requests share theirs."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "little")


class Fingerprint:
    """The words of a request's audio up to `full_ms`: all so far, whenever a look is due.

    Looks at the same audio give the same words, whatever the sizes of the chunks that brought it.
    """

    def __init__(self, request_id: str, bits: Bits, full_ms: int = FULL_MS) -> None:
        """`request_id` seeds the dither; over FULL_MS of audio are for those who ask for `looks`."""
        self._bank = FilterBank(seed_of(request_id))
        self._bits = bits
        self._full_ms = full_ms
        # Those that words to come are made of: as many before the first of them as it looks back.
        self._energies = [np.empty((0, BANDS), np.float32)]
        self._frames, self._full_frames = 0, frame_count(full_ms)
        self._words, self._clear = np.empty((2, 0), np.uint64)
        self._levels = np.empty(0, np.float32)
        self._samples = 0
        self._looked_ms = 0
        self._listened_ms = 0

    def grow(
        self, samples: npt.NDArray[np.int16] | npt.NDArray[np.float32], every_ms: int = LOOK_MS
    ) -> npt.NDArray[np.uint64] | None:
        """Take the next samples.

        Args:
            samples: (n,) at 16 kHz, int16 or float32 on the int16 scale.
            every_ms: a look but the last is due no sooner than so much audio after the one before; LOOK_MS or more.

        Returns:
            uint64 (n,), all words so far, at most MAX_WORDS, when these samples bring the request to its next look;
            None otherwise.

        """
        if self.full:
            return None
        new = self._bank.push(samples)[: self._full_frames - self._frames]
        self._energies.append(new)
        self._frames += len(new)
        self._samples += len(samples)
        due_ms = look_due_ms(self._audio_ms)
        if due_ms <= self._looked_ms or due_ms < min(self._looked_ms + every_ms, FULL_MS):
            return None
        self._looked_ms = due_ms
        return self._all_words()[: word_count(frame_count(FULL_MS), self._bits)]

    def looks(self, first_ms: int) -> Iterator[tuple[int, npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]:
        """Give, for every LOOK_MS from `first_ms` to `full_ms` that has come since the last call, the words of then.

        What a look gives depends on its audio alone, and not on how much has come at once: ms of audio, words and which
        of their bits are clear, uint64 (n,) both, rising n.
        """
        for look_ms in range(max(first_ms, self._listened_ms + LOOK_MS), self._audio_ms + 1, LOOK_MS):
            self._listened_ms = look_ms
            frames = frame_count(look_ms)
            if frames >= self._bits.frames_per_word + self._bits.frames_before:
                n = word_count(frames, self._bits)
                yield look_ms, self._all_words()[:n], self._clear[:n]

    @property
    def words(self) -> npt.NDArray[np.uint64]:
        """Words up to the latest look, uint64 (n,), n <= MAX_WORDS."""
        return self._words[: word_count(frame_count(FULL_MS), self._bits)]

    @property
    def level_range_db(self) -> float:
        """How far the loud frames of the audio up to the latest look, or up to FULL_MS, stand above the quiet ones."""
        return level_range_db(self._levels[: frame_count(FULL_MS)])

    @property
    def full(self) -> bool:
        """Whether more audio would add nothing."""
        return self._audio_ms >= self._full_ms

    @property
    def _audio_ms(self) -> int:
        return min(self._samples * 1000 // SAMPLE_RATE_HZ, self._full_ms)

    def _all_words(self) -> npt.NDArray[np.uint64]:
        kept = self._first_frame()
        energies = np.concatenate(self._energies)
        start = len(self._words) - kept // HOPS_PER_WORD
        heard = energies[len(self._levels) - kept :]
        levels = np.empty(len(heard), np.float32)
        frame_levels(heard, levels)
        self._levels = np.concatenate((self._levels, levels))
        new, clear = self._bits.marked_words(energies, start, REQUEST_CLEAR)
        if len(new):
            self._words = np.concatenate((self._words, new))
            self._clear = np.concatenate((self._clear, clear))
            energies = energies[self._first_frame() - kept :].copy()
        self._energies = [energies]
        return self._words

    def _first_frame(self) -> int:
        """Frame from which on the next words need the energies: the first of a word."""
        before = -(-self._bits.frames_before // HOPS_PER_WORD)
        return HOPS_PER_WORD * max(0, len(self._words) - before)


def level_range_db(levels_db: npt.NDArray[np.float32]) -> float:
    """Give the range of some frames' levels, in dB: float32 (n,), 0 of none."""
    if not len(levels_db):
        return 0.0
    rising, last = np.sort(levels_db), len(levels_db) - 1
    return float(rising[round(LOUD_SHARE * last)] - rising[round(QUIET_SHARE * last)])


def whole_fingerprint(
    samples: npt.NDArray[np.int16] | npt.NDArray[np.float32], request_id: str, bits: Bits
) -> npt.NDArray[np.uint64]:
    """All words of a request, up to FULL_MS: (n,) at 16 kHz to uint64 (words,), none before the first look."""
    words = Fingerprint(request_id, bits).grow(samples)
    return np.empty(0, np.uint64) if words is None else words

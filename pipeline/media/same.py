"""Whether a recording is in the catalogue already: by its sound, whatever its encoding, level and cut."""

import numpy as np
import numpy.typing as npt

from matcher.bits import WORD_MS, Bits
from matcher.grid import HOP_MS
from matcher.kernels import one_against_many
from matcher.known_entry import EntryError, entry_words

# Share of bits that differ between two fingerprints of one mention. Over 44 simulated advertisements, each in four
# codecs and nine offsets, the most is 0.11; the very same take over other music has 0.14 and more, another take 0.22.
SAME_RATE = 0.125
# Somebody who says where the wake word begins is right to within this.
OFFSET_MS = 100
# Whoever differs in twice as many bits of the first second need not be looked at further.
_FIRST_WORDS = 50
_LEAST_WORDS = 25
_ALIGNMENTS = np.arange(-OFFSET_MS // WORD_MS - 1, OFFSET_MS // WORD_MS + 2, dtype=np.int32)


def both_phases(samples: npt.NDArray[np.float32], wake_word_ms: float, bits: Bits) -> list[npt.NDArray[np.uint64]]:
    """Fingerprint one mention twice, half a word apart, so that no other fingerprint of it lies between two words.

    Args:
        samples: float32 (n,), as `matcher.known.entry_words` takes them.
        wake_word_ms: where the wake word begins.
        bits: the kind of bits.

    Returns:
        uint64 (n,) twice, or once where half a word later too little is left.

    Raises:
        EntryError: the recording ends too soon after the wake word begins.

    """
    first, _ = entry_words(samples, wake_word_ms, bits)
    try:
        return [first, entry_words(samples, wake_word_ms + HOP_MS, bits)[0]]
    except EntryError:
        return [first]


class Fingerprints:
    """The known media of one wake word and locale, to be asked whether a recording is among them."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._words = np.zeros((16, 0), np.uint64)
        self._lengths = np.zeros(16, np.int32)

    def put(self, media_id: str, words: npt.NDArray[np.uint64]) -> None:
        """Add one: uint64 (n,)."""
        row, width = len(self._names), max(len(words), self._words.shape[1])
        if row == len(self._lengths) or width > self._words.shape[1]:
            rows = 2 * row if row == len(self._lengths) else len(self._lengths)
            wider = np.zeros((rows, width), np.uint64)
            wider[:row, : self._words.shape[1]] = self._words[:row]
            self._words, self._lengths = wider, np.resize(self._lengths, rows)
        self._words[row, : len(words)] = words
        self._lengths[row] = len(words)
        self._names.append(media_id)

    def find(self, phases: list[npt.NDArray[np.uint64]]) -> str | None:
        """Give the one that has the same sound in all that the two have in common; None where none has.

        Args:
            phases: as `both_phases` gives them.

        """
        nearest: tuple[float, int] | None = None
        for words in phases:
            rows = np.arange(len(self._names), dtype=np.int64)
            rows = rows[self._rates(words[:_FIRST_WORDS], rows) < 2 * SAME_RATE]
            if len(rows):
                rates = self._rates(words, rows)
                best = int(np.argmin(rates))
                nearest = min(nearest or (1.0, 0), (float(rates[best]), int(rows[best])))
        return self._names[nearest[1]] if nearest is not None and nearest[0] <= SAME_RATE else None

    def _rates(self, words: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        rates, alignments, compared = np.empty(len(rows), np.float32), *np.empty((2, len(rows)), np.int32)
        one_against_many(
            words, self._words, self._lengths, rows, _ALIGNMENTS, _LEAST_WORDS, rates, alignments, compared
        )
        return rates

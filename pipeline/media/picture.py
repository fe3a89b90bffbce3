"""A fingerprint as a picture of half blocks: a column a word, two bits a row."""

import numpy as np
import numpy.typing as npt
from rich.text import Text

from matcher.bits import BITS_PER_WORD, WORD_MS
from matcher.known_entry import PREROLL_MS
from pipeline.messages.hushword_pb2 import MediaFingerprint

_BLOCKS = np.array([" ", "▀", "▄", "█"])


def picture(message: MediaFingerprint, width: int) -> Text:
    """Draw as much of a fingerprint as fits, with a line where the wake word begins.

    Args:
        message: its words are drawn.
        width: columns of the terminal.

    """
    bits = bits_of(message)
    shown = bits[:, : max(1, width - 1)]
    marked = PREROLL_MS // WORD_MS
    drawn = Text(no_wrap=True, overflow="crop")
    for row in _BLOCKS[shown[0::2] + 2 * shown[1::2]]:
        drawn.append("".join(row[:marked]))
        drawn.append("│", "bold red")
        drawn.append("".join(row[marked:]) + "\n")
    shown_s, whole_s = (part.shape[1] * WORD_MS / 1000 for part in (shown, bits))
    drawn.append(f"{shown_s:.1f} s of {whole_s:.1f} s; the line: the wake word begins")
    return drawn


def bits_of(message: MediaFingerprint) -> npt.NDArray[np.uint8]:
    """Unpack a message's words: uint8 (BITS_PER_WORD, words), bit b of each in row b."""
    octets = np.frombuffer(message.words, np.uint8)
    return np.unpackbits(octets, bitorder="little").reshape(-1, BITS_PER_WORD).T

"""Known media of the tests' own: advertisements as their makers have them, entries of them, and requests for them."""

from pathlib import Path

import numpy as np
import soundfile
from sounds import LEAD_S, SAMPLE_RATE_HZ, advertisement

from matcher.bits import bits_named
from matcher.known_entry import entry_words
from pipeline.messages.hushword_pb2 import MediaFingerprint

BITS = bits_named("learned64")


def message(
    ad_seed: int, wake_word: str = "alexa", locale: str = "en-US", bits: str = BITS.name, **fields: int
) -> MediaFingerprint:
    """Give the entry of an advertisement as the media topic holds it."""
    clean = 3000 * advertisement(ad_seed).astype(np.float32)
    words, clear = entry_words(clean, 1000 * LEAD_S, BITS)
    return MediaFingerprint(
        media_id=f"k-{ad_seed}",
        kind=MediaFingerprint.KNOWN,
        wake_word=wake_word,
        locale=locale,
        bits=bits,
        words=words.astype("<u8").tobytes(),
        clear=clear.astype("<u8").tobytes(),
        **fields,
    )


def write_media(folder: Path, advertisements: dict[str, int], wake_word: str, locale: str = "en-US") -> Path:
    """Write clean recordings by name, and the table of them; gives the table."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file,title,wake_word,locale,at_s"]
    for name, ad_seed in advertisements.items():
        clean = advertisement(ad_seed)
        soundfile.write(folder / f"{name}.flac", (3000 * clean).astype(np.int16), SAMPLE_RATE_HZ)
        lines.append(f"{name}.flac,Advertisement {name},{wake_word},{locale},{LEAD_S}")
    table = folder / "media.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table

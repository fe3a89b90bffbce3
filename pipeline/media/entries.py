"""Entries of known media as messages: their names, and what each must be."""

import hashlib

import numpy as np
import numpy.typing as npt

from matcher.bits import Bits, frame_count, word_count
from matcher.known_entry import AFTER_MS, LEAST_AFTER_MS, PREROLL_MS
from matcher.known_null import LEAD_WORDS
from pipeline.chunks import LOCALE, WAKE_WORD
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.wire import BadMediaError

MAX_TITLE = 200


def media_id_of(words: npt.NDArray[np.uint64], wake_word: str, locale: str) -> str:
    """Name an entry: a function of what it is made of, so that the same one never has two names.

    Args:
        words: uint64 (n,).
        wake_word: as requests carry it.
        locale: BCP 47.

    """
    said = f"{wake_word}/{locale}/".encode() + words.astype("<u8").tobytes()
    return f"k-{hashlib.blake2b(said, digest_size=8).hexdigest()}"


def words_of(message: MediaFingerprint) -> npt.NDArray[np.uint64]:
    """Give the words of a message: uint64 (n,)."""
    return np.frombuffer(message.words, "<u8").astype(np.uint64)


def check_entry(message: MediaFingerprint, bits: Bits) -> None:
    """Refuse what no recording gives.

    Raises:
        BadMediaError: with what is wrong.

    """
    if message.kind != MediaFingerprint.KNOWN:
        raise BadMediaError("it is no entry of known media")
    if message.bits != bits.name:
        raise BadMediaError(f"its bits are {message.bits}, and these settings have {bits.name}")
    if not WAKE_WORD.fullmatch(message.wake_word):
        raise BadMediaError(f"{message.wake_word!r} is no wake word: it takes lower case, such as alexa")
    if not LOCALE.fullmatch(message.locale):
        raise BadMediaError(f"{message.locale!r} is no locale: it takes a BCP 47 tag, such as en-US")
    if len(message.title) > MAX_TITLE or not message.title.isprintable():
        raise BadMediaError(f"a title has at most {MAX_TITLE} characters, all of them printable")
    least, most = (word_count(frame_count(PREROLL_MS + ms), bits) for ms in (LEAST_AFTER_MS, AFTER_MS))
    if len(message.words) % 8 or not least <= len(message.words) // 8 <= most:
        raise BadMediaError(f"{len(message.words)} bytes of words: it takes {least} to {most} words of 8 bytes")
    if message.clear and len(message.clear) != len(message.words):
        raise BadMediaError(f"{len(message.words)} bytes of words and {len(message.clear)} of which bits are clear")
    times = message.valid_from_us, message.valid_until_us, message.added_us, message.wake_word_ms
    if min(times) < 0 or 0 < message.valid_until_us <= message.valid_from_us:
        raise BadMediaError("its times are before 1970, or it is valid until before it is valid from")
    if message.media_id != media_id_of(words_of(message), message.wake_word, message.locale):
        raise BadMediaError(f"it is not what {message.media_id!r} names: its words, wake word or locale are others")


def promoted(
    average: MediaFingerprint, title: str, valid_from_us: int, valid_until_us: int, added_us: int, bits: Bits
) -> MediaFingerprint:
    """Make an entry of a discovered average, whose words begin as requests do: what an entry has before says nothing.

    Raises:
        BadMediaError: it is none, or is too short.

    """
    if average.kind != MediaFingerprint.DISCOVERED:
        raise BadMediaError("it was made from a recording, and is known")
    words = np.concatenate((np.zeros(LEAD_WORDS, np.uint64), words_of(average)))
    clear = np.where(np.arange(len(words)) < LEAD_WORDS, np.uint64(0), ~np.uint64(0))
    entry = MediaFingerprint(
        media_id=media_id_of(words, average.wake_word, average.locale),
        kind=MediaFingerprint.KNOWN,
        wake_word=average.wake_word,
        locale=average.locale,
        bits=average.bits,
        words=words.astype("<u8").tobytes(),
        clear=clear.astype("<u8").tobytes(),
        households=average.households,
        title=title,
        source=average.media_id,
        valid_from_us=valid_from_us,
        valid_until_us=valid_until_us,
        added_us=added_us,
    )
    check_entry(entry, bits)
    return entry

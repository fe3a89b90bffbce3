"""Between the library's objects and the messages."""

import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np

from matcher.bits import HOPS_PER_WORD, frame_count
from matcher.catalogue import Average
from matcher.evidence import MIN_WORDS, Evidence
from matcher.fingerprint import MAX_WORDS
from matcher.growth import Growth
from matcher.known import KnownMatch
from matcher.known_entry import AFTER_MS, PREROLL_MS, Entry
from matcher.outcome import Ignore, Reason
from pipeline.chunks import LOCALE, WAKE_WORD
from pipeline.messages import hushword_pb2 as topics
from pipeline.messages import internal_pb2 as internal

# A decision's id is its request's in this namespace: whoever made the decision, and however often.
_DECISIONS = uuid.UUID("5f0d8a52-6d7c-5b9e-9c36-1f6f7f0a4c11")
_REASONS = {
    Reason.CONCURRENT: topics.Decision.CONCURRENT,
    Reason.DISCOVERED: topics.Decision.DISCOVERED,
    Reason.KNOWN: topics.Decision.KNOWN,
}

# No kind of bits gives more words than one a word's time.
_MOST_ENTRY_WORDS = frame_count(PREROLL_MS + AFTER_MS) // HOPS_PER_WORD

# A header of records that somebody has taken out of the dead letters and sent again: how many times.
REDRIVEN = "redriven"


class BadMediaError(ValueError):
    """A record of the media topic that is not a fingerprint."""


def decision_id(request_id: str) -> str:
    """Give the id of the one decision that there can be about a request."""
    return str(uuid.uuid5(_DECISIONS, request_id))


def times_redriven(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Give how many times a record was sent again from the dead letters; what is no number counts as none."""
    text = (dict(headers).get(REDRIVEN) or b"").decode(errors="replace")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def dead_letter(record: Any, stage: str, error: Exception) -> internal.DeadLetter:
    """Give what becomes of a record that cannot be used: `stage` is where it failed."""
    return internal.DeadLetter(
        key=record.key or b"",
        has_key=record.key is not None,
        value=record.value or b"",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        stage=stage,
        error=str(error),
        redriven=times_redriven(record.headers),
    )


def growth_to_message(growth: Growth) -> internal.Growth:
    """Give a growth as a message."""
    message = internal.Growth(
        request_id=growth.request_id,
        household=growth.household,
        device=growth.device,
        start_us=growth.start_us,
        end_us=growth.end_us,
        words=growth.words.astype("<u8").tobytes(),
        level_range_db=growth.level_range_db,
        audio_ms=growth.audio_ms,
        appended_us=growth.appended_us,
    )
    if growth.known is not None:
        message.known.CopyFrom(known_to_message(growth.known))
    if growth.leaning is not None:
        message.leaning.CopyFrom(known_to_message(growth.leaning))
    return message


def growth_from_message(message: internal.Growth) -> Growth:
    """Give back what `growth_to_message` was given."""
    return Growth(
        request_id=message.request_id,
        household=message.household,
        device=message.device,
        start_us=message.start_us,
        end_us=message.end_us,
        words=np.frombuffer(message.words, "<u8"),
        level_range_db=message.level_range_db,
        audio_ms=message.audio_ms,
        appended_us=message.appended_us,
        known=known_from_message(message.known) if message.HasField("known") else None,
        leaning=known_from_message(message.leaning) if message.HasField("leaning") else None,
    )


def known_to_message(known: KnownMatch) -> internal.Known:
    """Give what a request was recognised as, or leans to, as a message."""
    return internal.Known(
        media_id=known.media_id,
        score=known.evidence.score,
        rate=known.evidence.rate,
        words=known.evidence.words,
        alignment=known.evidence.alignment,
        log_odds=known.evidence.log_odds,
        households=known.households,
        catalogue_version=known.catalogue_version,
        calibration=known.calibration,
    )


def known_from_message(message: internal.Known) -> KnownMatch:
    """Give back what `known_to_message` was given."""
    evidence = Evidence(message.score, message.rate, message.words, message.alignment, message.log_odds)
    return KnownMatch(message.media_id, evidence, message.households, message.catalogue_version, message.calibration)


def decision(ignore: Ignore, route: str, calibration: str, *, late: bool, shadow: bool) -> topics.Decision:
    """Give the message that tells a gateway to ignore a request.

    Args:
        ignore: what the route decided.
        route: "wake word/locale/shard".
        calibration: version of the calibration that it was decided with.
        late: whether its audio had waited longer than the deadline.
        shadow: whether nobody shall act on it.

    """
    wake_word, locale, _ = route.split("/")
    return topics.Decision(
        decision_id=decision_id(ignore.request_id),
        request_id=ignore.request_id,
        household_id=ignore.household,
        device_id=ignore.device,
        wake_word=wake_word,
        locale=locale,
        verdict=topics.Decision.IGNORE,
        reason=_REASONS[ignore.reason],
        media_id=ignore.media_id,
        households=ignore.households,
        bit_error_rate=ignore.bit_error_rate,
        bits_compared=ignore.bits_compared,
        alignment_ms=ignore.alignment_ms,
        score=ignore.score,
        log_odds=ignore.log_odds,
        audio_used_ms=ignore.audio_used_ms,
        decided_at_us=ignore.decided_at_us,
        audio_appended_us=ignore.audio_appended_us,
        catalogue_version=ignore.catalogue_version,
        calibration=ignore.calibration or calibration,
        late=late,
        shadow=shadow,
    )


def average_to_message(average: Average, route: str, bits: str) -> topics.MediaFingerprint:
    """Give a discovered average as the media topic holds it; `bits` names the kind of its words."""
    wake_word, locale, _ = route.split("/")
    return topics.MediaFingerprint(
        media_id=average.media_id,
        kind=topics.MediaFingerprint.DISCOVERED,
        wake_word=wake_word,
        locale=locale,
        bits=bits,
        words=average.words.astype("<u8").tobytes(),
        votes=average.votes.tobytes(),
        households=average.households,
        valid_from_us=average.valid_from_us,
        valid_until_us=average.valid_until_us,
        origin=average.origin,
        discovered_us=average.discovered_us,
        last_heard_us=average.last_heard_us,
        agreement=average.agreement,
    )


def average_from_message(message: topics.MediaFingerprint) -> Average:
    """Give back what `average_to_message` was given.

    Raises:
        BadMediaError: its words and votes do not fit each other, or it is too long.

    """
    words, votes = np.frombuffer(message.words, np.uint8), np.frombuffer(message.votes, np.uint8)
    if not message.media_id or len(words) != 8 * len(votes) or not 0 < len(votes) <= MAX_WORDS:
        raise BadMediaError(f"{len(words)} bytes of words and {len(votes)} votes")
    if message.households < 3:
        raise BadMediaError(f"an average of {message.households} households: it takes three")
    return Average(
        media_id=message.media_id,
        words=np.frombuffer(message.words, "<u8").astype(np.uint64),
        votes=votes,
        households=message.households,
        discovered_us=message.discovered_us,
        valid_from_us=message.valid_from_us,
        valid_until_us=message.valid_until_us,
        origin=message.origin,
        last_heard_us=message.last_heard_us,
        agreement=message.agreement,
    )


def entry_from_message(message: topics.MediaFingerprint) -> Entry:
    """Give the entry that a message of known media holds.

    Raises:
        BadMediaError: requests cannot be held against it.

    """
    words, rest = divmod(len(message.words), 8)
    if message.clear and len(message.clear) != len(message.words):
        raise BadMediaError(f"{len(message.words)} bytes of words and {len(message.clear)} of which bits are clear")
    if not message.media_id or rest or not MIN_WORDS <= words <= _MOST_ENTRY_WORDS:
        raise BadMediaError(f"{len(message.words)} bytes of words of known media")
    if not WAKE_WORD.fullmatch(message.wake_word) or not LOCALE.fullmatch(message.locale):
        raise BadMediaError("known media of a wake word or a locale that no request can have")
    return Entry(
        media_id=message.media_id,
        words=np.frombuffer(message.words, "<u8").astype(np.uint64),
        clear=np.frombuffer(message.clear or b"\xff" * len(message.words), "<u8").astype(np.uint64),
        valid_from_us=message.valid_from_us,
        valid_until_us=message.valid_until_us,
    )

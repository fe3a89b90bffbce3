"""Recordings become entries: each file whole or not at all, and none twice."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from matcher.bits import Bits
from matcher.grid import SAMPLE_RATE_HZ
from matcher.known import FULL_KNOWN_MS
from matcher.known_entry import REQUEST_PREROLL_MS
from pipeline.errors import InputError
from pipeline.media.entries import words_of
from pipeline.media.find import Spotter
from pipeline.media.same import Fingerprints, both_phases
from pipeline.media.sources import (
    FULL_SCALE,
    LEAST_LEVEL_DB,
    Mention,
    SourceError,
    fingerprint,
    read_audio,
    read_csv,
)
from pipeline.messages.hushword_pb2 import MediaFingerprint

TABLE = "media.csv"
# What a folder without a table is searched for; a file that is named is tried whatever it is called.
AUDIO_SUFFIXES = frozenset((
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au",
    ".m4a", ".m4b", ".aac", ".mp4", ".mov", ".mkv", ".webm", ".ac3", ".wma", ".ts",
))  # fmt: skip
# After the wake word a recording takes so much sound to be recognised by, or a warning is given. Over pieces of so long
# sound is told from silence.
_WAKE_WORD_S, _LEAST_SOUND_S, _PIECE_S = 0.7, 0.5, 0.02


@dataclass(frozen=True)
class Recording:
    """A file, and what is known of its mentions before it is read.

    Attributes:
        file: the recording.
        mentions: those that a table or the command line names; none where they are to be found.
        found_as: what a mention that is found is like, but for its place.

    """

    file: Path
    mentions: tuple[Mention, ...]
    found_as: Mention | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one mention, or of a whole file that was refused.

    Attributes:
        file: the recording.
        at_s: where the wake word begins; None for a whole file.
        result: "there" is in the catalogue already.
        media_id: of the new entry, or of the one that is there.
        why: of what was refused, a sentence; and of an entry that has little to be recognised by.

    """

    file: Path
    at_s: float | None
    result: Literal["added", "there", "refused"]
    media_id: str = ""
    why: str = ""


def recordings_in(paths: Iterable[Path], like: Mention | None, at_s: tuple[float, ...]) -> list[Recording]:
    """Give the recordings that files, folders and tables name.

    Args:
        paths: tables (.csv), folders (their media.csv, or all audio in them) and recordings.
        like: what is said of recordings that no table names; an empty title becomes the file's name.
        at_s: where the wake word begins in the one recording that is named; nothing when it is to be found.

    Raises:
        InputError: there is nothing there, a table is wrong, or `like` or `at_s` does not fit.

    """
    found: list[Recording] = []
    plain: list[Path] = []
    for path in paths:
        if path.is_dir() and not (path / TABLE).is_file():
            inside = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in AUDIO_SUFFIXES)
            if not inside:
                raise InputError(f"{path} has neither a {TABLE} nor audio in it")
            plain += inside
        elif path.is_dir() or path.suffix.lower() == ".csv":
            found += _by_file(read_csv(path / TABLE if path.is_dir() else path))
        else:
            plain.append(path)
    if at_s and len(plain) != 1:
        raise InputError(f"--at is about one recording, and {len(plain)} are named: a table says it of many")
    if plain and like is None:
        raise InputError(f"{plain[0]}: nothing says which wake word is said in it: give --wake-word and --locale")
    for path in plain:
        assert like is not None
        own = Mention(
            path, like.title or path.stem, like.wake_word, like.locale, 0.0, like.valid_from_us, like.valid_until_us
        )
        mentions = tuple(_at(own, at) for at in at_s)
        found.append(Recording(path, mentions, None if mentions else own))
    return found


def _by_file(mentions: list[Mention]) -> list[Recording]:
    files: defaultdict[Path, list[Mention]] = defaultdict(list)
    for mention in mentions:
        files[mention.file].append(mention)
    return [Recording(file, tuple(those)) for file, those in files.items()]


def _at(mention: Mention, at_s: float) -> Mention:
    return Mention(
        mention.file, mention.title, mention.wake_word, mention.locale, at_s,
        mention.valid_from_us, mention.valid_until_us,
    )  # fmt: skip


class Adding:
    """Makes entries of recordings, and knows which are there already."""

    def __init__(self, bits: Bits, there: Iterable[MediaFingerprint], spotter: Spotter | None = None) -> None:
        """`there` are the entries of the catalogue; those of other bits are no concern."""
        self._bits, self._spotter = bits, spotter
        self._there: defaultdict[tuple[str, str], Fingerprints] = defaultdict(Fingerprints)
        for entry in there:
            if entry.bits == bits.name:
                self._there[entry.wake_word, entry.locale].put(entry.media_id, words_of(entry))

    def take(self, recording: Recording) -> tuple[list[Outcome], list[MediaFingerprint]]:
        """Read one recording; gives what became of it, and the new entries.

        Nothing of it is new when anything in it is wrong.
        """
        try:
            made = list(self._entries(recording))
        except SourceError as error:
            return [Outcome(recording.file, None, "refused", why=str(error))], []
        outcomes, new = [], []
        for entry, phases, why in made:
            there = self._there[entry.wake_word, entry.locale]
            same = there.find(phases)
            if same is None:
                there.put(entry.media_id, phases[0])
                new.append(entry)
            at_s = entry.wake_word_ms / 1000
            outcomes.append(
                Outcome(recording.file, at_s, "there", same)
                if same
                else Outcome(recording.file, at_s, "added", entry.media_id, why)
            )
        return outcomes, new

    def _entries(self, recording: Recording) -> Iterator[tuple[MediaFingerprint, list[npt.NDArray[np.uint64]], str]]:
        samples = read_audio(recording.file)
        mentions = recording.mentions
        if recording.found_as is not None:
            places = self._spotter.find(samples) if self._spotter is not None else []
            if not places:
                raise SourceError(
                    f"{recording.file}: --find hears no {recording.found_as.wake_word} in it: give --at if there is one"
                )
            mentions = tuple(_at(recording.found_as, at_s) for at_s in places)
        for mention in mentions:
            entry = fingerprint(mention, self._bits, samples)
            yield entry, both_phases(samples, entry.wake_word_ms, self._bits), _little_sound(samples, mention)


def _little_sound(samples: npt.NDArray[np.float32], mention: Mention) -> str:
    """Say so when little sound comes after the wake word, in the time that requests are listened to; else nothing."""
    end_s = mention.at_s + (FULL_KNOWN_MS - REQUEST_PREROLL_MS) / 1000
    first, end = (round(s * SAMPLE_RATE_HZ) for s in (mention.at_s + _WAKE_WORD_S, end_s))
    piece = round(_PIECE_S * SAMPLE_RATE_HZ)
    heard = samples[first:end]
    power = np.square(heard[: len(heard) // piece * piece], dtype=np.float64).reshape(-1, piece).mean(axis=1)
    sound_s = float(np.count_nonzero(power >= FULL_SCALE**2 * 10 ** (LEAST_LEVEL_DB / 10))) * _PIECE_S
    if sound_s >= _LEAST_SOUND_S:
        return ""
    return (
        f"{mention.file}, at {mention.at_s:g} s: warning: there is {sound_s:.1f} s of sound after the wake word, too"
        " little to tell the recording by from people who say it; add one that goes on"
    )

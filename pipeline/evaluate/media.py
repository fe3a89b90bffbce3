"""`hushword evaluate --media`: recordings that are known before anybody hears them, and what is to be ignored then."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.known import KnownCatalogue
from pipeline.matching import load_bits
from pipeline.media.file import read_entries
from pipeline.media.sources import fingerprint, read_csv
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.options import Settings
from pipeline.recordings.recording import Recording, Truth
from pipeline.wire import entry_from_message

CATALOGUE = ".jsonl"


@dataclass(frozen=True)
class KnownRecordings:
    """Entries made of recordings; names are (stem of the file, wake word, locale)."""

    entries: tuple[MediaFingerprint, ...]
    names: frozenset[tuple[str, str, str]]

    @classmethod
    def read(
        cls, tables: Sequence[Path], settings: Settings, progress: Callable[[int, int], None] = lambda _done, _of: None
    ) -> "KnownRecordings":
        """Make the entries of some tables. They are valid for ever: a recording is replayed at any time.

        Args:
            tables: CSV files, or catalogues that `hushword media export` wrote.
            settings: name the bits.
            progress: called with the number of entries made, and of all.

        Raises:
            ConfigError: the bits cannot be used.
            InputError: a table, or a recording that it names, cannot be used.

        """
        bits = load_bits(settings)
        catalogues = [table for table in tables if table.suffix == CATALOGUE]
        mentions = [mention for table in tables if table not in catalogues for mention in read_csv(table)]
        made = []
        for done, mention in enumerate(mentions):
            progress(done, len(mentions))
            always = replace(mention, valid_from_us=0, valid_until_us=0)
            made.append(fingerprint(always, bits, added_us=round(time.time() * 1e6)))
        for entry in (entry for table in catalogues for entry in read_entries(table, bits)):
            entry.valid_from_us = entry.valid_until_us = 0
            made.append(entry)
        names = frozenset((Path(entry.source).stem, entry.wake_word, entry.locale) for entry in made)
        return cls(tuple(made), names)

    def catalogue(self, settings: Settings) -> KnownCatalogue | None:
        """Give what a reader would have of them.

        Raises:
            ConfigError: the bits cannot be used.

        """
        catalogue = KnownCatalogue.of_settings(settings)
        if catalogue is None:
            return None
        for message in self.entries:
            catalogue.put(message.wake_word, message.locale, entry_from_message(message))
        catalogue.become(len(self.entries))
        return catalogue

    def expected_of(self, recording: Recording) -> Recording:
        """Give a recording in which all that is known media is to be ignored, however few homes heard it."""
        return replace(recording, truth=_with_known(recording, self.names))


def _with_known(recording: Recording, names: Collection[tuple[str, str, str]]) -> dict[str, Truth]:
    truth = dict(recording.truth)
    for request in recording.requests:
        label = truth.get(request.request_id)
        if label is None or label.kind == "live":
            continue
        stems = {label.event, None if label.source is None else Path(label.source).stem}
        if any((stem, request.wake_word, request.locale) in names for stem in stems if stem is not None):
            truth[request.request_id] = replace(label, expect="ignore", known=True)
    return truth

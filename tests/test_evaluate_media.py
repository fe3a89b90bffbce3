"""Evaluating with recordings that are known media: what is to be ignored then, and what is said of it."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from known import write_media
from sounds import write_recording
from stage import real_recording
from test_cli import _run

from pipeline.evaluate.media import KnownRecordings
from pipeline.known import KnownCatalogue
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.wire import entry_from_message


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An airing in four homes and one in two, which nobody can tell from live requests; and people."""
    folder = tmp_path_factory.mktemp("street")
    return write_recording(folder / "recording", 4, events=1, homes=4, live=4, pairs=1)


def expected(recording: Recording) -> dict[str | None, set[str]]:
    """By event, what is expected of its requests."""
    found: dict[str | None, set[str]] = {}
    for label in recording.truth.values():
        found.setdefault(label.event, set()).add(label.expect)
    return found


def test_what_is_known_is_to_be_ignored_and_nothing_else(street: Path, tmp_path: Path) -> None:
    """By the event's name, by its source's, and only for the wake word and the locale that the table names."""
    recording = Recording.load(street)
    assert expected(recording) == {"e0": {"ignore"}, "e1": {"accept"}, None: {"accept"}}
    for number, (names, wake_word, of_e1) in enumerate(
        (({"e1": 4001}, "computer", "ignore"), ({"e1": 4001}, "alexa", "accept"), ({"e7": 4001}, "computer", "accept"))
    ):
        known = KnownRecordings.read([write_media(tmp_path / str(number), names, wake_word)], Settings())
        again = known.expected_of(recording)
        assert expected(again) == {"e0": {"ignore"}, "e1": {of_e1}, None: {"accept"}}
        assert {label.event for label in again.truth.values() if label.known} == (
            {"e1"} if of_e1 == "ignore" else set()
        )
        assert recording.truth != again.truth or of_e1 == "accept"
    named = {
        request_id: replace(label, source="folder/e7.flac" if label.event == "e1" else None)
        for request_id, label in recording.truth.items()
    }
    assert expected(known.expected_of(replace(recording, truth=named)))["e1"] == {"ignore"}


def test_entries_are_valid_whenever_a_recording_is_played(tmp_path: Path) -> None:
    """And the catalogue has the share of the budget that known media have."""
    table = write_media(tmp_path, {"e1": 4001}, "computer")
    text = table.read_text().splitlines()
    table.write_text(f"{text[0]},valid_from,valid_until\n{text[1]},2001-01-01,2001-01-02\n")
    settings = Settings(false_ignore_budget=1e-5)
    known = KnownRecordings.read([table, table], settings)
    assert [(entry.valid_from_us, entry.valid_until_us) for entry in known.entries] == [(0, 0)] * 2
    catalogue = known.catalogue(settings)
    assert catalogue is not None
    assert len(catalogue) == 1
    media = catalogue.of("computer", "en-US")
    assert media is not None
    assert media.budget == 1e-5
    assert catalogue.of("computer", "de-DE") is None


def test_the_command_says_how_much_of_what_is_known_was_found(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two homes are enough, and nobody is ignored who should not be."""
    table = write_media(tmp_path, {"e0": 4000, "e1": 4001}, "computer")
    code, out, _ = _run(capsys, "evaluate", street, "--offline", "--media", table, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["recall_known"]["ignored"], found["recall_known"]["expected"]) == (7, 7)
    assert found["recall"]["expected"] == 7
    assert sum(found["reasons"].values()) == found["ignored"] == 7
    assert found["reasons"]["KNOWN"] >= 3
    assert found["false_ignores"]["request_ids"] == []
    code, out, _ = _run(capsys, "evaluate", street, "--offline", "--media", table)
    assert code == 0
    assert "known media" in out
    code, out, _ = _run(capsys, "evaluate", street, "--offline", "--json")
    found = json.loads(out)
    assert (found["recall"]["expected"], found["recall_known"]["expected"]) == (4, 0)
    assert found["reasons"] == {"CONCURRENT": 4}


@pytest.mark.slow
@pytest.mark.timeout(900)
@real_recording
def test_the_recordings_of_a_recording_are_known_soon_and_nobody_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Through a real Kafka: what the project promises about known media."""
    folder = Path(os.environ["HUSHWORD_RECORDING"])
    code, out, _ = _run(capsys, "evaluate", folder, "--run", "--media", folder / "sources" / "media.csv", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["false_ignores"]["request_ids"] == []
    assert found["recall_known"]["ignored"] >= 0.98 * found["recall_known"]["expected"] > 0
    assert found["reasons"]["KNOWN"] >= 0.98 * found["ignored"]
    assert found["audio_used_after_wake_word_ms"]["p50"] <= 600


def test_a_table_that_is_not_there_is_one_sentence(street: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _run(capsys, "evaluate", street, "--offline", "--media", "/nowhere/media.csv")
    assert (code, out) == (2, "")
    assert "/nowhere/media.csv cannot be read" in err


def test_an_entry_that_moves_to_another_locale_leaves_the_first(tmp_path: Path) -> None:
    """One name is one entry, wherever it is; without entries there is nothing of a locale."""
    settings = Settings()
    recordings = KnownRecordings.read([write_media(tmp_path, {"e1": 4001}, "computer")], settings)
    known, entry = recordings.catalogue(settings), entry_from_message(recordings.entries[0])
    assert known is not None
    assert known.of("computer", "en-US") is not None
    assert known.put("computer", "de-DE", entry)
    assert (len(known), known.of("computer", "en-US")) == (1, None)
    assert known.of("computer", "de-DE") is not None
    assert known.remove(entry.media_id)
    assert not known.remove(entry.media_id)
    assert (len(known), known.of("computer", "de-DE")) == (0, None)
    none = settings.model_copy(update={"known_entries": 0})
    assert KnownCatalogue(known.calibration, none).put("computer", "de-DE", entry) is False
    assert KnownCatalogue.of_settings(none) is None
    assert KnownCatalogue.of_settings(Settings(bits="gradient64")) is None

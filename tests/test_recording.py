import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.recordings.recording import Recording, RecordingError, Request, Truth, write_manifest


def _line(request_id: str, **more: Any) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "file": "a.flac",
        "start_s": 1.0,
        "wake_word": "alexa",
        "locale": "en-US",
        "household": "h1",
        "device": "d1",
        **more,
    }


def _folder(folder: Path, *lines: dict[str, Any] | str) -> Path:
    soundfile.write(folder / "a.flac", np.arange(1600, dtype=np.int16), 16_000)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_requests_come_by_their_start_and_without_the_truth(tmp_path: Path) -> None:
    """What is replayed has device-side fields only; unknown fields are left alone."""
    label = {"kind": "live", "event": None, "expect": "accept", "snr_db": 5, "wake_word_start_s": 0.5, "voice": "x"}
    recording = Recording.load(_folder(tmp_path, _line("late", start_s=2, **label), "", _line("early", start_s=1)))
    assert [request.request_id for request in recording.requests] == ["early", "late"]
    assert set(vars(recording.requests[0])) == {
        *("request_id", "file", "start_s", "wake_word", "locale", "household", "device")
    }
    assert recording.truth == {"late": Truth("late", "live", None, "accept", 5.0, 0.5, 0, voice="x")}


def test_audio_is_int16_with_its_rate(tmp_path: Path) -> None:
    """Samples come back as they were written."""
    recording = Recording.load(_folder(tmp_path, _line("r")))
    samples, sample_rate_hz = recording.audio(recording.requests[0])
    assert sample_rate_hz == 16_000
    assert samples.dtype == np.int16
    assert np.array_equal(samples, np.arange(1600))


def test_event_size_counts_households_of_the_first_airing(tmp_path: Path) -> None:
    """Two devices of a home are one household; a re-run adds none; an excerpt counts its own."""

    def heard(request_id: str, household: str, start_s: float, expect: str = "ignore") -> dict[str, Any]:
        return _line(request_id, household=household, start_s=start_s, event="e", expect=expect, kind="media")

    lines = [heard("a", "h1", 1), heard("b", "h1", 1), heard("c", "h2", 2), heard("d", "h3", 90, "ignore_by_cache")]
    recording = Recording.load(_folder(tmp_path, *lines))
    assert {label.households_in_event for label in recording.truth.values()} == {2}
    assert {label.households_in_event for label in recording.excerpt(0, 2).truth.values()} == {1}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: not a JSON object"),
        (_line("r"), "line 2: request_id 'r' was there before"),
        (_line(""), "line 2: request_id must be a text"),
        (_line("s", household=7), "line 2: household must be a text, not 7"),
        (_line("s", start_s=-1), "line 2: start_s must be a number of seconds"),
        (_line("s", start_s=True), "line 2: start_s must be a number, not True"),
        (_line("s", start_s=float("nan")), "line 2: start_s must be a number, not nan"),
        (_line("s", file="b.flac"), "line 2: there is no file b.flac"),
        (_line("s", expect="maybe"), "line 2: expect must be one of accept, ignore, ignore_by_cache"),
        (_line("s", expect="accept", snr_db="loud"), "line 2: snr_db must be a number, not 'loud'"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, line: dict[str, Any] | str, says: str) -> None:
    """Who made the recording finds the line."""
    with pytest.raises(RecordingError) as refused:
        Recording.load(_folder(tmp_path, _line("r"), line))
    assert f"{tmp_path / 'manifest.jsonl'}, {says}" in str(refused.value)


def test_a_folder_without_manifest_or_requests_is_refused(tmp_path: Path) -> None:
    """Neither is a recording."""
    with pytest.raises(RecordingError, match="cannot be read"):
        Recording.load(tmp_path)
    with pytest.raises(RecordingError, match="has no requests"):
        Recording.load(_folder(tmp_path, ""))


def test_broken_and_stereo_audio_is_refused_when_it_is_read(tmp_path: Path) -> None:
    """The error names the audio file."""
    recording = Recording.load(_folder(tmp_path, _line("r")))
    (tmp_path / "a.flac").write_bytes(b"no audio")
    with pytest.raises(RecordingError, match=r"a\.flac cannot be read as audio"):
        recording.audio(recording.requests[0])
    soundfile.write(tmp_path / "a.flac", np.zeros((10, 2), np.int16), 16_000)
    with pytest.raises(RecordingError, match="one channel"):
        recording.audio(recording.requests[0])


def test_a_written_manifest_reads_back(tmp_path: Path) -> None:
    """Labelled and unlabelled requests alike."""
    _folder(tmp_path)
    requests = tuple(Request(f"r{n}", "a.flac", float(n), "alexa", "en-US", f"h{n}", f"d{n}") for n in range(3))
    truth = [Truth("r1", "media", "e", "ignore", 10.0, 0.5, 1)]
    write_manifest(tmp_path, requests, truth)
    recording = Recording.load(tmp_path)
    assert recording.requests == requests
    assert recording.truth == {"r1": truth[0]}

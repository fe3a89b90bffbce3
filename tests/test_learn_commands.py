"""`hushword calibrate` and `hushword train-filters`, on recordings of the tests' own sounds."""

from pathlib import Path

import pytest
from sounds import write_recording

from matcher.bits import LearnedBits
from pipeline.cli import main


def command(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_filters_are_learned_again_to_the_bit_and_named_by_what_they_are(tmp_path: Path) -> None:
    recording = tmp_path / "street"
    write_recording(recording, 1, events=3, live=1, homes=3)
    files = [tmp_path / "first.npz", tmp_path / "second.npz"]
    for file in files:
        assert command("train-filters", recording, "--out", file) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    bits = LearnedBits.from_bytes(files[0].read_bytes())
    assert bits.name.startswith("learned64-")
    assert bits.provenance["events"] == 3


def test_nothing_that_several_homes_heard_teaches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = tmp_path / "quiet"
    write_recording(recording, 1, events=0, live=3)
    assert command("train-filters", recording, "--out", tmp_path / "f.npz") == 2
    assert "too few to learn filters from" in capsys.readouterr().err
    assert not (tmp_path / "f.npz").exists()


def test_too_little_traffic_to_calibrate_on_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "street"
    write_recording(recording, 1, events=1, live=5, homes=3)
    assert command("calibrate", recording, "--out", tmp_path / "c.npz") == 2
    assert "too few to measure a null" in capsys.readouterr().err
    assert not (tmp_path / "c.npz").exists()


def test_a_calibration_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decisions name it: what it says must not change under its name."""
    there = tmp_path / "c.npz"
    there.write_bytes(b"kept")
    assert command("calibrate", tmp_path, "--out", there) == 2
    assert "is there already" in capsys.readouterr().err
    assert there.read_bytes() == b"kept"

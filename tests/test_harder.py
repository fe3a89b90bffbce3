"""The bench over hard recordings counts what was decided."""

from dataclasses import asdict
from pathlib import Path

import pytest

from bench.harder import Figures, measure
from pipeline.recordings.recording import Recording
from pipeline.simulate.scene import plan
from pipeline.simulate.settings import Settings
from pipeline.simulate.write import write_recording


def test_one_airing_in_quiet_homes_is_found_and_counted(tmp_path: Path) -> None:
    """Four homes at 25 dB: all found, nobody else is, and what it cost is said."""
    settings = Settings(minutes=0.5, homes=20, events=1, event_size="4", live_per_minute=6.0, snr_db="25", seed=3)
    write_recording(plan(settings), tmp_path / "r", workers=1)
    recording = Recording.load(tmp_path / "r")
    figures = measure(recording, "gradient64")
    expected = sum(label.expect == "ignore" for label in recording.truth.values())
    assert figures.recalls["all"] == figures.recalls["25 dB"] == (expected, expected)
    assert (figures.false_ignores, figures.strangers, figures.three_voices) == (0, 0, 0)
    assert figures.accepted_expected == 3
    assert figures.requests == len(recording.requests)
    assert len(figures.used_ms) == expected
    assert min(figures.fingerprint_cpu_s, figures.match_cpu_s) > 0
    assert figures.counts["requests"] == figures.requests
    again = asdict(figures.add(figures))
    assert again["recalls"]["all"] == (2 * expected, 2 * expected)
    assert again["counts"]["looks"] == 2 * figures.counts["looks"]
    assert figures.add(figures).cpu_ms_per_request == pytest.approx(figures.cpu_ms_per_request)


def test_figures_of_recordings_with_different_labels_are_added_by_label() -> None:
    """What only one of them has stays as it is."""
    both = Figures("v", 3, {"all": (1, 2), "0 dB": (1, 2)}).add(Figures("v", 4, {"all": (2, 3), "5 dB": (2, 3)}))
    assert both.recalls == {"all": (3, 5), "0 dB": (1, 2), "5 dB": (2, 3)}
    assert both.requests == 7

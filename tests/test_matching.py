"""What the library decides by: bits, filters and calibrations that the settings name, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import plain_calibration

from matcher.bits import GRADIENT, LearnedBits, bits_named
from matcher.evidence import FILTERS, Calibration, shipped_calibration
from matcher.policy import Policy
from pipeline.cli import main
from pipeline.matching import load_bits, load_calibration, policy_of
from pipeline.options import ConfigError, Settings


def learned_here() -> LearnedBits:
    """Filters other than those that ship, under a name of their own."""
    shipped = bits_named("learned64")
    assert isinstance(shipped, LearnedBits)
    return dataclasses.replace(shipped, name="here", filters=-shipped.filters)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(settings: Settings, load: Any = load_calibration) -> str:
    with pytest.raises(ConfigError) as refused:
        load(settings)
    message = str(refused.value)
    assert "\n" not in message
    return message


def measured_with(bits: LearnedBits) -> Calibration:
    provenance = {FILTERS: bits.digest}
    shipped = shipped_calibration("learned64")
    return dataclasses.replace(shipped, version="mine", bits=bits.name, provenance=provenance)


@pytest.mark.parametrize("name", ["learned64", "gradient64"])
def test_bits_and_calibration_that_ship_are_used_when_no_file_is_named(name: str) -> None:
    settings = Settings(bits=name)
    assert load_bits(settings) is bits_named(name)
    assert load_calibration(settings) is shipped_calibration(name)
    assert load_calibration(settings).bits == load_bits(settings).name
    assert load_bits(Settings()).name == "learned64"


def test_filters_of_a_file_take_the_place_of_those_that_ship(tmp_path: Path) -> None:
    """And decide by a calibration that was measured with them."""
    filters = written(tmp_path / "f.npz", learned_here().to_bytes())
    measured = measured_with(learned_here())
    calibration = written(tmp_path / "c.npz", measured.to_bytes())
    settings = Settings(filters=filters, calibration=calibration)
    bits = load_bits(settings)
    assert isinstance(bits, LearnedBits)
    assert bits.name == "here"
    assert np.array_equal(bits.filters, learned_here().filters)
    assert load_calibration(settings).version == "mine"


def test_a_calibration_of_other_filters_with_the_same_name_is_refused(tmp_path: Path) -> None:
    filters = written(tmp_path / "f.npz", learned_here().to_bytes())
    others = dataclasses.replace(learned_here(), offsets=learned_here().offsets + 1)
    settings = Settings(filters=filters, calibration=written(tmp_path / "c.npz", measured_with(others).to_bytes()))
    message = refusal(settings)
    assert others.digest in message
    assert learned_here().digest in message
    nameless = dataclasses.replace(measured_with(others), provenance={})
    settings = Settings(filters=filters, calibration=written(tmp_path / "n.npz", nameless.to_bytes()))
    assert "it does not say which" in refusal(settings)


def test_filters_without_a_calibration_of_their_own_are_refused(tmp_path: Path) -> None:
    """The thresholds of other bits say nothing of these."""
    filters = written(tmp_path / "f.npz", learned_here().to_bytes())
    assert "here" in refusal(Settings(filters=filters))


@pytest.mark.parametrize("name", ["learned64", "gradient64"])
def test_filters_under_the_name_of_bits_that_ship_are_refused(tmp_path: Path, name: str) -> None:
    """They would decide by thresholds that were measured with others."""
    filters = written(tmp_path / "f.npz", dataclasses.replace(learned_here(), name=name).to_bytes())
    assert name in refusal(Settings(bits=name, filters=filters), load_bits)


def test_a_calibration_of_other_bits_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "c.npz", plain_calibration().to_bytes())
    assert load_calibration(Settings(bits="gradient64", calibration=path)).version == "plain"
    message = refusal(Settings(calibration=path))
    assert str(path) in message
    assert GRADIENT.name in message
    assert "learned64" in message


@pytest.mark.parametrize(
    "data", [b"", b"no arrays", plain_calibration().to_bytes()[:-100]], ids=["empty", "text", "cut"]
)
def test_files_that_cannot_be_read_are_refused_by_their_names(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path / "odd.npz", data)
    for settings, load in (
        (Settings(filters=path), load_bits),
        (Settings(filters=path), load_calibration),
        (Settings(bits="gradient64", calibration=path), load_calibration),
    ):
        assert "odd.npz" in refusal(settings, load)


def test_files_that_are_not_there_are_refused_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "absent.npz"
    assert "absent.npz" in refusal(Settings(filters=path))
    assert "absent.npz" in refusal(Settings(calibration=path))
    assert str(tmp_path) in refusal(Settings(calibration=tmp_path))


@pytest.mark.parametrize("command", [("config", "check"), ("run",)])
@pytest.mark.parametrize("setting", ["calibration", "filters"])
def test_what_cannot_be_decided_by_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...], setting: str
) -> None:
    """Exit code 2 and one sentence, also when there is no broker to be asked."""
    path = written(tmp_path / "odd.npz", b"no arrays")
    with pytest.raises(SystemExit) as left:
        main([*command, "--bootstrap-servers", "127.0.0.1:1", f"--{setting}", str(path)])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert "odd.npz" in "".join(err.split("\n"))
    assert "Traceback" not in err


def test_the_policy_is_what_the_settings_say() -> None:
    """Defaults are the library's own; what is set arrives in its unit."""
    assert policy_of(Settings()) == Policy()
    changed = Settings(
        window_s=7.5, window_requests=77, partners=7, false_ignore_budget=1e-7, budget_concurrency=70,
        airing_share=0.7, catalogue_entries=777, catalogue_ttl_s=70.5, discovery_delay_ms=700,
    )  # fmt: skip
    assert policy_of(changed) == Policy(7_500_000, 77, 7, 1e-7, 70, 0.7, 777, 70_500_000, 700_000)

"""What is installed: the wheel, and what it must and must not carry."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_is_small_and_complete(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=240)
    (wheel,) = tmp_path.glob("hushword-*.whl")
    assert wheel.stat().st_size < 15e6
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in (
        "matcher/py.typed",
        "matcher/calibration/gradient64.npz",
        "matcher/calibration/learned64.npz",
        "matcher/filters/learned64.npz",
        "pipeline/py.typed",
        "pipeline/messages/hushword.proto",
        "pipeline/local/jars.csv",
        "pipeline/simulate/clips/index.csv",
        "pipeline/monitor/static/index.html",
        "pipeline/monitor/static/vendor/uPlot.iife.min.js",
        "pipeline/monitor/static/vendor/uPlot.LICENSE",
    ):
        assert needed in names
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "bench/", "clips/"))]


def test_the_installed_package_is_what_is_tested() -> None:
    import matcher

    assert matcher.__file__ is not None
    if (ROOT / ".venv" / ".installed").exists() and sys.prefix == str(ROOT / ".venv"):
        assert not Path(matcher.__file__).is_relative_to(ROOT / "matcher")

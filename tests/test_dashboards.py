"""The committed dashboards are what their Python makes, and name nobody and nothing that is not there."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
GRAFANA = ROOT / "deploy" / "grafana"
NAMES = ("on-call.json", "depth.json")
HISTOGRAM_SERIES = re.compile("_(bucket|count|sum)$")


def dashboard(name: str) -> dict[str, Any]:
    """What Grafana would import."""
    found: dict[str, Any] = json.loads((GRAFANA / name).read_text())
    return found


def panels(name: str) -> list[dict[str, Any]]:
    """All panels but the headings of rows."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def test_the_json_is_what_the_python_makes(tmp_path: Path) -> None:
    """`make dashboards` was run after the last change."""
    subprocess.run([sys.executable, GRAFANA, tmp_path], check=True, timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in GRAFANA.glob("*.json")} == set(NAMES)
    for name in NAMES:
        assert (tmp_path / name).read_text() == (GRAFANA / name).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_says_what_it_shows(name: str) -> None:
    """Title, description and unit; the source is the variable; ids and titles are its own; none covers another."""
    cells: set[tuple[int, int]] = set()
    for panel in panels(name):
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not own & cells
        cells |= own
    assert len({panel["id"] for panel in dashboard(name)["panels"]}) == len(dashboard(name)["panels"])
    assert len({panel["title"] for panel in panels(name)}) == len(panels(name))


def test_every_metric_of_the_table_is_looked_at_and_no_other() -> None:
    """By a panel, or by a rule that a panel or an alert goes by."""
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "hushword.rules.yaml").read_text())["groups"]
    recorded = {rule["record"]: rule["expr"] for group in rules for rule in group["rules"] if "record" in rule}
    shown = " ".join(target["expr"] for name in NAMES for panel in panels(name) for target in panel["targets"])
    assert set(re.findall(r"hushword:[\w:]+", shown)) <= set(recorded)
    everything = " ".join([shown, *recorded.values()])
    looked_at = {HISTOGRAM_SERIES.sub("", metric) for metric in re.findall(r"\bhushword_\w+", everything)}
    table = (ROOT / "docs" / "metrics.md").read_text()
    assert looked_at == set(re.findall(r"^\| `(hushword_\w+)`", table, re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_nobody_is_named(name: str) -> None:
    assert not re.search(
        "household|device|request_id", " ".join(re.findall(r'"expr": .*', (GRAFANA / name).read_text()))
    )


@pytest.mark.parametrize("page", ["runbook.md", "walk.md"])
def test_panels_that_the_documentation_names_are_there(page: str) -> None:
    """They stand in italics; a line may end within a name."""
    titles = {panel["title"] for name in NAMES for panel in panels(name)} | {dashboard(name)["title"] for name in NAMES}
    text = re.sub(r"\*\*.*?\*\*|`[^`]*`", "", " ".join((ROOT / "docs" / page).read_text().split()))
    named = set(re.findall(r"\*([^*]+)\*", text))
    assert named
    assert named <= titles

"""The alerts: each says what it is, has its paragraph in the runbook, and is seen to fire and not to fire."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import program

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "hushword.rules.yaml"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"]: rule for group in GROUPS for rule in group["rules"] if "record" in rule}
HISTOGRAM_SERIES = re.compile("_(bucket|count|sum)$")


def documented() -> set[str]:
    """Names of the metrics of the documentation's table."""
    return set(re.findall(r"^\| `(hushword_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))


def paragraphs() -> dict[str, str]:
    """What the runbook says under each heading."""
    _, *sections = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)
    return {heading: text.strip() for heading, _, text in (section.partition("\n") for section in sections)}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["for"]
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert len(paragraphs()[name].split()) >= 20


def test_the_runbook_has_no_paragraph_too_many() -> None:
    assert set(paragraphs()) == set(ALERTS)


def test_rules_go_by_metrics_and_rules_that_there_are() -> None:
    """A metric that is renamed would leave an alert that never fires."""
    for rule in [*ALERTS.values(), *RECORDED.values()]:
        metrics = {HISTOGRAM_SERIES.sub("", name) for name in re.findall(r"\bhushword_\w+", rule["expr"])}
        assert metrics <= documented()
        assert set(re.findall(r"hushword:[\w:]+", rule["expr"])) <= set(RECORDED)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_seen_to_fire_and_not_to_fire(name: str) -> None:
    cases: list[dict[str, Any]] = [
        case
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == name
    ]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


@pytest.mark.prometheus
@pytest.mark.parametrize("arguments", [("check", "config", PROMETHEUS / "prometheus.yaml"), ("test", "rules", *TESTS)])
def test_promtool_has_nothing_against_them(arguments: tuple[Any, ...]) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

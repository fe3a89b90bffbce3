"""Write the rules as the Prometheus operator wants them: `python deploy/prometheus`, or `make rules`."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
RULES = Path(__file__).with_name("hushword.rules.yaml")
OBJECT = ROOT / "k8s" / "components" / "prometheus" / "rules.yaml"
HEAD = "# Made by `make rules` from deploy/prometheus/hushword.rules.yaml.\n"


def rules_object(rules: str) -> str:
    """Return the text of a PrometheusRule with the groups of a file of rules."""
    body = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "hushword"},
        "spec": yaml.safe_load(rules),
    }
    return HEAD + yaml.safe_dump(body, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    OBJECT.write_text(rules_object(RULES.read_text(encoding="utf-8")), encoding="utf-8")

"""Writes the dashboards' JSON beside this file (`make dashboards`), or into the folder that is given."""

import sys
from pathlib import Path

import depth
import oncall
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder


def dashboards() -> dict[str, Dashboard]:
    """Give the dashboards by the names of their files."""
    return {
        "on-call.json": oncall.oncall((depth.UID, depth.TITLE)),
        "depth.json": depth.depth((oncall.UID, oncall.TITLE)),
    }


def as_json(dashboard: Dashboard) -> str:
    """Give what Grafana imports."""
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard.build()) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, dashboard in dashboards().items():
        (folder / name).write_text(as_json(dashboard), encoding="utf-8")

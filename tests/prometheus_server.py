"""A real Prometheus for tests: Debian's, from the PATH or from where `make test-prometheus` unpacks it."""

import json
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.local.jars import cache_directory
from pipeline.local.process import ServerProcess
from pipeline.local.service import LocalService


def program(name: str) -> str:
    """Give the path of `prometheus` or `promtool`; skip the test where it is not."""
    unpacked = cache_directory() / "prometheus" / "usr" / "bin" / name
    found = shutil.which(name) or (str(unpacked) if unpacked.exists() else None)
    if found is None:
        pytest.skip(f"{name} is not there: `make test-prometheus` fetches it on Debian, else put it on the PATH")
    return found


class LocalPrometheus(LocalService):
    """Scrapes every second, and evaluates `rules` as often.

    Args:
        targets: address by the name of the scrape job.
        rules: a file of rules.

    """

    name = "prometheus"

    def __init__(self, targets: Mapping[str, str], rules: Path) -> None:
        super().__init__(None, "")
        self._targets, self._rules = dict(targets), rules

    def _prepare(self, scratch: Path) -> ServerProcess:
        config = self.directory / "prometheus.yaml"
        scraped = [{"job_name": job, "static_configs": [{"targets": [at]}]} for job, at in self._targets.items()]
        every_second = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config.write_text(
            yaml.safe_dump({"global": every_second, "rule_files": [str(self._rules)], "scrape_configs": scraped})
        )
        command = [
            program("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={scratch / 'data'}",
            f"--web.listen-address={self.address}",
            "--log.level=warn",
        ]
        return ServerProcess("Prometheus", command, self.log_path)

    def get(self, path: str, **parameters: str) -> Any:
        """Give the data of the API's answer; an error of the API raises."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """Give the values that an expression has now, by their labels."""
        found = self.get("query", query=expression)["result"]
        return {frozenset(each["metric"].items()): float(each["value"][1]) for each in found}

    def over_time(self, expression: str, minutes: float) -> list[float]:
        """Give all values that an expression had in the last minutes, as a graph would show them."""
        end_s = time.time()
        found = self.get("query_range", query=expression, start=str(end_s - 60 * minutes), end=str(end_s), step="1s")[
            "result"
        ]
        return [float(value) for each in found for _, value in each["values"]]

    def alerts(self) -> dict[str, str]:
        """Give the state, pending or firing, of the alerts that are not inactive."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.get("alerts")["alerts"]}

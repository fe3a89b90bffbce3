"""A real Prometheus beside a real job: every panel has something to show, and an outage is walked through.

What the pages docs/walk.md and docs/runbook.md promise of the broker's silence is held here.
"""

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_server import LocalPrometheus
from sounds import write_recording
from watched import Served, paused, publish_faults, publish_odd_decisions, wait

from pipeline.decisions import read_topic
from pipeline.exporter import Exporter
from pipeline.kafka.topics import create_topics
from pipeline.local.kafka import LocalKafka
from pipeline.local.process import LOOPBACK, free_port
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import replay
from pipeline.trial import Job, running_job, trial_settings

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "hushword.rules.yaml"
DASHBOARDS = [json.loads((DEPLOY / "grafana" / name).read_text()) for name in ("on-call.json", "depth.json")]
# In the copy of the rules that is tried here, `for` and `interval` are so many times shorter; expressions are the same.
HASTE = 12
# Panels in which not even a zero would do.
MOVED = {"Devices kept quiet", "Decisions by reason", "Dead letters", "Kernel time", "Comparisons", "Latency", "Audio"}

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Watched:
    """A job, and all that looks at it."""

    broker: LocalKafka
    settings: Settings
    job: Job
    served: Served
    prometheus: LocalPrometheus

    def value(self, expression: str) -> float:
        """The only value of an expression; not a number while there is none."""
        (value,) = self.prometheus.query(expression).values() or (math.nan,)
        return value


def hasty(rules: Path) -> str:
    """The rules with their waits divided by HASTE."""
    found = yaml.safe_load(rules.read_text())
    for part in [*found["groups"], *(rule for group in found["groups"] for rule in group["rules"])]:
        for wait_key in {"for", "interval"} & set(part):
            number, unit = re.fullmatch(r"(\d+)([mh])", part[wait_key]).groups()
            part[wait_key] = f"{int(number) * {'m': 60, 'h': 3600}[unit] // HASTE}s"
    return yaml.safe_dump(found)


def recording(folder: Path, seed: int, minutes: float) -> Recording:
    """Three airings, one heard again by a home that was not there, and people."""
    return Recording.load(write_recording(folder, seed, events=3, homes=4, live=8, reruns=1, minutes=minutes))


@pytest.fixture
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    rules = tmp_path_factory.mktemp("rules") / "hasty.yaml"
    rules.write_text(hasty(RULES))
    job_port, exporter_port = free_port(), free_port()
    targets = {"hushword": f"{LOOPBACK}:{job_port}", "hushword-monitor": f"{LOOPBACK}:{exporter_port}"}
    with ExitStack() as stack:
        prometheus = stack.enter_context(LocalPrometheus(targets, rules))
        broker = stack.enter_context(LocalKafka())
        settings = trial_settings(Settings(metrics_port=job_port), broker.bootstrap_servers)
        create_topics(settings, 3)
        registry = CollectorRegistry()
        exporter = Exporter(settings, registry)
        stack.callback(exporter.stop)
        exporter.start()
        server, thread = start_http_server(exporter_port, LOOPBACK, registry)
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        job = stack.enter_context(running_job(settings))
        served = Served(job_port)
        wait(job, lambda: served.get("/readyz")[0] == 200)
        yield Watched(broker, settings, job, served, prometheus)


def filled_in(expression: str, routes: str) -> str:
    """What Grafana would ask."""
    for name, value in {"$__rate_interval": "1m", "$__range": "1h", "$route": routes}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def empty(watched: Watched, routes: str) -> dict[str, str]:
    """Expressions that had no number in the last minutes, by panel; and panels of MOVED that had nothing but zeros."""
    found = {}
    for dashboard in DASHBOARDS:
        for panel in dashboard["panels"]:
            highest = -math.inf
            for target in panel.get("targets", []):
                values = watched.prometheus.over_time(filled_in(target["expr"], routes), 5)
                numbers = [value for value in values if not math.isnan(value)]
                if not numbers:
                    found[panel["title"]] = target["expr"]
                highest = max([highest, *numbers])
            if panel["title"] in MOVED and highest <= 0:
                found[panel["title"]] = "nothing but zeros"
    return found


def test_every_panel_has_something_to_show(watched: Watched, tmp_path: Path) -> None:
    """During a replay with bad records in it; the variables have values to choose from."""
    settings, job = watched.settings, watched.job
    wait(job, lambda: watched.value("sum(hushword_topic_decisions_total)") == 0)
    replay(recording(tmp_path, 3, 0.5), settings, settings.audio_topic, 2.0)
    publish_faults(settings)
    wait(job, lambda: watched.value("sum(hushword_topic_decisions_total)") > 0)
    publish_odd_decisions(settings, read_topic(settings)[0])
    (variable,) = (each for each in DASHBOARDS[1]["templating"]["list"] if each["name"] == "route")
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
    wait(job, lambda: bool(watched.prometheus.get(f"label/{label}/values", **{"match[]": metric})))
    routes = "|".join(watched.prometheus.get(f"label/{label}/values", **{"match[]": metric}))
    missing: dict[str, str] = {}

    def all_show() -> bool:
        nonlocal missing
        missing = empty(watched, routes)
        return not missing

    try:
        wait(job, all_show)
    except AssertionError:
        pytest.fail(f"panels without anything to show: {missing}")
    assert not empty(watched, variable["allValue"])


def test_a_walk_through_an_outage(watched: Watched, tmp_path: Path) -> None:
    """The broker stops during a replay: docs/walk.md, step by step."""
    settings, job, prometheus = watched.settings, watched.job, watched.prometheus
    name, silence = "HushwordBrokerSilent", "hushword:broker_silence:seconds"
    played = recording(tmp_path, 4, 1.0)
    failures: list[BaseException] = []

    def play() -> None:
        try:
            replay(played, settings, settings.audio_topic, 1.0)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    requests = watched.value("sum(hushword_requests_total)")
    replaying = threading.Thread(target=play)
    replaying.start()
    try:
        wait(job, lambda: watched.value("sum(hushword_requests_total)") > requests)
        wait(job, lambda: watched.value(silence) < 10)
        assert watched.served.get("/readyz")[0] == 200
        assert name not in prometheus.alerts()
        with paused(watched.broker):
            wait(job, lambda: watched.value(silence) > 15)
            wait(job, lambda: watched.served.get("/readyz")[0] == 503)
            assert "has answered within" in watched.served.get("/readyz")[1]
            wait(job, lambda: prometheus.alerts().get(name) == "pending")
            wait(job, lambda: prometheus.alerts().get(name) == "firing")
            (annotation,) = DASHBOARDS[0]["annotations"]["list"]
            wait(job, lambda: any(name in dict(labels).values() for labels in prometheus.query(annotation["expr"])))
            assert watched.served.get("/healthz")[0] == 200  # a restart would not help
            assert not {"HushwordJobAbsent", "HushwordJobStands", "HushwordMonitorAbsent"} & set(prometheus.alerts())
            told = watched.value("sum(hushword_topic_decisions_total)")
        wait(job, lambda: watched.served.get("/readyz")[0] == 200)
        wait(job, lambda: watched.value(silence) < 10)
        wait(job, lambda: name not in prometheus.alerts())
        wait(job, lambda: watched.value("min(hushword_orders_followed)") == 1)
    finally:
        replaying.join()
    assert not failures
    after = recording(tmp_path / "after", 5, 0.5)
    replay(after, settings, settings.audio_topic, 2.0)
    wait(job, lambda: watched.value("sum(hushword_topic_decisions_total)") > told)
    wait(job, lambda: watched.value("sum(hushword_consumer_lag_records)") == 0)
    # Decisions that came late may well have used up a budget; nothing else is left.
    wait(job, lambda: all(each.startswith("HushwordLatencyBudget") for each in prometheus.alerts()))

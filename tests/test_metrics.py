"""What is counted: everything that the library counts, under few labels, and by no household, device or request."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from routed import START_US, airing, average_of
from sounds import in_order, plain_calibration

import matcher.blocked
import matcher.route
import matcher.search
import pipeline.assembly
import pipeline.decide
from matcher.policy import Policy
from matcher.route import Route
from pipeline import metrics

DOCUMENTED = Path(__file__).parent.parent / "docs" / "metrics.md"
# All labels there are; their values are named in the code, but for the capped routes.
LABELS = {"reason", "route", "stage", "against", "late", "shadow"}


def job_metrics() -> list[MetricWrapperBase]:
    """All metrics of the job, as its module defines them."""
    return [
        metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase) and not metric._labelvalues
    ]


def counted_names(module: object) -> Iterator[str]:
    """Names that a module's code counts by: the keys in `….counts["name"]`."""
    assert module.__file__ is not None  # type: ignore[attr-defined]
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):  # type: ignore[attr-defined]
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "counts":
            assert isinstance(node.slice, ast.Constant), "a name that is not written out cannot be held to a metric"
            yield node.slice.value


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_everything_that_is_counted_has_a_metric() -> None:
    """And a metric is counted by somebody, but for what another part of the code counts itself."""
    of_reader = set(counted_names(pipeline.assembly))
    counting = (matcher.route, matcher.search, matcher.blocked, pipeline.decide)
    of_route = {name for module in counting for name in counted_names(module)}
    assert of_reader == set(metrics.OF_READER)
    assert of_route | {"asked_again"} == set(metrics.OF_ROUTE) | set(metrics.BY_ROUTE)


def test_every_metric_is_in_the_table_of_the_documentation_with_its_labels() -> None:
    """A dashboard is written from that table."""
    documented = {}
    for line in DOCUMENTED.read_text().splitlines():
        if line.startswith("| `hushword_"):
            name, kind, labels, _ = [cell.strip() for cell in line.strip("| ").split("|", 3)]
            documented[name.strip("`")] = kind, labels
    for metric in job_metrics():
        name = metric._name + ("_total" if metric._type == "counter" else "")
        kind, labels = documented.pop(name)
        assert kind == metric._type
        assert all(f"`{label}`" in labels for label in metric._labelnames), name
        assert bool(labels) == bool(metric._labelnames), name


def test_no_label_can_name_a_household_a_device_or_a_request() -> None:
    """Labels are a short list, and units are in the names."""
    found = job_metrics()
    assert len(found) > 30
    assert set().union(*(metric._labelnames for metric in found)) == LABELS
    for metric in found:
        assert not any(word in metric._name for word in ("_ms", "_us", "_total")), metric._name


def test_gauges_of_several_processes_are_those_of_who_spoke_last() -> None:
    """A route that moved to another worker must not be counted twice, nor stand still."""
    gauges = [metric for metric in job_metrics() if metric._type == "gauge"]
    assert gauges
    assert {gauge._multiprocess_mode for gauge in gauges} == {"mostrecent"}  # type: ignore[attr-defined]


@given(st.lists(st.integers(0, 500), max_size=400))
def test_route_labels_are_bounded(numbers: list[int]) -> None:
    """The first so many have their names for good, all others share one."""
    routes = metrics.Routes()
    labels = [routes.label(f"word/xx-{number}/0") for number in numbers]
    first = list(dict.fromkeys(numbers))[: metrics.MAX_ROUTES]
    expected = [f"word/xx-{number}/0" if number in first else metrics.OTHER_ROUTES for number in numbers]
    assert labels == expected
    assert len(set(labels)) <= metrics.MAX_ROUTES + 1


def test_routes_without_a_label_of_their_own_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes add up, the highest version stands for all; no more routes are kept than are needed for it."""
    monkeypatch.setattr(metrics, "MAX_ROUTES", 1)
    monkeypatch.setattr(metrics, "MAX_OTHER_ROUTES", 3)
    routes = metrics.Routes()
    named, *others = (Route(f"cardinality/xx-{n}/0", Policy(), plain_calibration()) for n in range(6))
    routes.show(named)
    for number, route in enumerate(others):
        route.window.add("r", "home", "device", START_US)
        route.learn(average_of(f"m{number}", "elsewhere/xx/0", START_US + number))
        for _ in range(2):  # the same route again replaces what it said before
            routes.show(route)
    assert value("hushword_window_requests", route=named.name) == 0
    assert value("hushword_window_requests", route="other") == 3
    assert value("hushword_catalogue_averages", route="other") == 3
    assert value("hushword_catalogue_version", route="other") == 1
    assert value("hushword_catalogue_newest_timestamp_seconds", route="other") == (START_US + 4) / 1e6
    assert REGISTRY.get_sample_value("hushword_window_requests", {"route": others[0].name}) is None


def test_a_route_tells_its_window_its_events_and_its_catalogue() -> None:
    """What a look into the route itself would give."""
    route = Route("counted/en-US/0", Policy(), plain_calibration())
    routes = metrics.Routes()
    comparisons = value("hushword_comparisons_total", against="window")
    for growth in in_order(*airing("m", 4, START_US)):
        routes.count(route.name, route.hear([growth], START_US).counts)
    routes.show(route)
    of_route = {"route": route.name}
    assert value("hushword_window_requests", **of_route) == len(route.window.requests) == 4
    assert value("hushword_events_open", **of_route) == len(route.events) == 1
    assert value("hushword_catalogue_averages", **of_route) == len(route.catalogue.averages) == 1
    assert value("hushword_catalogue_version", **of_route) == route.catalogue.version > 0
    assert value("hushword_route_requests_total", **of_route) == 4
    assert value("hushword_route_ignored_total", **of_route) == 4
    assert value("hushword_comparisons_total", against="window") > comparisons


def test_the_zero_before_the_first_is_there() -> None:
    """An alert on the increase of what has never happened needs it."""
    for reason in ("decode", "fields", "audio", "time", "request"):
        assert REGISTRY.get_sample_value("hushword_dead_letters_total", {"reason": reason}) is not None
    for late in ("true", "false"):
        labels = {"reason": "CONCURRENT", "late": late, "shadow": "false"}
        assert REGISTRY.get_sample_value("hushword_decisions_total", labels) is not None

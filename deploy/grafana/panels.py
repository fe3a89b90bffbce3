"""The few kinds of panels that the dashboards are made of."""

from collections.abc import Sequence
from itertools import count

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

GREEN, YELLOW, RED = "green", "yellow", "red"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
ALERTS = 'ALERTS{alertstate="firing", alertname=~"Hushword.*"}'

Query = tuple[str, str]  # expression and legend
Step = tuple[float, str]  # from this value on, this colour
Panel = timeseries.Panel | stat.Panel


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    thresholds: Sequence[Step] = (),
    stacked: bool = False,
    width: int = 8,
) -> timeseries.Panel:
    """Give lines over time; with `thresholds`, what is over one has its colour behind it.

    Args:
        title: of the panel; the runbook names it.
        description: what is seen, and what is usual.
        unit: Grafana's name of the unit.
        queries: expressions with their legends.
        thresholds: values from which on the background has a colour.
        stacked: whether the lines add up.
        width: of the 24 columns.

    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .datasource(SOURCE)
        .line_width(1)
        .fill_opacity(30 if stacked else 0)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .show_legend(show_legend=True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .thresholds(_steps(thresholds))
    )
    if thresholds:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED_AND_AREA))
    for query in _targets(queries):
        panel.with_target(query)
    return panel


def figure(
    title: str,
    description: str,
    unit: str,
    expression: str,
    *,
    base: str = GREEN,
    thresholds: Sequence[Step] = (),
    width: int = 4,
) -> stat.Panel:
    """Give one number, now; arguments as for a graph, and `base`, the colour below all thresholds."""
    (query,) = _targets([(expression, "")])
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .span(width)
        .height(4)
        .datasource(SOURCE)
        .color_mode(BigValueColorMode.BACKGROUND if thresholds else BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("none yet")
        .thresholds(_steps(thresholds, base))
        .with_target(query)
    )


def board(
    uid: str, title: str, description: str, other: tuple[str, str], rows: Sequence[tuple[str, Sequence[Panel]]]
) -> dashboard.Dashboard:
    """Give a dashboard of rows, over the last hour, with firing alerts marked; `other` is uid and title of its twin."""
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["hushword"])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink(other[1])
            .type(DashboardLinkType.LINK)
            .url(f"/d/{other[0]}")
            .keep_time(keep_time=True)
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Alerts")
            .datasource(SOURCE)
            .enable(enable=True)
            .icon_color(RED)
            .expr(ALERTS)
        )
    )
    ids = count(1)
    for name, panels in rows:
        built.with_row(dashboard.Row(name).id(next(ids)))
        for panel in panels:
            built.with_panel(panel.id(next(ids)))
    return built


def route_variable() -> dashboard.QueryVariable:
    """Give the variable `route`: wake word, locale and shard, of those that there are; all at first."""
    return (
        dashboard.QueryVariable("route")
        .label("Route")
        .description("Wake word, locale and shard")
        .datasource(SOURCE)
        .query("label_values(hushword_route_requests_total, route)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _targets(queries: Sequence[Query]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number)).range()
        for number, (expression, legend) in enumerate(queries)
    ]


def _steps(thresholds: Sequence[Step], base: str = GREEN) -> dashboard.ThresholdsConfig:
    first = Threshold(value=None, color=base)
    steps = [first, *(Threshold(value=value, color=colour) for value, colour in thresholds)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)

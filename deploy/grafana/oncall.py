"""The dashboard that an engineer on call lives in: devices kept quiet, in time, and nobody else."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import GREEN, RED, YELLOW, board, figure, graph

UID, TITLE = "hushword-on-call", "hushword: on call"
QUIET = 'hushword_topic_decisions_total{late="false", shadow="false"}'
OBJECTIVE_S = 0.5


def burn(window: str) -> tuple[str, str]:
    """Give how many times faster than a month's the budget was used up, over a window."""
    return f"hushword:decision_latency_errors:ratio_rate{window} / 0.01", window


def latency(share: str) -> tuple[str, str]:
    """Give a quantile of the latency."""
    buckets = "sum by (le) (rate(hushword_decision_latency_seconds_bucket[$__rate_interval]))"
    return f"histogram_quantile({share}, {buckets})", f"p{share.removeprefix('0.')}"


def oncall(depth: tuple[str, str]) -> Dashboard:
    """Give the dashboard; `depth` is uid and title of the one that goes on from here."""
    now = [
        figure(
            "Devices kept quiet",
            "IGNORE decisions of the chosen time that a gateway acts on: each once, neither late nor shadow.",
            "short",
            f"sum(increase({QUIET}[$__range]))",
        ),
        figure(
            "Quiet per minute",
            "The same, by the minute, over the last five. Zero is usual between airings.",
            "cpm",
            f"60 * sum(rate({QUIET}[5m]))",
        ),
        figure(
            "Within 0.5 s",
            "Share of the last hour's decisions within 0.5 s of the audio that sufficed. Objective: 99 %.",
            "percentunit",
            "1 - hushword:decision_latency_errors:ratio_rate1h",
            base=RED,
            thresholds=[(0.95, YELLOW), (0.99, GREEN)],
        ),
        figure(
            "Error budget left",
            "Of the 1 % of decisions that may be slow within 30 days; as far back as Prometheus remembers.",
            "percentunit",
            "1 - hushword:decision_latency_errors:ratio_rate30d / 0.01",
            base=RED,
            thresholds=[(0, YELLOW), (0.25, GREEN)],
        ),
        figure(
            "Behind the audio",
            "Seconds of traffic that the committed offsets are behind; about ten are usual.",
            "s",
            "max(hushword:consumer_lag:seconds) or sum(hushword_consumer_lag_records) * 0",
            thresholds=[(30, YELLOW), (60, RED)],
        ),
        figure(
            "The broker's silence",
            "Time since the broker last answered the exporter, which asks every five seconds.",
            "s",
            "hushword:broker_silence:seconds",
            thresholds=[(15, YELLOW), (30, RED)],
        ),
    ]
    verdicts = [
        graph(
            "Requests and decisions",
            "What is asked, and what is ignored of it, a second. Decisions come in bursts: an airing wakes many homes.",
            "reqps",
            ("sum(rate(hushword_requests_total[$__rate_interval]))", "requests"),
            ("sum(rate(hushword_topic_decisions_total[$__rate_interval]))", "ignored"),
        ),
        graph(
            "Decisions by reason",
            "CONCURRENT: homes that hear it now. DISCOVERED: an average of an earlier airing. KNOWN: made from clean"
            " recordings.",
            "ops",
            ("sum by (reason) (rate(hushword_topic_decisions_total[$__rate_interval]))", "{{reason}}"),
            stacked=True,
        ),
        graph(
            "Shadow and late",
            "Decisions that no gateway acts on: for the record, or later than `deadline_ms` after their audio. All"
            " shadow: somebody has ordered it, or a worker cannot read its orders.",
            "ops",
            ('sum(rate(hushword_topic_decisions_total{shadow="true"}[$__rate_interval]))', "shadow"),
            ('sum(rate(hushword_topic_decisions_total{late="true"}[$__rate_interval]))', "late"),
        ),
        graph(
            "Ignore rate",
            "Share of what is asked on a route that is ignored: the mean of the minutes of half an hour, and of a day."
            " Airings move it little; over 30 % and three times the day's mean pages.",
            "percentunit",
            ("hushword:ignored:mean30m", "{{route}} 30 min"),
            ("hushword:ignored:mean1d", "{{route}} 1 day"),
            thresholds=[(0.3, RED)],
            width=12,
        ),
        graph(
            "Asked again",
            "Share of IGNOREs after which the household asked again within ten seconds: the proxy for people who were"
            " ignored. Some is usual (a television that says it twice); watch for a change.",
            "percentunit",
            ("hushword:asked_again:ratio_rate1h", "1 hour"),
            ("hushword:asked_again:ratio_rate7d", "7 days"),
            thresholds=[(0.25, RED)],
            width=12,
        ),
    ]
    orders = [
        graph(
            "Shadow by route",
            "1 while a route decides for the record only, whoever ordered it; `hushword shadow status` says why.",
            "none",
            ("max by (route) (hushword_route_shadow)", "{{route}}"),
            thresholds=[(1, YELLOW)],
        ),
        graph(
            "Orders",
            "Whether the orders of operators are followed (while they are not, everything is in shadow), and how often"
            " a route turned itself to shadow within a quarter of an hour.",
            "none",
            ("min(hushword_orders_followed)", "followed"),
            ("sum(increase(hushword_routes_turned_to_shadow_total[15m]))", "turned themselves to shadow"),
        ),
        graph(
            "Blocked",
            "Looks, events and averages that came to nothing because they sound like something that `hushword media"
            " block` has blocked.",
            "ops",
            ("sum(rate(hushword_blocked_total[$__rate_interval]))", "blocked"),
        ),
    ]
    objective = [
        graph(
            "Latency",
            "From the append of the audio that sufficed to the append of the decision, by the broker's clock. The line"
            " is the objective of 0.5 s, for 99 %.",
            "s",
            latency("0.50"),
            latency("0.90"),
            latency("0.99"),
            thresholds=[(OBJECTIVE_S, RED)],
            width=12,
        ),
        graph(
            "Error budget burn",
            "How many times faster than a month's budget allows decisions are slow. 14.4 over 1 h and 6 over 6 h page,"
            " 3 over 24 h and 1 over 3 d are for the day.",
            "none",
            *(burn(window) for window in ("5m", "1h", "6h", "24h", "3d")),
            thresholds=[(1, YELLOW), (14.4, RED)],
            width=12,
        ),
    ]
    progress = [
        graph(
            "Lag",
            "Records that the group has not committed, and records that the reader has not read. Ten seconds' worth"
            " uncommitted is usual; unread is near zero.",
            "short",
            ("sum(hushword_consumer_lag_records)", "not committed"),
            ("sum(hushword_reader_lag_records)", "not read"),
        ),
        graph(
            "Event time behind",
            "How far the low mark is behind the clock. It follows the traffic: it also grows while nobody asks. And how"
            " old live audio is when it is read: over a quarter of `deadline_ms`, the job saves comparisons.",
            "s",
            ("hushword:low_mark_delay:seconds", "low mark"),
            ("max(hushword_reader_behind_seconds)", "reader"),
        ),
        graph(
            "Dead letters",
            "Records that cannot be read, by what was wrong with them. `hushword dlq list` says more.",
            "ops",
            ("sum by (reason) (rate(hushword_topic_dead_letters_total[$__rate_interval]))", "{{reason}}"),
            stacked=True,
        ),
    ]
    return board(
        UID,
        TITLE,
        "Is hushword keeping devices quiet, in time, and nobody else? What to do: docs/runbook.md.",
        depth,
        [
            ("Now", now),
            ("What is ignored", verdicts),
            ("What was ordered", orders),
            ("How soon", objective),
            ("How far", progress),
        ],
    )

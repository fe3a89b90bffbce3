"""The dashboard that goes on from the one on call: what the job is doing inside."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import GREEN, RED, YELLOW, Panel, board, figure, graph, route_variable

UID, TITLE = "hushword-depth", "hushword: in depth"
ROUTE = '{route=~"$route"}'


def rate(series: str, by: str = "") -> str:
    """Give the rate of a counter, added up, or by a label."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({series}[$__rate_interval]))"


def depth(oncall: tuple[str, str]) -> Dashboard:
    """Give the dashboard; `oncall` is uid and title of the one that leads here."""
    reader = [
        graph(
            "Chunks and bytes",
            "Audio that is read and can be used.",
            "ops",
            (rate("hushword_chunks_total"), "chunks"),
            (rate("hushword_requests_total"), "requests"),
        ),
        graph("Audio", "PCM bytes in the chunks read.", "Bps", (rate("hushword_audio_bytes_total"), "audio")),
        graph(
            "Left out",
            "Chunks that were not heard: sent twice, after a hole, or over a bound; requests that a hole or a bound"
            " ended. What is left out is accepted.",
            "ops",
            (rate("hushword_chunks_left_out_total", "reason"), "{{reason}}"),
            (rate("hushword_requests_left_out_total", "reason"), "requests: {{reason}}"),
            (rate("hushword_request_gaps_total"), "requests with a hole"),
        ),
        graph(
            "Reader",
            "Requests being assembled, partitions assigned, records not read.",
            "short",
            ("sum(hushword_open_requests)", "open requests"),
            ("sum(hushword_assigned_partitions)", "partitions"),
            ("sum(hushword_reader_lag_records)", "records not read"),
        ),
        graph(
            "Held and early",
            "Chunks that wait for the low mark, and those that did not wait because 50,000 were held: a partition is"
            " behind.",
            "short",
            ("sum(hushword_held_chunks)", "held"),
            (rate("hushword_chunks_released_early_total"), "released early per s"),
            thresholds=[(10_000, YELLOW), (50_000, RED)],
        ),
        graph(
            "Low mark",
            "How fast event time goes: 1 is as fast as the clock, more is catching up, 0 stands still.",
            "none",
            ("max(deriv(hushword_low_mark_timestamp_seconds[1m]))", "s per s"),
            (rate("hushword_low_mark_records_total"), "low mark records per s"),
        ),
        graph(
            "Rounds",
            "Time since the reader last polled and since a route last heard something; 90 s fails /healthz.",
            "s",
            ("time() - max(hushword_last_poll_timestamp_seconds)", "poll"),
            ("time() - max(hushword_last_batch_timestamp_seconds)", "batch"),
            thresholds=[(30, YELLOW), (90, RED)],
        ),
        graph(
            "Effort",
            "What is done while more comes than can be compared: the share of the comparisons that is spent, then the"
            " share of homes that pass unmatched, which means accepted.",
            "percentunit",
            ("min(hushword_effort_ratio)", "comparisons spent"),
            ("max(hushword_unmatched_ratio)", "homes unmatched"),
        ),
        graph(
            "Refused commits",
            "Commits of offsets that the broker refused; the next one tries again.",
            "ops",
            (rate("hushword_commits_refused_total"), "refused"),
        ),
    ]
    window = [
        graph(
            "Window",
            "Requests in each window, of the last ten seconds, and the bound of each.",
            "short",
            (f"max by (route) (hushword_window_requests{ROUTE})", "{{route}}"),
            ("max(hushword_window_capacity_requests)", "bound"),
        ),
        graph(
            "Entered and ignored",
            "Requests that entered a window, and those ignored, late and shadow ones too.",
            "reqps",
            (rate(f"hushword_route_requests_total{ROUTE}", "route"), "{{route}}"),
            (rate(f"hushword_route_ignored_total{ROUTE}", "route"), "{{route}} ignored"),
        ),
        graph(
            "Overflow",
            "Requests that a full window had no room for, and growths that no request could take: accepted.",
            "ops",
            (rate("hushword_window_overflow_total"), "overflow"),
            (rate("hushword_growths_left_out_total", "reason"), "{{reason}}"),
        ),
    ]
    comparing = [
        graph(
            "Comparisons",
            "Pairs of fingerprints compared, and pairs that were not drawn among the K partners.",
            "ops",
            (rate("hushword_comparisons_total", "against"), "{{against}}"),
            (rate("hushword_comparisons_left_out_total"), "left out"),
        ),
        graph(
            "Looks and events",
            "Times that a request was compared with others, and media events found.",
            "ops",
            (rate("hushword_looks_total"), "looks"),
            (rate("hushword_events_total"), "events"),
        ),
        graph(
            "Kernel time",
            "Seconds of work a second: 1 is one core.",
            "none",
            (rate("hushword_kernel_seconds_sum", "stage"), "{{stage}}"),
            thresholds=[(0.7, YELLOW), (0.9, RED)],
            stacked=True,
        ),
        graph(
            "Kernel time of a bundle",
            "Median and slowest hundredth of the bundles.",
            "s",
            *(
                (f"histogram_quantile({share}, {rate('hushword_kernel_seconds_bucket', 'le, stage')})", legend)
                for share, legend in (("0.50", "{{stage}} p50"), ("0.99", "{{stage}} p99"))
            ),
            width=12,
        ),
        graph(
            "Events",
            "Media events that requests can still join.",
            "short",
            (f"sum by (route) (hushword_events_open{ROUTE})", "{{route}}"),
            width=12,
        ),
    ]
    catalogue: list[Panel] = [
        figure(
            "Catalogue read",
            "1 once the media topic has been read to its end; nothing is decided before.",
            "none",
            "min(hushword_catalogue_ready)",
            base=RED,
            thresholds=[(1, GREEN)],
        ),
        figure(
            "Media topic", "Size on one broker's disk, before compaction.", "bytes", "max(hushword_media_topic_bytes)"
        ),
        figure("Media records", "Records of it, not compacted ones too.", "short", "max(hushword_media_topic_records)"),
        figure(
            "Newest average",
            "How long ago the newest average of any route was discovered.",
            "s",
            f"min(hushword:catalogue_age:seconds{ROUTE})",
            thresholds=[(86_400, YELLOW), (259_200, RED)],
            width=12,
        ),
        graph(
            "Catalogue",
            "Averages that a route knows; `catalogue_entries` is the bound.",
            "short",
            (f"max by (route) (hushword_catalogue_averages{ROUTE})", "{{route}}"),
        ),
        graph(
            "Catalogue's version",
            "As decisions carry it: each change is one more; for known media, each record of the media topic.",
            "short",
            (f"max by (route) (hushword_catalogue_version{ROUTE})", "{{route}}"),
            ("max(hushword_known_version)", "known media"),
        ),
        graph(
            "Averages",
            "Averages written to the media topic and withdrawn from it.",
            "ops",
            (rate("hushword_averages_total"), "written"),
            (rate("hushword_averages_dropped_total"), "withdrawn"),
        ),
        graph(
            "Records of the media topic left out",
            "Records that are nothing for this version, and entries of known media over `known_entries`. What is"
            " malformed is among the dead letters.",
            "ops",
            (rate("hushword_media_records_left_out_total", "reason"), "{{reason}}"),
        ),
        graph(
            "Known media",
            "Entries in the reader, and the most that it takes. Without entries nobody is held against them.",
            "short",
            ("max(hushword_known_entries)", "entries"),
            ("max(hushword_known_capacity_entries)", "bound"),
        ),
        graph(
            "Looks at known media",
            "How often a request was held against all entries: every 80 ms of its audio, and later less often.",
            "ops",
            (rate("hushword_known_looks_total"), "looks"),
        ),
    ]
    orders = [
        graph(
            "Orders read",
            "Orders of operators read from the control topic, and records of it that are none for this version.",
            "ops",
            (rate("hushword_orders_total"), "orders"),
            (rate("hushword_orders_left_out_total", "reason"), "{{reason}}"),
        ),
        graph(
            "Blocked averages pushed out",
            "Blocked averages that had to make room for another one: they are blocked no longer.",
            "ops",
            (rate("hushword_blocked_overflow_total"), "pushed out"),
        ),
        graph(
            "Erased",
            "Requests, votes and growths of households to be forgotten.",
            "ops",
            (rate("hushword_erased_total", "reason"), "{{reason}}"),
        ),
    ]
    exporter = [
        graph(
            "Scraped",
            "1 where Prometheus has reached it.",
            "none",
            ('up{job=~"hushword|hushword-monitor"}', "{{job}} {{instance}}"),
        ),
        graph(
            "Last answer",
            "Time since the broker last answered the exporter.",
            "s",
            ("hushword:broker_silence:seconds", "silence"),
            thresholds=[(15, YELLOW), (30, RED)],
        ),
        graph(
            "Odd decisions",
            "Decisions told again (after a restart) and records of the decisions topic that are none.",
            "ops",
            (rate("hushword_topic_duplicate_decisions_total"), "told again"),
            (rate("hushword_topic_malformed_decisions_total"), "malformed"),
        ),
        graph(
            "Told and seen",
            "Decisions that the job says the broker has, and those that the exporter has seen: apart, one of the two is"
            " blind.",
            "ops",
            (rate("hushword_decisions_total"), "told"),
            (rate("hushword_topic_decisions_total"), "seen"),
        ),
        graph(
            "Dead letters, told and seen",
            "Likewise.",
            "ops",
            (rate("hushword_dead_letters_total"), "told"),
            (rate("hushword_topic_dead_letters_total"), "seen"),
        ),
        graph(
            "Appended",
            "Records appended to each topic.",
            "ops",
            (rate("hushword_topic_end_offset", "topic"), "{{topic}}"),
        ),
        graph(
            "Lag by partition",
            "End of the audio topic's partitions less the group's committed offsets; one that stands out is stuck.",
            "short",
            ("max by (partition) (hushword_consumer_lag_records)", "{{partition}}"),
            width=24,
        ),
    ]
    rows: list[tuple[str, Sequence[Panel]]] = [
        ("Reader", reader),
        ("Window", window),
        ("Comparing", comparing),
        ("Catalogue", catalogue),
        ("Orders", orders),
        ("Seen from the topics", exporter),
    ]
    description = "What the job does inside: reader, windows, comparisons, catalogue, exporter."
    return board(UID, TITLE, description, oncall, rows).with_variable(route_variable())

"""The bench's command: `python -m bench` from the checkout prints the figures of docs/performance.md."""

import json
import os
import signal
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.figures import machine, paced, run, say, stop
from bench.job import LAG_S, Run, running_bench, sustained
from bench.kernels import Against, fingerprint_speed, scan_speed

WARM_UP_RATE = 20.0
WARM_UP_S = 5.0


class Part(StrEnum):
    """What can be measured."""

    FINGERPRINT = "fingerprint"
    SCAN = "scan"
    LATENCY = "latency"
    BACKLOG = "backlog"
    SUSTAINED = "sustained"


def main(
    only: Annotated[
        list[Part] | None, typer.Option(help="Measure this part only; may be given more than once.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=15, help="Length of the paced run, s.")] = 60.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second of the paced run.")] = 100.0,
    backlog: Annotated[int, typer.Option(min=100, help="Requests of the backlog.")] = 3000,
    first: Annotated[float, typer.Option(min=10, help="First rate of the steps, requests a second.")] = 300.0,
    step: Annotated[float, typer.Option(min=5, help="From step to step, requests a second.")] = 50.0,
    step_seconds: Annotated[float, typer.Option(min=10, help="Length of a step, s.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure speed, latency and memory on this machine.

    The job, the broker and the load share its cores. Progress goes to standard error.
    """
    signal.signal(signal.SIGTERM, stop)
    parts = set(only or Part)
    figures: dict[str, Any] = {"machine": machine()}
    if Part.FINGERPRINT in parts:
        say("fingerprint")
        for bits in ("learned64", "gradient64"):
            figures[f"{bits}_fingerprint_times_real_time"] = _against(fingerprint_speed(bits, by_chunks=True))
            figures[f"{bits}_fingerprint_at_once_times_real_time"] = _against(fingerprint_speed(bits, by_chunks=False))
    if Part.SCAN in parts:
        say("scan")
        figures["scan_million_pairs_per_s"] = _against(scan_speed())
    if parts & {Part.LATENCY, Part.BACKLOG, Part.SUSTAINED}:
        from pipeline.local.kafka import LocalKafka

        say("starting a Kafka broker")
        with LocalKafka() as kafka:
            if Part.LATENCY in parts:
                with running_bench(kafka.bootstrap_servers, say) as bench:
                    figures["paced"] = paced(bench.run(rate, seconds, paced=True))
            if Part.BACKLOG in parts:
                with running_bench(kafka.bootstrap_servers, say) as bench:
                    bench.run(WARM_UP_RATE, WARM_UP_S, paced=True)
                    figures["backlog"] = _drained(bench.run(rate, backlog / rate, paced=False))
            if Part.SUSTAINED in parts:
                with running_bench(kafka.bootstrap_servers, say) as bench:
                    bench.run(WARM_UP_RATE, WARM_UP_S, paced=True)
                    runs, best = sustained(bench, first, step, step_seconds, say)
                    figures["sustained_requests_per_s"] = best
                    figures["steps"] = [paced(run) for run in runs]
    figures["load_average"] = [round(load, 1) for load in os.getloadavg()]
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        Console().print(_table(figures))


def _drained(run: Run) -> dict[str, Any]:
    return {
        "requests": run.load["requests"],
        "drained_s": round(run.drained_s, 1),
        "requests_per_s": round(run.load["requests"] / run.drained_s),
        "chunks_per_s": round(run.load["chunks"] / run.drained_s),
        "megabytes_per_s": round(run.load["bytes"] / run.drained_s / 1e6, 1),
        "job_cpu_ms_per_request": round(run.cpu_s() / run.load["requests"] * 1000, 2),
        "job_cores": round(run.cpu_s() / run.drained_s, 2),
    }


def _against(found: Against) -> dict[str, float]:
    return {"ours": round(found.ours, 2), "baseline": round(found.baseline, 2), "ratio": round(found.ratio, 2)}


def _table(figures: dict[str, Any]) -> Table:
    table = Table("measured", "found", "beside it", title=f"hushword on {figures['machine']}")
    if "sustained_requests_per_s" in figures:
        tried = ", ".join(f"{s['requests_per_s']:g}: lag {s['lag_s']} s" for s in figures["steps"])
        table.add_row(
            f"sustained, lag within {LAG_S:g} s", f"{figures['sustained_requests_per_s']:g} requests/s", tried
        )
    if "backlog" in figures:
        found = figures["backlog"]
        beside = f"{found['requests']} at once, {found['chunks_per_s']} chunks/s, {found['megabytes_per_s']} MB/s"
        table.add_row("a backlog drained", f"{found['requests_per_s']} requests/s", f"{beside}; {_cpu(found)}")
    if "paced" in figures:
        found = figures["paced"]
        asked = f"at {found['requests_per_s']:g} requests/s"
        beside = f"{found['decisions']} decisions, lag {found['lag_s']} s; {_cpu(found)}"
        table.add_row(f"append to decision, {asked}", f"p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms", beside)
        grown = f"{found['rss_start_mb']} MB to {found['rss_end_mb']} MB"
        table.add_row(f"memory of the job, {asked}", grown, f"{found['rss_slope_mb_per_min']:+} MB a minute")
    for name, label, unit in (
        ("learned64_fingerprint_times_real_time", "learned fingerprint, chunk by chunk", "times real time"),
        ("learned64_fingerprint_at_once_times_real_time", "learned fingerprint, at once", "times real time"),
        ("gradient64_fingerprint_times_real_time", "gradient fingerprint, chunk by chunk", "times real time"),
        ("gradient64_fingerprint_at_once_times_real_time", "gradient fingerprint, at once", "times real time"),
        ("scan_million_pairs_per_s", "scan, 21 alignments", "million pairs/s"),
    ):
        if name in figures:
            found = figures[name]
            beside = f"numpy and scipy {found['baseline']:g}: {found['ratio']:g} times that"
            table.add_row(label, f"{found['ours']:g} {unit}", beside)
    table.caption = f"load average at the end: {figures['load_average']}"
    return table


def _cpu(found: dict[str, Any]) -> str:
    return f"the job took {found['job_cpu_ms_per_request']} ms a request, {found['job_cores']} cores"


if __name__ == "__main__":
    run(main)

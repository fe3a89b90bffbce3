"""What the benches' commands say in the same way: progress, the machine, and what came of a paced run."""

import math
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import typer
from rich.console import Console

from bench.job import Run
from pipeline.errors import FailedError, InputError

console = Console(stderr=True)


def paced(run: Run) -> dict[str, Any]:
    """Give the figures of a paced run as plain values."""
    latencies = run.latencies_ms()
    return {
        "requests_per_s": run.rate,
        "requests": run.load["requests"],
        "decisions": len(run.decisions),
        "p50_ms": percentile(latencies, 50),
        "p99_ms": percentile(latencies, 99),
        "lag_s": round(run.lag_s(), 2),
        "unmatched": round(sum(run.left_out().values())),
        "load_behind_s": round(run.load["behind_s"], 2),
        "job_cpu_ms_per_request": round(run.cpu_s() / run.load["requests"] * 1000, 2),
        "job_cores": round(run.cpu_s() / run.drained_s, 2),
        "rss_start_mb": round(run.samples[0].rss_mb),
        "rss_end_mb": round(run.samples[-1].rss_mb),
        "rss_slope_mb_per_min": round(run.rss_slope_mb_per_min(), 1),
    }


def percentile(values: list[float], percent: float) -> float | None:
    """Give the smallest value that so many per cent do not exceed; None of nothing."""
    ranked = sorted(values)
    return round(ranked[math.ceil(percent / 100 * len(ranked)) - 1]) if ranked else None


def machine() -> str:
    """Say what this is measured on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def say(text: str) -> None:
    """Tell how far it is."""
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}")


def stop(*_: object) -> NoReturn:
    """End as Ctrl-C does, so that broker and job are stopped."""
    raise KeyboardInterrupt


def run(main: Callable[..., None]) -> None:
    """Run a command; what fails is one sentence and exit code 1, a bad argument 2."""
    try:
        typer.run(main)
    except (FailedError, InputError) as error:
        console.print(f"[red]{error}[/red]")
        sys.exit(2 if isinstance(error, InputError) else 1)

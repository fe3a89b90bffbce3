"""Makes docs/overload.md: the job at one, two and three times the rate that it sustains on this machine.

`python -m bench.overload` starts a broker, finds the rate that the job sustains when it spares nothing, and offers
multiples of it, for the last one also to a job that never spares anything. Some ten minutes on two cores.
"""

import os
import platform
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bench.effort import replace_part
from bench.figures import percentile, run, say, stop
from bench.job import LAG_S, PARTITIONS, BenchError, Run, running_bench, sustained
from pipeline.local.kafka import LocalKafka
from pipeline.options import Settings

WARM_UP_RATE = 20.0
WARM_UP_S = 5.0
# No lag is half of this in the length of a run, so nothing is spared: the job as it was.
NEVER = {"deadline_ms": 600_000}
MULTIPLES = (1, 2, 3)


@dataclass(frozen=True)
class Overloaded:
    """What came of one multiple."""

    label: str
    requests_per_s: float  # that were offered
    requests: int
    media: int
    ignored: int  # of the media
    in_time: int  # of these, not marked late
    live: int
    live_ignored: int
    p50_ms: float | None
    p99_ms: float | None
    most_lag_s: float  # in the second half of the load
    end_lag_s: float
    left_out: dict[str, float]  # requests by reason
    comparisons: float  # for each request that was heard
    looks: float
    cpu_ms: float

    @classmethod
    def of(cls, label: str, run: Run, deadline_ms: int) -> "Overloaded":
        """Read a run: the load's first requests are the media's, and ids end in numbers."""
        numbers = {int(d.request_id.rsplit("-", 1)[1]): d for d in run.decisions}
        requests, media = int(run.load["requests"]), int(run.load["media_requests"])
        ignored = [d for number, d in numbers.items() if number < media]
        late_ms = run.latencies_ms(run.load["wall_s"] / 2)
        counted = run.counted()
        heard = max(1.0, counted.get("requests_total", 0))
        return cls(
            label=label,
            requests_per_s=requests / run.load["wall_s"],
            requests=requests,
            media=media,
            ignored=len(ignored),
            in_time=sum(d.latency_ms is not None and d.latency_ms <= deadline_ms for d in ignored),
            live=requests - media,
            live_ignored=len(numbers) - len(ignored),
            p50_ms=percentile(late_ms, 50),
            p99_ms=percentile(late_ms, 99),
            most_lag_s=run.lag_s(),
            end_lag_s=_lag_s(run, run.load["wall_s"]),
            left_out=run.left_out(),
            comparisons=counted.get("comparisons_total window", 0) / heard,
            looks=counted.get("looks_total", 0) / heard,
            cpu_ms=1000 * run.cpu_s() / requests,
        )

    def row(self) -> str:
        """Give a line of the table."""
        unmatched = ", ".join(f"{reason} {n / self.requests:.0%}" for reason, n in self.left_out.items()) or "none"
        cells = [
            self.label,
            f"{self.requests_per_s:.0f}",
            f"{self.ignored} of {self.media} ({self.ignored / self.media:.0%})",
            f"{self.in_time / self.media:.0%}",
            f"{self.live_ignored} of {self.live}",
            "-" if self.p50_ms is None else f"{self.p50_ms:,.0f} / {self.p99_ms:,.0f} ms",
            f"{self.most_lag_s:.1f}, {self.end_lag_s:.1f} s",
            unmatched,
            f"{self.comparisons:,.0f}",
            f"{self.looks:.1f}",
            f"{self.cpu_ms:.1f} ms",
        ]
        return f"| {' | '.join(cells)} |\n"


HEAD = (
    "| offered | requests/s | media ignored | in time | live people ignored | append to decision, p50 / p99 "
    "| lag, most and at the end | passed unmatched | comparisons a request heard | looks | CPU a request offered |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def main(
    rate: Annotated[
        float | None, typer.Option(min=1, help="Requests a second that the job sustains; found by steps by default.")
    ] = None,
    first: Annotated[float, typer.Option(min=10, help="First rate of the steps.")] = 150.0,
    step: Annotated[float, typer.Option(min=5, help="From step to step.")] = 25.0,
    seconds: Annotated[float, typer.Option(min=20, help="Length of each run, s.")] = 45.0,
    out: Annotated[Path, typer.Option(help="The page whose table is made anew.")] = Path("docs/overload.md"),
) -> None:
    """Offer the job more than it carries, and write what comes of it."""
    signal.signal(signal.SIGTERM, stop)
    deadline_ms = Settings().deadline_ms
    found = []
    how = "sustained by a job that spares nothing" if rate is None else "taken for what is sustained"
    with LocalKafka() as kafka:
        servers = kafka.bootstrap_servers
        if rate is None:
            with running_bench(servers, say, **NEVER) as bench:
                bench.run(WARM_UP_RATE, WARM_UP_S, paced=True)
                _, rate = sustained(bench, first, step, 20.0, say)
            if not rate:
                raise BenchError(f"no rate of {first:g} requests/s and less was sustained: --first begins lower")
        for multiple, others, label in [
            *((multiple, {}, f"{multiple}x") for multiple in MULTIPLES),
            (MULTIPLES[-1], NEVER, f"{MULTIPLES[-1]}x, nothing spared"),
        ]:
            with running_bench(servers, say, **others) as bench:
                bench.run(WARM_UP_RATE, WARM_UP_S, paced=True)
                offered = bench.run(multiple * rate, seconds, paced=True)
            found.append(Overloaded.of(label, offered, deadline_ms))
            say(found[-1].row())
            if offered.load["behind_s"] > LAG_S:
                say(f"the load itself was {offered.load['behind_s']:.1f} s late: the machine carries no more")
    spared, before = found[-2:]
    table = (
        f"{time.strftime('%d %B %Y')}, {os.cpu_count()} cores ({platform.machine()}) shared by the job, the broker and"
        f" the load; load average {os.getloadavg()[1]:.0f} in the end. 1x: {rate:g} requests/s, {how}; {seconds:g} s"
        f" each, {PARTITIONS} partitions.\n\n"
        f"{HEAD}{''.join(each.row() for each in found)}\n"
        f"At {MULTIPLES[-1]}x the p99 without sparing is {_ratio(before.p99_ms, spared.p99_ms)} times that with it, and"
        f" the lag {_ratio(before.most_lag_s, spared.most_lag_s)} times; it would go on growing.\n"
    )
    print(table)
    replace_part(out, "bench.overload", table)


def _lag_s(run: Run, at_s: float) -> float:
    """Give how far behind the reader was around a time, in seconds of the load's traffic."""
    near = min(run.samples, key=lambda sample: abs(sample.at_s - at_s))
    return max(0, near.published - near.read) / (run.load["chunks"] / run.load["wall_s"])


def _ratio(one: float | None, other: float | None) -> str:
    return f"{one / other:.0f}" if one and other else "-"


if __name__ == "__main__":
    run(main)

"""docs/soak.md: what a soak and its control have found."""

from collections.abc import Callable, Sequence

from bench.soak_samples import Sample, Soak, Trend, trend

# The task that reads is Flink's name of the fused step; what it keeps beside deferred rests is some hundred bytes.
READER = "ReadRequests"
_OWN = ("Python worker", "worker pool")

_HEAD = """\
# Soak

What grows while the job runs on and on: the job on a Flink cluster of real processes ([flink.md](flink.md)) with a real
Kafka broker, under steady traffic. This page is made by

```console
$ python -m bench.soak --minutes {minutes:.0f} --control-minutes {control:.0f} --rate {rate:g}
```

from the checkout, with the extra `local`. {began} UTC; {machine}.
All processes below and the load share the machine, and so did other work: **load average {load_low:.0f} to
{load_high:.0f}**.

{rate:g} requests/s of 2.5 s each on 4 partitions, parallelism 2, a checkpoint every 10 s, a sample every {every:g} s.
The first {warm:.1f} minutes are left out. *Start* and *end* are medians of the first and the last sixth of the rest. A
slope is by least squares, ± twice its standard error, which is widened as neighbouring samples are alike. Memory
settles before it stays, and a leak goes on: *flat* is a slope of at most three standard errors over the second half.
Every airing is a discovery, some ten a minute, and a route keeps {places} of them (`catalogue_entries`, 1000 unless
set): its catalogue is full before the second half, as it is after days in service. Sizes are in units of 2^20 bytes.
"""

_OWN_TEXT = """\
What the Python workers hold (consumer, open requests, windows, media), and the state of the deciding tasks in a
checkpoint. PSS divides what processes share among them.
"""

_RUNNER_TEXT = """\
The memory of a Java process grows towards what `-Xmx` allows it; what is used of its heap includes what was not
collected yet.
"""

_DEFERRING = """\
## What deferring costs

The reader ends every poll by deferring the rest of its topic. Beam's released runner keeps every such rest in Flink's
state under a name of its own, with the coder and all options of the job, and takes none away: it is in every checkpoint
from then on, and on the task manager's heap. How many there are is counted in the checkpoint's own files, so what the
runner adds and what the job keeps are told apart without an estimate.

The control is the same cluster under the same traffic with the runner as it is. In the soak one class of the runner is
changed, so that each rest takes the place of the one before it
([`pipeline/local/residuals.py`](../pipeline/local/residuals.py); `FlinkCluster` does so unless told otherwise).
"""

_CURE = """\
Upstream it is [beam#27648](https://github.com/apache/beam/issues/27648), and
[beam#39191](https://github.com/apache/beam/pull/39191) keeps all rests under one name. **Beam 2.76.0** (31 August 2026)
has it, by its notes: "Fixed unbounded checkpoint state growth for splittable DoFns that self-checkpoint on the portable
Flink runner". It was not tried here. It does not read rests that an older runner saved, so a job goes there
from its committed offsets, as in every [upgrade](flink.md#upgrades). With an older runner as it is, cancel the job and
hand it in anew before the heap is full, or put the changed class first on the task managers' class path.
"""


def report(found: Soak, control: Soak) -> str:
    """Give the page; raise ValueError when there are too few samples for a trend."""
    loads = [sample.load_average for sample in found.samples]
    head = _HEAD.format(
        minutes=found.samples[-1].at_min,
        control=control.samples[-1].at_min,
        began=found.began,
        machine=found.machine,
        load_low=min(loads),
        load_high=max(loads),
        rate=found.rate,
        every=found.every_s,
        warm=found.warm_up_min,
        places=found.catalogue_entries,
    )
    others = [*_processes(found, own=False), *_heaps(found), ("checkpoint, reading task", reader_mb)]
    return "\n".join(
        [
            head,
            "## The project's own\n",
            _OWN_TEXT,
            own_table(found),
            "## Decisions and checkpoints\n",
            service(found),
            "## The runner's and the broker's\n",
            _RUNNER_TEXT,
            _table(found, ", MB", others),
            _DEFERRING,
            _comparison(found, control),
            _CURE,
        ]
    )


def own_table(found: Soak) -> str:
    """Give what the project's own processes and state hold, at the start and at the end."""
    return _table(found, ", MB", [*_processes(found, own=True), ("checkpoint, deciding tasks", own_state_mb)])


def trend_of(found: Soak, value: Callable[[Sample], float | None], *, later: bool = False) -> Trend | None:
    """Fit a line to one figure after the warm-up, or to the second half of that; None without six values."""
    pairs = [(sample.at_min, got) for sample in found.warm if (got := value(sample)) is not None]
    if later:
        pairs = pairs[len(pairs) // 2 :]
    return trend([at for at, _ in pairs], [got for _, got in pairs]) if len(pairs) >= 6 else None


def own_state_mb(sample: Sample) -> float | None:
    """Size of what the deciding tasks have in the checkpoint, None without one."""
    return sum(mb for task, mb in sample.parts_mb.items() if READER not in task) if sample.parts_mb else None


def reader_mb(sample: Sample) -> float | None:
    """Size of what the reading task has in the checkpoint, None without one."""
    return sum(mb for task, mb in sample.parts_mb.items() if READER in task) if sample.parts_mb else None


_Value = Callable[[Sample], float | None]
_Row = tuple[str, _Value]


def _processes(found: Soak, *, own: bool) -> list[_Row]:
    rows: list[_Row] = []
    for name in found.warm[-1].rss_mb:
        if name.startswith(_OWN) == own:
            rows.append((f"{name}, RSS", lambda sample, name=name: sample.rss_mb.get(name)))
            rows.append((f"{name}, PSS", lambda sample, name=name: sample.pss_mb.get(name)))
    return rows


def _heaps(found: Soak) -> list[_Row]:
    return [
        (f"{name.replace('-', ' ')}, heap used", lambda sample, name=name: sample.heap_mb.get(name))
        for name in sorted(found.warm[-1].heap_mb)
    ]


def _table(found: Soak, unit: str, rows: Sequence[_Row]) -> str:
    lines = [f"| what{unit} | start | end | a minute | a minute, second half | |", "|---|---|---|---|---|---|"]
    for name, value in rows:
        whole, later = trend_of(found, value), trend_of(found, value, later=True)
        if whole is None or later is None:
            lines.append(f"| {name} | | | | | too few samples |")
        else:
            flat = "flat" if later.flat else "grows"
            slopes = f"{_slope(whole)} | {_slope(later)}"
            lines.append(f"| {name} | {_size(whole.start)} | {_size(whole.end)} | {slopes} | {flat} |")
    return "\n".join(lines) + "\n"


def _size(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def service(found: Soak) -> str:
    """Give latency and checkpoints at the start and at the end."""
    last = found.samples[-1]
    table = _table(
        found,
        "",
        [
            ("append to decision, p50 of an interval, ms", lambda sample: sample.p50_ms),
            ("append to decision, p99 of an interval, ms", lambda sample: sample.p99_ms),
            ("decisions in an interval", lambda sample: float(sample.decisions)),
            ("duration of a checkpoint, ms", lambda sample: float(sample.checkpoint_ms)),
        ],
    )
    restarted = len({tuple(sample.workers) for sample in found.samples}) - 1
    workers = f"Python workers changed {restarted} times" if restarted else "the same Python workers throughout"
    failed = last.failed - found.samples[0].failed
    return f"{table}\n{last.completed} checkpoints were completed, {failed} failed while it was watched; {workers}.\n"


def _comparison(found: Soak, control: Soak) -> str:
    lines = [
        "| | deferred rests in it | last checkpoint, reading task | a minute | task managers, RSS a minute |",
        "|---|---|---|---|---|",
    ]
    for name, run in (("the runner as it is (control)", control), ("the soak", found)):
        last, line = run.samples[-1], trend_of(run, reader_mb)
        managers = trend_of(run, _task_managers_mb)
        lines.append(
            f"| {name}, {last.at_min:.0f} minutes | {last.residuals} | {reader_mb(last) or 0:.2f} MB |"
            f" {_slope(line)} MB | {_slope(managers)} MB |"
        )
    last, rests = control.samples[-1], trend_of(control, lambda sample: float(sample.residuals))
    if rests is not None and last.residuals > 1:
        each_kb = (reader_mb(last) or 0) * 1024 / last.residuals
        lines.append(
            f"\n{rests.slope / 60:.1f} deferrals a second at {each_kb:.1f} kB each are"
            f" {rests.slope / 60 * each_kb:.0f} kB/s that the checkpoint grows by with the runner as it is."
        )
    return "\n".join(lines) + "\n"


def _task_managers_mb(sample: Sample) -> float:
    return sum(mb for name, mb in sample.rss_mb.items() if name.startswith("task manager"))


def _slope(line: Trend | None) -> str:
    return "too few samples" if line is None else f"{line.slope:+.2f} ± {2 * line.error:.2f}"

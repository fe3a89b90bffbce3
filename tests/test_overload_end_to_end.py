"""A real job on a real Kafka with a few hundredths of a core: it saves comparisons, then requests, and recovers."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.job import Run, running_bench
from pipeline.overload import EFFORTS, FULL

RATE, SECONDS = 40.0, 25.0  # an eighth of a core or more at full effort


@contextmanager
def throttled(pid: int, share: float, cycle_s: float = 0.5) -> Iterator[None]:
    """Let a process run for a share of the time."""
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait((1 - share) * cycle_s)
            os.kill(pid, signal.SIGCONT)
            over.wait(share * cycle_s)

    thread = threading.Thread(target=stop_and_go, name="throttle", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def efforts(run: Run) -> list[tuple[float, float]]:
    """Give the efforts that the job told of, in order, each once in a row: share of comparisons, homes unmatched."""
    told = [
        (sample.figures["effort_ratio"], sample.figures["unmatched_ratio"]) for sample in run.samples if sample.figures
    ]
    return [each for number, each in enumerate(told) if not number or each != told[number - 1]]


def live_people_ignored(run: Run) -> list[str]:
    """The load's first requests are the media's."""
    return [d.request_id for d in run.decisions if int(d.request_id.rsplit("-", 1)[1]) >= run.load["media_requests"]]


@pytest.mark.slow
def test_a_job_without_time_saves_comparisons_then_requests_and_takes_all_of_it_back(kafka: str) -> None:
    """Nobody passes unmatched before comparisons are at their least, and no person is ignored all the while."""
    with running_bench(kafka, print) as bench:
        bench.run(RATE / 2, 5.0, paced=True)
        with throttled(bench.job.pid, 0.05):
            overloaded = bench.run(RATE, SECONDS, paced=True)
        bench.run(RATE / 2, 25.0, paced=True)
        after = bench.run(RATE / 2, 8.0, paced=True)
    told = efforts(overloaded)
    assert {(effort.share, effort.unmatched) for effort in EFFORTS} >= set(told)
    assert any(unmatched for _, unmatched in told)
    first = next(number for number, (_, unmatched) in enumerate(told) if unmatched)
    assert any(share < FULL.share for share, _ in told[:first])
    assert all(share == EFFORTS[-1].share for share, unmatched in told if unmatched)
    assert _unmatched(overloaded) > 0
    assert live_people_ignored(overloaded) == []

    assert efforts(after) == [(FULL.share, FULL.unmatched)]
    assert _unmatched(after) == 0
    assert live_people_ignored(after) == []
    assert len(after.decisions) == after.load["media_requests"]


def _unmatched(run: Run) -> float:
    """Give how many requests passed unmatched in a run."""
    name = "requests_left_out_total overload"
    told = [sample.figures[name] for sample in run.samples if sample.figures]
    return told[-1] - told[0]

import io

import pytest
from rich.console import Console

from pipeline.progress import RateProgress


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ([(0, 400, None), (100, 400, None)], "at work: 100 of 400 requests, 10.0/s, 0:30 left"),
        ([(300, 400, None), (350, 400, None)], "at work: 350 of 400 requests, 5.0/s, 0:10 left"),
        ([(0, None, 0.0), (7, None, 0.001)], "at work: 7 requests, 0.7/s, 2:46:30 left"),
        ([(0, None, None), (7, None, None)], "at work: 7 requests, 0.7/s"),
        ([(0, 2, None), (2, 2, None)], "at work: 2 of 2 requests, 0.2/s"),
    ],
)
def test_a_log_gets_rate_and_time_left(calls: list[tuple[int, int | None, float | None]], says: str) -> None:
    """Of this run alone: what another one did before it was interrupted does not count."""
    out, clock = io.StringIO(), Clock()
    with RateProgress(Console(file=out, width=200), "at work", clock) as progress:
        for call in calls:
            progress(*call)
            clock.now_s += 10
        progress(*calls[-1])
    assert says in out.getvalue().splitlines()

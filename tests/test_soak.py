"""What a soak says of what it saw: growth is told from scatter, and the runner's part from the job's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.soak_report import own_state_mb, reader_mb, report
from bench.soak_samples import Sample, Soak, climbs, trend

MINUTES = np.arange(100) / 4


def _scatter(seed: int, alike: float) -> np.ndarray:
    """Give noise of one unit in which each value keeps a share of the one before."""
    rng = np.random.default_rng(seed)
    out = rng.normal(size=len(MINUTES))
    for at in range(1, len(out)):
        out[at] = alike * out[at - 1] + np.sqrt(1 - alike**2) * out[at]
    return out


def test_scatter_is_seldom_taken_for_growth_though_neighbours_are_alike() -> None:
    grows = [not trend(MINUTES, 300 + _scatter(seed, 0.6)).flat for seed in range(200)]
    assert sum(grows) <= 10


def test_growth_of_a_tenth_of_the_scatter_a_minute_is_told() -> None:
    assert not any(trend(MINUTES, 300 + 0.1 * MINUTES + _scatter(seed, 0.0)).flat for seed in range(50))


@given(slope=st.floats(-50, 50), offset=st.floats(0, 1000), seed=st.integers(0, 1000))
def test_the_slope_is_within_its_error(slope: float, offset: float, seed: int) -> None:
    line = trend(MINUTES, offset + slope * MINUTES + _scatter(seed, 0.3))
    assert abs(line.slope - slope) <= 6 * line.error
    assert line.error > 0


def test_a_constant_is_flat_and_five_samples_are_too_few() -> None:
    line = trend(MINUTES, np.full(len(MINUTES), 7.0))
    assert (line.start, line.end, line.flat) == (7.0, 7.0, True)
    with pytest.raises(ValueError, match="six samples"):
        trend(MINUTES[:5], MINUTES[:5])


def test_a_leak_climbs_and_steps_that_stay_do_not() -> None:
    rng = np.random.default_rng(5)
    settled = 300 + np.cumsum(rng.normal(scale=0.3, size=(100, 40)), axis=1)
    assert sum(climbs(values) for values in settled) <= 2
    assert all(climbs(values) for values in settled + 0.5 * np.arange(40))
    assert not climbs([7.0] * 10)


def _soak(state_a_minute_mb: float, residuals_a_minute: float, worker_a_minute_mb: float) -> Soak:
    found = Soak(
        began="1 May",
        machine="two cores",
        rate=5,
        every_s=15,
        warm_up_min=2,
        catalogue_entries=10,
        bounded=residuals_a_minute == 0,
    )
    for at_min, wobble in zip(MINUTES.tolist(), _scatter(1, 0.2).tolist(), strict=True):
        count = 1 + int(residuals_a_minute * at_min)
        found.samples.append(
            Sample(
                at_min=at_min,
                load_average=1,
                rss_mb={"Kafka broker": 380.0 + wobble, "Python worker 0": 250 + wobble + worker_a_minute_mb * at_min},
                pss_mb={"Kafka broker": 380.0, "Python worker 0": 200.0},
                heap_mb={"task-manager-0": 100.0 + 10 * wobble},
                checkpoint=1 + int(at_min * 6),
                checkpoint_ms=100,
                parts_mb={
                    "[1]ReadRequests": count / 128,
                    "DecideRequests": 0.4 + wobble / 100 + state_a_minute_mb * at_min,
                },
                residuals=count,
                completed=int(at_min * 6),
                failed=0,
                workers=[1, 2],
                p50_ms=100 + wobble,
                p99_ms=200 + wobble,
                decisions=7,
            )
        )
    return found


def _row(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return line


def test_the_parts_of_a_checkpoint_are_told_apart() -> None:
    sample = _soak(0, 600, 0).samples[-1]
    assert own_state_mb(sample) == pytest.approx(sample.parts_mb["DecideRequests"])
    assert reader_mb(sample) == pytest.approx(sample.residuals / 128)


def test_the_report_says_what_grows() -> None:
    control = _soak(0, 600, 0)
    text = report(_soak(0, 0, 0), control)
    assert _row(text, "Python worker 0, RSS").endswith("| flat |")
    assert _row(text, "checkpoint, deciding tasks").endswith("| flat |")
    assert "10.0 deferrals a second at 8.0 kB each are 80 kB/s" in text
    assert _row(report(_soak(0, 0, 1), control), "Python worker 0, RSS").endswith("| grows |")
    assert _row(report(_soak(0.1, 0, 0), control), "checkpoint, deciding tasks").endswith("| grows |")

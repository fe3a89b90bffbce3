"""What a soak saw, and the trend of each figure with the uncertainty that its own scatter gives it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from pydantic import BaseModel, Field


class Sample(BaseModel):
    """How the processes and the last checkpoint looked at one moment; sizes are in units of 2**20 bytes."""

    at_min: float  # since the traffic began
    load_average: float
    rss_mb: dict[str, float]
    pss_mb: dict[str, float]  # what is shared is divided among those that share it
    heap_mb: dict[str, float]  # used of the Java heap, garbage and all
    checkpoint: int  # its number, 0 when there was none yet
    checkpoint_ms: int
    parts_mb: dict[str, float]  # of the checkpoint, by Flink's task
    residuals: int  # names that the reader's deferred rests have in the checkpoint
    completed: int
    failed: int
    workers: list[int]  # process ids
    p50_ms: float | None = None  # append of the chunk that sufficed to append of the decision, since the sample before
    p99_ms: float | None = None
    decisions: int = 0


class Soak(BaseModel):
    """Samples of a run."""

    began: str
    machine: str
    rate: float  # requests a second
    every_s: float
    warm_up_min: float
    catalogue_entries: int  # that a route keeps
    bounded: bool  # whether deferred rests take one place in the state
    samples: list[Sample] = Field(default_factory=list)

    @property
    def warm(self) -> list[Sample]:
        """Those after the warm-up."""
        return [sample for sample in self.samples if sample.at_min >= self.warm_up_min]


@dataclass(frozen=True)
class Trend:
    """A straight line through a figure, by least squares."""

    start: float  # median of the first sixth
    end: float  # median of the last sixth
    slope: float  # per minute
    error: float  # standard error of the slope, neighbouring samples taken as alike as they are

    @property
    def flat(self) -> bool:
        """Whether the figure does not grow by more than three times what its scatter explains."""
        return self.slope <= 3 * self.error


def trend(at_min: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a line; raise ValueError when there are fewer than six values.

    Memory that is high in one sample is high in the next, so fewer samples count than there are: the error of plain
    least squares is widened by their correlation, as of an autoregressive process of the first order.
    """
    if len(values) < 6:
        raise ValueError(f"a trend takes six samples, and there are {len(values)}")
    if min(values) == max(values):
        return Trend(values[0], values[0], 0.0, 0.0)
    line = scipy.stats.linregress(at_min, values)
    left = np.asarray(values) - (line.intercept + line.slope * np.asarray(at_min))
    power = float(np.sum(left**2))
    alike = min(0.9, max(0.0, float(np.sum(left[1:] * left[:-1])) / power)) if power > 0 else 0.0
    sixth = max(1, len(values) // 6)
    return Trend(
        start=float(np.median(values[:sixth])),
        end=float(np.median(values[-sixth:])),
        slope=float(line.slope),
        error=float(line.stderr) * ((1 + alike) / (1 - alike)) ** 0.5,
    )


def climbs(values: Sequence[float]) -> bool:
    """Whether the mean step from value to value is more than three times what the steps' own scatter explains.

    The memory of a process goes up in steps that stay, so over some minutes it is the steps that are independent.
    """
    steps = np.diff(values)
    return bool(steps.mean() > 3 * steps.std(ddof=1) / np.sqrt(len(steps)))

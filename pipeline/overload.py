"""How much of the work is done while more comes than can be compared: pure, without a clock.

This is the one place where what is decided follows how fast the job is. It is out of play unless the reader is really
behind, and the same lags give the same efforts.
"""

from dataclasses import dataclass

INTERVAL_US = 1_000_000
# Shares of the deadline: the rest of the way to a decision takes its time, too.
BEHIND = 1 / 4
LEVEL = 1 / 8
# A reader that falls behind, or draws level by less than a tenth of the time that passes, is not catching up.
CATCHES_UP = 0.1
# One that draws level by a second a second, as after a stop, has room for more.
HAS_ROOM = 1.0
# One that is level does more only after so many intervals: each time that it was too early makes decisions late.
PATIENCE = 3
_NONE_YET_US = 2**62


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done for each request.

    Attributes:
        halvings: how often the budget of comparisons is halved: partners, looks, scans of the window and sweeps.
        unmatched: share of the households whose requests pass unmatched, which means accepted.

    """

    halvings: int = 0
    unmatched: float = 0.0

    @property
    def share(self) -> float:
        """The share of the budget of comparisons."""
        return 0.5**self.halvings


FULL = Effort()
# From all to nothing: comparisons first, and requests only when there is no more of them to save.
EFFORTS = (
    *(Effort(halvings) for halvings in range(4)),
    *(Effort(3, unmatched) for unmatched in (0.25, 0.5, 0.75, 0.875, 1.0)),
)


class Overload:
    """Chooses the effort from how far behind the reader is; it says so at every poll.

    What counts is the least lag of an interval: a reader that has been level once in it is not behind, and bursts and
    pauses are no overload (Nichols and Jacobson, "Controlling queue delay", 2012, tell a standing queue in this way).
    """

    def __init__(self, deadline_us: int) -> None:
        """`deadline_us` is how old audio may be when it is decided."""
        self._behind_us, self._level_us = BEHIND * deadline_us, LEVEL * deadline_us
        self._level_for = 0  # intervals
        self._step = 0
        self._begun_us: int | None = None
        self._least_us = _NONE_YET_US  # of this interval
        self.lag_us = 0  # the least of the last one

    @property
    def effort(self) -> Effort:
        """What is to be done now."""
        return EFFORTS[self._step]

    def observe(self, now_us: int, lag_us: int) -> None:
        """Take note that the reader is so far behind, at a time of a clock that only goes forward; 0: it is level."""
        if self._begun_us is None:
            self._begun_us, self.lag_us = now_us, lag_us
            return
        self._least_us = min(self._least_us, lag_us)
        passed_us = now_us - self._begun_us
        if passed_us < INTERVAL_US:
            return
        self._step = min(max(self._step + self._steps(passed_us), 0), len(EFFORTS) - 1)
        self._begun_us, self.lag_us, self._least_us = now_us, self._least_us, _NONE_YET_US

    def _steps(self, passed_us: int) -> int:
        """Give how many efforts further down to go, after an interval."""
        drawn_level = (self.lag_us - self._least_us) / passed_us
        if self._least_us > self._behind_us and drawn_level < CATCHES_UP:
            self._level_for = 0
            return 1
        self._level_for = self._level_for + 1 if self._least_us <= self._level_us else 0
        if drawn_level >= HAS_ROOM or (self._level_for >= PATIENCE and drawn_level >= 0):
            self._level_for = 0
            return -1
        return 0

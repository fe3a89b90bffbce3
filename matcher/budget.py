"""How the false-ignore budget is shared out, and what scores that asks for."""

from dataclasses import dataclass

from matcher.evidence import Calibration

# Homes that hear one broadcast ask within so long of each other, all but those whose streams lag far behind.
NEAR_US = 2_500_000
# While an event is open, a minute and more after its last home, so much of the time is within NEAR_US of its homes.
NEAR_SHARE = 0.1


@dataclass(frozen=True)
class Shares:
    """What of the budget goes to triples of strangers, and to one person beside two homes."""

    strangers: float
    beside: float


# Most of it to those who ask at one time, as most homes of an airing do and few strangers; and of that most to the
# longest tail, where a larger share lowers the threshold most.
NEAR_SHARES, ANY_SHARES, TEMPLATE_SHARE = Shares(0.1, 0.5), Shares(0.02, 0.18), 0.2


@dataclass(frozen=True)
class Budget:
    """The scores that a route decides at.

    Attributes:
        calibration: what chance brings.
        false_ignores: probability that a live request is ignored by chance, ...
        concurrency: ... among at least this many requests.
        airing_share: share of the live requests that come while an event is open.
        window_us: how long a request stays comparable.

    """

    calibration: Calibration
    false_ignores: float
    concurrency: int
    airing_share: float
    window_us: int

    def near_triple(self, concurrent: int, near: int, airings: int) -> float:
        """Score of a triple of requests that start within NEAR_US of one of them.

        Args:
            concurrent: requests of the window.
            near: of them, those that start within NEAR_US of that one; 0 gives the lowest threshold there may be.
            airings: open events.

        """
        # As many as a window has of requests that come evenly, or as there are when they do not.
        expected = max(self.concurrency, concurrent) * min(1.0, 2 * NEAR_US / self.window_us)
        return self._triple(NEAR_SHARES, max(expected, near), self.airing_share * NEAR_SHARE, airings)

    def triple(self, concurrent: int, airings: int) -> float:
        """Score of any other triple, of so many requests of the window and beside so many open events."""
        return self._triple(ANY_SHARES, max(self.concurrency, concurrent), self.airing_share, airings)

    def _triple(self, shares: Shares, among: float, airing_share: float, airings: int) -> float:
        # Three strangers by chance, or one beside two that hear the same: the harder of the two decides.
        return max(
            self.calibration.triple.threshold(shares.strangers * self.false_ignores, among),
            self.calibration.beside.threshold(shares.beside * self.false_ignores / airing_share, airings),
        )

    def average(self, averages: int) -> float:
        """Score of a request with one of so many averages: everybody has all of them beside him."""
        return self.calibration.template.threshold(TEMPLATE_SHARE * self.false_ignores, averages)

    def open_average(self, airings: int) -> float:
        """Score of a request with the average of one of so many open events: few live requests have one beside them."""
        return self.calibration.template.threshold(TEMPLATE_SHARE * self.false_ignores / self.airing_share, airings)

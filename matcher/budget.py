"""How the false-ignore budget is shared out, and what scores that asks for."""

import math
from dataclasses import dataclass, replace

from matcher.evidence import Calibration, Tail
from matcher.policy import Policy


@dataclass(frozen=True)
class Tier:
    """Requests that start near each other, and what of the budget is theirs.

    Attributes:
        within_us: from the first start to the last, at most.
        strangers: share of the budget for triples of strangers, ...
        beside: ... and for one person beside two homes.
        airing_time: share of the time that an event is open, a minute and more after its last home, which is so near
            to one of its homes.

    """

    within_us: int
    strangers: float
    beside: float
    airing_time: float

    def of_window(self, window_us: int) -> float:
        """How far a window whose requests come evenly shrinks to hold as many triples as are so near.

        2 w / window of them start within w of a request, and three quarters of the pairs of those also of each other.
        """
        return min(1.0, math.sqrt(3 / 4) * 2 * self.within_us / window_us)


# Most homes that hear one broadcast ask within a second of each other, and all but those whose streams lag far behind
# within two and a half; few strangers do. So the nearest have most of the budget, and need least: about as much for
# three strangers as beside an airing, of which the higher decides.
TIERS = (
    Tier(1_000_000, 0.29, 0.39, 0.06),
    Tier(2_500_000, 0.03, 0.07, 0.10),
    Tier(2**62, 0.02, 0.08, 1.00),
)
# A request against an average of before, and one against that of an open event, which most media need to join it.
CATALOGUE_SHARE, OPEN_SHARE = 0.06, 0.06


@dataclass(frozen=True)
class Chance:
    """What must not happen by chance more often than its part of the budget says.

    Attributes:
        what: in words.
        tail: how often it happens.
        among: how many there are of what it grows with.
        probability: that part of the budget, of the requests that it can happen to.

    """

    what: str
    tail: Tail
    among: float
    probability: float

    @property
    def threshold(self) -> float:
        """Score that it must have."""
        return self.tail.threshold(self.probability, self.among)


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

    @classmethod
    def of(cls, calibration: Calibration, policy: Policy) -> "Budget":
        """Give the one that a route with this policy decides at."""
        return cls(
            calibration, policy.false_ignore_budget, policy.budget_concurrency, policy.airing_share, policy.window_us
        )

    def triple(self, tier: Tier, concurrent: int, near: int, airings: int) -> float:
        """Score of a triple of requests that start within a tier of each other.

        Args:
            tier: how near they start.
            concurrent: requests of the window.
            near: of them, those so near to one of the three; 0 gives the lowest threshold there may be.
            airings: open events.

        """
        # Three strangers by chance, or one beside two that hear the same: the harder of the two decides.
        strangers, beside = tier.strangers * self.false_ignores, tier.beside * self.false_ignores
        return max(
            self.calibration.triple.threshold(strangers, self._among(tier, concurrent, near)),
            self.calibration.beside.threshold(beside / self._airing_share(tier), airings),
        )

    def triple_log_odds(self, score: float, tier: Tier, concurrent: int, near: int, airings: int) -> float:
        """Log-odds of a triple of this score, as `Evidence` has them; what it was among as for `triple`."""
        return min(
            self.calibration.triple.log_odds(score, self._among(tier, concurrent, near)),
            self.calibration.beside.log_odds(score, airings) - math.log(self._airing_share(tier)),
        )

    def _among(self, tier: Tier, concurrent: int, near: int) -> float:
        """As many as a window has of requests that come evenly, or as there are when they do not."""
        return max(max(self.concurrency, concurrent) * tier.of_window(self.window_us), near)

    def _airing_share(self, tier: Tier) -> float:
        """Share of the live requests that come while an event is open, so near to one of its homes."""
        return self.airing_share * tier.airing_time

    def average(self, averages: int) -> float:
        """Score of a request with one of so many averages: everybody has all of them beside him."""
        return self.calibration.template.threshold(CATALOGUE_SHARE * self.false_ignores, averages)

    def open_average(self, airings: int) -> float:
        """Score of a request with the average of one of so many open events: few live requests have one beside them."""
        return self.calibration.template.threshold(OPEN_SHARE * self.false_ignores / self.airing_share, airings)

    def average_log_odds(self, score: float, averages: int) -> float:
        """Log-odds of a request that has this score with one of so many averages."""
        return self.calibration.template.log_odds(score, averages)

    def open_average_log_odds(self, score: float, airings: int) -> float:
        """Log-odds of a request that has this score with the average of one of so many open events."""
        return self.calibration.template.log_odds(score, airings) - math.log(self.airing_share)

    def chances(self) -> list[Chance]:
        """List all that the budget is shared out to, at one open event, one average and `concurrency` requests."""
        found, template = [], self.calibration.template
        for tier in TIERS:
            when = "" if tier is TIERS[-1] else f" within {tier.within_us / 1e6:g} s"
            beside = tier.beside / self._airing_share(tier)
            found += [
                Chance(f"three strangers{when}", self.calibration.triple, self._among(tier, 0, 0), tier.strangers),
                Chance(f"a person beside an airing{when}", self.calibration.beside, 1, beside),
            ]
        found += [
            Chance("a person and an open event's average", template, 1, OPEN_SHARE / self.airing_share),
            Chance("a person and an average of before", template, 1, CATALOGUE_SHARE),
        ]
        return [replace(one, probability=min(1.0, self.false_ignores * one.probability)) for one in found]

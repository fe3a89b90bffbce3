"""How many requests a household begins in a minute: what is over the bound is accepted, and compared with nothing."""

from collections import Counter

MINUTE_US = 60_000_000
# Counted in one minute; with all ids at their longest, some 100 MB. Who is not counted any more is over the bound.
MAX_HOUSEHOLDS = 200_000


class HouseholdRate:
    """Counts by minutes of capture time, so that a replay at any speed counts as the first time did.

    Requests come in the order of capture, but for what is late: two minutes are kept, and what is older is not counted.
    """

    def __init__(self, most: int, max_households: int = MAX_HOUSEHOLDS) -> None:
        """`most`: requests a household and minute."""
        self._most, self._max_households = most, max_households
        self._minutes: dict[int, Counter[str]] = {}

    def allows(self, household: str, start_us: int) -> bool:
        """Count a request that began at a capture time, and tell whether it is within the bound."""
        minute = start_us // MINUTE_US
        if minute not in self._minutes:
            if len(self._minutes) == 2:
                oldest = min(self._minutes)
                if minute < oldest:
                    return True
                del self._minutes[oldest]
            self._minutes[minute] = Counter()
        counted = self._minutes[minute]
        if household not in counted and len(counted) >= self._max_households:
            return False
        counted[household] += 1
        return counted[household] <= self._most

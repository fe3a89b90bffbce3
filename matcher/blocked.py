"""What an operator has blocked: averages that keep their words, so that the same sound is not found again."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from matcher.catalogue import NEVER_US, Average, Catalogue

# What is blocked is recognised sooner than what is ignored: to take it for blocked by mistake means accept.
BLOCK_BUDGET = 1e-3


@dataclass
class Blocked(Catalogue):
    """A catalogue of averages that never decide, and that nothing which sounds like them decides about."""

    def block(self, average: Average) -> list[Average]:
        """Keep an average for good; gives those that had to leave for it."""
        return self.put(replace(average, valid_from_us=-NEVER_US, valid_until_us=NEVER_US))

    def has(self, media_id: str, words: npt.NDArray[np.uint64], counts: Counter[str]) -> bool:
        """Tell whether an average, or what an event has of one, is blocked by its name or by its sound."""
        if not self.averages:
            return False
        return media_id in self.averages or self.sounds(words, self.calibration.own_null(words), counts)

    def sounds(self, words: npt.NDArray[np.uint64], own: npt.NDArray[np.float32], counts: Counter[str]) -> bool:
        """Tell whether a fingerprint sounds like something that is blocked.

        Args:
            words: uint64 (n,).
            own: float32 (2,), its `Calibration.own_null`.
            counts: takes the comparisons, and whether it does.

        """
        if not self.averages:
            return False
        # What is blocked is to be found, whatever its room: a wide null would make that harder.
        match, tried = self.best(words, np.minimum(own, [np.inf, 1]).astype(np.float32), 0)
        counts["catalogue_comparisons"] += tried
        found = match is not None and match[1].score >= self.calibration.template.threshold(BLOCK_BUDGET, tried)
        counts["blocked"] += found
        return found

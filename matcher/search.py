"""Looks in a window for two others that heard what a request heard."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from matcher.budget import TIERS, Budget
from matcher.event import Event, Triple, best_triple
from matcher.evidence import Calibration, Comparison, Evidence, scan
from matcher.kernels import drawn
from matcher.observer import Observer
from matcher.window import Request, Window

# Candidates of a triple: from where pairs of one recording begin, and at most so many of the best, because a triple
# needs two.
EDGE_SCORE = 1.2
MAX_CANDIDATES = 24
# A pair this far under the null makes both requests look at the whole window.
SCAN_SCORE = 4.0
# A matched request looks at the whole window once. After so much more of its audio each time it looks again at all that
# still grow; in between, at those of them that are matched themselves, as the homes of one airing soon are; and always
# at those that it draws. Who has ended was there for the first look, and brings nothing new.
SCAN_MS = 320
# The tail of those who speak beside an airing is measured for so many homes of it.
AIRING_HOMES = 16
# Sums of the same scores in another order differ by less.
ROUNDING = 1e-9


class Search:
    """Holds requests against others of their window: against those that they draw, or against all when one is near.

    Attributes:
        observer: hears what each search came to.
        halvings: of the comparisons, as `Route.hear` takes them.

    """

    def __init__(
        self, calibration: Calibration, budget: Budget, window: Window, events: Mapping[str, Event], partners: int
    ) -> None:
        """`events` are those that are open, by name, as they are at each search; `partners` is K."""
        self.calibration = calibration
        self.budget = budget
        self.window = window
        self.events = events
        self.partners = partners
        self.observer: Observer | None = None
        self.halvings = 0

    def triple_with(
        self, request: Request, scanning: list[Request], counts: Counter[str]
    ) -> tuple[Triple, Evidence] | None:
        """Compare one request with its partners; gives the triple that passes, and the strongest edge of it.

        Others that are near for the first time, and so have to look at the whole window as well, go to `scanning`.
        """
        rows = self.draw(request, counts)
        found = self._compare_request(request, rows, counts)
        if not request.matched and len(rows) and found.scores.max() > SCAN_SCORE:
            self.window.mark_matched(request)
            close = self.window.of_rows(rows[found.scores > SCAN_SCORE])
            # By name: rows are handed out anew when a route is restored.
            for other in sorted(close, key=lambda other: other.request_id):
                if not other.matched and not other.ignored:
                    self.window.mark_matched(other)
                    scanning.append(other)
            rows = self._others(request)
            found = self._compare_request(request, rows, counts)
        concurrent, airings = len(self.window.requests), len(self.events)
        lowest = self.budget.triple(TIERS[0], concurrent, 0, airings)
        if self.observer is None and _two_best(found) < lowest - ROUNDING:
            return None
        apart_us = np.abs(self.window.starts_us - request.start_us)
        looked_us = -1
        for tier in TIERS:
            near = np.flatnonzero(apart_us[rows] <= tier.within_us)
            starts_us = self.window.starts_us[rows[near]]
            spread_us = np.ptp(np.append(starts_us, request.start_us))
            if len(near) and spread_us > looked_us:  # otherwise the tier before had them all
                count = int(np.count_nonzero(self.window.heard & (apart_us <= tier.within_us))) - 1
                threshold = self.budget.triple(tier, concurrent, count, airings)
                made = self._triple(request, rows[near], found.of(near), tier.within_us, threshold, counts)
                if made is not None:
                    triple, edge = made
                    log_odds = self.budget.triple_log_odds(triple.score, tier, concurrent, count, airings)
                    return triple, replace(edge, log_odds=log_odds)
            looked_us = tier.within_us
        return None

    def _triple(
        self,
        request: Request,
        rows: npt.NDArray[np.int64],
        found: Comparison,
        within_us: int,
        threshold: float,
        counts: Counter[str],
    ) -> tuple[Triple, Evidence] | None:
        """Look among what a request was compared with for two, near each other, that make a triple with it.

        Gives the triple and its strongest edge.
        """
        # A triple scores no more than any two of its edges together: what cannot pass is not looked at any further.
        worth = threshold - ROUNDING
        if _two_best(found) < worth:
            if self.observer is not None:
                self.observer.search(request, self.window.of_rows(rows), found, None, threshold)
            return None
        chosen = self._candidates(request, rows, found.scores)
        scores = found.scores[chosen]
        between = np.full((len(chosen), len(chosen)), -np.inf)
        between_alignments = np.zeros((len(chosen), len(chosen)), np.int32)
        for i, first in enumerate(self.window.of_rows(rows[chosen[:-1]])):
            end = int(np.count_nonzero(scores + scores[i] >= worth))  # scores fall
            if end <= i + 1:
                break
            seconds = rows[chosen[i + 1 : end]]
            edges = self._compare_request(first, seconds, counts)
            together = np.abs(self.window.starts_us[seconds] - first.start_us) <= within_us
            between[i, i + 1 : end] = np.where(together & (edges.scores > EDGE_SCORE), edges.scores, -np.inf)
            between_alignments[i, i + 1 : end] = edges.alignments
        triple = best_triple(request.row, rows[chosen], scores, found.alignments[chosen], between, between_alignments)
        if self.observer is not None:
            self.observer.search(request, self.window.of_rows(rows), found, triple, threshold)
        if triple is None or triple.score < threshold:
            return None
        return triple, found.at(int(chosen[np.flatnonzero(np.isin(rows[chosen], triple.rows))[0]]))

    def _others(self, request: Request) -> npt.NDArray[np.int64]:
        """Rows of all others in the window."""
        rows = self.window.rows()
        others: npt.NDArray[np.int64] = rows[rows != request.row]
        return others

    def draw(self, request: Request, counts: Counter[str]) -> npt.NDArray[np.int64]:
        """Give rows of about K of the others: those whose hash with the request's is low, the same from either side.

        For a request that is matched also those that grow, and are matched, too.
        """
        window = self.window
        others = int(np.count_nonzero(window.heard)) - 1
        partners = max(1, self.partners >> self.halvings)
        if others <= partners:
            return self._others(request)
        share = np.uint64(partners / others * 2**64)
        if not request.matched:
            anyway = np.zeros_like(window.matched)
        elif request.looked_ms % (SCAN_MS << self.halvings):
            anyway = window.growing & window.matched
        else:
            anyway = window.growing
        rows = np.empty(len(window.heard), np.int64)
        count = drawn(window.heard, anyway, window.hashes, request.row, share, rows)
        counts["comparisons_left_out"] += others - count
        return rows[:count]

    def _compare_request(self, request: Request, rows: npt.NDArray[np.int64], counts: Counter[str]) -> Comparison:
        return self.compare(self.window.fingerprint(request), self.window.owns[request.row], rows, counts)

    def compare(
        self,
        words: npt.NDArray[np.uint64],
        own: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
        counts: Counter[str],
    ) -> Comparison:
        """Hold one fingerprint against some rows of the window."""
        counts["comparisons"] += len(rows)
        window = self.window
        return scan(self.calibration, words, own, window.words, window.lengths, window.owns, rows)

    def _candidates(
        self, request: Request, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        """Positions in `rows` of the best edge of each other household, the strongest first."""
        chosen: list[int] = []
        households = {request.household}
        edges = np.flatnonzero(scores > EDGE_SCORE)
        for position in edges[np.argsort(-scores[edges], kind="stable")]:
            if len(chosen) == MAX_CANDIDATES:
                break
            owner = self.window.owners[int(rows[position])]
            if owner is None or self._speaks_by_average(owner):
                continue
            if owner.household not in households:
                households.add(owner.household)
                chosen.append(int(position))
        return np.array(chosen, np.int64)

    def _speaks_by_average(self, request: Request) -> bool:
        """Whether it is in an event of many homes: the best two of many would be near anybody, the average is not."""
        event = self.events.get(request.event)
        return event is not None and len(event.households) > AIRING_HOMES


def _two_best(found: Comparison) -> float:
    """Sum of the two highest scores; -inf of fewer than two."""
    return float(np.partition(found.scores, -2)[-2:].sum()) if len(found.scores) > 1 else -np.inf

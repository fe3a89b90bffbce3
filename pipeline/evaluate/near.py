"""How near requests came to being ignored: an observer of their route, for what was missed and what nearly was."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from matcher.catalogue import Average
from matcher.event import Triple, best_triple
from matcher.evidence import Comparison, Evidence, compare
from matcher.growth import Growth
from matcher.known import KnownMatch
from matcher.route import Route
from matcher.search import AIRING_HOMES, EDGE_SCORE
from matcher.window import Request

Kind = Literal["triple", "average"]
# The best triple is looked for among so many of the nearest households: its two are among the nearest few.
NEAREST = 12


@dataclass(frozen=True, eq=False)
class Near:
    """The look at which a request came nearest to a threshold.

    Attributes:
        kind: what was held against it.
        audio_ms: audio of the request heard by then.
        score: of the best triple with it, or of the average.
        threshold: what was needed.
        words: uint64 (n,), the request's by then.
        nearest: request id of the nearer of the other two, or the average's media id.
        nearest_words: uint64 (m,), of that one by then.
        alignment: word k of the request holds the sound of word k + alignment of the nearest.
        rate: share of the compared bits that differ.

    """

    kind: Kind
    audio_ms: int
    score: float
    threshold: float
    words: npt.NDArray[np.uint64]
    nearest: str
    nearest_words: npt.NDArray[np.uint64]
    alignment: int
    rate: float

    @property
    def margin(self) -> float:
        """By how much it passed; negative when it did not."""
        return self.score - self.threshold


@dataclass
class Watch:
    """What some requests came to, over all routes.

    Attributes:
        request_ids: the requests that are watched.
        nearest: by request and kind, the look that came nearest.
        pairs: by request, the best score with each other one that it was near to.

    """

    request_ids: Collection[str]
    nearest: dict[tuple[str, Kind], Near] = field(default_factory=dict)
    pairs: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))

    def of(self, route: Route) -> "RouteWatch":
        """Give the observer of one route."""
        return RouteWatch(self, route)

    def best(self, request_id: str) -> Near | None:
        """Give the look at which a request came nearest, of either kind; None when it never had anything to pass."""
        kinds: tuple[Kind, Kind] = ("triple", "average")
        found = [self.nearest[request_id, kind] for kind in kinds if (request_id, kind) in self.nearest]
        return max(found, key=lambda near: near.margin, default=None)

    def keep(self, request_id: str, near: Near) -> None:
        """Keep the nearer of what was known and this."""
        known = self.nearest.get((request_id, near.kind))
        if known is None or near.margin > known.margin:
            self.nearest[request_id, near.kind] = near


@dataclass
class RouteWatch:
    """Watches one route; an `Observer`."""

    watch: Watch
    route: Route

    def blocked(self, request: Request) -> None:
        """It comes near to nothing."""

    def known(self, growth: Growth, match: KnownMatch, *, blocked: bool) -> None:
        """It is not near, it is known."""

    def catalogue(self, request: Request, best: tuple[Average, Evidence] | None, tried: int, threshold: float) -> None:  # noqa: ARG002
        """Note how near the best average is."""
        if best is not None and request.request_id in self.watch.request_ids:
            self._note_average(request, best[0], threshold)

    def sweep(self, media_id: str, others: Sequence[Request], found: Comparison, threshold: float) -> None:  # noqa: ARG002
        """Note how near an event's average is to each."""
        average = self.route.catalogue.averages[media_id]
        for other in others:
            if other.request_id in self.watch.request_ids:
                self._note_average(other, average, threshold)

    def search(
        self, request: Request, others: Sequence[Request], found: Comparison, triple: Triple | None, threshold: float
    ) -> None:
        """Note near pairs, and the best triple even where the route stopped looking because none could pass."""
        watched = self.watch.request_ids
        for position in np.flatnonzero(found.scores > EDGE_SCORE).tolist():
            pair, score = (request.request_id, others[position].request_id), float(found.scores[position])
            for one, other in (pair, pair[::-1]):
                if one in watched and score > self.watch.pairs[one].get(other, EDGE_SCORE):
                    self.watch.pairs[one][other] = score
        if triple is None and request.request_id in watched:
            triple = self._best_triple(request, others, found, threshold)
        if triple is not None:
            members = self.route.window.of_rows(triple.rows)
            for member in members:
                if member.request_id in watched and not member.ignored:
                    self._note_triple(member, [m for m in members if m is not member], triple.score, threshold)

    def _best_triple(
        self, request: Request, others: Sequence[Request], found: Comparison, threshold: float
    ) -> Triple | None:
        if len(others) < 2:
            return None
        known = self.watch.nearest.get((request.request_id, "triple"))
        if known is not None and np.partition(found.scores, -2)[-2:].sum() - threshold <= known.margin:
            return None  # a triple scores no more than any two of its edges together
        households = {request.household}
        chosen: list[int] = []
        for position in np.argsort(-found.scores, kind="stable").tolist():
            if found.scores[position] <= EDGE_SCORE or len(chosen) == NEAREST:
                break
            other = others[position]
            if other.household not in households and not self._speaks_by_average(other):
                households.add(other.household)
                chosen.append(position)
        rows = np.array([others[position].row for position in chosen], np.int64)
        between = np.full((len(rows), len(rows)), -np.inf)
        alignments = np.zeros((len(rows), len(rows)), np.int32)
        for i in range(len(rows) - 1):
            edges = self._compare(others[chosen[i]], rows[i + 1 :])
            between[i, i + 1 :] = np.where(edges.scores > EDGE_SCORE, edges.scores, -np.inf)
            alignments[i, i + 1 :] = edges.alignments
        return best_triple(request.row, rows, found.scores[chosen], found.alignments[chosen], between, alignments)

    def _speaks_by_average(self, request: Request) -> bool:
        event = self.route.events.get(request.event)
        return event is not None and len(event.households) > AIRING_HOMES

    def _note_triple(self, request: Request, others: Sequence[Request], score: float, threshold: float) -> None:
        edges = self._compare(request, np.array([other.row for other in others], np.int64))
        top = int(np.argmax(edges.scores))
        at, window = edges.at(top), self.route.window
        near = Near(
            "triple", request.audio_ms, score, threshold, window.fingerprint(request).copy(),
            others[top].request_id, window.fingerprint(others[top]).copy(), at.alignment, at.rate,
        )  # fmt: skip
        self.watch.keep(request.request_id, near)

    def _note_average(self, request: Request, average: Average, threshold: float) -> None:
        # Compared anew, because the route leaves half of the words out where nothing is near.
        window, own = self.route.window, self.route.catalogue.own(average.media_id)
        row = np.array([request.row], np.int64)
        found = compare(self.route.calibration, average.words, own, window.words, window.lengths, window.owns, row)
        at = found.at(0)
        if np.isfinite(at.score):
            near = Near(
                "average", request.audio_ms, at.score, threshold, window.fingerprint(request).copy(),
                average.media_id, average.words, -at.alignment, at.rate,
            )  # fmt: skip
            self.watch.keep(request.request_id, near)

    def _compare(self, request: Request, rows: npt.NDArray[np.int64]) -> Comparison:
        window, own = self.route.window, self.route.window.owns[request.row]
        words = window.fingerprint(request)
        return compare(self.route.calibration, words, own, window.words, window.lengths, window.owns, rows)

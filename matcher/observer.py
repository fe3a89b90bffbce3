"""Who watches a route decide: for explanations. A route without one does nothing for it."""

from collections.abc import Sequence
from typing import Protocol

from matcher.catalogue import Average
from matcher.event import Triple
from matcher.evidence import Comparison, Evidence
from matcher.growth import Growth
from matcher.known import KnownMatch
from matcher.window import Request


class Observer(Protocol):
    """Hears what a look came to. What it is given is the route's own: it changes nothing, and keeps no views."""

    def blocked(self, request: Request) -> None:
        """A request sounds like something that is blocked."""

    def known(self, growth: Growth, match: KnownMatch, *, blocked: bool) -> None:
        """A request was recognised by its reader; or it was, and what it was recognised as sounds blocked."""

    def catalogue(self, request: Request, best: tuple[Average, Evidence] | None, tried: int, threshold: float) -> None:
        """A request was held against the averages; the best of them, where anything could be compared."""

    def search(
        self, request: Request, others: Sequence[Request], found: Comparison, triple: Triple | None, threshold: float
    ) -> None:
        """A request was held against others; the best triple, where there was one to be had."""

    def sweep(self, media_id: str, others: Sequence[Request], found: Comparison, threshold: float) -> None:
        """An event's average was held against the requests that are not ignored yet."""

"""What an operator sets for a route."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator sets for a route.

    Attributes:
        window_us: how long a request stays comparable, from its start.
        window_requests: bound of the window.
        partners: others drawn at random for each request, K.
        false_ignore_budget: probability that a live request is ignored by chance, ...
        budget_concurrency: ... among this many concurrent requests; more of them raise the threshold.
        airing_share: share of the live requests that come while an event of their route is open.
        catalogue_entries: bound of the catalogue of averages.
        catalogue_ttl_us: how long an average decides after its last household.
        discovery_delay_us: when an average begins to decide on other shards, after its discovery.

    """

    window_us: int = 10_000_000
    window_requests: int = 4096
    partners: int = 100
    false_ignore_budget: float = 1e-6
    budget_concurrency: int = 100
    airing_share: float = 0.01
    catalogue_entries: int = 1000
    catalogue_ttl_us: int = 7 * 24 * 3600 * 1_000_000
    discovery_delay_us: int = 2_000_000

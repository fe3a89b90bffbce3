"""What is counted, for Prometheus. No household, device or request is ever a label."""

from collections.abc import Mapping

from prometheus_client import Counter

_EVENTS = Counter("hushword_events", "What happened, by the part of the job and what it was.", ["part", "what"])


def count(part: str, counts: Mapping[str, int]) -> None:
    """Add counts of one part of the job; names come from the code alone, so there are few."""
    for what, number in counts.items():
        if number:
            _EVENTS.labels(part, what).inc(number)

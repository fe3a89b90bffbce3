"""What the tests share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """A real Kafka broker for the whole session: its bootstrap servers."""
    from pipeline.local.kafka import LocalKafka

    with LocalKafka() as broker:
        yield broker.bootstrap_servers

"""What the tests share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes is the machine's business.
hypothesis.settings.register_profile("hushword", deadline=None)
hypothesis.settings.load_profile("hushword")
# The bench is no part of the package; what is installed comes first.
sys.path.append(str(Path(__file__).parents[1]))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let whoever runs the simulation or the faults say which seeds, and where their table goes."""
    parser.addoption("--seed", type=int, action="append", help="only this seed of the simulation; may be given again")
    parser.addoption("--seeds", type=int, help="so many seeds of the simulation, from 0 on")
    parser.addoption("--faults-seed", type=int, default=1, help="of the recordings and the moments of the faults")
    parser.addoption("--faults-report", type=Path, metavar="FILE", help="put what came of each fault into this page")


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """A real Kafka broker for the whole session: its bootstrap servers."""
    from pipeline.local.kafka import LocalKafka

    with LocalKafka() as broker:
        yield broker.bootstrap_servers

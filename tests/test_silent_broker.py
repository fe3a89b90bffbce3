"""A broker that stands still takes connections and says nothing: clients go on to the next one."""

import itertools
import random
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.options import Settings

BOOTSTRAP_MS = 20_000  # a silent broker must leave most of it: tried again it takes three, six and twelve seconds
TIMES = 8


@pytest.fixture
def settings(kafka: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Name a silent broker, which each client draws time and again, and one that answers."""
    draw, times = random.choice, itertools.count(1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        def bad_luck(among: Sequence[Any]) -> Any:
            waiting = [broker for broker in among if getattr(broker, "port", None) == silent.getsockname()[1]]
            if not waiting:
                return draw(among)
            if next(times) == TIMES:
                monkeypatch.setattr(random, "choice", draw)
            return waiting[0]

        monkeypatch.setattr(random, "choice", bad_luck)
        yield Settings(bootstrap_servers=f"{address},{kafka}")


@pytest.mark.parametrize("client", [Consumer, KafkaProducer, KafkaAdminClient])
def test_a_client_that_draws_a_silent_broker_finds_the_other_one(settings: Settings, client: Any) -> None:
    """kafka-python alone would wait for the silent one until its time is up."""
    made = client(**client_arguments(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)
    made.close()

"""An administrator that is sent to a node which it has not heard of, on a real broker."""

import copy
from typing import Any

import pytest
from kafka.errors import NodeNotReadyError

from pipeline.kafka.topics import admin_client
from pipeline.options import Settings


def forget(admin: Any) -> None:
    """Let the client know the broker by another number only, as if that were another broker."""
    (broker,) = admin._manager.cluster.brokers()
    other = copy.copy(broker)
    other.node_id = 99
    admin._manager.cluster._brokers = {99: other}
    admin._controller_id = None


def test_it_asks_who_is_there_before_it_gives_up(kafka: str) -> None:
    """As when the node came back between two answers: brokers hear of it one after the other."""
    with admin_client(Settings(bootstrap_servers=kafka)) as admin:
        forget(admin)
        admin.create_topics({"unheard": {"num_partitions": 1, "replication_factor": 1}})
        forget(admin)
        admin.delete_topics(["unheard"])
        assert "unheard" not in admin.list_topics()


def test_it_does_not_ask_for_ever(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with admin_client(Settings(bootstrap_servers=kafka)) as admin:
        forget(admin)
        # As when no broker has heard of it.
        monkeypatch.setattr(admin._manager.cluster, "update_metadata", lambda _: None)
        monkeypatch.setitem(admin.config, "request_timeout_ms", 300)
        with pytest.raises(NodeNotReadyError):
            admin.delete_topics(["unheard"])

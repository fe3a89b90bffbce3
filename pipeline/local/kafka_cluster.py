"""Three Kafka nodes on the loopback address, each broker and controller: what can fail without anything being lost."""

import os
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pipeline.local.kafka import LocalKafka, new_cluster_id
from pipeline.local.service import Startable

NODES = 3
_TWO_OF_THREE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


class _Node(LocalKafka):
    """One of the three; it is ready when two of them run."""

    def __init__(self, number: int, directory: Path, heap: str, cluster_id: str, properties: Mapping[str, str]) -> None:
        super().__init__(directory, heap, properties)
        self._number, self._cluster_id = number, cluster_id
        self.voters = ""

    def launch(self) -> None:
        self._prepared().launch()

    def wait(self, deadline_s: float) -> None:
        self._prepared().wait_for(self._port, deadline_s=deadline_s)

    def _format_arguments(self) -> list[str]:
        return [f"--cluster-id={self._cluster_id}"]

    def _server_properties(self) -> dict[str, str]:
        one = super()._server_properties()
        del one["controller.quorum.bootstrap.servers"]
        return {
            **one,
            "node.id": str(self._number),
            "controller.quorum.voters": self.voters,
            **_TWO_OF_THREE,
            **self._properties,
        }


class LocalKafkaCluster(Startable):
    """A real cluster for tests of faults: `with LocalKafkaCluster() as kafka: ... kafka.kill(2)`.

    Topics have three copies, of which two must take a record (min.insync.replicas), unless they say otherwise. Nodes
    are numbered from 1, as Kafka calls them. `properties` override those of every server.
    """

    def __init__(
        self, directory: Path | None = None, heap: str = "300m", properties: Mapping[str, str] | None = None
    ) -> None:
        self._temporary = None
        if directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="hushword-kafka-", ignore_cleanup_errors=True)
            directory = Path(self._temporary.name)
        cluster_id = new_cluster_id()
        self._nodes = {
            number: _Node(number, directory / f"node-{number}", heap, cluster_id, properties or {})
            for number in range(1, NODES + 1)
        }
        voters = ",".join(f"{number}@{node.controller_address}" for number, node in self._nodes.items())
        for node in self._nodes.values():
            node.voters = voters
        self._paused: set[int] = set()

    @property
    def bootstrap_servers(self) -> str:
        """Addresses for clients, the same after a restart."""
        return ",".join(node.address for node in self._nodes.values())

    @property
    def pids(self) -> dict[int, int]:
        """Process ids of the nodes that run, by number."""
        return {number: node.pid for number, node in self._nodes.items() if node.pid is not None}

    def start(self, *, deadline_s: float = 90.0) -> Self:
        """Start all nodes, or those that do not run, on their data and ports; they are ready when this returns."""
        down = [node for node in self._nodes.values() if node.pid is None]
        for node in down:  # together: none is ready before another one is there
            node.launch()
        for node in down:
            node.wait(deadline_s)
        return self

    def restart(self, number: int, *, deadline_s: float = 90.0) -> None:
        """Start one node again after a kill."""
        self._nodes[number].start(deadline_s=deadline_s)

    def kill(self, number: int) -> None:
        """End one node at once, as a crash would."""
        self._nodes[number].kill()
        self._paused.discard(number)

    def pause(self, number: int) -> None:
        """Let one node stand still (SIGSTOP): its connections stay open and nothing answers."""
        os.kill(self.pids[number], signal.SIGSTOP)
        self._paused.add(number)

    def resume(self, number: int) -> None:
        """Let a node that stands still go on; nothing for one that does not."""
        if number in self._paused:
            os.kill(self.pids[number], signal.SIGCONT)
            self._paused.discard(number)

    def close(self) -> None:
        """Stop all nodes and remove their temporary directory."""
        for number, node in self._nodes.items():
            self.resume(number)
            # In order takes minutes for the last ones: a broker that leaves waits for a controller to take over.
            node.kill()
        if self._temporary:
            self._temporary.cleanup()

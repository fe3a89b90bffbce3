"""One Kafka node on the loopback address: broker and controller in one process (KRaft)."""

import base64
import uuid
from collections.abc import Mapping
from pathlib import Path

from pipeline.local.jars import KAFKA
from pipeline.local.java import java_command
from pipeline.local.process import LOOPBACK, ServerProcess, free_port, run_to_end
from pipeline.local.service import LocalService


def new_cluster_id() -> str:
    """Give an id for the storage of a new cluster."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


class LocalKafka(LocalService):
    """A real broker for tests and demonstrations: `with LocalKafka() as kafka: ... kafka.bootstrap_servers`.

    `properties` override the server's.
    """

    name = "kafka"

    def __init__(
        self, directory: Path | None = None, heap: str = "512m", properties: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, heap)
        self._controller_port = free_port()
        self._properties = dict(properties or {})

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, the same after a restart."""
        return self.address

    @property
    def controller_address(self) -> str:
        """Host and port that controllers speak to each other at."""
        return f"{LOOPBACK}:{self._controller_port}"

    def _prepare(self, scratch: Path) -> ServerProcess:
        config = self.directory / "server.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in self._server_properties().items()))

        def command(main_class: str, *arguments: str, heap: str) -> list[str]:
            return java_command(KAFKA, main_class, *arguments, heap=heap, temporary=scratch)

        if not (self.directory / "data" / "meta.properties").exists():
            storage = ("format", f"--config={config}", *self._format_arguments())
            run_to_end("Kafka's storage tool", command("kafka.tools.StorageTool", *storage, heap="128m"))
        return ServerProcess("Kafka", command("kafka.Kafka", str(config), heap=self.heap), self.log_path)

    def _format_arguments(self) -> list[str]:
        return [f"--cluster-id={new_cluster_id()}", "--standalone"]

    def _server_properties(self) -> dict[str, str]:
        controller = self.controller_address
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": controller,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # One node: one copy, and one partition (50 by default) of each internal topic.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            **self._properties,
        }

"""An administrator that knows the node that it is sent to."""

import time

from kafka.admin import KafkaAdminClient
from kafka.errors import NodeNotReadyError

_AGAIN_S = 0.1


class Admin(KafkaAdminClient):
    """Asks again who is there when the node that takes its orders is one that it has not heard of.

    Any broker takes them, and each answer names another one at random: also one that came back a moment ago, which
    another broker did not name yet. kafka-python 3.0.12 has that answer end the call (UnknownBrokerIdError).
    """

    async def _refresh_controller_id(self, timeout_ms: int | None = None) -> int:
        within_ms = timeout_ms or self.config["request_timeout_ms"]
        until_s = time.monotonic() + within_ms / 1000
        cluster = self._manager.cluster
        while True:
            node_id: int = await super()._refresh_controller_id(within_ms)
            if cluster.broker_metadata(node_id) is not None:
                return node_id
            if time.monotonic() > until_s:
                raise NodeNotReadyError(node_id)
            await self._net.sleep(_AGAIN_S)
            await cluster.refresh_metadata()

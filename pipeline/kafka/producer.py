"""The producer that everything here writes with: kafka-python's, mended."""

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError


class Producer(KafkaProducer):
    """A producer that is closed after `close`, whatever its brokers do.

    kafka-python 3.0.12 gives up half-way when something is not acknowledged in time: its thread and its connections
    stay, what its user was told had failed is tried again, and when it is collected it fails once more.
    """

    _closing = False
    _late: KafkaError | None = None

    def close(self, timeout: float | None = None, **how: Any) -> None:
        """Wait so many seconds, None for ever, for what was sent, and end.

        Raises:
            KafkaError: some of it was not acknowledged; its futures fail, and only what is on its way may still arrive.

        """
        self._closing = True
        super().close(timeout, **how)
        late, self._late = self._late, None
        if late is not None:
            raise late

    def flush(self, timeout: float | None = None) -> None:
        """Wait so many seconds, None for ever, for what was sent.

        Raises:
            KafkaError: some of it was not acknowledged.

        """
        try:
            super().flush(timeout)
        except KafkaError as error:
            if not self._closing:
                raise
            self._late = error
            self._sender.force_close()

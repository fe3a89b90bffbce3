"""A real Kafka and a real Flink on this machine, from Python packages alone: no Java, Maven or Docker is needed."""

from pipeline.errors import FailedError


class LocalServiceError(FailedError):
    """A local server could not be fetched or started; the message says what to do in one sentence."""

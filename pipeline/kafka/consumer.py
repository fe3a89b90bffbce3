"""The consumer that everything here reads with: kafka-python's, mended."""

from collections.abc import Callable, Iterable, Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndTimestamp


class Consumer(KafkaConsumer):
    """A consumer that waits for the leader of every partition it asks about, as long as the request may take.

    kafka-python 3.0.12 leaves out the partitions without a leader while others have one: ends are then a KeyError, and
    a time is in none of their records. Asked for alone, such a partition is waited for.
    """

    def beginning_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: float | None = None
    ) -> dict[TopicPartition, int]:
        """Give the first offset of each partition.

        Raises:
            KafkaTimeoutError: a partition had no leader, or it did not answer, within `timeout_ms`.

        """
        return _of_all(super().beginning_offsets, partitions, timeout_ms)

    def end_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: float | None = None
    ) -> dict[TopicPartition, int]:
        """Give the offset after the last record of each partition.

        Raises:
            KafkaTimeoutError: a partition had no leader, or it did not answer, within `timeout_ms`.

        """
        return _of_all(super().end_offsets, partitions, timeout_ms)

    def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout_ms: float | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """Give the first record appended at a time or later, for each partition; None where there is none.

        Raises:
            KafkaTimeoutError: a partition had no leader, or it did not answer, within `timeout_ms`.

        """
        found: dict[TopicPartition, OffsetAndTimestamp | None] = super().offsets_for_times(dict(timestamps), timeout_ms)
        for at in [at for at, entry in found.items() if entry is None]:
            found |= super().offsets_for_times({at: timestamps[at]}, timeout_ms)
        return found


def _of_all(
    ask: Callable[..., dict[TopicPartition, int]], partitions: Iterable[TopicPartition], timeout_ms: float | None
) -> dict[TopicPartition, int]:
    partitions = list(partitions)
    try:
        return ask(partitions, timeout_ms)
    except KeyError:
        return {at: offset for one in partitions for at, offset in ask([one], timeout_ms).items()}

"""A gateway's side of the contract, small enough to be read: it stops streams, and never waits for anything.

    python deploy/examples/gateway.py 127.0.0.1:9092

Here the streams are seen on the audio topic, so that it can be tried beside `hushword replay`; in a gateway they are
its own connections, and `stop` talks to the device.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from google.protobuf.message import DecodeError
from kafka import KafkaConsumer, TopicPartition

from pipeline.messages.hushword_pb2 import AudioChunk, Decision

FORGET_AFTER_S = 60.0


class State(Enum):
    """What has become of a stream."""

    OPEN = "open"
    STOPPED = "stopped"
    ACCEPTED = "accepted"


@dataclass
class Stream:
    """A request on its way to the assistant, since a time on the gateway's own clock."""

    device_id: str
    began_s: float
    state: State = State.OPEN
    decision_id: str = ""


@dataclass
class Gateway:
    """Streams and what is decided about them; it holds no thread, no socket and no clock.

    Attributes:
        stop: called with device and request when a stream is to be stopped.
        deadline_s: a stream that nothing was decided about for so long is answered, and no longer stopped.

    """

    stop: Callable[[str, str], None]
    deadline_s: float = 2.0
    streams: dict[str, Stream] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def began(self, request_id: str, device_id: str, now_s: float) -> None:
        """Take note of a stream; its audio goes on to the assistant at once."""
        if request_id not in self.streams:
            self.streams[request_id] = Stream(device_id, now_s)

    def heard(self, decision: Decision, now_s: float) -> str:
        """Act on a decision, or do not; gives what was made of it, by which it is counted."""
        made = self._heard(decision, now_s)
        self.counts[made] += 1
        return made

    def _heard(self, decision: Decision, now_s: float) -> str:
        if decision.verdict != Decision.IGNORE:
            return "unknown verdict"  # of a later version: what is not understood is not acted on
        if decision.shadow:
            return "shadow"
        stream = self.streams.get(decision.request_id)
        if stream is None:
            return "unknown request"  # another gateway's, or long over
        if stream.decision_id == decision.decision_id:
            return "duplicate"
        stream.decision_id = decision.decision_id
        if decision.late or stream.state is State.ACCEPTED or now_s >= stream.began_s + self.deadline_s:
            return "late"
        stream.state = State.STOPPED
        self.stop(stream.device_id, decision.request_id)
        return "stopped"

    def pass_time(self, now_s: float) -> list[str]:
        """Accept the streams whose deadline has passed, and forget what is long over; gives the accepted."""
        accepted = []
        for request_id, stream in list(self.streams.items()):
            if stream.state is State.OPEN and now_s >= stream.began_s + self.deadline_s:
                stream.state = State.ACCEPTED
                self.counts["accepted"] += 1
                accepted.append(request_id)
            if now_s >= stream.began_s + self.deadline_s + FORGET_AFTER_S:
                del self.streams[request_id]
        return accepted


def main() -> None:
    """Say what a gateway would do with the streams on the audio topic, until Ctrl-C or for so many seconds."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("bootstrap_servers")
    arguments.add_argument("--audio-topic", default="wakeword-audio")
    arguments.add_argument("--decisions-topic", default="wakeword-decisions")
    arguments.add_argument("--deadline-s", type=float, default=2.0)
    arguments.add_argument("--seconds", type=float, default=float("inf"))
    given = arguments.parse_args()
    consumer = KafkaConsumer(bootstrap_servers=given.bootstrap_servers.split(","), enable_auto_commit=False)
    topics = (given.audio_topic, given.decisions_topic)
    partitions = [TopicPartition(topic, p) for topic in topics for p in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_end(*partitions)
    for partition in partitions:
        consumer.position(partition)  # where the end is now, not where it is at the first poll
    gateway = Gateway(lambda device, request: print(f"stop {device} {request}", flush=True), given.deadline_s)
    print("ready", file=sys.stderr, flush=True)
    until_s = time.monotonic() + given.seconds
    while time.monotonic() < until_s:
        polled = consumer.poll(timeout_ms=50)
        # Streams first: both topics come in one poll.
        for at in sorted(polled, key=lambda at: at.topic != given.audio_topic):
            for record in polled[at]:
                now_s = time.monotonic()
                try:
                    if at.topic == given.decisions_topic:
                        gateway.heard(Decision.FromString(record.value or b""), now_s)
                    elif record.value and (chunk := AudioChunk.FromString(record.value)).request_id:
                        gateway.began(chunk.request_id, chunk.device_id, now_s)
                except DecodeError:
                    gateway.counts["malformed"] += 1
        for request_id in gateway.pass_time(time.monotonic()):
            print(f"accept {request_id}", flush=True)
    print(dict(gateway.counts), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

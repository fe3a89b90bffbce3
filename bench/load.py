"""The load: a process of its own that prepares its records before the clock starts, then publishes them in time.

Started by the bench: it says "ready" on stdout when everything is prepared, waits for a line on stdin, publishes, and
says as JSON what it did.
"""

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.sounds import babble, heard
from matcher.grid import SAMPLE_RATE_HZ
from pipeline.kafka.producer import Producer
from pipeline.messages.hushword_pb2 import PCM_S16LE, AudioChunk
from pipeline.recordings.departures import chunk

REQUEST_S = 2.5
# Share of the requests by route: the largest has a little more than a third.
ROUTES = (("alexa", "en-US", 0.4), ("alexa", "de-DE", 0.3), ("computer", "en-US", 0.2), ("computer", "de-DE", 0.1))
MEDIA_SHARE = 0.25  # of the requests are started by an advertisement ...
HOUSEHOLDS = (5, 30)  # ... that so many households hear, fewest and most, ...
SPREAD_S = 0.08  # ... within so much of one instant of it, either way
RECORDINGS = 36
SNR_DB = (5.0, 20.0)
# Live requests begin at different multiples of this in one long sound: too far apart for any alignment.
SLOT_S = 0.5
SLOTS = 5000


@dataclass(frozen=True, slots=True)
class Record:
    """One chunk, serialised but for its capture time.

    Protobuf reads a message followed by a field as the message with that field, so the time is appended when it is
    known.
    """

    at_s: float  # when its last sample was captured, from the start
    capture_s: float  # of its first sample
    partition: int
    key: bytes
    head: bytes


class Load:
    """Requests of many homes, `rate` a second; a seed makes the same ones again."""

    def __init__(self, rate: float, seconds: float, partitions: int, seed: int) -> None:
        self.rate, self.seconds, self.partitions = rate, seconds, partitions
        self._rng = np.random.default_rng(seed)
        self._name = f"{seed:x}"
        self._slots = min(SLOTS, round(rate * seconds))
        self._live = babble(self._slots * SLOT_S + REQUEST_S, self._rng)
        self._media = [babble(REQUEST_S + 4 * SPREAD_S, self._rng) for _ in range(RECORDINGS)]
        self._requests = 0
        self.media_requests = 0  # the first of them

    def records(self) -> list[Record]:
        """Prepare all records in the order in which they are sent."""
        total = round(self.rate * self.seconds)
        made: list[Record] = []
        while self._requests < total * MEDIA_SHARE:
            made += self._event(min(self.seconds, self._requests / (self.rate * MEDIA_SHARE)))
        self.media_requests = self._requests
        live = total - self._requests
        for index in range(live):
            start_s = (index + self._rng.random()) * self.seconds / live
            made += self._request(start_s, self._route(), self._stretch(index % self._slots * SLOT_S))
        made.sort(key=lambda record: record.at_s)
        return made

    @property
    def requests(self) -> int:
        """Number of requests made."""
        return self._requests

    def _route(self) -> tuple[str, str]:
        shares = [share for _, _, share in ROUTES]
        return ROUTES[int(self._rng.choice(len(ROUTES), p=shares))][:2]

    def _stretch(self, from_s: float) -> npt.NDArray[np.float32]:
        first = int(from_s * SAMPLE_RATE_HZ)
        return self._live[first : first + int(REQUEST_S * SAMPLE_RATE_HZ)]

    def _event(self, at_s: float) -> list[Record]:
        """One airing: every household begins near the same instant of the recording."""
        recording = self._media[int(self._rng.integers(RECORDINGS))]
        route = self._route()
        made: list[Record] = []
        for _ in range(int(self._rng.integers(HOUSEHOLDS[0], HOUSEHOLDS[1] + 1))):
            offset_s = float(self._rng.uniform(-SPREAD_S, SPREAD_S))
            first = int((2 * SPREAD_S + offset_s) * SAMPLE_RATE_HZ)
            sound = recording[first : first + int(REQUEST_S * SAMPLE_RATE_HZ)]
            noise = self._stretch(float(self._rng.uniform(0, self._slots * SLOT_S)))
            snr_db = float(self._rng.uniform(*SNR_DB))
            # Broadcast paths differ by tenths of a second.
            start_s = at_s + offset_s + float(self._rng.uniform(0, 0.4)) + SPREAD_S
            made += self._request(start_s, route, heard(sound, noise, snr_db, self._rng))
        return made

    def _request(self, start_s: float, route: tuple[str, str], sound: npt.NDArray[np.float32]) -> list[Record]:
        number = self._requests
        self._requests += 1
        request_id = f"{self._name}-{number}"
        samples = np.clip(sound, -32768, 32767).astype("<i2")
        key, partition = request_id.encode(), random.Random(request_id).randrange(self.partitions)
        made = []
        for part in chunk(request_id, len(samples), SAMPLE_RATE_HZ):
            message = AudioChunk(
                request_id=request_id,
                household_id=f"h{number}",
                device_id=f"d{number}",
                wake_word=route[0],
                locale=route[1],
                seq=part.seq,
                sample_rate_hz=SAMPLE_RATE_HZ,
                encoding=PCM_S16LE,
                audio=samples[part.first : part.last].tobytes(),
                final=part.last == len(samples),
            )
            at_s, capture_s = start_s + part.last / SAMPLE_RATE_HZ, start_s + part.first / SAMPLE_RATE_HZ
            made.append(Record(at_s, capture_s, partition, key, message.SerializeToString()))
        return made


def publish(records: list[Record], servers: str, topic: str, partitions: int, *, paced: bool) -> dict[str, float]:
    """Send the records when they are due, or as fast as can be; give what came of it.

    Paced, a record is due when its last sample was captured. Otherwise the capture times begin now as well, and the
    audio arrives ahead of its time, as it does from a log that is read again.
    """
    producer = Producer(
        bootstrap_servers=servers.split(","),
        acks="all",
        linger_ms=5,
        batch_size=256 * 1024,
    )
    try:
        producer.partitions_for(topic)
        start_s = time.time()
        latest_s = 0.0
        size = 0
        for record in records:
            if paced:
                late_s = time.time() - start_s - record.at_s
                if late_s < 0:
                    time.sleep(-late_s)
                latest_s = max(latest_s, late_s)
            value = (
                record.head + AudioChunk(capture_time_us=int((start_s + record.capture_s) * 1e6)).SerializeToString()
            )
            size += len(value)
            producer.send(topic, value, key=record.key, partition=record.partition)
        if not paced:
            mark = AudioChunk(low_mark_us=int((start_s + records[-1].at_s + 1) * 1e6)).SerializeToString()
            for partition in range(partitions):
                producer.send(topic, mark, partition=partition)
        producer.flush(60)
        return {"wall_s": time.time() - start_s, "start_s": start_s, "behind_s": latest_s, "bytes": float(size)}
    finally:
        producer.close(10)


def main() -> None:
    """Prepare, say so, wait for the word, publish, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--paced", action="store_true")
    given = parser.parse_args()
    load = Load(given.rate, given.seconds, given.partitions, given.seed)
    records = load.records()
    made = {"requests": load.requests, "media_requests": load.media_requests, "chunks": len(records)}
    print(json.dumps(made), flush=True)
    sys.stdin.readline()
    done = publish(records, given.servers, given.topic, given.partitions, paced=given.paced)
    print(json.dumps({**made, **done}), flush=True)


if __name__ == "__main__":
    main()

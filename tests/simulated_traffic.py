"""Traffic of one seed, and what goes wrong with it on its way to the broker."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from simulated_kafka import Record
from sounds import in_room, rng_for, speech

from pipeline.evaluate.offline import EPOCH_S
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.recordings.departures import departures
from pipeline.recordings.recording import Recording, Request

RATE_HZ = 16_000
MEDIA, HEARINGS = 6, 8
# These sounds are fewer and more alike than speech is: people who come near nobody else's.
PEOPLE = (1, 2, 5, 9, 10, 11, 14, 16, 19, 20, 21, 23, 24, 27, 29, 36)
# Every third home hardly hears what it does.
SNR_DB = (20.0, 10.0, 3.0)
LENGTHS_S = (1.2, 1.8, 2.4)
# Traffic begins so long after the recording's zero, so that clocks can be an hour behind.
BEGIN_S = 4000.0
SECOND_US = 1_000_000
EPOCH_US = EPOCH_S * SECOND_US
# By so much records come later than they were captured, at least and at most, where nothing is lost: clocks that are
# ahead make it less, clocks that are behind and the network make it more. Less than `reorder_ms` lies between the two.
PUNCTUAL_US = (-120_000, 165_000)
# A recording that is replayed is so old.
OLD_US = 3000 * SECOND_US
# Beyond every window, and beyond what an open event waits for.
END_MARK_US = 120 * SECOND_US
GARBAGE = b"no chunk"


@functools.cache
def sound(name: str) -> npt.NDArray[np.int16]:
    """Give what is heard in a request, always the same: "m2-5" is a home's hearing of medium 2, "p7" is a person."""
    rng = rng_for("sound", name)
    samples = int(LENGTHS_S[int(rng.integers(len(LENGTHS_S)))] * RATE_HZ)
    room = int(rng.integers(2**31))
    if name.startswith("p"):
        return in_room(speech(int(name[1:]) + 1000, LENGTHS_S[-1])[:samples], room, SNR_DB[0])
    medium, hearing = (int(number) for number in name[1:].split("-"))
    start = round(late_s(medium, hearing) * RATE_HZ)
    return in_room(speech(medium, LENGTHS_S[-1] + 0.2)[start : start + samples], room, SNR_DB[hearing % 3])


def late_s(medium: int, hearing: int) -> float:
    """Say how much of a medium a hearing misses at its beginning: triggers differ."""
    return float(rng_for("trigger", medium, hearing).uniform(0, 0.12))


@dataclass(frozen=True)
class Street(Recording):
    """A recording without files.

    Attributes:
        wrong_s: by request, by how much its device's clock is ahead.

    """

    wrong_s: dict[str, float]

    def samples(self, file: str) -> tuple[npt.NDArray[np.int16], int]:
        """Give a request's samples and their rate."""
        return sound(file), RATE_HZ


@dataclass(frozen=True)
class Faults:
    """What goes wrong on the way to the broker, and how badly; the rest goes wrong in the job.

    Attributes:
        harmless: nothing is lost, and everything stays within what the contract allows.
        partitions: of the audio topic.
        replayed: an old recording is replayed with low marks, its partitions seconds apart; else traffic is live.
        far_off_s: by how much one device's clock is wrong: far beyond every window, which harms its own requests only.
        duplicated, garbage: shares of the records.
        dropped, delayed, skewed: shares of the records, records and devices; beyond what the contract allows.

    """

    harmless: bool
    partitions: int
    replayed: bool
    far_off_s: float
    duplicated: float
    garbage: float
    dropped: float = 0.0
    delayed: float = 0.0
    skewed: float = 0.0

    @classmethod
    def of(cls, seed: int) -> "Faults":
        """Draw them: every other seed's are harmless."""
        rng = Random(f"faults {seed}")
        mild = cls(
            harmless=seed % 2 == 0,
            partitions=rng.randint(1, 4),
            replayed=rng.random() < 0.3,
            far_off_s=rng.choice([0.0, 0.0, -3600.0, 3600.0]),
            duplicated=rng.choice([0.0, 0.05, 0.3]),
            garbage=rng.choice([0.0, 0.02]),
        )
        if mild.harmless:
            return mild
        return replace(
            mild,
            dropped=rng.choice([0.0, 0.02, 0.2]),
            delayed=rng.choice([0.0, 0.05, 0.5]),
            skewed=rng.choice([0.0, 0.2]),
        )


def street(seed: int, faults: Faults) -> Street:
    """Give what the devices hear, with the times that their clocks show: airings, re-runs, pairs and people."""
    rng = Random(f"street {seed}")
    requests: list[Request] = []
    wrong_s: dict[str, float] = {}
    far_off = rng.randrange(6)
    hearings = {medium: iter(range(HEARINGS)) for medium in range(MEDIA)}

    def add(name: str, start_s: float, household: str, locale: str) -> None:
        wrong_s[name] = faults.far_off_s if len(requests) == far_off else 0.0
        if rng.random() < faults.skewed:
            wrong_s[name] += rng.choice([-1, 1]) * rng.choice([0.3, 1.5, 3.0, 8.0])
        start_s = round(BEGIN_S + start_s + wrong_s[name], 6)
        requests.append(Request(name, name, start_s, "alexa", locale, household, f"{household}, device {name}"))

    def air(medium: int, homes: Sequence[str], at_s: float, locale: str) -> None:
        for home in homes:
            hearing = next(hearings[medium])
            add(f"m{medium}-{hearing}", at_s + late_s(medium, hearing), home, locale)

    homes = [f"home {number}" for number in range(7)]
    locales = ["en-US", rng.choice(["en-US", "de-DE"])]
    first, second, pair = rng.sample(range(MEDIA), 3)
    at_s, last_s = rng.uniform(0, 2), rng.choice([6, 12, 25])
    air(first, rng.sample(homes, rng.randint(3, 5)), at_s, locales[0])
    air(first, rng.sample(homes, rng.randint(1, 2)), at_s + rng.uniform(2, last_s), locales[0])
    air(second, rng.sample(homes, rng.randint(3, 4)), rng.uniform(0, last_s), locales[1])
    couple = rng.sample(homes, 2)
    air(pair, [*couple, couple[0]], rng.uniform(0, last_s), locales[0])
    for person in rng.sample(PEOPLE, rng.randint(2, 4)):
        add(f"p{person}", rng.uniform(0, last_s), rng.choice(homes), rng.choice(locales))
    ordered = sorted(requests, key=lambda request: (request.start_s, request.request_id))
    return Street(Path("street"), tuple(ordered), {}, wrong_s)


def left_to_averages(recording: Recording, window_s: float) -> set[str]:
    """Give the requests that fewer than two other homes heard what they heard beside, within a window.

    After a start from the committed offsets alone they are found by the average that was published last, or are not.
    """
    return {
        request.request_id
        for request in recording.requests
        if len(
            {
                other.household
                for other in recording.requests
                if other.request_id.split("-")[0] == request.request_id.split("-")[0]
                and other.household != request.household
                and abs(other.start_s - request.start_s) < window_s
            }
        )
        < 2
    }


def may_be_ignored(recording: Recording) -> set[str]:
    """Give the requests that heard a medium which three households of one route heard: nobody else may be ignored."""
    households: dict[tuple[str, str], set[str]] = {}
    for request in recording.requests:
        households.setdefault((request.request_id.split("-")[0], request.locale), set()).add(request.household)
    return {
        request.request_id
        for request in recording.requests
        if request.request_id[0] == "m" and len(households[request.request_id.split("-")[0], request.locale]) >= 3
    }


def audio_log(seed: int, recording: Street, faults: Faults, topic: str) -> dict[int, list[Record]]:
    """Give what each partition of the audio topic holds in the end, in the order of its append times."""
    rng = Random(f"log {seed}")
    way = _Way(rng, faults)
    sent: list[tuple[int, int, bytes]] = []  # append time, partition, value
    partition_of = {request.request_id: rng.randrange(faults.partitions) for request in recording.requests}
    captured_us = []
    for departure in departures(recording, EPOCH_US):
        request_id = departure.message.request_id
        partition = partition_of[request_id]
        true_us = EPOCH_US + departure.at_us - round(recording.wrong_s[request_id] * 1e6)
        captured_us.append(EPOCH_US + departure.at_us)
        value = departure.message.SerializeToString()
        sent += [(at_us, partition, value) for at_us in way.arrivals_us(true_us, partition)]
        if rng.random() < faults.garbage:
            sent.append((way.arrives_us(true_us, partition), partition, GARBAGE))
    if faults.replayed:
        sent += way.marks(max(at_us for at_us, _, _ in sent))
    last_us = max(at_us for at_us, _, _ in sent)
    end_mark = AudioChunk(low_mark_us=max(last_us, *captured_us) + END_MARK_US).SerializeToString()
    sent += [(last_us + SECOND_US, partition, end_mark) for partition in range(faults.partitions)]
    log: dict[int, list[Record]] = {partition: [] for partition in range(faults.partitions)}
    for at_us, partition, value in sorted(sent):
        records = log[partition]
        records.append(Record(topic, partition, len(records), at_us // 1000, None, value))
    return log


class _Way:
    """From the devices to the broker."""

    def __init__(self, rng: Random, faults: Faults) -> None:
        self._rng, self._faults = rng, faults
        # A replay's partitions are written at their own pace; low marks say how far each is.
        self._behind_us = [(OLD_US + rng.randint(0, 3 * SECOND_US)) * faults.replayed for _ in range(faults.partitions)]
        self._mark_every_us = rng.choice([SECOND_US // 4, SECOND_US, 2 * SECOND_US])

    def arrives_us(self, captured_us: int, partition: int) -> int:
        """Say when a record is appended that was captured to its end at a time."""
        return captured_us + self._behind_us[partition] + self._rng.randint(*PUNCTUAL_US)

    def arrivals_us(self, captured_us: int, partition: int) -> list[int]:
        """Say when each copy of a record is appended; there may be none."""
        rng, faults = self._rng, self._faults
        if rng.random() < faults.dropped:
            return []
        at_us = self.arrives_us(captured_us, partition)
        if rng.random() < faults.delayed:
            at_us += round(rng.choice([0.15, 1, 5]) * SECOND_US)
        arrivals = [at_us]
        while rng.random() < faults.duplicated:
            arrivals.append(at_us + round(rng.choice([0, 0.05, 0.5, 6]) * SECOND_US))
        return arrivals

    def marks(self, last_us: int) -> list[tuple[int, int, bytes]]:
        """Promise in each partition, every now and then, what it brings no more, from before its first record on."""
        sent = []
        for partition, behind_us in enumerate(self._behind_us):
            for at_us in range(EPOCH_US + round(BEGIN_S * 1e6) + OLD_US - SECOND_US, last_us, self._mark_every_us):
                mark = AudioChunk(low_mark_us=at_us - behind_us - PUNCTUAL_US[1] - 1, lags=True)
                sent.append((at_us, partition, mark.SerializeToString()))
        return sent

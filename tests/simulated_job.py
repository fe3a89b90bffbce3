"""The whole job without Beam and Kafka: its own four steps, called one bundle at a time in an order that a seed draws.

A bundle can fail before, within or after its work, workers can be lost and come back with what they had in memory, the
job can go on from a checkpoint, or anew from the committed offsets. Output of the first and the third step waits in
order in queues, as between the steps of a runner; the second and the third share a bundle.
"""

import copy
import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.utils.timestamp import Duration
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError
from simulated_kafka import Admin, Broker, Consumer, Producer
from states import Bag, Value

from matcher.bits import Bits
from matcher.fingerprint import FULL_MS, LOOK_MS, Fingerprint
from pipeline import assembly, decide, follow, sinks, source
from pipeline.decide import DecideRequests
from pipeline.matching import limits_of
from pipeline.options import Settings
from pipeline.sinks import CommitOffsets, WriteVerdicts
from pipeline.source import FromCommitted, Position, PositionCoder, PositionTracker, ReadRequests

# More bundles than any seed takes to come to rest.
MOST_BUNDLES = 5_000
CODER = PositionCoder()


@dataclass(frozen=True)
class Trouble:
    """How often something happens to the job, per bundle."""

    fails: float
    loses_worker: float
    checkpoints: float
    restores: float
    starts_anew: float
    compact_batches: int
    stalls: float

    @classmethod
    def of(cls, seed: int) -> "Trouble":
        """Draw it."""
        rng = Random(f"trouble {seed}")
        return cls(
            fails=rng.choice([0.0, 0.02, 0.2]),
            loses_worker=rng.choice([0.0, 0.02, 0.1]),
            checkpoints=0.05,
            restores=rng.choice([0.0, 0.01]),
            starts_anew=rng.choice([0.0, 0.0, 0.01]),
            compact_batches=rng.choice([2, 5, 256]),
            stalls=rng.choice([0.0, 0.01]),
        )


@dataclass
class _Durable:
    """What a runner keeps in a checkpoint."""

    position: Position
    watermark: Any = None
    routes: dict[str, deque[bytes]] = field(default_factory=dict)
    progress: deque[tuple[str, tuple[str, bytes]]] = field(default_factory=deque)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)


class _Tracker(PositionTracker):
    """With what the runner's view of it adds."""

    def defer_remainder(self, _delay: Duration) -> None:
        """Hand over the rest to the next bundle."""
        split = self.try_split(0)
        assert split is not None
        self.rest = split[1]


class Job:
    """The steps, and the runner."""

    def __init__(self, settings: Settings, broker: Broker, trouble: Trouble, rng: Random, calm_us: int) -> None:
        """From `calm_us` on nothing happens to it any more: it must come to rest."""
        self._calm_us = calm_us
        self._settings, self._broker, self._trouble, self._rng = settings, broker, trouble, rng
        self.low_marks_us: list[list[int]] = []  # of each reader in turn
        self.most_open = self.most_held = self.most_window = 0
        self._start()

    def run(self) -> None:
        """Until everything is read, decided and committed."""
        for _ in range(MOST_BUNDLES):
            self._broker.clock.now_us += self._rng.randint(1_000, 100_000)
            if self._rng.random() < self._trouble.stalls:
                self._broker.clock.now_us += self._rng.randint(1, 3_000_000)
            self._suffer()
            self._bundle()
            if self._is_done():
                return
        raise AssertionError(f"the job does not come to rest: {self._broker.committed}, {self._durable.position}")

    # ---- bundles -------------------------------------------------------------------------------------------------

    def _bundle(self) -> None:
        waiting = [route for route, batches in self._durable.routes.items() if batches]
        steps = [self._read] + [self._decide] * 2 * bool(waiting) + [self._commit] * bool(self._durable.progress)
        self._rng.choice(steps)()

    def _read(self) -> None:
        durable = self._durable
        tracker, watermark = _Tracker(durable.position), ManualWatermarkEstimator(durable.watermark)
        if self._happens(self._trouble.fails / 4, "split"):
            tracker.try_split(0)
            tracker.rest = durable.position
        before = self._reader._reader
        out = list(self._reader.process(self._settings.model_dump_json(), tracker, watermark))
        reader = self._reader._reader
        if reader is not None:
            if reader is not before:
                self.low_marks_us.append([])
            self.low_marks_us[-1].append(reader.low_mark_us)
            self.most_open = max(self.most_open, reader._assembler.open)
            self.most_held = max(self.most_held, reader._assembler.held)
        if self._happens(self._trouble.fails, "read_failed"):
            return
        tracker.check_done()
        durable.position = CODER.decode(CODER.encode(tracker.rest))
        durable.watermark = watermark.get_estimator_state()
        for route, batch in out:
            durable.routes.setdefault(route, deque()).append(batch)

    def _decide(self) -> None:
        """Some batches of one route, through deciding and writing, with the state of before if that fails."""
        durable = self._durable
        route = self._rng.choice([route for route, batches in durable.routes.items() if batches])
        batches = list(durable.routes[route])[: self._rng.choice([1, 1, 2, 5])]
        state = durable.states.setdefault(
            route,
            {"version": Value(), "saved": Value(), "batches": Bag()},
        )
        before = copy.deepcopy(state)
        # One worker has the route as a rule; another one may come to it, with what it had in memory of before.
        worker = self._deciders[self._rng.random() < self._trouble.loses_worker]
        self._follow(worker)
        failing_at = self._rng.randint(0, len(batches)) if self._happens(self._trouble.fails, "decide_failed") else -1
        writer = self._writer
        writer.start_bundle()
        for number, batch in enumerate(batches):
            if number == failing_at:
                break
            for verdicts in worker.process((route, batch), **state):
                writer.process(verdicts)
        working = worker._working.get(route)
        if working is not None:
            self.most_window = max(self.most_window, len(working.route.window.requests))
        try:
            acknowledged = None if failing_at >= 0 else [element.value for element in writer.finish_bundle()]
        except KafkaTimeoutError:
            acknowledged = None
        if acknowledged is None:
            durable.states[route] = before
            return
        durable.progress.extend(acknowledged)
        for _ in batches:
            durable.routes[route].popleft()

    def _commit(self) -> None:
        self._committer.process(self._durable.progress[0])
        if not self._happens(self._trouble.fails, "commit_failed"):
            self._durable.progress.popleft()

    def _follow(self, worker: DecideRequests) -> None:
        """Let a worker hear more of what the compacted topics hold by now, if not all."""
        for follower in (worker._follower, worker._controls._follower):
            end = len(self._broker.of(follower._topic))
            _hear(self._broker, follower, self._rng.randint(self._broker.heard[follower], end))

    # ---- what happens to it --------------------------------------------------------------------------------------

    def _happens(self, probability: float, what: str) -> bool:
        happens = self._rng.random() < probability and self._broker.clock.now_us < self._calm_us
        self._broker.happened[what] += happens
        return happens

    def _suffer(self) -> None:
        trouble = self._trouble
        if self._happens(trouble.loses_worker, "lost_worker"):
            self._rng.choice([self._new_reader, self._new_deciders, self._new_sinks])()
        if self._rng.random() < trouble.checkpoints:
            self._checkpoint = copy.deepcopy(self._durable)
        if self._happens(trouble.restores, "restored"):
            self._durable = copy.deepcopy(self._checkpoint)
            if self._rng.random() < 0.5:
                self._new_workers()
        if self._happens(trouble.starts_anew, "started_anew"):
            self._start()

    def _start(self) -> None:
        """Begin where the group has committed, with nothing else."""
        position = FromCommitted().initial_restriction(self._settings.model_dump_json())
        self._durable = _Durable(position)
        self._checkpoint = copy.deepcopy(self._durable)
        self._new_workers()

    def _new_workers(self) -> None:
        self._new_reader()
        self._new_deciders()
        self._new_sinks()

    def _new_reader(self) -> None:
        self._reader = ReadRequests()
        self._reader.setup()

    def _new_deciders(self) -> None:
        self._deciders = [DecideRequests(self._settings) for _ in range(2)]
        for worker in self._deciders:
            worker.setup()

    def _new_sinks(self) -> None:
        self._writer, self._committer = WriteVerdicts(self._settings), CommitOffsets(self._settings)
        self._writer.setup()
        self._committer.setup()

    def _is_done(self) -> bool:
        """Everything is there, and committed to its end: nothing of it will ever be needed again."""
        broker = self._broker
        return all(
            broker.committed.get(TopicPartition(broker.audio_topic, partition)) == len(records)
            for partition, records in broker.log.items()
        )


def _hear(broker: Broker, follower: follow.Following, end: int) -> None:
    for record in broker.of(follower._topic)[broker.heard.get(follower, 0) : end]:
        follower._hear(record)
    broker.heard[follower] = end


# What `Fingerprint.grow` gave, all words so far, the range of their levels, and whether there can be more.
_Grown = tuple[npt.NDArray[np.uint64] | None, npt.NDArray[np.uint64], float, bool]


class Remembered:
    """A fingerprint that is grown once for the same samples of the same request, however often it is asked for."""

    _grown: ClassVar[dict[tuple[str, str, int, bytes], _Grown]] = {}

    def __init__(self, request_id: str, bits: Bits, full_ms: int = FULL_MS) -> None:
        self._name = request_id, bits.name, full_ms
        self._make = lambda: Fingerprint(request_id, bits, full_ms)
        self._digest = hashlib.blake2b()
        self._heard: list[tuple[npt.NDArray[np.int16], int]] = []
        self._real: tuple[int, Fingerprint] = 0, self._make()
        self.words, self.level_range_db, self.full = self._real[1].words, 0.0, False

    def grow(self, samples: npt.NDArray[np.int16], every_ms: int = LOOK_MS) -> npt.NDArray[np.uint64] | None:
        self._heard.append((samples, every_ms))
        # With its length, so that other chunks of the same samples are other ones.
        self._digest.update(len(samples).to_bytes(4) + every_ms.to_bytes(4) + samples.tobytes())
        key = *self._name, self._digest.digest()
        if key not in self._grown:
            heard, real = self._real
            grown = [real.grow(*part) for part in self._heard[heard:]]
            self._real = len(self._heard), real
            self._grown[key] = grown[-1], real.words, real.level_range_db, real.full
        words, self.words, self.level_range_db, self.full = self._grown[key]
        return words


@contextmanager
def simulated(settings: Settings, broker: Broker, trouble: Trouble, max_held: int) -> Iterator[None]:
    """Let the job's modules find a broker in memory, its clock, and fingerprints that are remembered."""

    def start(follower: follow.Following, _within_s: float = 0) -> None:
        _hear(broker, follower, len(broker.of(follower._topic)))
        follower._at_end.set()

    limits = replace(limits_of(settings), max_held=max_held)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "Consumer", lambda **_: Consumer(broker))
        patch.setattr(source, "time", broker.clock)
        patch.setattr(source, "limits_of", lambda _: limits)
        # The same again, thousands of times; reading them takes longer than a bundle.
        patch.setattr(Settings, "model_validate_json", lambda _: settings)
        patch.setattr(assembly, "Fingerprint", Remembered)
        patch.setattr(decide, "time", broker.clock)
        patch.setattr(decide, "COMPACT_BATCHES", trouble.compact_batches)
        patch.setattr(follow.Following, "start", start)
        patch.setattr(sinks, "Producer", lambda **_: Producer(broker))
        patch.setattr(sinks, "KafkaAdminClient", lambda **_: Admin(broker))
        patch.setattr(sinks, "a_broker_listens", lambda _: True)
        yield

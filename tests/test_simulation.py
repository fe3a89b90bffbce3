"""Hundreds of seeds of traffic and trouble: what is ignored is what one process ignores that nothing ever happened to.

docs/testing.md says what is simulated, and how to go on from a seed that fails.
"""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from simulated_job import Job, Remembered, Trouble, simulated
from simulated_kafka import Broker, Clock, Record
from simulated_traffic import GARBAGE, Faults, Street, audio_log, left_to_averages, may_be_ignored, street

from pipeline import assembly
from pipeline.decisions import DecisionLine
from pipeline.evaluate.offline import decide, hear
from pipeline.messages.hushword_pb2 import Decision
from pipeline.options import Settings
from pipeline.wire import decision_id

SEEDS = 200
# What a process with other hashes of texts has to come to, too.
REPEATED = range(4)
# Stalls and slow partitions are no overload here: with that deadline no lag is one, and nothing is spared.
ROOMY = Settings(
    reorder_ms=300, window_s=4.0, request_timeout_s=4.0, known_entries=0, start_at="earliest", deadline_ms=600_000
)
TIGHT = ROOMY.model_copy(update={"max_open_requests": 8, "window_requests": 6})


@dataclass(frozen=True)
class Told:
    """What came of one seed.

    Attributes:
        street: what was said and heard.
        faults: what went wrong on the way to the broker.
        settings: the job's.
        max_held: most chunks that may wait.
        log: the audio topic, by partition.
        topics: all other topics.
        job: what it says of itself.
        happened: how often what went wrong.

    """

    street: Street
    faults: Faults
    settings: Settings
    max_held: int
    log: dict[int, list[Record]]
    topics: dict[str, list[Record]]
    job: Job
    happened: Counter[str]

    def decisions(self) -> list[Decision]:
        return [Decision.FromString(record.value or b"") for record in self.topics[self.settings.decisions_topic]]

    def letters(self) -> set[tuple[int, int]]:
        """Give partition and offset of the dead letters."""
        found = set()
        for letter in self.topics.get(self.settings.dead_letter_topic, []):
            headers = dict(letter.headers)
            found.add((int(headers["partition"]), int(headers["offset"])))
        return found

    def digest(self) -> str:
        """Name everything that was written, byte for byte."""
        return hashlib.blake2b(repr((self.topics, self.happened, self.job.low_marks_us)).encode()).hexdigest()


def play(seed: int) -> Told:
    """Let the job live through a seed."""
    faults, trouble, rng = Faults.of(seed), Trouble.of(seed), Random(f"job {seed}")
    recording = street(seed, faults)
    tight = not faults.harmless and rng.random() < 0.3
    settings, max_held = (TIGHT, 20) if tight else (ROOMY, 50_000)
    log = audio_log(seed, recording, faults, settings.audio_topic)
    broker = Broker(
        rng,
        Clock(1000 * min(records[0].timestamp for records in log.values())),
        settings.audio_topic,
        log,
        slow=frozenset(partition for partition in log if rng.random() < 0.2),
        silent=0.0 if faults.harmless else rng.choice([0.0, 0.5]),
        refused=rng.choice([0.0, 0.02]),
    )
    broker.of(settings.decisions_topic)
    with simulated(settings, broker, trouble, max_held):
        calm_us = 1000 * max(records[-1].timestamp for records in log.values())
        job = Job(settings, broker, trouble, rng, calm_us)
        job.run()
    return Told(recording, faults, settings, max_held, log, broker.topics, job, broker.happened)


def oracle(recording: Street) -> list[DecisionLine]:
    """Decide in one process, in the order of capture; roomy, and with nothing in its way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "Fingerprint", Remembered)
        return decide(hear(recording, ROOMY))


@contextmanager
def named(seed: int) -> Iterator[None]:
    """Say with a failure how to come back to it."""
    try:
        yield
    except Exception as error:
        error.add_note(f"again: pytest tests/test_simulation.py --seed {seed}\n{Faults.of(seed)}\n{Trouble.of(seed)}")
        raise


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take the seeds that the command line names, or the first so many."""
    if "seed" in metafunc.fixturenames:
        own = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", own or range(metafunc.config.getoption("--seeds") or SEEDS))


def test_what_is_ignored_is_what_one_undisturbed_process_ignores(seed: int) -> None:
    """Whatever happens, no person and no pair; where nothing is lost, neither more nor less than without trouble."""
    with named(seed):
        told = play(seed)
        _hold_what_always_holds(told)
        expected = {line.request_id: line.decision_id for line in oracle(told.street)}
        assert set(expected) <= may_be_ignored(told.street), "the sounds are too much alike"
        if told.faults.harmless:
            ids = {decision.request_id: decision.decision_id for decision in told.decisions()}
            either = left_to_averages(told.street, ROOMY.window_s) if told.happened["started_anew"] else set()
            assert {name: ids[name] for name in ids.keys() - either} == {
                name: expected[name] for name in expected.keys() - either
            }


def test_slight_trouble_beyond_the_contract_leaves_most_as_it_is() -> None:
    """One record in fifty is lost, one in twenty comes late: whoever ignored nothing then would be as harmless."""
    wanted = ignored = 0
    for seed in range(1, SEEDS, 2):
        faults = Faults.of(seed)
        if faults.skewed or max(faults.dropped, faults.delayed) > 0.05:
            continue
        told = play(seed)
        if told.settings is ROOMY and not told.happened["silent"]:
            expected = {line.request_id for line in oracle(told.street)}
            wanted += len(expected)
            ignored += len(expected & {decision.request_id for decision in told.decisions()})
    assert wanted > 50
    assert ignored > wanted * 2 / 3


def _hold_what_always_holds(told: Told) -> None:
    requests = {request.request_id: request for request in told.street.requests}
    decisions = told.decisions()
    people = {decision.request_id for decision in decisions if decision.request_id.startswith("p")}
    assert not people, "people are ignored"
    assert {decision.request_id for decision in decisions} <= may_be_ignored(told.street), "pairs are ignored"
    for decision in decisions:
        request = requests[decision.request_id]
        assert decision.verdict == Decision.IGNORE
        assert decision.decision_id == decision_id(request.request_id)
        assert not decision.shadow
        assert (decision.household_id, decision.device_id) == (request.household, request.device)
        assert decision.households >= 3
    ids = {(decision.request_id, decision.decision_id) for decision in decisions}
    assert len(ids) == len(dict(ids)) == len({name for _, name in ids}), "duplicates do not share their id"
    garbage = {
        (record.partition, record.offset) for log in told.log.values() for record in log if record.value == GARBAGE
    }
    assert garbage <= told.letters()
    assert garbage == told.letters() or not told.faults.harmless
    for marks_us in told.job.low_marks_us:
        assert all(before <= after for before, after in pairwise(marks_us)), "a low mark goes back"
    assert told.job.most_open <= told.settings.max_open_requests
    assert told.job.most_held <= told.max_held
    assert told.job.most_window <= told.settings.window_requests


def test_the_same_seed_comes_to_the_same_bytes() -> None:
    """Twice here, and in a process in which sets and dictionaries of texts have another order."""
    digests = [play(seed).digest() for seed in REPEATED]
    assert [play(seed).digest() for seed in REPEATED] == digests
    ask = "from test_simulation import *; print(*(play(seed).digest() for seed in REPEATED))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", ask]
    answer = subprocess.run(command, env=environment, cwd=Path(__file__).parent, check=True, stdout=subprocess.PIPE)
    assert answer.stdout.decode().split() == digests


def test_the_seeds_have_every_kind_of_trouble() -> None:
    """In traffic of which a good part is to be ignored: else none of the above would say anything."""
    happened: Counter[str] = Counter()
    for seed in range(12):
        happened += play(seed).happened
    assert set(happened) >= {
        "commit_failed", "decide_failed", "lost_worker", "paused", "read_failed", "restored", "silent", "split",
        "started_anew",
    }  # fmt: skip

"""The one-process run: the job's decisions without the job, and what other budgets come to."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from sounds import write_recording
from stage import truth_of

from pipeline.decisions import DecisionLine
from pipeline.evaluate.offline import Heard, decide, hear
from pipeline.evaluate.score import score
from pipeline.evaluate.sweep import BUDGETS, sweep, sweep_table
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.trial import run_trial


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("recording")
    return Recording.load(write_recording(folder, 3, events=2, homes=4, live=6, reruns=1, pairs=1))


@pytest.fixture(scope="module")
def heard(small: Recording) -> Heard:
    return hear(small, Settings())


def told(decisions: list[DecisionLine]) -> list[DecisionLine]:
    """What does not depend on when the job ran, by request."""
    plain = [decision.model_copy(update={"latency_ms": None, "late": False}) for decision in decisions]
    return sorted(plain, key=lambda decision: decision.request_id)


def test_one_process_decides_what_the_job_decides(small: Recording, heard: Heard, kafka: str) -> None:
    """Requests, reasons, media, households, audio used, rates and scores, to the last digit."""
    trial = run_trial(small, Settings(), kafka, speed=None, partitions=3)
    assert truth_of(small, "ignore") <= {decision.request_id for decision in trial.decisions}
    assert told(trial.decisions) == told(decide(heard))


def test_it_ignores_what_the_labels_say(small: Recording, heard: Heard) -> None:
    """All media and nobody else."""
    assert {decision.request_id for decision in decide(heard)} == truth_of(small, "ignore", "ignore_by_cache")


def test_growths_serve_any_number_of_runs(heard: Heard) -> None:
    """Deciding changes nothing about them."""
    assert decide(heard) == decide(heard)


def test_a_sweep_is_the_run_at_each_budget(small: Recording, heard: Heard) -> None:
    """More budget never ignores less; each row is what the run at that budget scores."""
    told_of: list[tuple[int, int]] = []
    own = replace(heard, settings=Settings(false_ignore_budget=3e-6))
    rows = sweep(small, own, lambda done, total: told_of.append((done, total)))
    assert [row.budget for row in rows] == sorted([*BUDGETS, 3e-6])
    assert told_of == [(done, len(rows)) for done in range(1, len(rows) + 1)]
    again = score(small, decide(heard, rows[-1].budget))
    assert (rows[-1].recall, rows[-1].false_ignores) == (again.recall, again.false_ignores)
    assert rows[0].recall.ignored <= rows[-1].recall.ignored
    shown = StringIO()
    Console(file=shown, width=140).print(sweep_table(rows, 3e-6))
    assert "> 3e-06" in shown.getvalue()
    assert json.loads(json.dumps(rows[0].to_json()))["recall"]["expected"] == rows[0].recall.expected

"""The decisions of the job over a recording, without the job: one process, no broker, no Beam.

Chunks, assembly and route are the job's own; what is left out only moves records. Fingerprints are grown once and may
then be decided about many times.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from matcher.evidence import Calibration
from matcher.growth import Growth
from matcher.observer import Observer
from matcher.outcome import Outcome
from matcher.policy import Policy
from matcher.route import Route
from pipeline.assembly import Assembler, nothing
from pipeline.decisions import DecisionLine
from pipeline.known import KnownCatalogue
from pipeline.matching import limits_of, load_bits, load_calibration, policy_of
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.options import Settings
from pipeline.pseudonyms import pseudonyms_of
from pipeline.recordings.departures import Programme, departures
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import END_MARK_AFTER_S
from pipeline.wire import decision

# Any zero will do: no decision depends on the date.
EPOCH_S = 1_000_000_000
_EPOCH_US = EPOCH_S * 1_000_000


@dataclass(frozen=True)
class Heard:
    """All growths of a recording, each with its route, in the order of capture; and what they are decided by."""

    growths: tuple[tuple[str, Growth], ...]
    settings: Settings
    calibration: Calibration

    def routes(self) -> list[str]:
        """Names of the routes, "wake word/locale/shard"."""
        return sorted({name for name, _ in self.growths})

    def fingerprints(self) -> dict[str, npt.NDArray[np.uint64]]:
        """Whole fingerprints by request id, uint64 (n,); what ended, or was known, before its first look has none."""
        return {growth.request_id: growth.words for _, growth in self.growths if growth.known is None}


def hear(
    recording: Recording,
    settings: Settings,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
    known: KnownCatalogue | None = None,
) -> Heard:
    """Grow the fingerprints of a recording as the job would from its replay.

    Args:
        recording: its truth is not looked at.
        settings: of the job.
        seed: of the cuts between chunks, as for a replay.
        progress: called with the number of requests that have been read.
        known: known media; none by default.

    Raises:
        ConfigError: filters or calibration cannot be used.
        RecordingError: a request's audio cannot be read.

    """
    calibration = load_calibration(settings)
    of = nothing if known is None else known.of
    assembler = Assembler(limits_of(settings), load_bits(settings), {0: 0}, known=of, names=pseudonyms_of(settings))
    growths: list[tuple[str, Growth]] = []
    records = done = end_us = 0

    def take(message: AudioChunk) -> None:
        nonlocal records
        assembler.take(0, records, end_us, message.SerializeToString())
        records += 1
        growths.extend((route, growth) for route, found in assembler.release().items() for growth in found)

    for departure in departures(recording, _EPOCH_US, Programme(seed=seed)):
        end_us = _EPOCH_US + departure.at_us
        take(departure.message)
        done += departure.message.final
        progress(done)
    take(AudioChunk(low_mark_us=end_us + round(END_MARK_AFTER_S * 1e6)))
    # Within a release they are by route; averages pass between the shards of one in the order of capture.
    growths.sort(key=lambda item: (item[1].end_us, item[1].request_id))
    return Heard(tuple(growths), settings, calibration)


def decide(
    heard: Heard,
    false_ignore_budget: float | None = None,
    observe: Callable[[Route], Observer] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[DecisionLine]:
    """Let fresh routes decide about what was heard.

    Args:
        heard: from `hear`.
        false_ignore_budget: in the place of the settings' own.
        observe: gives each route the one who watches it.
        progress: called with the number of growths that have been decided about.

    """
    policy = policy_of(heard.settings)
    if false_ignore_budget is not None:
        policy = replace(policy, false_ignore_budget=false_ignore_budget)
    routes = {name: _route(name, policy, heard.calibration, observe) for name in heard.routes()}
    decisions: list[DecisionLine] = []
    for number, (name, growth) in enumerate(heard.growths, start=1):
        outcome = routes[name].hear([growth], growth.end_us)
        _tell(outcome, name, routes)
        decisions += _lines(outcome, name, heard)
        progress(number)
    return decisions


def _route(name: str, policy: Policy, calibration: Calibration, observe: Callable[[Route], Observer] | None) -> Route:
    route = Route(name, policy, calibration)
    if observe is not None:
        route.observer = observe(route)
    return route


def _tell(outcome: Outcome, name: str, routes: dict[str, Route]) -> None:
    """Let the other shards learn what one has discovered, as they do through the media topic."""
    for other in routes.values():
        if other.name != name and other.name.rsplit("/", 1)[0] == name.rsplit("/", 1)[0]:
            for average in outcome.averages.values():
                other.learn(average)


def _lines(outcome: Outcome, name: str, heard: Heard) -> Iterable[DecisionLine]:
    for ignore in outcome.ignores:
        message = decision(ignore, name, heard.calibration.version, late=False, shadow=heard.settings.shadow)
        yield DecisionLine.from_message(message, EPOCH_S, None)

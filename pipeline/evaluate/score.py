"""Decisions held against a recording's truth: recall, false ignores, audio used, latency. Pure: nothing is read."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from pipeline.decisions import DecisionLine
from pipeline.recordings.recording import Recording, RecordingError, Truth

HOUSEHOLD_BINS = ((3, 4), (5, 9), (10, 29), (30, None))


@dataclass(frozen=True)
class Recall:
    """How many of the requests that should have been ignored were."""

    label: str
    ignored: int
    expected: int

    @property
    def rate(self) -> float | None:
        """The share, or None where nothing was expected."""
        return self.ignored / self.expected if self.expected else None


@dataclass(frozen=True)
class Spread:
    """Quantiles of a measure; None where there was nothing to measure."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Measure them, interpolating between neighbours."""
        if not values:
            return cls(0, None, None, None)
        p50, p90, p99 = (round(float(q), 3) for q in np.percentile(values, [50, 90, 99]))
        return cls(len(values), p50, p90, p99)


@dataclass(frozen=True)
class FalseIgnores:
    """Requests that had to be accepted and were ignored."""

    request_ids: tuple[str, ...]
    accepted_expected: int
    upper_bound_95: float | None  # one-sided, of the rate; exact binomial (Clopper and Pearson)
    # Those of them that were ignored as the same media as another request of their own voice: a synthetic voice that
    # repeats its words nearly repeats the sound, as no person does. The others were joined to strangers.
    own_voice: tuple[str, ...] = ()
    three_voices: tuple[str, ...] = ()  # those whose media joins three voices or more


@dataclass(frozen=True)
class Report:
    """What the decisions were worth. Late and shadow decisions count as ignored; how many there were is said."""

    requests: int
    labelled: int
    ignored: int
    recall: Recall
    recall_by_snr: tuple[Recall, ...]
    recall_by_households: tuple[Recall, ...]
    recall_large_loud: Recall  # at least 10 households, at least 10 dB
    recall_rerun: Recall  # expect ignore_by_cache
    recall_known: Recall  # those of them whose recording is known media
    false_ignores: FalseIgnores
    audio_used_after_wake_word_ms: Spread  # over ignored requests with expect ignore
    latency_ms: Spread
    duplicates: int  # decisions for a request that had one already
    conflicting_decision_ids: int  # requests whose decisions carry different ids
    unknown_requests: tuple[str, ...]  # decided, but not in the recording
    late: int
    shadow: int
    reasons: dict[str, int]  # ignored requests by the reason of their first decision

    def to_json(self) -> dict[str, Any]:
        """Give plain values for `json.dumps`; each recall has its `rate`."""

        def plain(value: Any) -> Any:
            if isinstance(value, Recall):
                return {**asdict(value), "rate": value.rate}
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            return asdict(value) if isinstance(value, Spread | FalseIgnores) else value  # numbers, and counts by name

        return {name: plain(value) for name, value in vars(self).items()}

    def table(self) -> RenderableType:
        """Draw it for people."""
        recall = Table("requests that should be ignored", title="Recall", title_justify="left")
        for heading in ("ignored", "of", "share"):
            recall.add_column(heading, justify="right")
        sections = (
            (self.recall,),
            self.recall_by_snr,
            self.recall_by_households,
            (self.recall_large_loud, self.recall_rerun),
            (self.recall_known,) if self.recall_known.expected else (),
        )
        for section in sections:
            for row in section:
                share = "-" if row.rate is None else f"{row.rate:.1%}"
                recall.add_row(row.label, str(row.ignored), str(row.expected), share)
            recall.add_section()
        facts = Table("measure", "value", title="Everything else", title_justify="left")
        for name, value in self._facts():
            facts.add_row(name, value)
        return Group(recall, "", facts)

    def _facts(self) -> list[tuple[str, str]]:
        wrong = self.false_ignores
        bound = "-" if wrong.upper_bound_95 is None else f"{wrong.upper_bound_95:.3%}"
        facts = [
            ("false ignores", f"{len(wrong.request_ids)} of {wrong.accepted_expected} (rate at most {bound}, 95 %)"),
            ("audio used after the wake word begins", _quantiles(self.audio_used_after_wake_word_ms, "p50", "p90")),
            ("pipeline latency", _quantiles(self.latency_ms, "p50", "p99")),
            ("requests ignored", f"{self.ignored} of {self.requests} ({self.labelled} labelled)"),
            ("by reason", ", ".join(f"{name} {count}" for name, count in sorted(self.reasons.items())) or "-"),
            ("duplicate decisions", f"{self.duplicates} ({self.conflicting_decision_ids} with conflicting ids)"),
            ("late / shadow decisions", f"{self.late} / {self.shadow}"),
        ]
        if wrong.request_ids:
            facts.insert(1, ("falsely ignored", _some(wrong.request_ids)))
        if wrong.own_voice:
            facts.insert(2, ("of these with another request of their own voice", str(len(wrong.own_voice))))
        if self.unknown_requests:
            facts.append(("ERROR: decided, not in the recording", _some(self.unknown_requests)))
        return facts


def require_labels(recording: Recording) -> None:
    """Raise RecordingError when there is no truth to score by."""
    if not recording.truth:
        raise RecordingError(
            f"{recording.folder} is not labelled: no line of its manifest has `expect`, so there is nothing to score by"
        )


def score(recording: Recording, decisions: Iterable[DecisionLine]) -> Report:
    """Hold decisions against the truth; of several for one request the first counts.

    Raises:
        RecordingError: the recording has no labels.

    """
    require_labels(recording)
    known = {request.request_id for request in recording.requests}
    first: dict[str, DecisionLine] = {}
    ids: defaultdict[str, set[str | None]] = defaultdict(set)
    duplicates = late = shadow = 0
    latencies_ms = []
    for decision in decisions:
        ids[decision.request_id].add(decision.decision_id)
        if decision.request_id in first:
            duplicates += 1
            continue
        first[decision.request_id] = decision
        late += decision.late
        shadow += decision.shadow
        if decision.latency_ms is not None:
            latencies_ms.append(decision.latency_ms)

    truth = list(recording.truth.values())
    expected = [label for label in truth if label.expect == "ignore"]

    def recall(name: str, among: Iterable[Truth], where: Callable[[Truth], bool] = lambda _: True) -> Recall:
        chosen = [label.request_id in first for label in among if where(label)]
        return Recall(name, sum(chosen), len(chosen))

    def of_snr(snr_db: float) -> Recall:
        return recall(f"{snr_db:g} dB", expected, lambda label: label.snr_db == snr_db)

    def of_size(least: int, most: int | None) -> Recall:
        name = f"{least}+ households" if most is None else f"{least}-{most} households"
        return recall(
            name, expected, lambda label: least <= label.households_in_event <= (most or label.households_in_event)
        )

    levels = sorted({label.snr_db for label in expected if label.snr_db is not None}, reverse=True)
    accepted = [label.request_id for label in truth if label.expect == "accept"]
    wrong = tuple(request_id for request_id in accepted if request_id in first)
    voices = Counter((first[label.request_id].media_id, label.voice) for label in truth if label.request_id in first)
    spoken = Counter(media_id for media_id, _ in voices)
    three_voices = tuple(request_id for request_id in wrong if spoken[first[request_id].media_id] >= 3)
    own_voice = tuple(
        label.request_id
        for label in truth
        if label.request_id in wrong
        and label.voice is not None
        and voices[first[label.request_id].media_id, label.voice] > 1
    )
    used_ms = [
        first[label.request_id].audio_used_ms - 1000 * label.wake_word_start_s
        for label in expected
        if label.request_id in first and label.wake_word_start_s is not None
    ]
    return Report(
        requests=len(known),
        labelled=len(truth),
        ignored=len(first.keys() & known),
        recall=recall("all", expected),
        recall_by_snr=tuple(of_snr(level) for level in levels),
        recall_by_households=tuple(of_size(*sizes) for sizes in HOUSEHOLD_BINS),
        recall_large_loud=recall(
            "10+ households at 10+ dB",
            expected,
            lambda label: label.households_in_event >= 10 and label.snr_db is not None and label.snr_db >= 10,
        ),
        recall_rerun=recall("re-runs (by the cache)", [label for label in truth if label.expect == "ignore_by_cache"]),
        recall_known=recall("known media", [label for label in expected if label.known]),
        false_ignores=FalseIgnores(
            wrong, len(accepted), rate_bound_95(len(wrong), len(accepted)), own_voice, three_voices
        ),
        audio_used_after_wake_word_ms=Spread.of(used_ms),
        latency_ms=Spread.of(latencies_ms),
        duplicates=duplicates,
        conflicting_decision_ids=sum(len(given) > 1 for given in ids.values()),
        unknown_requests=tuple(sorted(first.keys() - known)),
        late=late,
        shadow=shadow,
        reasons=dict(Counter(first[request_id].reason for request_id in first.keys() & known)),
    )


def rate_bound_95(count: int, trials: int) -> float | None:
    """Give the rate that is exceeded with 5 % confidence at most: the upper end of Clopper and Pearson's interval.

    The bound solves P(X <= count) = 0.05 for X binomial over `trials`; with none seen it is 1 - 0.05^(1/trials).
    None where nothing was tried.
    """
    from scipy.special import betaincinv  # half a second that `hushword --help` need not wait for

    if trials == 0:
        return None
    return 1.0 if count == trials else float(betaincinv(count + 1, trials - count, 0.95))


def _quantiles(spread: Spread, *names: str) -> str:
    if not spread.count:
        return "-"
    label = {"p50": "median", "p90": "90 %", "p99": "99 %"}
    return ", ".join(f"{label[name]} {getattr(spread, name):.0f} ms" for name in names)


def _some(request_ids: tuple[str, ...], most: int = 10) -> str:
    more = f" and {len(request_ids) - most} more" if len(request_ids) > most else ""
    return ", ".join(request_ids[:most]) + more

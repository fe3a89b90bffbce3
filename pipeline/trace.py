"""What the looks of one request came to: an observer of its route, and how near it came."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from matcher.catalogue import Average
from matcher.event import Triple
from matcher.evidence import Comparison, Evidence
from matcher.grid import HOP_MS
from matcher.growth import Growth
from matcher.known import KnownMatch
from matcher.outcome import Ignore, Reason
from matcher.window import Request

BEST_PAIRS = 5


@dataclass(frozen=True)
class Candidate:
    """One comparison of the request: with another request, or with an average."""

    name: str
    household: str | None
    score: float | None  # None: too little in common to be scored
    bit_error_rate: float
    words: int
    alignment_ms: int

    @classmethod
    def of(cls, name: str, household: str | None, evidence: Evidence) -> "Candidate":
        """Round what is shown."""
        score = round(evidence.score, 3) if np.isfinite(evidence.score) else None
        rate = round(evidence.rate, 4)
        return cls(name, household, score, rate, evidence.words, evidence.alignment * HOP_MS)


@dataclass(frozen=True)
class Step:
    """One thing that was tried: at which event time, with how much audio, and what was needed.

    kind is "known" (the reader recognised it), "averages" (the request against the catalogue), "triple" (against the
    window), "sweep" (an event's average against it) or "blocked"; score is what was held against the threshold, which
    only the reader knows of "known".
    """

    kind: str
    at_us: int
    audio_ms: int
    compared: int
    score: float | None
    threshold: float | None
    candidates: tuple[Candidate, ...]
    triple: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the score sufficed."""
        return self.score is not None and self.threshold is not None and self.score >= self.threshold


@dataclass
class Trace:
    """Watches a route for what concerns one request; `at_us` is set to each growth's time before it is heard."""

    request_id: str
    at_us: int = 0
    steps: list[Step] = field(default_factory=list)

    def blocked(self, request: Request) -> None:
        """It sounds like something that is blocked."""
        if request.request_id == self.request_id:
            self.steps.append(Step("blocked", self.at_us, request.audio_ms, 0, None, None, ()))

    def known(self, growth: Growth, match: KnownMatch, *, blocked: bool) -> None:
        """It was recognised, and perhaps blocked all the same."""
        if growth.request_id == self.request_id:
            candidate = Candidate.of(match.media_id, None, match.evidence)
            self.steps.append(Step("known", self.at_us, growth.audio_ms, 1, candidate.score, None, (candidate,)))
            if blocked:
                self.steps.append(Step("blocked", self.at_us, growth.audio_ms, 0, None, None, ()))

    def catalogue(self, request: Request, best: tuple[Average, Evidence] | None, tried: int, threshold: float) -> None:
        """It was held against the averages."""
        if request.request_id != self.request_id or not tried:
            return
        candidates = () if best is None else (Candidate.of(best[0].media_id, None, best[1]),)
        score = candidates[0].score if candidates else None
        self.steps.append(Step("averages", self.at_us, request.audio_ms, tried, score, threshold, candidates))

    def search(
        self, request: Request, others: Sequence[Request], found: Comparison, triple: Triple | None, threshold: float
    ) -> None:
        """It was held against others, or is one of three that another one found."""
        rows = {other.row: other for other in others} | {request.row: request}
        members = [rows[row] for row in triple.rows] if triple is not None else []
        own = request.request_id == self.request_id
        if not own and self.request_id not in {member.request_id for member in members}:
            return
        subject = next(r for r in rows.values() if r.request_id == self.request_id)
        if subject.ignored:
            return
        best = np.argsort(-found.scores, kind="stable")[:BEST_PAIRS]
        candidates = tuple(
            Candidate.of(others[position].request_id, others[position].household, found.at(int(position)))
            for position in best
            if own or others[position] is subject
        )
        self.steps.append(
            Step(
                "triple",
                self.at_us,
                subject.audio_ms,
                len(others),
                round(triple.score, 3) if triple is not None else None,
                threshold,
                candidates,
                tuple(sorted(member.request_id for member in members)),
            )
        )

    def sweep(self, media_id: str, others: Sequence[Request], found: Comparison, threshold: float) -> None:
        """An event's average was held against it."""
        for position, other in enumerate(others):
            if other.request_id == self.request_id:
                candidate = Candidate.of(media_id, None, found.at(position))
                step = Step("sweep", self.at_us, other.audio_ms, 1, candidate.score, threshold, (candidate,))
                self.steps.append(step)

    def nearest(self) -> Step | None:
        """Give the step whose score came nearest to its threshold, or went furthest over it."""
        scored = [step for step in self.steps if step.score is not None and step.threshold]
        return max(scored, key=lambda step: (step.score or 0.0) / (step.threshold or 1.0), default=None)


@dataclass(frozen=True)
class Explanation:
    """Why a request was ignored, or how near it came.

    window_requests: others that were in the route's window with it; averages: that it was held against at most;
    known_entries: of known media, likewise.
    published: the decision on the topic, where there is one; notes: what makes the regrown differ from what ran.
    """

    request_id: str
    route: str
    household: str
    device: str
    start_us: int
    audio_ms: int
    window_requests: int
    averages: int
    known_entries: int
    blocked_averages: int
    ignore: Ignore | None
    published: dict[str, Any] | None
    steps: tuple[Step, ...]
    nearest: Step | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give plain values for `json.dumps`."""
        plain = {name: value for name, value in vars(self).items() if name not in ("ignore", "steps", "nearest")}
        ignore = None
        if self.ignore is not None:
            ignore = {**asdict(self.ignore), "reason": self.ignore.reason.name}
        return {
            **plain,
            "ignored": ignore is not None,
            "ignore": ignore,
            "nearest": None if self.nearest is None else asdict(self.nearest),
            "steps": [asdict(step) for step in self.steps],
        }

    def sentence(self) -> str:
        """Say it in one."""
        if self.ignore is not None and self.ignore.reason is Reason.KNOWN:
            return (
                f"ignored (KNOWN) by {self.ignore.media_id}, a clean recording, with {self.ignore.audio_used_ms} ms of"
                f" its audio: score {self.ignore.score:.2f}"
            )
        if self.ignore is not None:
            deciding = [step.threshold for step in self.steps if step.passed and step.threshold is not None]
            return (
                f"ignored ({self.ignore.reason.name}) by {self.ignore.media_id} of {self.ignore.households} households,"
                f" with {self.ignore.audio_used_ms} ms of its audio: score {self.ignore.score:.2f}"
                f" where {deciding[-1]:.2f} is needed"
            )
        if any(step.kind == "blocked" for step in self.steps):
            return "accepted: it sounds like something that is blocked"
        if not self.steps:
            return f"accepted: nothing was there to compare its {self.audio_ms} ms of audio with"
        if self.nearest is None or self.nearest.score is None:
            return "accepted: no two others agree with it enough to be looked at as three"
        return (
            f"accepted: its best score ({self.nearest.kind}, with {self.nearest.audio_ms} ms of its audio) is"
            f" {self.nearest.score:.2f} where {self.nearest.threshold:.2f} is needed"
        )

"""Media events: what three or more households heard at once, and the average of their fingerprints."""

from dataclasses import dataclass, field

import numba as nb
import numpy as np
import numpy.typing as npt

from matcher.bits import BITS_PER_WORD
from matcher.evidence import MIN_WORDS
from matcher.fingerprint import MAX_WORDS
from matcher.kernels import errors_between, majority, rates_against_others
from matcher.known import KnownMatch

# More voters than this change an average no more: the bits of 30 households and of 10 differ by a point.
MAX_VOTERS = 64
# Of two fingerprints with nothing in common half of the bits differ, at the best of the alignments a little less.
HOLDING_RATE = 0.45
# Of a triple's three pairs together so much counts.
ALL_PAIRS_WEIGHT = 4 / 7
# Two alignments of 20 ms steps, each rounded, add up to the third within this.
CONSISTENT_WORDS = 2


@dataclass(frozen=True, slots=True)
class Triple:
    """Three requests of three households whose pairs all agree.

    score is that of `triple_score`.
    """

    rows: tuple[int, int, int]
    alignments: tuple[int, int]
    score: float


@nb.njit(cache=True)
def triple_score(first: float, second: float, third: float) -> float:
    """Score three pairs: the sum of the weaker two, or 4/7 of that of all three where this is less.

    Beside two homes of one airing chance brings the weaker two, whatever those homes agree: so the strongest counts no
    more than 3/4 of the others together. Up to there it does count: among strangers it is as rare as they are.
    """
    of_all = first + second + third
    return min(of_all - max(first, second, third), ALL_PAIRS_WEIGHT * of_all)


def best_triple(
    row: int,
    rows: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64],
    alignments: npt.NDArray[np.int32],
    between: npt.NDArray[np.float64],
    between_alignments: npt.NDArray[np.int32],
) -> Triple | None:
    """Find the best consistent triple of one request and two of its candidates.

    Args:
        row: the request's.
        rows: int64 (m,), candidates, all of different households.
        scores: float64 (m,), of the request with each candidate.
        alignments: int32 (m,), likewise, in words.
        between: float64 (m, m), scores between candidates i < j; -inf where there is no edge.
        between_alignments: int32 (m, m), likewise.

    Returns:
        The triple of the highest score, or None; its alignments are those of the two candidates to the request.

    """
    best: Triple | None = None
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            edge = between[i, j]
            if edge == -np.inf or abs(alignments[i] + between_alignments[i, j] - alignments[j]) > CONSISTENT_WORDS:
                continue
            score = float(triple_score(scores[i], scores[j], edge))
            if best is None or score > best.score:
                best = Triple((row, int(rows[i]), int(rows[j])), (int(alignments[i]), int(alignments[j])), score)
    return best


@dataclass(eq=False)
class Event:
    """A media event while its requests are in the window: members may still grow, and others may join.

    One request votes for a household, however many devices heard it.
    """

    media_id: str
    discovered_us: int
    households: set[str] = field(default_factory=set)
    members: dict[str, int] = field(default_factory=dict)  # request_id -> row of the arrays below
    voters: dict[str, str] = field(default_factory=dict)  # household -> the request that votes for it
    alignments: list[int] = field(default_factory=list)
    rebuilt_us: int = 0
    last_joined_us: int = 0
    published_households: int = 0
    known: KnownMatch | None = None  # what known media the most certain of its requests agrees with

    def __post_init__(self) -> None:
        """Start with room for the three that found it."""
        self.words = np.zeros((4, MAX_WORDS), np.uint64)
        self.lengths = np.zeros(4, np.int32)

    def join(self, request_id: str, household: str, alignment: int, words: npt.NDArray[np.uint64], at_us: int) -> None:
        """Add a household; its further requests, and those beyond MAX_VOTERS, are heard but do not vote.

        Args:
            request_id: the member's.
            household: the member's.
            alignment: word k of the average is the member's word k + alignment.
            words: uint64 (n,), its words so far.
            at_us: event time.

        """
        self.last_joined_us = max(self.last_joined_us, at_us)
        if household in self.households or len(self.members) >= MAX_VOTERS:
            self.households.add(household)
            return
        self.households.add(household)
        row = len(self.members)
        if row == len(self.lengths):
            self.words = np.concatenate((self.words, np.zeros_like(self.words)))
            self.lengths = np.concatenate((self.lengths, np.zeros_like(self.lengths)))
        self.members[request_id] = row
        self.voters[household] = request_id
        self.alignments.append(alignment)
        self.grow(request_id, words)

    def lean(self, known: KnownMatch | None) -> None:
        """Take note of what known media one of its requests agrees with."""
        if known is not None and (self.known is None or known.evidence.score > self.known.evidence.score):
            self.known = known

    def leave(self, household: str) -> None:
        """Take a household out, and what it voted; the average is as if it had never been there."""
        self.households.discard(household)
        request_id = self.voters.pop(household, None)
        if request_id is None:
            return
        row, last = self.members.pop(request_id), len(self.members)
        # In order: who came first decides where votes are even.
        self.words[row:last], self.lengths[row:last] = self.words[row + 1 : last + 1], self.lengths[row + 1 : last + 1]
        self.words[last], self.lengths[last] = 0, 0
        del self.alignments[row]
        self.members = {name: at - (at > row) for name, at in self.members.items()}

    def grow(self, request_id: str, words: npt.NDArray[np.uint64]) -> None:
        """Take a member's words so far; nothing happens when it does not vote."""
        row = self.members.get(request_id)
        if row is not None:
            self.words[row, : len(words)] = words
            self.lengths[row] = len(words)

    def average(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
        """Bit-wise majority of the members that hold against the majority of the others.

        Returns:
            Words uint64 (n,) and votes uint8 (n,), up to the last word that at least two members have.

        """
        rows, alignments = np.arange(len(self.members), dtype=np.int64), np.array(self.alignments, np.int32)
        if len(rows) > 3:
            rates, compared = np.empty(len(rows), np.float32), np.empty(len(rows), np.int32)
            rates_against_others(self.words, self.lengths, rows, alignments, rates, compared)
            holding = (compared < MIN_WORDS) | (rates < HOLDING_RATE)
            if np.count_nonzero(holding) >= 3:
                rows, alignments = rows[holding], alignments[holding]
        words, votes = np.zeros(MAX_WORDS, np.uint64), np.zeros(MAX_WORDS, np.uint8)
        majority(self.words, self.lengths, rows, alignments, words, votes)
        shared = np.flatnonzero(votes >= 2)
        n = int(shared[-1]) + 1 if len(shared) else 0
        return words[:n], votes[:n]

    def agreement(self, words: npt.NDArray[np.uint64]) -> float:
        """Share of the voters' bits that are as an average's: uint64 (n,), as `average` gave it; 0 without any."""
        errors = compared = 0
        for row, alignment in zip(self.members.values(), self.alignments, strict=True):
            start = max(0, -alignment)
            count = min(len(words), int(self.lengths[row]) - alignment) - start
            if count > 0:
                errors += errors_between(words, self.words[row], start, start + alignment, count)
                compared += count * BITS_PER_WORD
        return 1 - errors / compared if compared else 0.0

"""Measures the null: what matching gives between requests that have nothing to do with each other.

The method, step by step, is in docs/calibration.md.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from matcher.bits import Bits, LearnedBits
from matcher.event import CONSISTENT_WORDS, triple_score
from matcher.evidence import ALIGNMENTS, FILTERS, MIN_WORDS, Calibration, Tail, compare
from matcher.fingerprint import MAX_WORDS
from matcher.kernels import one_against_many
from matcher.looks import Looks, look_words
from matcher.search import EDGE_SCORE

# The tail is fitted to the excesses over the score that so many of the trials reach.
TAIL_SHARE = 0.01
# The same for pairs, of which there are more; and what a normal variable exceeds with probability 1e-5.
PAIR_TAIL_SHARE = 0.001
# How the null widens with the range of levels is read off what a thousandth of the pairs exceed, in so many parts of
# them by their range; of fewer people it cannot be told. Of a range that hardly anybody has nothing is known, and a hum
# in two homes must not make them surer.
WIDENING_SHARE, WIDENING_PARTS, WIDENING_PEOPLE, LEAST_RANGE = 0.001, 10, 400, 0.02
# How much of the difference between looks a score makes up for. All of it would give every look the same share of the
# budget; with less of it the early ones get more, where most decisions fall.
EASING = 0.65
# A triple's tail is fitted to so many of the highest; fewer than these say nothing of a tail.
TOP_TRIPLES, MIN_EXCESSES = 200, 20
NORMAL_1E5 = 4.2649


class NullError(ValueError):
    """Too little to measure a null from."""


@dataclass(frozen=True, eq=False)
class Unrelated:
    """Fingerprints of requests by single persons, all of them full at their last look.

    Attributes:
        people: the R requests.
        strangers: bool (R, R), symmetric: pairs by different persons. Others are never held against each other,
            because a synthetic voice that repeats its words makes the same sound.
        averages: averages of media events, uint64 (n,) each.
        average_strangers: bool (R, len(averages)): by different persons.
        airings: of some homes that heard one medium each.
        airing_strangers: bool (R, len(airings)): by different persons.
        apart: bool (R, R), symmetric: strangers, and different persons who are never compared, as they say different
            wake words; they are in each other's cohort all the same. None: everybody may be compared.

    """

    people: Looks
    strangers: npt.NDArray[np.bool_]
    averages: Sequence[npt.NDArray[np.uint64]]
    average_strangers: npt.NDArray[np.bool_]
    airings: Sequence[Looks]
    airing_strangers: npt.NDArray[np.bool_]
    apart: npt.NDArray[np.bool_] | None = None


def pair_matrix(
    words: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64], length: int, other_length: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Lowest bit error rates of each of R fingerprints at `length` words with each of S at `other_length`.

    Returns:
        Rates float32 (R, S) and alignments int32 (R, S).

    """
    shape = len(words), len(others)
    rates, alignments, compared = np.empty(shape, np.float32), np.empty(shape, np.int32), np.empty(shape, np.int32)
    lengths, rows = np.full(len(others), other_length, np.int32), np.arange(len(others), dtype=np.int64)
    for i, row in enumerate(words):
        one_against_many(
            row[:length], others, lengths, rows, ALIGNMENTS, MIN_WORDS, rates[i], alignments[i], compared[i]
        )
    return rates, alignments


@nb.njit(cache=True)
def consistent_triples(
    scores: npt.NDArray[np.float32],
    alignments: npt.NDArray[np.int32],
    floor: float,
    out: npt.NDArray[np.int32],
    out_scores: npt.NDArray[np.float32],
) -> int:
    """Find every consistent triple of requests whose score is over a floor; the rule of `best_triple`.

    Args:
        scores: float32 (R, R), of pairs; -inf where two shall not be held against each other.
        alignments: int32 (R, R), likewise.
        floor: at least twice EDGE_SCORE, or more would be found than looked for.
        out: int32 (m, 3), filled with rising requests as far as it reaches.
        out_scores: float32 (m,), their scores.

    Returns:
        How many there are.

    """
    found = 0
    requests = len(scores)
    near = np.empty(requests, np.int64)
    for i in range(requests):
        count = 0
        for j in range(i + 1, requests):
            if scores[i, j] > EDGE_SCORE:
                near[count] = j
                count += 1
        for a in range(count):
            j = near[a]
            for b in range(a + 1, count):
                k = near[b]
                if scores[j, k] <= EDGE_SCORE:
                    continue
                if abs(alignments[i, j] + alignments[j, k] - alignments[i, k]) > CONSISTENT_WORDS:
                    continue
                score = triple_score(scores[i, j], scores[i, k], scores[j, k])
                if score > floor:
                    if found < len(out):
                        out[found, 0], out[found, 1], out[found, 2] = i, j, k
                        out_scores[found] = score
                    found += 1
    return found


@nb.njit(cache=True)
def best_beside(
    scores: npt.NDArray[np.float32],
    alignments: npt.NDArray[np.int32],
    between: npt.NDArray[np.int32],
    out: npt.NDArray[np.float32],
) -> None:
    """Raise out[i] to the best sum of request i's scores with two homes that line up, as a triple with them has it.

    Args:
        scores: float32 (R, M), of each request with each home of an airing.
        alignments: int32 (R, M), likewise.
        between: int32 (M, M), alignments of the homes with each other.
        out: float32 (R,).

    """
    for i in range(scores.shape[0]):
        for j in range(scores.shape[1]):
            for k in range(j + 1, scores.shape[1]):
                consistent = abs(alignments[i, j] + between[j, k] - alignments[i, k]) <= CONSISTENT_WORDS
                if consistent and scores[i, j] > EDGE_SCORE and scores[i, k] > EDGE_SCORE:
                    out[i] = max(out[i], scores[i, j] + scores[i, k])


def fit_tail(best: npt.NDArray[np.float64], share: float = TAIL_SHARE) -> Tail:
    """Fit P(best > s) = exp((start - s) / scale) to the highest share of trials that are independent of n.

    The scale is the mean excess (Hill's estimator for an exponential tail). Among n times the trials there are n times
    the chances.

    Args:
        best: the best score of every trial.
        share: of the trials, that the tail is made of.

    Raises:
        NullError: no trial stands out from the rest.

    """
    over = float(np.quantile(best, 1 - share))
    if not (best > over).any():
        raise NullError("no trial stands out: there is no tail to fit")
    excesses = best[best > over] - over
    scale = float(np.mean(excesses))
    return Tail(over + scale * math.log(share), scale, scale, over, len(excesses))


def triples_of(strangers: npt.NDArray[np.bool_]) -> float:
    """How many triples of people are three strangers: bool (R, R), symmetric, nobody his own."""
    apart = strangers.astype(np.float32)
    return float(np.sum(apart @ apart * apart, dtype=np.float64)) / 6


def fit_triples(scores: npt.NDArray[np.float64], triples: float) -> Tail:
    """Fit the tail of the best triple of a request among n, from all triples that some strangers make.

    A request is in n^2 / 2 triples of a window of n, and m of so many triples are over a score: it expects
    m / triples n^2 / 2 of them there, which bounds the probability of any.

    Args:
        scores: float64 (T,), of all triples over some floor, each at the best of its looks.
        triples: how many there are, over the floor or not.

    Raises:
        NullError: fewer than MIN_EXCESSES over the floor.

    """
    if len(scores) < MIN_EXCESSES:
        raise NullError(f"{len(scores)} chance triples of {triples:.0f} of strangers are too few to fit a tail to")
    top = np.sort(scores)[::-1][: TOP_TRIPLES + 1]
    over = float(top[-1])
    scale = float(np.mean(top[:-1] - over))
    return Tail(over + scale * math.log((len(top) - 1) / 2 / triples), 2 * scale, scale, over, len(top) - 1)


def measure(
    unrelated: Unrelated,
    bits: Bits,
    version: str,
    provenance: dict[str, object],
    *,
    cohort_size: int = 200,
    seed: int = 0,
) -> Calibration:
    """Measure a null.

    Args:
        unrelated: requests by single persons; a seeded choice becomes the cohort.
        bits: the kind of bits that made the words.
        version: of the calibration.
        provenance: what it was measured on; kept with it.
        cohort_size: requests kept as the yardstick of own means.
        seed: of the choice.

    Raises:
        NullError: fewer requests than a cohort takes, or no averages or airings.

    """
    if isinstance(bits, LearnedBits):
        provenance = provenance | {FILTERS: bits.digest}
    rng = np.random.default_rng(seed)
    people = unrelated.people
    requests = people.words.shape[1]
    if requests < cohort_size or not unrelated.averages or not unrelated.airings:
        raise NullError(
            f"{requests} unrelated requests, {len(unrelated.averages)} averages and"
            f" {len(unrelated.airings)} airings are too few to measure a null: it takes"
            f" {cohort_size}, 1 and 1"
        )
    cohort = np.sort(rng.permutation(requests)[:cohort_size])
    lengths = look_words(bits)
    full = people.full[cohort]
    stranger = unrelated.strangers
    apart = stranger if unrelated.apart is None else unrelated.apart
    typical_db, least_db = np.quantile(people.ranges_db, (0.5, LEAST_RANGE), axis=1)
    over_db = np.where(people.ranges_db < least_db[:, None], 0, people.ranges_db - typical_db[:, None])
    mean, shifts, margins, slopes = [], [], [], []
    for n, words, of_look in zip(lengths, people.words, over_db, strict=True):
        against = pair_matrix(words, full, n, full.shape[1])[0]
        own = np.ma.masked_array(against, ~apart[:, cohort]).mean(axis=1).filled(0.5)
        mean.append(float(own.mean()))
        shifts.append((own - mean[-1]).astype(np.float32))  # of the cohort, without themselves and their kin
        rates = pair_matrix(words, words, n, n)[0]
        margins.append((own[:, None] + own[None] - mean[-1] - rates)[stranger])
        slopes.append(widening(margins[-1], (of_look[:, None] + of_look[None])[stranger]))
    # A line through the looks: what is measured of each scatters more than it changes between them.
    slope = np.maximum(0.0, np.polyval(np.polyfit(np.log(lengths), slopes, 1), np.log(lengths)))
    slope *= requests >= WIDENING_PEOPLE
    wide = np.exp(slope[:, None] * over_db)
    deviation = [
        _tail_deviation((of_look / (own[:, None] * own[None])[stranger]).astype(np.float32))
        for of_look, own in zip(margins, wide, strict=True)
    ]
    nothing = Tail(0, 0, 1)
    by_pairs = Calibration(
        version, bits.name, full, np.array(lengths, np.int32), np.array(mean), _smooth(lengths, deviation),
        typical_db, least_db, slope, nothing, nothing, nothing, provenance,
    )  # fmt: skip
    owns = [np.stack(pair, axis=1).astype(np.float32) for pair in zip(shifts, wide, strict=True)]
    draft = replace(by_pairs, deviation=by_pairs.deviation * _easing(by_pairs, unrelated, owns) ** EASING)
    chance = chance_scores(draft, unrelated, owns)
    return replace(
        draft,
        triple=fit_triples(chance.triples, triples_of(stranger)),
        beside=fit_tail(chance.beside),
        template=fit_tail(chance.template),
    )


def widening(margins: npt.NDArray[np.float32], over_db: npt.NDArray[np.floating[Any]]) -> float:
    """By how many e-folds the margins of strangers get wider with each dB of the range of their levels.

    A line through the logarithms of what a thousandth exceeds, in parts of equal size from the least range to the most.

    Args:
        margins: float32 (P,), of pairs: by how much their rate is under the mean of both.
        over_db: float (P,), by how much their ranges, added up, are over the typical.

    Returns:
        The slope; 0 where it cannot be told.

    """
    parts = [part for part in np.array_split(np.argsort(over_db, kind="stable"), WIDENING_PARTS) if len(part)]
    high = [float(np.quantile(margins[part], 1 - WIDENING_SHARE)) for part in parts]
    at_db = [float(over_db[part].mean()) for part in parts]
    if len(parts) < WIDENING_PARTS or min(high) <= 0 or np.ptp(at_db) == 0:
        return 0.0
    return float(np.polyfit(at_db, np.log(high), 1)[0])


@dataclass(frozen=True, eq=False)
class Chance:
    """What chance brings, each at the best of its looks: float64 arrays.

    Attributes:
        triples: (T,), of all triples of strangers over twice EDGE_SCORE.
        members: int32 (T, 3), who they are.
        beside: (K,), of every person with two homes of an airing.
        template: (K,), of every person with an average.

    """

    triples: npt.NDArray[np.float64]
    members: npt.NDArray[np.int32]
    beside: npt.NDArray[np.float64]
    template: npt.NDArray[np.float64]


def chance_scores(
    calibration: Calibration, unrelated: Unrelated, owns: Sequence[npt.NDArray[np.float32]] | None = None
) -> Chance:
    """Score everything that has nothing to do with each other, as the job would.

    Args:
        calibration: gives the scores.
        unrelated: what is held against each other.
        owns: own nulls of the people at each look, float32 (R, 2), where some of them are in the cohort.

    """
    lengths = calibration.words.tolist()
    if owns is None:
        owns = _owns(calibration, unrelated.people)
    best: dict[tuple[int, ...], float] = {}
    for n, words, own in zip(lengths, unrelated.people.words, owns, strict=True):
        scores, alignments = _pair_scores(calibration, words, words, n, own, own)
        _raise_triples(np.where(unrelated.strangers, scores, -np.inf).astype(np.float32), alignments, best)
    return Chance(
        np.array(list(best.values())),
        np.array(list(best), np.int32).reshape(-1, 3),
        np.max(list(beside_by_look(calibration, unrelated, owns)), axis=0).T[unrelated.airing_strangers],
        _best_templates(calibration, unrelated, owns),
    )


def _pair_scores(
    calibration: Calibration,
    words: npt.NDArray[np.uint64],
    others: npt.NDArray[np.uint64],
    n: int,
    own: npt.NDArray[np.float32],
    of_others: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Scores and alignments (R, S) of fingerprints of n words."""
    rates, alignments = pair_matrix(words, others, n, n)
    compared = np.full(len(others), n, np.int32)
    rows = [calibration.scores(row, compared, one, of_others) for row, one in zip(rates, own, strict=True)]
    return np.array(rows, np.float32), alignments


def beside_by_look(
    calibration: Calibration, unrelated: Unrelated, owns: Sequence[npt.NDArray[np.float32]]
) -> Iterator[npt.NDArray[np.float64]]:
    """Best triple of every person with two homes of every airing, look by look: float64 (airings, R)."""
    of_airings = [_owns(calibration, airing) for airing in unrelated.airings]
    for look, n in enumerate(calibration.words.tolist()):
        words = unrelated.people.words[look]
        best = np.zeros((len(unrelated.airings), len(words)), np.float32)
        for row, airing, own in zip(best, unrelated.airings, of_airings, strict=True):
            homes = airing.words[look]
            scores, alignments = _pair_scores(calibration, words, homes, n, owns[look], own[look])
            best_beside(scores, alignments, pair_matrix(homes, homes, n, n)[1], row)
        yield best.astype(np.float64)


def _best_templates(
    calibration: Calibration, unrelated: Unrelated, owns: Sequence[npt.NDArray[np.float32]]
) -> npt.NDArray[np.float64]:
    """Best score of every person with an average, over the looks."""
    averages = unrelated.averages
    best = np.full((unrelated.people.words.shape[1], len(averages)), -np.inf)
    table = np.zeros((len(averages), MAX_WORDS), np.uint64)
    for row, average in zip(table, averages, strict=True):
        row[: len(average)] = average
    sizes = np.array([len(a) for a in averages], np.int32)
    of_averages = np.array([calibration.own_null(a) for a in averages])
    rows = np.arange(len(averages), dtype=np.int64)
    for look, n in enumerate(calibration.words.tolist()):
        for i, words in enumerate(unrelated.people.words[look]):
            found = compare(calibration, words[:n], owns[look][i], table, sizes, of_averages, rows)
            best[i] = np.maximum(best[i], found.scores)
    counted: npt.NDArray[np.float64] = best[np.isfinite(best) & unrelated.average_strangers]
    return counted


def _owns(draft: Calibration, looks: Looks) -> list[npt.NDArray[np.float32]]:
    """Own nulls of requests at each look, float32 (R, 2)."""
    of_look = zip(draft.words.tolist(), looks.words, looks.ranges_db.tolist(), strict=True)
    return [
        np.array([draft.own_null(row[:n], db) for row, db in zip(words, ranges_db, strict=True)])
        for n, words, ranges_db in of_look
    ]


def _tail_deviation(margins: npt.NDArray[np.float32]) -> float:
    """Standard deviation of the normal distribution that exceeds as much with probability 1e-5 as these margins do.

    Short fingerprints have a heavier tail than long ones of the same deviation, and the tail is what decides.

    Raises:
        NullError: no pair stands out from the rest.

    """
    over = float(np.quantile(margins, 1 - PAIR_TAIL_SHARE)) if len(margins) else math.inf
    if not (margins > over).any():
        raise NullError(f"{len(margins)} pairs of unrelated requests are too few to measure a null from")
    scale = float(np.mean(margins[margins > over] - over))
    return (over + scale * math.log(PAIR_TAIL_SHARE / 1e-5)) / NORMAL_1E5


def _easing(
    calibration: Calibration, unrelated: Unrelated, owns: Sequence[npt.NDArray[np.float32]]
) -> npt.NDArray[np.float64]:
    """How high chance comes beside an airing at each look, the highest being 1: less, the longer it has to agree.

    Looks at which it hardly comes at all are read off the others; where too little is known, all looks are alike.
    """
    at, levels = [], []
    for n, best in zip(calibration.words.tolist(), beside_by_look(calibration, unrelated, owns), strict=True):
        trials = best.T[unrelated.airing_strangers]
        if len(trials) * TAIL_SHARE >= MIN_EXCESSES and np.quantile(trials, 1 - TAIL_SHARE) > 0:
            at.append(n)
            levels.append(fit_tail(trials).threshold(1e-4, 1))
    if len(at) < len(calibration.words) // 2:
        return np.ones(len(calibration.words))
    line = np.polyfit(np.log(at), np.log(levels), 2)
    easing = np.exp(np.polyval(line, np.log(calibration.words)))
    relative: npt.NDArray[np.float64] = easing / easing.max()
    return relative


def _smooth(lengths: Sequence[int], deviation: Sequence[float]) -> npt.NDArray[np.float64]:
    """A parabola through the logarithms: a tail is measured from few pairs, and changes slowly with length."""
    at = np.log(lengths)
    smoothed: npt.NDArray[np.float64] = np.exp(np.polyval(np.polyfit(at, np.log(deviation), 2), at))
    return smoothed


def _raise_triples(
    scores: npt.NDArray[np.float32], alignments: npt.NDArray[np.int32], best: dict[tuple[int, ...], float]
) -> None:
    """Note every chance triple of one look where it is better than at the looks before."""
    room = 0
    found = consistent_triples(scores, alignments, 2 * EDGE_SCORE, np.empty((0, 3), np.int32), np.empty(0, np.float32))
    while found > room:
        room = found
        triples, of_triples = np.empty((room, 3), np.int32), np.empty(room, np.float32)
        found = consistent_triples(scores, alignments, 2 * EDGE_SCORE, triples, of_triples)
    if room:
        for triple, score in zip(map(tuple, triples.tolist()), of_triples.tolist(), strict=True):
            best[triple] = max(score, best.get(triple, score))

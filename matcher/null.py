"""Measures the null: what matching gives between requests that have nothing to do with each other.

The method, step by step, is in docs/calibration.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba as nb
import numpy as np
import numpy.typing as npt

from matcher.bits import Bits, audio_ms
from matcher.event import CONSISTENT_WORDS
from matcher.evidence import ALIGNMENTS, MIN_WORDS, Calibration, OwnNull, Tail
from matcher.fingerprint import MAX_WORDS
from matcher.kernels import one_against_many
from matcher.route import EDGE_SCORE, FIRST_LOOK_MS, LOOK_MS

# The tail is fitted to the excesses over the score that so many of the trials reach.
TAIL_SHARE = 0.01


class NullError(ValueError):
    """Too little to measure a null from."""


@dataclass(frozen=True, eq=False)
class Unrelated:
    """Full fingerprints of requests by single persons.

    Attributes:
        words: uint32 (R, MAX_WORDS), all full.
        strangers: bool (R, R), symmetric: pairs by different persons. Others are never held against each other,
            because a synthetic voice that repeats its words makes the same sound.
        averages: averages of media events, uint32 (n,) each.
        average_strangers: bool (R, len(averages)): by different persons.
        airings: full fingerprints of some homes that heard one medium, uint32 (homes, MAX_WORDS) each.
        airing_strangers: bool (R, len(airings)): by different persons.

    """

    words: npt.NDArray[np.uint32]
    strangers: npt.NDArray[np.bool_]
    averages: Sequence[npt.NDArray[np.uint32]]
    average_strangers: npt.NDArray[np.bool_]
    airings: Sequence[npt.NDArray[np.uint32]]
    airing_strangers: npt.NDArray[np.bool_]


def look_words(bits: Bits) -> list[int]:
    """Words that a request has at each of its looks."""
    looks_ms = range(FIRST_LOOK_MS, audio_ms(MAX_WORDS, bits) + 1, LOOK_MS)
    counts = np.array([audio_ms(n, bits) for n in range(MAX_WORDS + 1)])
    return [int(np.searchsorted(counts, look_ms, side="right")) - 1 for look_ms in looks_ms]


def pair_matrix(
    words: npt.NDArray[np.uint32], others: npt.NDArray[np.uint32], length: int, other_length: int
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
def best_triple_scores(
    scores: npt.NDArray[np.float32],
    alignments: npt.NDArray[np.int32],
    members: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
) -> None:
    """Raise out[i] to the best consistent triple score of member i within the members; the rule of `best_triple`."""
    m = len(members)
    for a in range(m):
        i = members[a]
        for b in range(a + 1, m):
            j = members[b]
            if scores[i, j] <= EDGE_SCORE:
                continue
            for c in range(b + 1, m):
                k = members[c]
                if scores[i, k] <= EDGE_SCORE or scores[j, k] <= EDGE_SCORE:
                    continue
                if abs(alignments[i, j] + alignments[j, k] - alignments[i, k]) > CONSISTENT_WORDS:
                    continue
                total = scores[i, j] + scores[i, k] + scores[j, k]
                score = total - max(scores[i, j], scores[i, k], scores[j, k])
                for x in (a, b, c):
                    out[x] = max(out[x], score)


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


def fit_tail(best: Sequence[npt.NDArray[np.float64]], counts: Sequence[int]) -> Tail:
    """Fit P(best > s) = exp((start + growth ln n - s) / scale) to the highest TAIL_SHARE of each count's trials.

    The scale is the mean excess (Hill's estimator for an exponential tail), the rest a line through the points.

    Args:
        best: for each count n, the best score of every trial.
        counts: the n of each.

    Raises:
        NullError: no trial stands out from the rest.

    """
    scales, at = [], []
    for scores in best:
        over = np.quantile(scores, 1 - TAIL_SHARE)
        scales.append(float(np.mean(scores[scores > over] - over)) if (scores > over).any() else 0.0)
        at.append(float(over))
    scale = float(np.mean(scales))
    if not scale > 0:
        raise NullError("no trial stands out: there is no tail to fit")
    levels = np.array(at) + scale * np.log(TAIL_SHARE)
    if len(counts) == 1:
        return Tail(float(levels[0]), 0.0, scale)
    growth, start = np.polyfit(np.log(counts), levels, 1)
    return Tail(float(start), float(growth), scale)


def measure(
    unrelated: Unrelated,
    bits: Bits,
    version: str,
    provenance: dict[str, object],
    *,
    cohort_size: int = 200,
    concurrent: Sequence[int] = (50, 100, 200),
    windows: int = 400,
    seed: int = 0,
) -> Calibration:
    """Measure a null.

    Args:
        unrelated: requests by single persons; a seeded choice becomes the cohort.
        bits: the kind of bits that made the words.
        version: of the calibration.
        provenance: what it was measured on; kept with it.
        cohort_size: requests kept as the yardstick of own means.
        concurrent: sizes of window at which the triple's tail is measured.
        windows: random windows of each size.
        seed: of the choices.

    Raises:
        NullError: fewer requests than a cohort and a window need, or no averages or airings.

    """
    rng = np.random.default_rng(seed)
    if len(unrelated.words) < max(cohort_size, max(concurrent) + 1) or not unrelated.averages or not unrelated.airings:
        raise NullError(
            f"{len(unrelated.words)} unrelated requests, {len(unrelated.averages)} averages and"
            f" {len(unrelated.airings)} airings are too few to measure a null: it takes"
            f" {max(cohort_size, max(concurrent) + 1)}, 1 and 1"
        )
    cohort = np.sort(rng.permutation(len(unrelated.words))[:cohort_size])
    lengths = look_words(bits)
    stranger = unrelated.strangers
    mean, deviation, z, agreed = [], [], [], []
    for n in lengths:
        against = pair_matrix(unrelated.words, unrelated.words[cohort], n, MAX_WORDS)[0]
        kin = ~stranger[:, cohort]
        own = np.ma.masked_array(against, kin).mean(axis=1).filled(0.5)
        level = float(own.mean())
        rates, alignments = pair_matrix(unrelated.words, unrelated.words, n, n)
        residual = level + (own - level)[:, None] + (own - level)[None] - rates
        mean.append(level)
        deviation.append(float(residual[stranger].std()))
        centred = np.where(stranger, residual / deviation[-1], -np.inf).astype(np.float32)
        z.append(centred)
        agreed.append(alignments)
    triples = []
    for size in concurrent:
        trials = []
        for _ in range(windows):
            members = rng.choice(len(unrelated.words), size, replace=False).astype(np.int64)
            best = np.zeros(size, np.float32)
            for scores, alignments in zip(z, agreed, strict=True):
                best_triple_scores(scores, alignments, members, best)
            trials.append(best)
        triples.append(np.concatenate(trials).astype(np.float64))
    draft = Calibration(
        version, bits.name, unrelated.words[cohort].copy(), np.array(lengths, np.int32), np.array(mean),
        np.array(deviation), fit_tail(triples, concurrent), Tail(0, 0, 1), Tail(0, 0, 1), provenance,
    )  # fmt: skip
    beside, template = _beside_tail(draft, unrelated, lengths), _template_tail(draft, unrelated, lengths)
    return replace(draft, beside=beside, template=template)


def _beside_tail(draft: Calibration, unrelated: Unrelated, lengths: Sequence[int]) -> Tail:
    """Tail of a request's best triple with two homes of one airing, over its looks."""
    best = np.zeros((len(unrelated.airings), len(unrelated.words)), np.float32)
    nulls = [OwnNull(draft) for _ in unrelated.words]
    homes_nulls = [[OwnNull(draft) for _ in homes] for homes in unrelated.airings]
    for n in lengths:
        shifts = np.array([null.shift(words[:n]) for null, words in zip(nulls, unrelated.words, strict=True)])
        for a, homes in enumerate(unrelated.airings):
            of_homes = [null.shift(words[:n]) for null, words in zip(homes_nulls[a], homes, strict=True)]
            rates, alignments = pair_matrix(unrelated.words, homes, n, n)
            compared = np.full(len(homes), n, np.int32)
            scores = np.array(
                [
                    draft.scores(row, compared, float(shift), np.array(of_homes, np.float32))
                    for row, shift in zip(rates, shifts, strict=True)
                ],
                np.float32,
            )
            best_beside(scores, alignments, pair_matrix(homes, homes, n, n)[1], best[a])
    return _of_each(fit_tail([best.T[unrelated.airing_strangers].astype(np.float64)], [1]))


def _template_tail(draft: Calibration, unrelated: Unrelated, lengths: Sequence[int]) -> Tail:
    """Tail of a request's best score, over its looks, against one average."""
    averages = unrelated.averages
    best = np.full((len(unrelated.words), len(averages)), -np.inf)
    table = np.zeros((len(averages), MAX_WORDS), np.uint32)
    for row, average in zip(table, averages, strict=True):
        row[: len(average)] = average
    sizes = np.array([len(a) for a in averages], np.int32)
    shifts = np.array([OwnNull(draft).shift(a) for a in averages], np.float32)
    rows = np.arange(len(averages), dtype=np.int64)
    rate, alignment, compared = np.empty(len(rows), np.float32), *np.empty((2, len(rows)), np.int32)
    for i, words in enumerate(unrelated.words):
        own = OwnNull(draft)
        for n in lengths:
            shift = own.shift(words[:n])
            one_against_many(words[:n], table, sizes, rows, ALIGNMENTS, MIN_WORDS, rate, alignment, compared)
            scores = draft.scores(rate, np.minimum(sizes, np.int32(n)), shift, shifts)
            best[i] = np.maximum(best[i], np.where(compared > 0, scores, -np.inf))
    return _of_each(fit_tail([best[np.isfinite(best) & unrelated.average_strangers]], [1]))


def _of_each(one: Tail) -> Tail:
    """Tail among n that are independent of each other, from that of one: n times the chances."""
    return Tail(one.start, one.scale, one.scale)

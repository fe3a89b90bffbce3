"""Measures the null of known media: what recordings give against people who did not hear them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba as nb
import numpy as np
import numpy.typing as npt

from matcher.bits import Bits, frame_count, word_count
from matcher.evidence import Tail
from matcher.fingerprint import LOOK_MS
from matcher.kernels import popcount
from matcher.known import FIRST_KNOWN_LOOK_MS, FULL_KNOWN_MS, looked_at
from matcher.known_kernels import own_means, score_rows
from matcher.known_null import (
    LEAD_WORDS,
    LEAST_APART,
    LEAST_BITS,
    MOST_APART,
    SEGMENT_WORDS,
    SLOT_WORDS,
    KnownCalibration,
)
from matcher.null import NullError, fit_tail

COHORT = 200
# The tail is fitted to so many of the pairs.
TAIL_SHARE = 1e-3
# At no look, and at none of these levels, do people score over an exponential tail of one scale: early looks, at few
# bits, have lumps where late ones have a long thin tail.
LEVELS, UNIT, UNIT_SCALE = (1e-3, 1e-4, 1e-5), 4.0, 0.35
# Of the covariance's diagonal, added to it: without that the discriminant is made of its noise.
RIDGE = 0.1


@dataclass(frozen=True, eq=False)
class Unheard:
    """People, and recordings that they did not hear.

    Attributes:
        people: uint64 (R, 2, width), words and clear bits of requests by single persons, of at least FULL_KNOWN_MS.
        entries: words and clear bits of recordings, by voices that none of the people have: uint64 (n,) each.
        media: uint64 (M, 2, width), the same of devices that heard ...
        heard: ... int (M,), these of the entries.

    """

    people: npt.NDArray[np.uint64]
    entries: Sequence[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]
    media: npt.NDArray[np.uint64]
    heard: npt.NDArray[np.int64]


@nb.njit(cache=True)
def segment_rates(
    query: npt.NDArray[np.uint64],
    query_clear: npt.NDArray[np.uint64],
    alignment: int,
    words: npt.NDArray[np.uint64],
    clear: npt.NDArray[np.uint64],
    length: int,
    out: npt.NDArray[np.float32],
) -> None:
    """Error rate of each segment, NaN where LEAST_BITS are not common: words (n,) twice, slots (s,) twice, out (S,)."""
    for segment in range(len(out)):
        errors, bits = 0, 0
        for k in range(segment * SEGMENT_WORDS, (segment + 1) * SEGMENT_WORDS):
            at = k + LEAD_WORDS + alignment
            if at < 0 or at % SLOT_WORDS or at // SLOT_WORDS >= length:
                continue
            both = clear[at // SLOT_WORDS] & query_clear[k]
            errors += popcount((query[k] ^ words[at // SLOT_WORDS]) & both)
            bits += popcount(both)
        out[segment] = errors / bits if bits >= LEAST_BITS else np.nan


class _Rows:
    """Entries as the kernels take them."""

    def __init__(self, unheard: Unheard, draft: KnownCalibration) -> None:
        segments = draft.segments
        width = max(len(words) for words, _ in unheard.entries) // SLOT_WORDS + 1
        self.words, self.clear = np.zeros((2, len(unheard.entries), width), np.uint64)
        self.lengths = np.zeros(len(unheard.entries), np.int32)
        self.means = np.zeros((len(unheard.entries), segments), np.float32)
        for row, (words, clear) in enumerate(unheard.entries):
            kept = words[::SLOT_WORDS]
            self.words[row, : len(kept)], self.clear[row, : len(kept)] = kept, clear[::SLOT_WORDS]
            self.lengths[row] = len(kept)
            own_means(words[LEAD_WORDS:], draft.cohort_columns, clear[LEAD_WORDS:], 0, segments, self.means[row])

    def score(
        self,
        query: npt.NDArray[np.uint64],
        own: npt.NDArray[np.float32],
        segments: int,
        rows: npt.NDArray[np.int32],
        calibration: KnownCalibration,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Scores and alignments against some rows: float32 and int32 (m,)."""
        scores, rates = np.empty((2, len(rows)), np.float32)
        alignments, compared = np.empty((2, len(rows)), np.int32)
        score_rows(
            query[0], query[1], segments, self.words, self.clear, self.lengths, self.means, rows, own, calibration.base,
            calibration.usual, calibration.weights[segments], scores, rates, alignments, compared,
        )  # fmt: skip
        return scores, alignments


def segments_of(bits: Bits) -> int:
    """Segments of a request at its last look."""
    return word_count(frame_count(FULL_KNOWN_MS), bits) // SEGMENT_WORDS


def looks(bits: Bits) -> list[int]:
    """Segments that a request has at each of its looks."""
    due = [
        word_count(frame_count(ms), bits) // SEGMENT_WORDS
        for ms in range(FIRST_KNOWN_LOOK_MS, FULL_KNOWN_MS + 1, LOOK_MS)
    ]
    return [segments for segments in due if looked_at(segments)]


def measure_known(
    unheard: Unheard, bits: Bits, version: str, provenance: dict[str, object], *, seed: int = 0
) -> KnownCalibration:
    """Measure a null.

    Args:
        unheard: people, recordings, and homes that did hear them.
        bits: the kind of bits that made the words.
        version: of the calibration.
        provenance: what it was measured on; kept with it.
        seed: of the choice of the cohort.

    Raises:
        NullError: fewer people than a cohort takes, or nothing to hold against them.

    """
    people = len(unheard.people)
    if people < COHORT or not unheard.entries or not len(unheard.media):
        raise NullError(
            f"{people} people, {len(unheard.entries)} recordings and {len(unheard.media)} homes that heard them are"
            f" too few to measure a null: it takes {COHORT}, 1 and 1"
        )
    segments = segments_of(bits)
    width = segments * SEGMENT_WORDS
    chosen = np.sort(np.random.default_rng(seed).permutation(people)[:COHORT])
    flat = np.tril(np.ones((segments + 1, segments), np.float32), -1)
    cohort = np.ascontiguousarray(unheard.people[chosen, 0, :width])
    nothing = np.zeros(segments, np.float32)
    draft = KnownCalibration(version, bits.name, cohort, nothing, nothing, flat, Tail(0, 0, 1), provenance)
    rows = _Rows(unheard, draft)
    own, media_own = (_own(queries, draft) for queries in (unheard.people, unheard.media))
    own[chosen] *= COHORT / (COHORT - 1)  # of the cohort, without themselves
    everyone = np.arange(len(unheard.entries), dtype=np.int32)

    null = np.empty((people, len(everyone), segments), np.float32)
    for i, query in enumerate(unheard.people):
        alignments = rows.score(query, own[i], segments, everyone, draft)[1]
        for row in everyone:
            segment_rates(*query, alignments[row], rows.words[row], rows.clear[row], rows.lengths[row], null[i, row])
    true = np.empty((len(unheard.media), segments), np.float32)
    for i, (query, row) in enumerate(zip(unheard.media, unheard.heard, strict=True)):
        alignment = rows.score(query, media_own[i], segments, everyone[[row]], draft)[1][0]
        segment_rates(*query, alignment, rows.words[row], rows.clear[row], rows.lengths[row], true[i])

    # base + both own means - rate is on average nothing for people.
    mean = np.nanmean(null, axis=(0, 1)) - np.nanmean(own, axis=0) - np.nanmean(rows.means, axis=0)
    base = mean.astype(np.float32)
    apart = np.clip(base + own[:, None] + rows.means[None] - null, LEAST_APART, MOST_APART).reshape(-1, segments)
    usual = np.nanmean(apart, axis=0)
    apart = np.nan_to_num(apart - usual)
    nearer = np.clip(base + media_own + rows.means[unheard.heard] - true, LEAST_APART, MOST_APART)
    nearer = np.nan_to_num(nearer - usual).mean(axis=0)
    covariance = np.cov(apart.T)
    weights = np.zeros((segments + 1, segments), np.float32)
    for n in range(1, segments + 1):
        within = covariance[:n, :n] + RIDGE * np.diag(np.diag(covariance)[:n])
        weights[n, :n] = np.maximum(np.linalg.solve(within, nearer[:n]), 0)
    draft = replace(draft, base=base, usual=usual, weights=weights)

    best = np.full((people, len(everyone)), -np.inf)
    for n in looks(bits):
        scores = np.stack([rows.score(query, own[i], n, everyone, draft)[0] for i, query in enumerate(unheard.people)])
        unit = _unit(scores)
        weights[n] /= unit
        best = np.maximum(best, scores / unit)
    weights[[n for n in range(segments + 1) if n not in looks(bits)]] = 0  # nobody looks there
    return replace(draft, weights=weights, tail=fit_tail(best.ravel(), TAIL_SHARE))


def _unit(scores: npt.NDArray[np.float32]) -> float:
    """How many times too large the scores of one look are; beyond what was seen the tail is extrapolated."""
    tail = fit_tail(scores.ravel().astype(np.float64), TAIL_SHARE)
    seen = 10 / scores.size
    return max(
        (float(np.quantile(scores, 1 - level)) if level > seen else tail.threshold(level, 1))
        / (UNIT + UNIT_SCALE * math.log(TAIL_SHARE / level))
        for level in LEVELS
    )


def _own(queries: npt.NDArray[np.uint64], calibration: KnownCalibration) -> npt.NDArray[np.float32]:
    """Own means of some requests: uint64 (R, 2, width) to float32 (R, S)."""
    out = np.empty((len(queries), calibration.segments), np.float32)
    for query, means in zip(queries, out, strict=True):
        own_means(query[0], calibration.cohort_columns, np.empty(0, np.uint64), 0, calibration.segments, means)
    return out

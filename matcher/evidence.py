"""How sure a match is.

A bit error rate means nothing by itself: it depends on how many words were compared, on how many alignments the lowest
was picked from, and on the two requests (one is closer to everything than another, or scatters more about it). A
*score* is therefore the number of standard deviations by which a rate lies under the null: what two requests with
different sounds give, at that many words, each request's own null mean taken off and its own width divided by.
Thresholds come from a false-ignore budget through the tail of the measured null. All measured numbers are in a
calibration file; docs/calibration.md says how they were measured.
"""

import functools
import importlib.resources
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matcher.fingerprint import MAX_WORDS
from matcher.kernels import mean_lowest_rate, one_against_many, scan_many
from matcher.packed import packed, unpacked

# Requests start within 100 ms of one instant of their recording, so two of them lie within 200 ms; finer steps than
# 20 ms find no more and give chance more trials.
ALIGNMENTS: npt.NDArray[np.int32] = np.arange(-10, 11, dtype=np.int32)
# A comparison over fewer words says nothing yet: less than this is never compared.
MIN_WORDS = 12
# Below this no score decides anything, so half of the words tell well enough that it is there.
NEAR_SCORE = 1.0
# In e-folds a dB; with more, a few dB would decide by themselves.
MOST_WIDENING = 0.02


class CalibrationError(ValueError):
    """A calibration that cannot be used: damaged, or made for other bits."""


# What the provenance calls the digest of the filters that a calibration was measured with.
FILTERS = "filters"


@dataclass(frozen=True)
class Tail:
    """Exponential tail of a null: P(score > s) = exp((start + growth * ln(n) - s) / scale).

    n counts what the false alarms grow with: concurrent requests for triples, entries for the catalogue. The tail was
    fitted to the `excesses` highest scores seen, those over `over`: below the probability of that it is extrapolated.
    """

    start: float
    growth: float
    scale: float
    over: float = 0.0
    excesses: int = 1

    def check(self) -> None:
        """Refuse numbers that are no tail.

        Raises:
            CalibrationError: they are none.

        """
        if not all(map(math.isfinite, vars(self).values())) or self.scale <= 0 or self.growth < 0:
            raise CalibrationError(f"{self} is no tail")

    def threshold(self, probability: float, n: float) -> float:
        """Score that chance exceeds with this probability among n."""
        return self.start + self.growth * math.log(max(1.0, n)) - self.scale * math.log(probability)

    def log_odds(self, score: float, n: float) -> float:
        """Natural logarithm of one in how many times chance brings this score, or a higher one, among n."""
        return (score - self.start - self.growth * math.log(max(1.0, n))) / self.scale

    def extrapolated(self, probability: float, n: float) -> float:
        """By how many powers of e the probability lies below that of the least excess that was fitted; 0 if above."""
        return max(0.0, (self.threshold(probability, n) - self.over) / self.scale)

    def uncertainty(self, probability: float, n: float) -> float:
        """Standard error of the threshold: that of the scale (Hill), times how far it is extrapolated with it."""
        return self.scale / math.sqrt(self.excesses) * self.extrapolated(probability, n)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured about unrelated requests, for one kind of bits.

    Attributes:
        version: stamped on every decision.
        bits: the kind of bits that it was measured with.
        cohort: uint64 (C, width), full fingerprints of unrelated requests: the yardstick of own null means.
        words: int32 (G,), numbers of words at which the null was measured, rising.
        mean: float64 (G,), mean lowest bit error rate of unrelated pairs there.
        deviation: float64 (G,), standard deviation of the same after both own means are taken off, for requests of the
            typical range of levels.
        typical_db: float64 (G,), the median range of their levels (`Fingerprint.level_range_db`).
        least_db: float64 (G,), what nearly all have: below it nothing is known, and it counts as typical.
        widening: float64 (G,), by how many e-folds a request's null gets wider with each dB more of range.
        triple: tail of the best triple score of a request among n concurrent ones, over all its looks.
        beside: tail of the best triple of a request with two homes of one of n airings that it did not hear: the two
            agree with each other for good reason, so chance has to bring only one sound near another.
        template: tail of the best score of a request against n averages, over all its looks.

    """

    version: str
    bits: str
    cohort: npt.NDArray[np.uint64]
    words: npt.NDArray[np.int32]
    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    typical_db: npt.NDArray[np.float64]
    least_db: npt.NDArray[np.float64]
    widening: npt.NDArray[np.float64]
    triple: Tail
    beside: Tail
    template: Tail
    provenance: Mapping[str, object]

    @functools.cached_property
    def curves(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and deviation for every number of words up to MAX_WORDS."""
        at = np.arange(MAX_WORDS + 1)
        return np.interp(at, self.words, self.mean), np.interp(at, self.words, self.deviation)

    @functools.cached_property
    def _range_curves(self) -> tuple[npt.NDArray[np.float64], ...]:
        """Typical and least range and the widening, likewise."""
        at = np.arange(MAX_WORDS + 1)
        return tuple(np.interp(at, self.words, curve) for curve in (self.typical_db, self.least_db, self.widening))

    @functools.cached_property
    def _cohort_columns(self) -> npt.NDArray[np.uint64]:
        """The cohort as `mean_lowest_rate` takes it: uint64 (width, C)."""
        return np.ascontiguousarray(self.cohort.T)

    def _check(self) -> None:
        """Refuse numbers that would let everything pass: nothing is below a threshold that is none.

        Raises:
            CalibrationError: with what is wrong.

        """
        points = len(self.words)
        for tail in (self.triple, self.beside, self.template):
            tail.check()
        if self.cohort.ndim != 2 or not len(self.cohort) or not MIN_WORDS <= self.cohort.shape[1] <= MAX_WORDS:
            raise CalibrationError(f"a cohort of shape {self.cohort.shape}: it takes whole fingerprints")
        curves = self.mean, self.deviation, self.typical_db, self.least_db, self.widening
        if not points or any(curve.shape != (points,) for curve in curves) or (np.diff(self.words) <= 0).any():
            raise CalibrationError("means, deviations and ranges must belong to rising numbers of words")
        if not all(np.isfinite(curve).all() for curve in curves) or not (self.deviation > 0).all():
            raise CalibrationError("means, deviations and ranges must be numbers, deviations over 0")
        known = (self.widening >= 0) & (self.widening <= MOST_WIDENING) & (self.least_db <= self.typical_db)
        if not known.all():
            raise CalibrationError("nulls that widen with the range of levels as none does")

    def null_mean(self, words: int) -> float:
        """Mean lowest bit error rate of unrelated requests over so many words."""
        return float(self.curves[0][words])

    def scores(
        self,
        rates: npt.NDArray[np.float32],
        words: npt.NDArray[np.int32],
        own: npt.NDArray[np.float32],
        owns: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float64]:
        """Standard deviations under the null, of one request against many.

        Args:
            rates: float32 (m,), lowest bit error rates.
            words: int32 (m,), the shorter side's words.
            own: float32 (2,), the one's `own_null`.
            owns: float32 (m, 2), those of the many.

        Returns:
            float64 (m,).

        """
        mean, deviation = self.curves
        expected = mean[words] + float(own[0]) + owns[:, 0]
        scores: npt.NDArray[np.float64] = (expected - rates) / (deviation[words] * float(own[1]) * owns[:, 1])
        return scores

    def own_null(self, words: npt.NDArray[np.uint64], level_range_db: float | None = None) -> npt.NDArray[np.float32]:
        """How a fingerprint's null differs from that of its length.

        Args:
            words: uint64 (n,), all words so far.
            level_range_db: of its levels; None: that of an average. It counts as typical, as does less than `least_db`.

        Returns:
            float32 (2,): its mean less the calibration's, below 0 for what is closer to everything than most are; and
            how many times as wide it is. Loud speech in a quiet room agrees with other such speech by chance, in its
            pauses if nothing else, which noise does not.

        """
        mean: float = mean_lowest_rate(words, self._cohort_columns, ALIGNMENTS, MIN_WORDS)
        wide = 1.0
        if level_range_db is not None:
            typical_db, least_db, widening = (float(curve[len(words)]) for curve in self._range_curves)
            if level_range_db >= least_db:
                wide = math.exp(widening * (level_range_db - typical_db))
        return np.array([mean - self.null_mean(len(words)), wide], np.float32)

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` gives it back."""
        header = {
            "version": self.version,
            "bits": self.bits,
            "triple": vars(self.triple),
            "beside": vars(self.beside),
            "template": vars(self.template),
            "provenance": dict(self.provenance),
        }
        return packed(
            header, cohort=self.cohort, words=self.words, mean=self.mean, deviation=self.deviation,
            typical_db=self.typical_db, least_db=self.least_db, widening=self.widening,
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> "Calibration":
        """Read what `to_bytes` wrote.

        Raises:
            CalibrationError: it is damaged or incomplete.

        """
        try:
            header, arrays = unpacked(data)
            calibration = cls(
                version=header["version"],
                bits=header["bits"],
                cohort=np.ascontiguousarray(arrays["cohort"], np.uint64),
                words=arrays["words"],
                mean=arrays["mean"],
                deviation=arrays["deviation"],
                typical_db=arrays["typical_db"],
                least_db=arrays["least_db"],
                widening=arrays["widening"],
                triple=Tail(**header["triple"]),
                beside=Tail(**header["beside"]),
                template=Tail(**header["template"]),
                provenance=header["provenance"],
            )
        except KeyError as error:
            raise CalibrationError(f"not a calibration of this version: it has no {error}; calibrate again") from error
        except Exception as error:  # see `unpacked`
            raise CalibrationError(f"not a calibration file: {error}") from error
        calibration._check()
        return calibration


@functools.cache
def shipped_calibration(bits: str) -> Calibration:
    """Read the calibration that ships with the package.

    Raises:
        CalibrationError: none ships for these bits.

    """
    file = importlib.resources.files("matcher") / "calibration" / f"{bits}.npz"
    if not file.is_file():
        raise CalibrationError(f"no calibration ships for bits {bits!r}")
    return Calibration.from_bytes(file.read_bytes())


@dataclass(frozen=True, slots=True)
class Evidence:
    """One comparison: score, bit error rate, words compared, and the alignment in words.

    What it decides has log-odds: -ln of the probability that chance brings as much to one live request, among all that
    it was tried against. They mean the same whatever decided; a budget asks for -ln of a part of it.
    """

    score: float
    rate: float
    words: int
    alignment: int
    log_odds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One fingerprint against m others: float64, float32, int32 and int32 (m,).

    A score is -inf where too little is common, or less than the null was measured for.
    """

    scores: npt.NDArray[np.float64]
    rates: npt.NDArray[np.float32]
    words: npt.NDArray[np.int32]
    alignments: npt.NDArray[np.int32]

    def of(self, positions: npt.NDArray[np.int64]) -> "Comparison":
        """Give the comparison with some of them."""
        return Comparison(
            self.scores[positions], self.rates[positions], self.words[positions], self.alignments[positions]
        )

    def at(self, position: int) -> Evidence:
        """Give the comparison with one of them."""
        return Evidence(
            float(self.scores[position]),
            float(self.rates[position]),
            int(self.words[position]),
            int(self.alignments[position]),
        )


def compare(
    calibration: Calibration,
    words: npt.NDArray[np.uint64],
    own: npt.NDArray[np.float32],
    many: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.int32],
    owns: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
) -> Comparison:
    """Hold one growing fingerprint against some rows of many.

    Args:
        calibration: gives the scores.
        words: uint64 (n,), the one's words so far.
        own: float32 (2,), its `Calibration.own_null`.
        many: uint64 (R, width).
        lengths: int32 (R,), words filled in each row.
        owns: float32 (R, 2), the rows' own nulls.
        rows: int64 (m,), which to compare with.

    """
    rates, alignments, compared = np.empty(len(rows), np.float32), *np.empty((2, len(rows)), np.int32)
    one_against_many(words, many, lengths, rows, ALIGNMENTS, MIN_WORDS, rates, alignments, compared)
    # The null is tabulated by the shorter side's words, whatever the alignment leaves of them.
    nominal = np.minimum(lengths[rows], np.int32(len(words)))
    scores = calibration.scores(rates, nominal, own, owns[rows])
    scores[(compared == 0) | (nominal < calibration.words[0])] = -np.inf
    return Comparison(scores, rates, compared, alignments)


def scan(
    calibration: Calibration,
    words: npt.NDArray[np.uint64],
    own: npt.NDArray[np.float32],
    many: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.int32],
    owns: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
) -> Comparison:
    """Do as `compare` at a third of the cost: rows that half of the words say are not near have their figures of those.

    Arguments and result as there.
    """
    m = len(rows)
    found = Comparison(np.empty(m), np.empty(m, np.float32), np.empty(m, np.int32), np.empty(m, np.int32))
    scan_many(
        words, own, many, lengths, owns, rows, ALIGNMENTS, MIN_WORDS, *calibration.curves,
        int(calibration.words[0]), NEAR_SCORE, found.scores, found.rates, found.alignments, found.words,
    )  # fmt: skip
    return found

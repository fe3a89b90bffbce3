"""How sure it is that a request is a known recording: the score, and its null.

A live person says the wake word too, so an entry is always a little alike there, and more so in a voice like the
advertisement's. A score therefore weighs the errors by when they are heard: segments of 80 ms, with the weights of
Fisher's linear discriminant (1936) between people and broadcasts. Only bits that are clear on both sides count. From
each segment is taken off how close the request, and how close the entry, is to unrelated people anyway. All of it was
measured; docs/known-media.md says how.
"""

import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matcher.evidence import CalibrationError, Tail
from matcher.packed import packed, unpacked

SEGMENT_WORDS = 4
# Of each entry every second word is kept, the other half says the same: one slot every 40 ms.
SLOT_WORDS = 2
# An entry begins this much before requests do, so that one that begins early finds its beginning, too.
LEAD_WORDS = 6
# A request begins within 100 ms of REQUEST_PREROLL_MS before its wake word, and where the word begins in an entry is
# known to some 40 ms: alignments of up to so many words either way of LEAD_WORDS.
MAX_ALIGNMENT = 7
# A segment says nothing of which fewer bits are clear on both sides: of steady sound, or of silence, a handful are, and
# an error rate over a handful is chance. Of speech some 40 are.
LEAST_BITS = 12
# By how much a segment's error rate lies under what is expected of unrelated sound counts between these. Under the
# first something else was louder, which says little of what was beneath; over the second people come by chance, too.
LEAST_APART, MOST_APART = 0.03, 0.4


@dataclass(frozen=True, eq=False)
class KnownCalibration:
    """What was measured about people who are held against recordings that they did not hear, for one kind of bits.

    S is the number of segments of the longest request that is looked at.

    Attributes:
        version: stamped on decisions of reason KNOWN.
        bits: the kind of bits.
        cohort: uint64 (C, width), long fingerprints of unrelated people: the yardstick of own means.
        base: float32 (S,), mean error rate of people against entries, less the mean own rate of either.
        usual: float32 (S,), by how much people's error rates lie under what was expected of them, from LEAST_APART to
            MOST_APART, on average.
        weights: float32 (S + 1, S): row s weighs the first s segments of a request that has so many.
        tail: of the best score of a request against one entry, over all its looks and alignments; grows with the
            entries.
        provenance: what it was measured on.

    """

    version: str
    bits: str
    cohort: npt.NDArray[np.uint64]
    base: npt.NDArray[np.float32]
    usual: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    tail: Tail
    provenance: Mapping[str, object]

    @property
    def segments(self) -> int:
        """S."""
        return len(self.base)

    @functools.cached_property
    def cohort_columns(self) -> npt.NDArray[np.uint64]:
        """Word k of all of the cohort in row k: uint64 (width, C)."""
        return np.ascontiguousarray(self.cohort.T)

    def _check(self) -> None:
        segments = self.segments
        if not segments or self.weights.shape != (segments + 1, segments) or (np.triu(self.weights) != 0).any():
            raise CalibrationError(f"weights of shape {self.weights.shape} for {segments} segments")
        if self.usual.shape != self.base.shape:
            raise CalibrationError(f"means of shape {self.usual.shape} for {segments} segments")
        if self.cohort.ndim != 2 or not len(self.cohort) or self.cohort.shape[1] < SEGMENT_WORDS * segments:
            raise CalibrationError(f"a cohort of shape {self.cohort.shape} for {segments} segments")
        numbers = (self.base, self.usual, self.weights)
        if not (all(np.isfinite(array).all() for array in numbers) and (self.weights >= 0).all()):
            raise CalibrationError("means and weights must be numbers, weights from 0 on")
        self.tail.check()

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` gives it back."""
        header = {
            "version": self.version,
            "bits": self.bits,
            "tail": vars(self.tail),
            "provenance": dict(self.provenance),
        }
        return packed(header, cohort=self.cohort, base=self.base, usual=self.usual, weights=self.weights)

    @classmethod
    def from_bytes(cls, data: bytes) -> "KnownCalibration":
        """Read what `to_bytes` wrote.

        Raises:
            CalibrationError: it is damaged or incomplete.

        """
        try:
            header, arrays = unpacked(data)
            calibration = cls(
                version=str(header["version"]),
                bits=str(header["bits"]),
                cohort=np.ascontiguousarray(arrays["cohort"], np.uint64),
                base=np.ascontiguousarray(arrays["base"], np.float32),
                usual=np.ascontiguousarray(arrays["usual"], np.float32),
                weights=np.ascontiguousarray(arrays["weights"], np.float32),
                tail=Tail(**header["tail"]),
                provenance=header["provenance"],
            )
        except Exception as error:  # see `unpacked`
            raise CalibrationError(f"not a calibration of known media: {error}") from error
        calibration._check()
        return calibration


@functools.cache
def known_calibration(bits: str) -> KnownCalibration:
    """Read what ships with the package.

    Raises:
        CalibrationError: nothing ships for these bits.

    """
    file = importlib.resources.files("matcher") / "calibration" / f"{bits}-known.npz"
    if not file.is_file():
        raise CalibrationError(f"no calibration of known media ships for bits {bits!r}")
    return KnownCalibration.from_bytes(file.read_bytes())

"""Learns filters whose signs agree between homes that hear one recording, and say little about the home.

Canonical correlation (Hotelling 1936) between two homes' views of the same moment: of all linear filters over a stretch
of relative loudness, those whose responses correlate most between homes. Their responses are uncorrelated with each
other by construction, so that every bit says something of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg

from matcher.bits import BITS_PER_WORD, LearnedBits
from matcher.grid import BANDS

TAPS = 9
TAP_FRAMES = 3
MEAN_FRAMES = 36
EXPONENT = 0.8
# Of the mean variance, added to each: it keeps filters away from directions that hardly occur.
RIDGE = 1e-3


class LearnError(ValueError):
    """Too little to learn filters from."""


@dataclass(frozen=True, eq=False)
class View:
    """What one home heard of a recording.

    Attributes:
        energies: float32 (frames, BANDS), natural logarithms.
        onset_frame: the frame at which a moment common to all views of the recording lies.

    """

    energies: npt.NDArray[np.float32]
    onset_frame: int


def learn_filters(
    recordings: Sequence[Sequence[View]],
    name: str,
    provenance: Mapping[str, object],
) -> LearnedBits:
    """Find the 64 filters of highest correlation between homes.

    Args:
        recordings: of each, the views of the homes that heard it.
        name: of the bits.
        provenance: what the views come from; kept with the filters.

    Raises:
        LearnError: fewer than two recordings with two views, or views without a common stretch.

    """
    size = TAPS * BANDS
    total, within, between = np.zeros(size), np.zeros((size, size)), np.zeros((size, size))
    frames = pairs = heard = 0
    for views in recordings:
        seen = [stretches(view.energies) for view in views]
        for stretch in seen:
            total += stretch.sum(axis=0)
            within += stretch.T @ stretch
            frames += len(stretch)
        heard += len(views) > 1
        for i, first in enumerate(views):
            for j in range(i + 1, len(views)):
                later = views[j].onset_frame - first.onset_frame
                start, other = max(0, -later), max(0, later)
                common = min(len(seen[i]) - start, len(seen[j]) - other)
                if common > 0:
                    product = seen[i][start : start + common].T @ seen[j][other : other + common]
                    between += product + product.T
                    pairs += 2 * common
    if heard < 2 or not pairs:
        raise LearnError(f"{heard} recordings that several homes heard are too few to learn filters from")
    mean = total / frames
    covariance = within / frames - np.outer(mean, mean)
    correlation = between / pairs - np.outer(mean, mean)
    covariance += RIDGE * np.trace(covariance) / size * np.eye(size)
    _, vectors = scipy.linalg.eigh(correlation, covariance, subset_by_index=[size - BITS_PER_WORD, size - 1])
    # Each sign is arbitrary to the solver: the heaviest weight is positive, so that the same input gives the same bits.
    heaviest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    filters = (vectors * np.sign(heaviest))[:, ::-1]
    return LearnedBits(
        name,
        np.ascontiguousarray(filters.reshape(TAPS, BANDS, BITS_PER_WORD), np.float32),
        np.ascontiguousarray(mean @ filters, np.float32),
        TAP_FRAMES,
        MEAN_FRAMES,
        EXPONENT,
        provenance,
    )


def stretches(energies: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Give what a filter sees from each frame on, as `LearnedBits` has it.

    Args:
        energies: float32 (frames, BANDS), natural logarithms.

    Returns:
        float64 (frames - span, TAPS * BANDS).

    """
    powers = np.exp(energies.astype(np.float64))
    span = (TAPS - 1) * TAP_FRAMES
    count = len(powers) - span if len(powers) >= MEAN_FRAMES else 0
    if count <= 0:
        return np.empty((0, TAPS * BANDS))
    sums = np.concatenate((np.zeros((1, BANDS)), np.cumsum(powers, axis=0)))
    end = np.maximum(np.arange(count) + span + 1, MEAN_FRAMES)
    mean = (sums[end] - sums[end - MEAN_FRAMES]) / MEAN_FRAMES
    parts = [(powers[tap * TAP_FRAMES : tap * TAP_FRAMES + count] / mean) ** EXPONENT for tap in range(TAPS)]
    return np.concatenate(parts, axis=1)

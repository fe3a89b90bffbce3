"""A trial that is not built: a small neural encoder whose signs are the bits, and what a student of equal cost keeps.

`python -m bench.encoder TRAIN_RECORDING RECORDING...` prints what docs/bits.md says of it: the share of pairs of homes
that each kind of bits finds, at the score that one pair of strangers in 10,000 reaches. It takes the extra `trials`.
"""

from collections import defaultdict
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from bench.encoder_fit import SIZE, Batches, Floats, Weights, contrast, distil, hidden, learn, responses, takes
from bench.trials import AUDIO_MS, BITS, FULL, NOISY_DB, PAIR_PEOPLE, Heard, load
from matcher.bits import BITS_PER_WORD, HOPS_PER_WORD, frame_count, word_count
from matcher.evidence import ALIGNMENTS, MIN_WORDS
from matcher.kernels import mean_lowest_rate
from matcher.learn import View, learn_filters, stretches
from matcher.null import pair_matrix
from pipeline.progress import PhaseProgress

TEACHER_UNITS, STUDENT_UNITS, COHORT, RESAMPLED = 192, 48, 200, 200
Words = npt.NDArray[np.uint64]


def fingerprints(weights: Weights, energies: list[Floats]) -> Words:
    """Words of full requests, uint64 (R, FULL)."""
    bits = [responses(weights, jnp.asarray(stretches(one)[::HOPS_PER_WORD], jnp.float32)) > 0 for one in energies]
    return np.packbits(np.array(bits), axis=-1, bitorder="little").view(np.uint64)[..., 0]


class Pairs:
    """What `bench.trials.pairs` measures, of any fingerprints of the same requests."""

    def __init__(self, heard: list[Heard], rng: np.random.Generator) -> None:
        people = rng.permutation([i for i, one in enumerate(heard) if not one.event])[:PAIR_PEOPLE]
        both = [*(heard[i] for i in people), *(one for one in heard if one.event)]
        voices = sorted({one.voice for one in both}, key=sorted)
        disjoint = np.array([[a.isdisjoint(b) for b in voices] for a in voices])
        snr_db, person = np.array([one.snr_db for one in both]), np.array([not one.event for one in both])
        self.energies = [one.energies for one in both]
        self._event = np.unique([one.event for one in both], return_inverse=True)[1]
        self._voice = np.array([voices.index(one.voice) for one in both])
        self._apart = np.nonzero(disjoint[self._voice][:, self._voice] & person[:, None] & person)
        same = (self._event[:, None] == self._event) & ~person & ~np.eye(len(both), dtype=bool)
        self._same = np.nonzero(same)
        self._weights = 1 / same.sum(axis=1)[self._same[0]]
        self._noisy = np.minimum(*(snr_db[side] for side in self._same)) < NOISY_DB

    def shares(self, words: Words, cohort: Words) -> npt.NDArray[np.float64]:
        """Shares of the pairs of homes found, float64 (1 + RESAMPLED, 4): as it is, then events and voices resampled.

        Of the three lengths, and of the second for the pairs of which a home is noisy.
        """
        columns, rng, shares = np.ascontiguousarray(cohort.T), np.random.default_rng(0), np.empty((1 + RESAMPLED, 4))

        def own(n: int) -> Floats:
            means = [mean_lowest_rate(np.ascontiguousarray(one[:n]), columns, ALIGNMENTS, MIN_WORDS) for one in words]
            return np.array(means, np.float32)

        drawn = [(np.ones(self._event.max() + 1), np.ones(self._voice.max() + 1))]
        for _ in range(RESAMPLED):
            events, voices = (np.bincount(rng.integers(len(x), size=len(x)), minlength=len(x)) for x in drawn[0])
            drawn.append((events.astype(np.float64), voices.astype(np.float64)))
        first, second = (self._voice[side] for side in self._apart)
        whole = own(FULL)
        for column, audio_ms in enumerate(AUDIO_MS):
            n = word_count(frame_count(audio_ms), BITS)
            scores = own(n)[:, None] + whole - pair_matrix(words, words, n, FULL)[0]
            nearest = np.argsort(-scores[self._apart])[: len(first) // 100]
            limits = scores[self._apart][nearest]
            for row, (events, voices) in enumerate(drawn):
                trials = voices[first] @ voices[second]
                passed = np.cumsum(voices[first[nearest]] * voices[second[nearest]])
                found = scores[self._same] > limits[np.searchsorted(passed, 1e-4 * trials)]
                weights = self._weights * events[self._event[self._same[0]]]
                shares[row, column] = np.average(found, weights=weights)
                if column == 1:
                    shares[row, -1] = np.average(found, weights=weights * self._noisy)
        return shares


def main(train: Path, recordings: list[Path], seed: int = 0) -> None:
    """Learn the encoders from one labelled recording of the simulator, and print what pairs of others they find."""
    with PhaseProgress(Console(stderr=True, highlight=False)) as progress:
        progress("requests", 0, 0)
        taken = takes(train)
        events: defaultdict[str, list[View]] = defaultdict(list)
        for take in taken:
            if take.event:
                events[take.event].append(View(take.energies, take.onset_frame))
        bits = learn_filters(list(events.values()), "linear", {})
        linear = {
            "filters": jnp.asarray(bits.filters.reshape(SIZE, BITS_PER_WORD)),
            "offsets": jnp.asarray(bits.offsets),
        }
        wide, narrow = hidden(TEACHER_UNITS, 0.02, seed), hidden(STUDENT_UNITS, 0.18, seed)
        teacher = learn("teacher", contrast, wide | linear, Batches(taken, seed), progress)
        taught = partial(distil, teacher=teacher)
        kinds = {
            "linear, canonical correlation": linear,
            "linear, no teacher": learn("no teacher", contrast, linear, Batches(taken, seed), progress),
            "linear student": learn("linear student", taught, linear, Batches(taken, seed + 1), progress),
            "student": learn("student", taught, narrow, Batches(taken, seed + 1), progress),
            "teacher": teacher,
        }
        progress("pairs", 0, 0)
        # By event, as `bench.trials` has them: the same people are drawn.
        heard = sorted((one for path in recordings for one in load(path)), key=lambda one: one.event)
        pairs = Pairs(heard, np.random.default_rng(0))
        cohort = [take.energies for take in taken if not take.event][:COHORT]
        base = None
        print("bits | multiply-adds a word | shares found | standard error | gain | its standard error")
        for name, weights in kinds.items():
            shares = pairs.shares(fingerprints(weights, pairs.energies), fingerprints(weights, cohort))
            base = shares if base is None else base
            gains = shares - base
            cells = [shares[0], shares[1:].std(axis=0), gains[0], gains[1:].std(axis=0)]
            cost = sum(matrix.size for matrix in weights.values() if matrix.ndim == 2)
            print(name, cost, *(" ".join(f"{x:.3f}" for x in cell) for cell in cells), sep=" | ", flush=True)


if __name__ == "__main__":
    typer.run(main)

"""Trials beside what is built: averages that keep their votes' margins, and other ways to tell how wide a null is.

`python -m bench.trials RECORDING...` prints what docs/bits.md says of them: of an event's homes that did not vote, the
share that its average finds, and the share of pairs of homes. Every variant at the score that strangers, single people
of other voices, reach once in 100,000 times (averages; fitted to the highest thousandth) or in 10,000 (pairs).
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer

from bench.calibrate import truth_of, voice_parts
from matcher.bits import bits_named, frame_count, word_count
from matcher.event import HOLDING_RATE
from matcher.evidence import ALIGNMENTS, MIN_WORDS, shipped_calibration
from matcher.fingerprint import FULL_MS, level_range_db, seed_of
from matcher.grid import FilterBank, frame_levels
from matcher.kernels import rates_against_others
from matcher.null import fit_tail, pair_matrix
from pipeline.recordings.recording import Recording

AUDIO_MS, SIZES, DRAWS, NOISY_DB, PAIR_PEOPLE = (800, 1200, 2000), (3, 6, 12), 2, 10, 1500
BITS, CALIBRATION = bits_named("learned64"), shipped_calibration("learned64")
FULL = word_count(frame_count(FULL_MS), BITS)
Floats = npt.NDArray[np.float32]
# What becomes of a bit's votes for, less those against: float32 (FULL, 64); and whether votes count by the estimate.
VARIANTS: dict[str, tuple[Callable[[Floats], Floats], bool]] = {
    "hard bits": (np.sign, False),
    "weighted by margin": (lambda share: share, False),
    "those of 70 % alone": (lambda share: np.sign(share) * (np.abs(share) > 0.39), False),
    "those of 70 % count twice": (lambda share: np.sign(share) * (1 + (np.abs(share) > 0.39)), False),
    "hard bits, votes by SNR": (np.sign, True),
    "weighted by margin, votes by SNR": (lambda share: share, True),
}


@dataclass(frozen=True, eq=False)
class Heard:
    """A full request: words uint64 (FULL,), log energies float32 (frames, BANDS), its truth; people have no event."""

    words: npt.NDArray[np.uint64]
    energies: Floats
    event: str
    voice: frozenset[str]
    snr_db: float

    def own_null(self, audio_ms: int) -> Floats:
        """Own null of so much audio, as the matcher has it."""
        heard = self.energies[: frame_count(audio_ms)]
        levels_db = np.empty(len(heard), np.float32)
        frame_levels(heard, levels_db)
        return CALIBRATION.own_null(self.words[: word_count(len(heard), BITS)], level_range_db(levels_db))

    def estimate_db(self, audio_ms: int) -> float:
        """How far the loud frames stand above the quiet ones band by band, mean of the bands."""
        quiet, loud = np.percentile(self.energies[: frame_count(audio_ms)], (10, 90), axis=0)
        return float(np.mean(loud - quiet)) * 10 / np.log(10)


def load(path: Path) -> list[Heard]:
    """Fingerprint the single people, and one request of every home of an event."""
    recording = Recording.load(path)
    voices = truth_of(recording, "voice")
    found: dict[tuple[str, str], Heard] = {}
    for request in recording.requests:
        truth = recording.truth[request.request_id]
        event = f"{path.name}/{truth.event}" if truth.expect == "ignore" else ""
        key = event, request.household if event else request.request_id
        if (truth.kind == "live" or event) and key not in found:
            energies = FilterBank(seed_of(request.request_id)).push(recording.audio(request)[0])[: frame_count(FULL_MS)]
            voice = frozenset(voice_parts(voices[request.request_id]))
            found[key] = Heard(BITS.words(energies), energies, event, voice, truth.snr_db or 0.0)
    return [one for one in found.values() if len(one.words) == FULL]


def signs(words: npt.NDArray[np.uint64]) -> Floats:
    """Bits as -1 and 1: uint64 (..., n) to float32 (..., n, 64)."""
    return (words[..., None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).astype(np.float32) * 2 - 1


def votes(homes: list[Heard], by_snr: bool) -> Floats:
    """Share of votes for a 1 less that for a 0, of homes that hold against the others: float32 (FULL, 64)."""
    words = np.stack([home.words for home in homes])
    alignments = pair_matrix(words[:1], words, FULL, FULL)[1][0]
    rates, lengths = np.empty(len(homes), np.float32), np.full(len(homes), FULL, np.int32)
    rates_against_others(words, lengths, np.arange(len(homes)), alignments, rates, np.empty_like(lengths))
    weights = np.clip([2 ** ((one.estimate_db(FULL_MS) - 15) / 5 if by_snr else 0) for one in homes], 0.5, 2)
    weights[(rates >= HOLDING_RATE) & (len(homes) > min(SIZES))] = 0
    sums, voters = np.zeros((FULL, 64), np.float32), np.zeros((FULL, 1))
    for bits, a, weight in zip(signs(words), alignments.tolist(), weights, strict=True):
        start, end = max(0, -a), FULL - max(0, a)
        # Where votes are even, the first counts.
        sums[start:end] += bits[start + a : end + a] * np.where(voters[start:end], weight, weight * 1.001)
        voters[start:end] += weight > 0
    return np.where(voters >= 2, sums / weights.sum(), 0).astype(np.float32)


def lowest_rates(requests: Floats, averages: Floats) -> Floats:
    """Lowest weighted bit error rates: signs float32 (R, n, 64) and signed weights (A, FULL, 64) to (R, A)."""
    flat, weighted = requests.reshape(len(requests), -1), averages.reshape(len(averages), -1)
    best = np.full((len(flat), len(weighted)), np.inf, np.float32)
    for a in ALIGNMENTS.tolist():
        start, end = 64 * max(0, -a), min(flat.shape[1], 64 * (FULL - a))
        if end - start >= 64 * MIN_WORDS:
            part = weighted[:, start + 64 * a : end + 64 * a]
            best = np.minimum(best, 0.5 - flat[:, start:end] @ part.T / (2 * np.abs(part).sum(1)))
    return best


def by_fifths(scores: Floats, null: npt.NDArray[np.bool_], estimates: Floats) -> Floats:
    """Scores less their null's mean, over its deviation, both within a fifth of the strangers' estimates."""
    fifth, out = np.searchsorted(np.quantile(estimates[null], (0.2, 0.4, 0.6, 0.8)), estimates), scores.copy()
    for part in range(5):
        strangers = scores[null & (fifth == part)]
        out[fifth == part] = (scores[fifth == part] - strangers.mean()) / strangers.std()
    return out


def own_nulls(heard: list[Heard], audio_ms: int = FULL_MS) -> Floats:
    """Own nulls of so much audio: float32 (R, 2)."""
    return np.array([one.own_null(audio_ms) for one in heard])


def limit(null: Floats) -> float:
    """Score that strangers reach once in 100,000 times."""
    return fit_tail(null.astype(float), 0.001).threshold(1e-5, 1)


def averages(heard: list[Heard], rng: np.random.Generator) -> None:
    """Print what homes an average finds; thresholds are each size's own, but for the last figure."""
    events = [list(homes) for event, homes in itertools.groupby(heard, lambda one: one.event) if event]
    large = [(size, homes) for size in SIZES for homes in events if len(homes) > size for _ in range(DRAWS)]
    drawn = [(size, [homes[i] for i in rng.permutation(len(homes))]) for size, homes in large]
    apart = np.array([[not one.event and one.voice.isdisjoint(homes[0].voice) for _, homes in drawn] for one in heard])
    place, sizes = {id(one): row for row, one in enumerate(heard)}, np.array([size for size, _ in drawn])
    left = [(place[id(one)], column) for column, (size, homes) in enumerate(drawn) for one in homes[size:]]
    rows, columns = np.array(left).T
    noisy = np.array([one.snr_db < NOISY_DB for one in heard])[rows]
    bits, cohort = signs(np.stack([one.words for one in heard])), signs(CALIBRATION.cohort[:, :FULL])
    print(
        f"{np.count_nonzero(apart)} strangers, {len(left)} homes: all, of {SIZES}, noisy, other, all by one threshold"
    )
    for (name, (weigh, by_snr)), audio_ms in itertools.product(VARIANTS.items(), AUDIO_MS):
        weighted = np.stack([weigh(votes(homes[:size], by_snr)) for size, homes in drawn]).astype(np.float32)
        n = word_count(frame_count(audio_ms), BITS)
        rates, shifts = lowest_rates(bits[:, :n].copy(), weighted), lowest_rates(cohort, weighted).mean(0)
        own = own_nulls(heard, audio_ms)
        scores = own[:, :1] + shifts - rates
        estimates = np.array([[one.estimate_db(audio_ms)] for one in heard], np.float32).repeat(len(drawn), axis=1)
        fifths = by_fifths(scores, apart, estimates)
        for kind, of_score in ("", scores / own[:, 1:]), (", one width", scores), (", width by SNR", fifths):
            of_size = {size: limit(of_score[apart & (sizes == size)]) for size in SIZES}
            passed = (of_score > [of_size[size] for size in sizes])[rows, columns]
            groups = [np.ones_like(noisy), *(sizes[columns] == size for size in SIZES), noisy, ~noisy]
            shares = [
                *(passed[group].mean() for group in groups),
                (of_score > limit(of_score[apart]))[rows, columns].mean(),
            ]
            print(name + kind, audio_ms, *(f"{share:.3f}" for share in shares), sep=" | ", flush=True)


def pairs(heard: list[Heard], rng: np.random.Generator) -> None:
    """Print what pairs of homes agree, every home alike; one side has the audio given, the other all."""
    people = rng.permutation([i for i, one in enumerate(heard) if not one.event])[:PAIR_PEOPLE]
    both = [*(heard[i] for i in people), *(one for one in heard if one.event)]
    words, events = np.stack([one.words for one in both]), np.array([one.event for one in both])
    apart = np.array([[not (a.event or b.event) and a.voice.isdisjoint(b.voice) for b in both] for a in both])
    same = (events[:, None] == events) & (events != "") & ~np.eye(len(both), dtype=bool)
    weights, snr_db = same / np.maximum(same.sum(1), 1)[:, None], np.array([one.snr_db for one in both], np.float32)
    lower_db, whole_db = np.minimum(snr_db[:, None], snr_db), np.array([one.estimate_db(FULL_MS) for one in both])
    print(f"{np.count_nonzero(apart)} pairs of strangers, {np.count_nonzero(same)} of homes: all, a noisy one, other")
    for audio_ms in AUDIO_MS:
        n = word_count(frame_count(audio_ms), BITS)
        own, full = own_nulls(both, audio_ms), own_nulls(both)
        expected = CALIBRATION.null_mean(n) + own[:, :1] + full[:, 0]
        scores = expected - pair_matrix(words, words, n, FULL)[0]
        estimates = np.minimum(np.array([[one.estimate_db(audio_ms)] for one in both]), whole_db)
        kinds = {
            "": scores / (own[:, 1:] * full[:, 1]),
            ", one width": scores,
            ", width by SNR": by_fifths(scores, apart, estimates),
            ", width by true SNR": by_fifths(scores, apart, lower_db),
        }
        for kind, of_score in kinds.items():
            passed = of_score > np.quantile(of_score[apart], 1 - 1e-4)
            groups = np.ones_like(apart), lower_db < NOISY_DB, lower_db >= NOISY_DB
            shares = [np.average(passed, weights=weights * group) for group in groups]
            print(f"pairs{kind}", audio_ms, *(f"{share:.3f}" for share in shares), sep=" | ", flush=True)


def main(recordings: list[Path]) -> None:
    """Print both, of labelled recordings of the simulator."""
    heard = sorted((one for path in recordings for one in load(path)), key=lambda one: one.event)
    pairs(heard, np.random.default_rng(0))
    averages(heard, np.random.default_rng(0))


if __name__ == "__main__":
    typer.run(main)

"""Learns small encoders whose signs are the bits: a teacher by contrast, and students that take after it.

For `bench.encoder`; it takes the extra `trials`.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from bench.calibrate import truth_of
from matcher.bits import BITS_PER_WORD, HOPS_PER_WORD, frame_count
from matcher.fingerprint import FULL_MS, seed_of
from matcher.grid import BANDS, HOP_MS, FilterBank
from matcher.learn import EXPONENT, MEAN_FRAMES, TAP_FRAMES, TAPS
from pipeline.progress import PhaseProgress
from pipeline.recordings.recording import Recording

SIZE, SPAN, FULL_FRAMES = TAPS * BANDS, (TAPS - 1) * TAP_FRAMES, frame_count(FULL_MS)
# A batch: fragments of so many words, of pairs of homes of so many events and of so many people.
FEWEST_WORDS, WORDS, EVENTS, PEOPLE = 14, 32, 48, 48
FRAMES = HOPS_PER_WORD * (WORDS - 1) + SPAN + 1
STEPS, RATE, TEMPERATURE, DECORRELATION = 600, 3e-3, 0.05, 0.1
# A teacher's response that is taken for sure is as high as 1 / SURE; what missing its bits costs beside the contrast.
SURE, DISTILLED = 4.0, 10.0
# Eighteen advertisements are few: fragments are played faster or slower, and their bands moved.
TEMPO, SHIFT_BANDS, APART_FRAMES = 0.15, 3, 10
Floats = npt.NDArray[np.float32]
Weights = dict[str, jax.Array]
Loss = Callable[..., jax.Array]
Batch = tuple[Floats, npt.NDArray[np.int64], int]


@dataclass(frozen=True, eq=False)
class Take:
    """A request to learn from: log energies float32 (FULL_FRAMES, BANDS), where its wake word begins, what aired."""

    energies: Floats
    onset_frame: int
    event: str
    source: str


def takes(path: Path) -> list[Take]:
    """Full requests of single people, who have no event, and one of every home of an event."""
    recording = Recording.load(path)
    sources, found = truth_of(recording, "source"), dict[tuple[str, str], Take]()
    for request in recording.requests:
        truth = recording.truth[request.request_id]
        event = (truth.event or "") if truth.expect == "ignore" else ""
        key = event, request.household if event else request.request_id
        if (truth.kind == "live" or event) and key not in found:
            energies = FilterBank(seed_of(request.request_id)).push(recording.audio(request)[0])[:FULL_FRAMES]
            onset_frame = round((truth.wake_word_start_s or 0.0) * 1000 / HOP_MS)
            found[key] = Take(energies, onset_frame, event, sources[request.request_id] or request.request_id)
    return [take for take in found.values() if len(take.energies) == FULL_FRAMES]


class Batches:
    """Draws fragments: two homes of every event, and single people, all about one place relative to the wake word."""

    def __init__(self, takes: list[Take], seed: int) -> None:
        events: defaultdict[str, list[Take]] = defaultdict(list)
        for take in takes:
            events[take.event].append(take)
        self._people = events.pop("")
        self._events = [homes for homes in events.values() if len(homes) > 1]
        self._number = {source: n for n, source in enumerate(sorted({take.source for take in takes}))}
        self._rng = np.random.default_rng(seed)

    def draw(self) -> Batch:
        """Log energies float32 (N, FRAMES, BANDS) of EVENTS homes, the others, people; what each hears; words taken."""
        around = int(self._rng.integers(-50, 60))
        homes, others, people = [], [], []
        for event in self._rng.permutation(len(self._events))[:EVENTS]:
            first, second = self._rng.permutation(len(self._events[event]))[:2]
            pair = [self._events[event][first], self._events[event][second]]
            (home, other), number = self._fragments(pair, around), self._number[pair[0].source]
            homes.append((home, number))
            others.append((other, number))
        for person in self._rng.permutation(len(self._people))[:PEOPLE]:
            take = self._people[person]
            people.append((self._fragments([take], around)[0], self._number[take.source]))
        fragments, heard = zip(*homes, *others, *people, strict=True)
        return np.array(fragments, np.float32), np.array(heard), int(self._rng.integers(FEWEST_WORDS, WORDS + 1))

    def _fragments(self, takes: list[Take], around: int) -> list[npt.NDArray[np.float64]]:
        """Cut the same moments out of requests that heard the same."""
        rng, onsets = self._rng, [take.onset_frame for take in takes]
        tempo, shift = float(np.exp(rng.uniform(-TEMPO, TEMPO))), int(rng.integers(-SHIFT_BANDS, SHIFT_BANDS + 1))
        least, most = -min(onsets), FULL_FRAMES - 1 - max(onsets) - int(np.ceil(tempo * (FRAMES - 1)))
        at = np.clip(around + rng.integers(-APART_FRAMES, APART_FRAMES + 1), least, max(least, most))
        bands = np.clip(np.arange(BANDS) - shift, 0, BANDS - 1)
        fragments = []
        for take in takes:
            frames = np.clip(take.onset_frame + at + tempo * np.arange(FRAMES), 0, FULL_FRAMES - 1)
            before = np.minimum(frames.astype(np.int64), FULL_FRAMES - 2)
            part = (frames - before)[:, None]
            fragments.append(((1 - part) * take.energies[before] + part * take.energies[before + 1])[:, bands])
        return fragments


def seen(energies: jax.Array) -> jax.Array:
    """Give what `matcher.learn.stretches` does, of every word: (N, FRAMES, BANDS) to (N, WORDS, SIZE)."""
    powers = jnp.exp(energies - energies.max(axis=(1, 2), keepdims=True))
    first = HOPS_PER_WORD * np.arange(WORDS)
    end = np.maximum(first + SPAN + 1, MEAN_FRAMES)
    mean = sum((powers[:, end - 1 - back] for back in range(MEAN_FRAMES)), jnp.zeros(())) / MEAN_FRAMES
    parts = [(powers[:, first + tap * TAP_FRAMES] / mean) ** EXPONENT for tap in range(TAPS)]
    return jnp.concatenate(parts, axis=-1)


def responses(weights: Weights, x: jax.Array) -> jax.Array:
    """Whose signs are the bits, (..., SIZE) to (..., 64): of linear filters, of a hidden layer, or of both."""
    response = -weights["offsets"]
    if "filters" in weights:
        response = response + x @ weights["filters"]
    if "into" in weights:
        response = response + jax.nn.relu((x - 1) @ weights["into"] + weights["bias"]) @ weights["out"]
    return response


def hidden(units: int, scale: float, seed: int) -> Weights:
    """Draw a layer of so many rectified units, with responses of about this size."""
    into, out = (jax.random.normal(key, (SIZE, units)) for key in jax.random.split(jax.random.key(seed)))
    zeros = {"bias": jnp.zeros(units), "offsets": jnp.zeros(BITS_PER_WORD)}
    return {"into": into / SIZE**0.5, "out": scale * out[:BITS_PER_WORD].T} | zeros


def contrast(weights: Weights, energies: jax.Array, heard: jax.Array, words: jax.Array) -> jax.Array:
    """Loss (InfoNCE) of telling the other home from all that hear something else, by soft signs; repeated bits cost."""
    response = responses(weights, seen(energies))
    taken = jnp.tanh(response) * (jnp.arange(WORDS) < words)[:, None]
    flat = taken.reshape(len(taken), -1)
    alike = flat @ flat.T / (words * BITS_PER_WORD * TEMPERATURE)
    same = jnp.tile(jnp.diagonal(alike[:EVENTS, EVENTS : 2 * EVENTS]), 2)
    others = jnp.where(heard[:, None] == heard, -jnp.inf, alike)[: 2 * EVENTS]
    told = jnp.mean(jnp.logaddexp(same, jax.nn.logsumexp(others, axis=1)) - same)
    bits = response.reshape(-1, BITS_PER_WORD)
    repeated = (jnp.sum(jnp.corrcoef(bits.T) ** 2) - BITS_PER_WORD) / BITS_PER_WORD
    return told + DECORRELATION * repeated + jnp.mean(jnp.tanh(bits).mean(axis=0) ** 2)


def distil(weights: Weights, energies: jax.Array, heard: jax.Array, _words: jax.Array, teacher: Weights) -> jax.Array:
    """Loss of a student: the contrast of whole fragments, and the bits it misses, unsure ones less."""
    x = seen(energies)
    bits = jax.nn.sigmoid(SURE * responses(teacher, x))
    missed = jnp.mean(optax.sigmoid_binary_cross_entropy(2 * responses(weights, x), bits))
    return contrast(weights, energies, heard, jnp.asarray(WORDS)) + DISTILLED * missed


def learn(name: str, loss: Loss, weights: Weights, batches: Batches, progress: PhaseProgress) -> Weights:
    """Descend a loss from these weights."""
    optimiser = optax.adamw(optax.cosine_decay_schedule(RATE, STEPS), weight_decay=1e-3)

    @jax.jit
    def step(weights: Weights, state: optax.OptState, *batch: jax.Array) -> tuple[Weights, optax.OptState]:
        updates, state = optimiser.update(jax.grad(loss)(weights, *batch), state, weights)
        return optax.apply_updates(weights, updates), state

    state = optimiser.init(weights)
    for number in range(STEPS):
        weights, state = step(weights, state, *batches.draw())
        progress(name, number + 1, STEPS)
    return weights

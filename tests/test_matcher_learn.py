"""Filters that are learned: their bits agree between homes that hear one recording, and not between strangers."""

import functools
import itertools

import naive
import numpy as np
import numpy.typing as npt
import pytest
from sounds import fingerprint_of, hear, say

from matcher.bits import BITS_PER_WORD, GRADIENT, Bits, LearnedBits
from matcher.grid import BANDS, HOP_MS, FilterBank
from matcher.learn import MEAN_FRAMES, TAP_FRAMES, TAPS, LearnError, View, learn_filters, stretches

ONSET_MS = 500
PROVENANCE = {"advertisements": 16}


def view(ad_seed: int, home: int, jitter_frames: int = 0) -> View:
    """What a home hears of an advertisement, when its trigger comes so much later than the wake word."""
    samples = hear(ad_seed, home, 15 + 5 * (home % 3), jitter_frames * HOP_MS)
    return View(FilterBank(home).push(samples), ONSET_MS // HOP_MS - jitter_frames)


@functools.cache
def heard(homes: int = 3, recordings: int = 16) -> list[list[View]]:
    """Each recording in some homes, all of which start to listen at times of their own."""
    rng = np.random.default_rng(0)
    return [
        [view(100 + ad, 10 * ad + home, int(rng.integers(-8, 9))) for home in range(homes)] for ad in range(recordings)
    ]


@functools.cache
def learned() -> LearnedBits:
    return learn_filters(heard(), "tests", PROVENANCE)


@functools.cache
def error_rates(bits: Bits) -> tuple[float, float]:
    """Mean bit error rate of homes that hear one advertisement, and of strangers; nobody of them was learned from."""
    media = [[fingerprint_of(f"m{ad}-{i}", hear(ad, 900 + i, 15), bits) for i in range(3)] for ad in range(4)]
    people = [fingerprint_of(f"l{i}", say(i, 950 + i, 15), bits) for i in range(8)]

    def rate(first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> float:
        return naive.bit_errors(first, second) / (BITS_PER_WORD * len(first))

    same = [rate(*pair) for homes in media for pair in itertools.combinations(homes, 2)]
    strangers = [rate(*pair) for pair in itertools.combinations(people + [homes[0] for homes in media], 2)]
    return float(np.mean(same)), float(np.mean(strangers))


def test_learned_bits_agree_between_homes_and_not_between_strangers() -> None:
    """On sounds that they were not learned from; and better than bits that were not learned."""
    same, strangers = error_rates(learned())
    assert strangers == pytest.approx(0.5, abs=0.02)
    assert same < 0.25
    assert same < error_rates(GRADIENT)[0]


def test_moments_are_told_by_their_onsets() -> None:
    """With onsets that are wrong, homes have nothing in common to learn."""
    rng = np.random.default_rng(1)
    wrong = [[View(one.energies, int(rng.integers(0, 100))) for one in views] for views in heard()]
    assert error_rates(learn_filters(wrong, "wrong", {}))[0] > error_rates(learned())[0] + 0.05


def test_the_same_input_gives_the_same_bytes() -> None:
    again = learn_filters(heard(), "tests", PROVENANCE)
    assert again.to_bytes() == learned().to_bytes()
    assert LearnedBits.from_bytes(again.to_bytes()).to_bytes() == again.to_bytes()


def test_what_was_learned_is_named_and_says_from_what() -> None:
    bits = learned()
    assert (bits.name, bits.provenance) == ("tests", PROVENANCE)
    assert bits.filters.shape == (TAPS, BANDS, BITS_PER_WORD)
    assert (bits.filters.dtype, bits.offsets.dtype) == (np.float32, np.float32)


def test_bits_say_something_of_their_own() -> None:
    """Half of them are ones, and no two say the same: the responses are uncorrelated by construction."""
    bits = learned()
    seen = np.concatenate([stretches(one.energies) for views in heard() for one in views])
    responses = seen @ bits.filters.reshape(-1, BITS_PER_WORD) - bits.offsets
    assert np.abs(responses.mean(axis=0) / responses.std(axis=0)).max() < 0.01
    correlations = np.corrcoef(responses.T)[~np.eye(BITS_PER_WORD, dtype=bool)]
    assert np.abs(correlations).max() < 0.2  # but for the ridge: none
    assert np.abs(correlations).mean() < 0.02


def test_the_order_of_homes_is_of_no_matter() -> None:
    """A pair counts from either side; sums in another order are rounded otherwise."""
    turned = learn_filters([views[::-1] for views in heard()], "tests", PROVENANCE)
    energies = view(7, 7).energies
    words = learned().words(energies)
    assert naive.bit_errors(words, turned.words(energies)) < 0.01 * BITS_PER_WORD * len(words)


@pytest.mark.parametrize("frames", [0, 1, MEAN_FRAMES - 1, MEAN_FRAMES, 60])
def test_stretches_are_loudness_relative_to_the_last_third_of_a_second(frames: int) -> None:
    """Those that end earlier: relative to the first third of a second."""
    energies = np.random.default_rng(frames).standard_normal((frames, BANDS)).astype(np.float32)
    seen = stretches(energies)
    span = (TAPS - 1) * TAP_FRAMES
    assert seen.shape == (max(0, frames - span) if frames >= MEAN_FRAMES else 0, TAPS * BANDS)
    powers = np.exp(energies.astype(np.float64))
    for first, stretch in enumerate(seen):
        end = max(MEAN_FRAMES, first + span + 1)
        mean = powers[end - MEAN_FRAMES : end].mean(axis=0)
        for tap in range(TAPS):
            expected = (powers[first + tap * TAP_FRAMES] / mean) ** 0.8
            assert stretch[tap * BANDS : (tap + 1) * BANDS] == pytest.approx(expected, rel=1e-9)


TOO_LITTLE: dict[str, list[list[View]]] = {
    "nothing": [],
    "one recording": [[view(1, 1), view(1, 2)]],
    "one home each": [[view(ad, ad)] for ad in range(5)],
    "nothing in common": [[view(ad, 1), View(view(ad, 2).energies, 100_000)] for ad in range(3)],
    "too short": [[View(view(ad, home).energies[: MEAN_FRAMES - 1], 0) for home in (1, 2)] for ad in range(3)],
}


@pytest.mark.parametrize("recordings", TOO_LITTLE.values(), ids=TOO_LITTLE.keys())
def test_too_little_to_learn_from_says_so(recordings: list[list[View]]) -> None:
    with pytest.raises(LearnError, match="too few"):
        learn_filters(recordings, "tests", {})

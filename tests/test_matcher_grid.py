"""From samples to energies: the fast way against the slow way, and chunks against a whole signal."""

import math

import naive
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matcher.grid import (
    BANDS,
    HOP,
    SAMPLE_RATE_HZ,
    WINDOW,
    FilterBank,
    add_dither,
    band_energies,
    band_weights,
    frame_levels,
    log_energies,
    windowed_frames,
)

SEEDS = st.integers(0, 2**64 - 1)


def noise(n: int, seed: int = 0, level: float = 1000.0) -> npt.NDArray[np.float32]:
    return (level * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def chunks_of(samples: npt.NDArray[np.int16], sizes: list[int]) -> list[npt.NDArray[np.int16]]:
    """Cut samples into chunks of these sizes, and what is left over into a last one."""
    return np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))


# ---- dither ----------------------------------------------------------------------------------------------------------


@given(SEEDS, st.integers(0, 2**40), st.integers(0, 50))
def test_dither_is_that_of_the_slow_twin(seed: int, start: int, n: int) -> None:
    samples = noise(n)
    expected = naive.add_dither(samples, seed, start)
    add_dither(samples, np.uint64(seed), start)
    assert np.array_equal(samples, expected)


def test_dither_of_a_long_request_is_a_triangle_of_one_step() -> None:
    """70,000 samples: bounded by one step, no offset, variance 1/6, no neighbour knows of its neighbour."""
    samples = np.zeros(70_000, np.float32)
    add_dither(samples, np.uint64(7), 0)
    assert np.array_equal(samples, naive.add_dither(np.zeros(70_000, np.float32), 7, 0))
    assert np.abs(samples).max() < 1
    assert abs(samples.mean()) < 0.01
    assert samples.var() == pytest.approx(1 / 6, abs=0.005)
    assert abs(np.corrcoef(samples[:-1], samples[1:])[0, 1]) < 0.02


# ---- energies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 1, 7])
def test_frames_are_cut_as_by_hand(frames: int) -> None:
    window = noise(WINDOW, seed=1)
    samples = noise(WINDOW + 7 * HOP)
    out = np.empty((frames, WINDOW), np.float32)
    windowed_frames(samples, window, out)
    assert np.array_equal(out, naive.windowed_frames(samples, window, frames))


@pytest.mark.parametrize("frames", [0, 1, 40])
def test_band_energies_are_the_power_under_the_triangles(frames: int) -> None:
    rng = np.random.default_rng(frames)
    spectra = (rng.standard_normal((frames, 513)) + 1j * rng.standard_normal((frames, 513))).astype(np.complex64)
    out = np.empty((frames, BANDS), np.float32)
    band_energies(spectra, *band_weights(), out)
    assert out == pytest.approx(naive.band_energies(spectra), rel=1e-4)


def test_every_band_hears_something_and_the_triangles_reach_to_their_neighbours_centres() -> None:
    """No band is empty at this resolution, and bins between the first and the last centre weigh 1 in all."""
    weights = naive.triangles()
    first, end, _ = band_weights()
    assert np.all(end > first)
    centres_hz = np.geomspace(200, 4000, BANDS + 2)[[1, -2]]
    bins_hz = np.arange(513) * SAMPLE_RATE_HZ / WINDOW
    inner = (bins_hz >= centres_hz[0]) & (bins_hz <= centres_hz[1])
    assert weights.sum(axis=0)[inner] == pytest.approx(1)
    assert np.array_equal([np.flatnonzero(row)[0] for row in weights], first)
    assert np.array_equal([np.flatnonzero(row)[-1] + 1 for row in weights], end)


@pytest.mark.parametrize("n", [0, 1, WINDOW - 1, WINDOW, WINDOW + HOP - 1, WINDOW + HOP, 20_000])
def test_log_energies_are_those_of_a_plain_fft(n: int) -> None:
    """Single precision is good for a thousandth; only whole frames count."""
    samples = noise(n)
    fast, slow = log_energies(samples), naive.log_energies(samples)
    assert fast.shape == (max(0, 1 + (n - WINDOW) // HOP), BANDS)
    assert fast.dtype == np.float32
    assert fast == pytest.approx(slow, abs=2e-3)


def test_a_tone_is_loudest_in_its_own_band() -> None:
    centres_hz = np.geomspace(200, 4000, BANDS + 2)[1:-1]
    for band in (5, 16, 30):
        tone = 1000 * np.sin(2 * np.pi * centres_hz[band] * np.arange(4000) / SAMPLE_RATE_HZ)
        assert np.all(log_energies(tone.astype(np.float32)).argmax(axis=1) == band)


@given(arrays(np.float32, st.tuples(st.integers(0, 6), st.just(BANDS)), elements=st.floats(-10, 30, width=32)))
def test_a_frames_level_is_the_power_of_its_bands_together(energies: npt.NDArray[np.float32]) -> None:
    levels_db = np.empty(len(energies), np.float32)
    frame_levels(energies, levels_db)
    expected_db = [10 * math.log10(math.fsum(map(math.exp, frame))) for frame in energies.tolist()]
    assert levels_db == pytest.approx(np.array(expected_db, np.float32), abs=1e-4)


@given(st.integers(0, 6000), st.lists(st.integers(0, 2000), max_size=12), SEEDS)
@settings(max_examples=60)
def test_filter_bank_gives_bit_for_bit_what_the_whole_signal_gives(n: int, sizes: list[int], seed: int) -> None:
    """Empty chunks, chunks of one sample, chunks longer than a frame: all the same."""
    samples = np.round(noise(n, seed=n)).astype(np.int16)
    dithered = samples.astype(np.float32)
    add_dither(dithered, np.uint64(seed), 0)
    bank = FilterBank(seed)
    pieces = [bank.push(chunk) for chunk in chunks_of(samples, sizes)]
    assert np.array_equal(np.concatenate(pieces), log_energies(dithered))


def test_filter_bank_leaves_what_it_is_given_alone() -> None:
    samples = noise(2000)
    before = samples.copy()
    FilterBank(3).push(samples)
    assert np.array_equal(samples, before)

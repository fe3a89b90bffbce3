"""From samples to words: the fast way against the slow way, and a growing request against a whole one."""

import naive
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sounds import say

from matcher.bits import BITS_PER_WORD, GRADIENT, audio_ms
from matcher.fingerprint import MAX_WORDS, Fingerprint
from matcher.grid import (
    BANDS,
    HOP,
    HOP_MS,
    SAMPLE_RATE_HZ,
    WINDOW,
    FilterBank,
    add_dither,
    band_energies,
    band_weights,
    log_energies,
    windowed_frames,
)

MS = SAMPLE_RATE_HZ // 1000
SEEDS = st.integers(0, 2**64 - 1)


def noise(n: int, seed: int = 0, level: float = 1000.0) -> npt.NDArray[np.float32]:
    return (level * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def chunks_of(samples: npt.NDArray[np.int16], sizes: list[int]) -> list[npt.NDArray[np.int16]]:
    """Cut samples into chunks of these sizes, and what is left over into a last one."""
    return np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))


# ---- dither ----------------------------------------------------------------------------------------------------------


@given(SEEDS, st.integers(0, 2**40), st.integers(0, 50))
@settings(deadline=None)
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


@given(st.integers(0, 6000), st.lists(st.integers(0, 2000), max_size=12), SEEDS)
@settings(deadline=None, max_examples=60)
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


# ---- bits ------------------------------------------------------------------------------------------------------------


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 14), st.just(BANDS)), elements=st.sampled_from([0, 1, 2.5, -3]))
)
@settings(deadline=None, max_examples=60)
def test_words_are_those_of_the_slow_twin_with_ties_too(energies: npt.NDArray[np.float32]) -> None:
    words = GRADIENT.words(energies)
    assert words.dtype == np.uint32
    assert np.array_equal(words, naive.gradient_words(energies))


def test_words_of_a_long_signal_do_not_depend_on_where_they_stand() -> None:
    """Over 65,535 frames: any stretch of them is what the stretch alone gives."""
    energies = np.random.default_rng(0).standard_normal((66_000, BANDS)).astype(np.float32)
    words = GRADIENT.words(energies)
    assert len(words) == 66_000 - 8
    for start in (0, 32_760, 65_530, 65_970):
        assert np.array_equal(words[start : start + 22], naive.gradient_words(energies[start : start + 30]))


def test_flat_energies_have_no_bits() -> None:
    """A tie is a 0."""
    assert not GRADIENT.words(np.ones((20, BANDS), np.float32)).any()


@given(st.integers(0, MAX_WORDS))
def test_audio_ms_is_the_least_audio_that_gives_so_many_words(words: int) -> None:
    needed_ms = audio_ms(words)
    assert len(Fingerprint("r").grow(noise(needed_ms * MS))) == words
    if words:
        assert len(Fingerprint("r").grow(noise(needed_ms * MS - 1))) == words - 1


# ---- fingerprints ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 45_000), st.lists(st.integers(0, 9000), max_size=30))
@settings(deadline=None, max_examples=40)
def test_fingerprint_grown_by_chunks_is_that_of_the_whole_request(n: int, sizes: list[int]) -> None:
    """Whatever the chunks, also beyond the request's last word."""
    samples = say(1, 2)[:n]
    whole = Fingerprint("request").grow(samples)
    growing = Fingerprint("request")
    pieces = [growing.grow(chunk) for chunk in chunks_of(samples, sizes)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert growing.words == len(whole) <= MAX_WORDS
    assert growing.full == (len(whole) == MAX_WORDS)


def test_fingerprint_grown_sample_by_sample_is_that_of_the_whole_request() -> None:
    samples = say(3, 4)[8000:10_600]
    growing = Fingerprint("request")
    pieces = [growing.grow(samples[i : i + 1]) for i in range(len(samples))]
    assert np.array_equal(np.concatenate(pieces), Fingerprint("request").grow(samples))


def test_fingerprint_stops_when_it_is_full_however_much_comes() -> None:
    """More than 65,535 words' worth of silence would be eleven minutes: bounded at MAX_WORDS."""
    growing = Fingerprint("request")
    assert len(growing.grow(np.zeros(SAMPLE_RATE_HZ * 60, np.int16))) == MAX_WORDS
    assert growing.full
    assert len(growing.grow(np.zeros(SAMPLE_RATE_HZ, np.int16))) == 0
    assert growing.words == MAX_WORDS


def test_samples_as_int16_and_as_float_are_the_same() -> None:
    samples = say(5, 6)
    assert np.array_equal(Fingerprint("r").grow(samples), Fingerprint("r").grow(samples.astype(np.float32)))


def test_digital_silence_of_two_requests_differs_in_half_of_the_bits() -> None:
    """Two muted microphones do not hear the same recording."""
    silence = np.zeros(3 * SAMPLE_RATE_HZ, np.int16)
    silent = [Fingerprint(f"request-{i}").grow(silence) for i in range(6)]
    for i, first in enumerate(silent):
        for second in silent[i + 1 :]:
            assert naive.bit_errors(first, second) / (BITS_PER_WORD * MAX_WORDS) == pytest.approx(0.5, abs=0.04)
    assert np.array_equal(silent[0], Fingerprint("request-0").grow(silence))


@pytest.mark.parametrize("constant", [-32768, -1, 1, 32767])
def test_a_stuck_microphone_is_as_good_as_silence(constant: int) -> None:
    """A constant offset, at full scale too, leaves no pattern that two requests share."""
    stuck = np.full(3 * SAMPLE_RATE_HZ, constant, np.int16)
    first, second = (Fingerprint(name).grow(stuck) for name in ("a", "b"))
    assert naive.bit_errors(first, second) / (BITS_PER_WORD * MAX_WORDS) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("hops", [1, 4, 17])
def test_a_sound_that_comes_whole_hops_later_has_its_words_later(hops: int) -> None:
    """Dither aside: it stays with the request, and a loud sound does not notice it."""
    samples = say(7, 8)
    whole = Fingerprint("r").grow(samples)
    later = Fingerprint("r").grow(samples[hops * HOP :])
    compared = MAX_WORDS - hops
    assert naive.bit_errors(whole[hops:], later[:compared]) / (BITS_PER_WORD * compared) < 0.02
    assert hops * HOP_MS * MS == hops * HOP

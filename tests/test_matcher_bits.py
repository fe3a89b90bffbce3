"""From energies to words, and from a growing request to its looks: the fast way against the slow way."""

import dataclasses
import io
import itertools

import naive
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sounds import fingerprint_of, hear, say

from matcher.bits import (
    BITS_PER_WORD,
    GRADIENT,
    HOPS_PER_WORD,
    WORD_MS,
    Bits,
    BitsError,
    LearnedBits,
    bits_named,
    filtered_words,
    frame_count,
    word_count,
)
from matcher.fingerprint import FIRST_LOOK_MS, FULL_MS, LOOK_MS, MAX_WORDS, Fingerprint, look_due_ms, whole_fingerprint
from matcher.grid import BANDS, HOP, SAMPLE_RATE_HZ, FilterBank
from matcher.learn import EXPONENT, MEAN_FRAMES, TAP_FRAMES, TAPS, stretches
from matcher.looks import every_look, look_words

MS = SAMPLE_RATE_HZ // 1000
LEARNED = bits_named("learned64")
assert isinstance(LEARNED, LearnedBits)
KINDS = pytest.mark.parametrize("bits", [GRADIENT, LEARNED], ids=lambda bits: bits.name)


def energies_of(seed: int, frames: int) -> npt.NDArray[np.float32]:
    """Logarithms of energies like those of a room, float32 (frames, BANDS)."""
    return (np.random.default_rng(seed).standard_normal((frames, BANDS)) * 3 + 15).astype(np.float32)


def random_filters(seed: int, taps: int, tap_frames: int, mean_frames: int, exponent: float = 0.7) -> LearnedBits:
    """Filters that nobody has learned."""
    rng = np.random.default_rng(seed)
    filters = rng.standard_normal((taps, BANDS, BITS_PER_WORD)).astype(np.float32)
    offsets = rng.standard_normal(BITS_PER_WORD).astype(np.float32)
    return LearnedBits(f"random{seed}", filters, offsets, tap_frames, mean_frames, exponent, {"seed": seed})


# ---- gradient --------------------------------------------------------------------------------------------------------


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 16), st.just(BANDS)), elements=st.sampled_from([0, 1, 2.5, -3]))
)
@settings(max_examples=60)
def test_gradient_words_are_those_of_the_slow_twin_with_ties_too(energies: npt.NDArray[np.float32]) -> None:
    words = GRADIENT.words(energies)
    assert words.dtype == np.uint64
    assert len(words) == word_count(len(energies), GRADIENT)
    assert np.array_equal(words, naive.gradient_words(energies))


def test_gradient_words_of_a_long_signal_do_not_depend_on_where_they_stand() -> None:
    """Over 65,535 words: any stretch of them is what the stretch alone gives."""
    energies = np.random.default_rng(0).standard_normal((132_000, BANDS)).astype(np.float32)
    words = GRADIENT.words(energies)
    assert len(words) == 66_000 - 4
    for start in (0, 32_760, 65_530, 65_970):
        assert np.array_equal(words[start : start + 11], naive.gradient_words(energies[2 * start : 2 * start + 30]))


def test_flat_energies_have_no_gradient_bits() -> None:
    """A tie is a 0."""
    assert not GRADIENT.words(np.ones((20, BANDS), np.float32)).any()


# ---- learned ---------------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 30),
    st.floats(0.1, 1),
    st.integers(0, 50),
)
@settings(max_examples=25)
def test_filtered_words_are_those_of_the_slow_twin(
    seed: int, taps: int, tap_frames: int, mean_frames: int, exponent: float, frames: int
) -> None:
    """Filters of any span, longer and shorter than the mean; a response within rounding of its offset may be either."""
    bits, energies = random_filters(seed, taps, tap_frames, mean_frames, exponent), energies_of(seed, frames)
    margins, sizes = naive.filter_margins(energies, bits)
    words = bits.words(energies)
    assert words.dtype == np.uint64
    assert len(words) == len(margins)
    clear = np.abs(margins) > 1e-5 * sizes
    assert not clear.size or clear.mean() > 0.95
    assert np.array_equal(naive.bits_of(words)[clear], (margins > 0)[clear])


@given(st.integers(0, 2**32), st.integers(0, 120))
@settings(max_examples=40)
def test_words_of_the_learned_bits_are_the_filters_over_what_they_were_learned_from(seed: int, frames: int) -> None:
    """`stretches` says what a filter sees; the kernel sees the same."""
    energies = energies_of(seed, frames)
    assert LEARNED.filters.shape == (TAPS, BANDS, BITS_PER_WORD)
    assert (LEARNED.tap_frames, LEARNED.mean_frames, LEARNED.exponent) == (TAP_FRAMES, MEAN_FRAMES, EXPONENT)
    seen = stretches(energies)[::HOPS_PER_WORD]
    flat = LEARNED.filters.reshape(-1, BITS_PER_WORD).astype(np.float64)
    margins = seen @ flat - LEARNED.offsets
    clear = np.abs(margins) > 1e-5 * (seen @ np.abs(flat))
    words = LEARNED.words(energies)
    assert len(words) == len(margins)
    assert not clear.size or clear.mean() > 0.95
    assert np.array_equal(naive.bits_of(words)[clear], (margins > 0)[clear])


def test_a_response_of_just_its_offset_is_a_0() -> None:
    """Loudness 1 throughout, weights of whole numbers: nothing is rounded."""
    powers, filters = np.ones((9, BANDS), np.float32), np.zeros((3, BANDS, BITS_PER_WORD), np.float32)
    filters[2, 5, :] = 4
    offsets = np.where(np.arange(BITS_PER_WORD) % 2, 4, 3).astype(np.float32)
    words, clear = np.full((2, 3), 99, np.uint64)
    filtered_words(powers, filters, offsets, 2, 4, 1.0, 0.5, 0, words, clear)
    assert words.tolist() == clear.tolist() == [0x5555555555555555] * 3


@given(st.integers(0, 2**32), st.integers(0, 80), st.floats(0, 3))
@settings(max_examples=25)
def test_clear_bits_are_those_whose_response_is_far_from_its_offset(seed: int, frames: int, far: float) -> None:
    """And marking them changes no word."""
    energies = energies_of(seed, frames)
    margins, sizes = naive.filter_margins(energies, LEARNED)
    words, clear = LEARNED.marked_words(energies, 0, far)
    assert np.array_equal(words, LEARNED.words(energies))
    sure = np.abs(np.abs(margins) - far) > 1e-5 * sizes
    assert np.array_equal(naive.bits_of(clear)[sure], (np.abs(margins) > far)[sure])


def test_a_homes_level_and_colour_cancel_in_the_learned_bits() -> None:
    """Every band by a factor of its own: next to no bit changes."""
    energies = energies_of(3, 200)
    coloured = energies + np.linspace(-4, 9, BANDS, dtype=np.float32)
    words, others = LEARNED.words(energies), LEARNED.words(coloured)
    assert naive.bit_errors(words, others) < 0.001 * BITS_PER_WORD * len(words)


# ---- every kind ------------------------------------------------------------------------------------------------------


@KINDS
@given(st.integers(0, 2**32), st.integers(0, 220), st.integers(0, 120))
@settings(max_examples=60)
def test_words_from_a_start_are_the_tail_of_the_whole(bits: Bits, seed: int, frames: int, start: int) -> None:
    energies = energies_of(seed, frames)
    assert np.array_equal(bits.words(energies, start), bits.words(energies)[start:])


@KINDS
@given(st.integers(0, 2**32), st.integers(0, 220), st.integers(0, 220))
@settings(max_examples=60)
def test_words_stay_as_they_are_when_more_is_heard(bits: Bits, seed: int, frames: int, more: int) -> None:
    energies = energies_of(seed, frames + more)
    early = bits.words(energies[:frames])
    assert np.array_equal(bits.words(energies)[: len(early)], early)


@KINDS
@given(st.integers(0, 400))
def test_words_are_as_many_as_whole_stretches_of_frames(bits: Bits, frames: int) -> None:
    count = word_count(frames, bits)
    starts = [first for first in range(0, frames, HOPS_PER_WORD) if first + bits.frames_per_word <= frames]
    assert count == len(starts)


@given(st.integers(0, 5000))
def test_frames_are_those_that_lie_within_the_audio(audio_ms: int) -> None:
    assert len(FilterBank(0).push(np.zeros(audio_ms * MS, np.int16))) == frame_count(audio_ms)


@KINDS
def test_a_full_fingerprint_has_room_in_the_window(bits: Bits) -> None:
    assert look_words(bits)[-1] <= MAX_WORDS
    assert WORD_MS * MAX_WORDS == FULL_MS


def test_bits_that_nobody_has_are_refused() -> None:
    for name in ("gradient32", "", "../calibration/learned64"):
        with pytest.raises(BitsError):
            bits_named(name)


@KINDS
def test_bits_are_found_by_their_name(bits: Bits) -> None:
    assert bits_named(bits.name) is bits


@KINDS
def test_homes_that_hear_one_sound_have_bits_in_common_and_strangers_have_not(bits: Bits) -> None:
    """The same stretch of an advertisement in six homes, against people."""
    media = [fingerprint_of(f"m{i}", hear(1, i, 15 + 5 * (i % 3)), bits) for i in range(6)]
    people = [fingerprint_of(f"l{i}", say(i, 50 + i), bits) for i in range(6)]
    same = [naive.bit_errors(a, b) / a.size / BITS_PER_WORD for a, b in itertools.combinations(media, 2)]
    others = [naive.bit_errors(a, b) / a.size / BITS_PER_WORD for a in media for b in people]
    assert max(same) < 0.36
    assert min(others) > 0.38
    assert np.mean(others) == pytest.approx(0.5, abs=0.03)


# ---- files of filters ------------------------------------------------------------------------------------------------


def assert_same(first: LearnedBits, second: LearnedBits) -> None:
    for field in dataclasses.fields(LearnedBits):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype == np.float32
            assert np.array_equal(one, other)
        else:
            assert one == other


def test_filters_come_back_as_they_were() -> None:
    bits = dataclasses.replace(random_filters(1, 4, 3, 20), provenance={"homes": 3, "from": ["x", None]})
    assert_same(LearnedBits.from_bytes(bits.to_bytes()), bits)
    assert_same(LearnedBits.from_bytes(LEARNED.to_bytes()), LEARNED)


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def _other_npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, header=np.frombuffer(b"[1, 2]", np.uint8), filters=np.zeros(2))
    return file.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"no filters", b"\x80\x04N.", _npy(), _other_npz()], ids=["empty", "text", "pickle", "npy", "npz"]
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(BitsError):
        LearnedBits.from_bytes(data)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused(share: float) -> None:
    data = LEARNED.to_bytes()
    with pytest.raises(BitsError):
        LearnedBits.from_bytes(data[: int(share * len(data))])


@given(st.data())
@settings(max_examples=100)
def test_a_file_with_a_damaged_byte_is_refused_or_harmless(data: st.DataObject) -> None:
    """Where the byte meant something, it is refused; where it did not, nothing has changed."""
    bits = random_filters(2, 2, 1, 4)
    whole = bytearray(bits.to_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = LearnedBits.from_bytes(bytes(whole))
    except BitsError:
        return
    assert_same(read, bits)


ODD: dict[str, dict[str, object]] = {
    "no taps": {"filters": np.zeros((0, BANDS, BITS_PER_WORD), np.float32)},
    "flat filters": {"filters": np.zeros((BANDS, BITS_PER_WORD), np.float32)},
    "other bands": {"filters": np.zeros((3, BANDS - 1, BITS_PER_WORD), np.float32)},
    "32 filters": {"filters": np.zeros((3, BANDS, 32), np.float32)},
    "few offsets": {"offsets": np.zeros(32, np.float32)},
    "filters not numbers": {"filters": np.full((3, BANDS, BITS_PER_WORD), np.nan, np.float32)},
    "endless offset": {"offsets": np.full(BITS_PER_WORD, np.inf, np.float32)},
    "taps at once": {"tap_frames": 0},
    "no mean": {"mean_frames": 0},
    "no exponent": {"exponent": 0.0},
    "exponent over 1": {"exponent": 1.5},
    "exponent not a number": {"exponent": float("nan")},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_filters_that_give_no_bits_are_refused(odd: dict[str, object]) -> None:
    """When they are made, and when they stand in a file."""
    good = random_filters(3, 3, 2, 10)
    with pytest.raises(BitsError):
        dataclasses.replace(good, **odd)  # type: ignore[arg-type]
    for name, value in odd.items():
        object.__setattr__(good, name, value)
    data = good.to_bytes()
    with pytest.raises(BitsError):
        LearnedBits.from_bytes(data)


# ---- fingerprints ----------------------------------------------------------------------------------------------------


def chunks_of(samples: npt.NDArray[np.int16], sizes: list[int]) -> list[npt.NDArray[np.int16]]:
    """Cut samples into chunks of these sizes, and what is left over into a last one."""
    return np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))


@KINDS
@given(st.integers(0, 45_000), st.lists(st.integers(0, 9000), max_size=30))
@settings(max_examples=40)
def test_fingerprint_grown_by_chunks_is_that_of_the_audio_so_far_at_each_of_its_looks(
    bits: Bits, n: int, sizes: list[int]
) -> None:
    """Whatever the chunks, also beyond the request's last word; a look comes with the chunk that makes it due."""
    samples = say(1, 2)[:n]
    growing, heard, looked_ms = Fingerprint("request", bits), 0, 0
    for chunk in chunks_of(samples, sizes):
        heard += len(chunk)
        words = growing.grow(chunk)
        due_ms = look_due_ms(heard // MS)
        assert (words is not None) == (due_ms > looked_ms)
        if words is not None:
            looked_ms = due_ms
            assert np.array_equal(words, whole_fingerprint(samples[:heard], "request", bits))
            assert len(words) == word_count(frame_count(min(heard // MS, FULL_MS)), bits)
    assert growing.full == (heard >= FULL_MS * MS)


@KINDS
def test_fingerprint_grown_sample_by_sample_is_that_of_the_whole_request(bits: Bits) -> None:
    """Its looks come at the very samples that make them due, and those before them give nothing."""
    samples = say(3, 4)[8000 : 8000 + 14_300]
    growing = Fingerprint("request", bits)
    found = {i + 1: growing.grow(samples[i : i + 1]) for i in range(len(samples))}
    looks = {n: words for n, words in found.items() if words is not None}
    assert list(looks) == [FIRST_LOOK_MS * MS, (FIRST_LOOK_MS + LOOK_MS) * MS]
    for n, words in looks.items():
        assert np.array_equal(words, whole_fingerprint(samples[:n], "request", bits))


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=12), st.sampled_from([FULL_MS, FULL_MS + 900]))
@settings(max_examples=20)
def test_the_range_of_levels_does_not_depend_on_how_the_audio_was_cut(sizes: list[int], full_ms: int) -> None:
    """It is that of all audio at the latest look, up to the last look's; also for who listens longer, look by look."""
    samples, growing, at = np.concatenate((say(1, 3), say(2, 4))), Fingerprint("r", GRADIENT, full_ms), 0
    for size in itertools.cycle(sizes):
        looked = growing.grow(samples[at : at + size]) is not None
        at += size
        list(growing.looks(FIRST_LOOK_MS) if full_ms > FULL_MS else ())
        if looked:
            whole = Fingerprint("r", GRADIENT)
            whole.grow(samples[:at])
            assert growing.level_range_db == whole.level_range_db > 0
        if at >= full_ms * MS:
            break


@pytest.mark.parametrize("louder_db", [0, 10, 30])
def test_the_range_of_levels_is_by_how_much_the_loud_part_is_louder(louder_db: int) -> None:
    """Whatever the gain; and what comes after the last look is not heard."""
    noise = np.random.default_rng(1).normal(0, 50, (FULL_MS + 500) * MS).astype(np.float32)
    noise[: FULL_MS // 2 * MS] *= 10 ** (louder_db / 20)
    noise[FULL_MS * MS :] *= 100
    ranges_db = []
    for gain in (1, 4):
        fingerprint = Fingerprint("r", GRADIENT, FULL_MS + 500)
        assert fingerprint.level_range_db == 0
        fingerprint.grow(gain * noise)
        ranges_db.append(fingerprint.level_range_db)
    assert ranges_db[0] == pytest.approx(ranges_db[1], abs=0.2)
    assert louder_db < ranges_db[0] < louder_db + 3


@KINDS
def test_every_look_is_that_of_a_request_that_comes_in_chunks(bits: Bits) -> None:
    samples = say(9, 9)
    looks, lengths = every_look(samples, "r", bits), look_words(bits)
    assert looks is not None
    assert looks.words.shape == (len(lengths), 1, lengths[-1])
    assert len(lengths) == (FULL_MS - FIRST_LOOK_MS) // LOOK_MS + 1
    for n, (row,), ms in zip(lengths, looks.words, range(FIRST_LOOK_MS, FULL_MS + 1, LOOK_MS), strict=True):
        assert np.array_equal(row[:n], whole_fingerprint(samples[: ms * MS], "r", bits))
        assert not row[n:].any()
        heard = Fingerprint("r", bits)
        heard.grow(samples[: ms * MS])
        assert looks.ranges_db[lengths.index(n)] == np.float32(heard.level_range_db)
    assert every_look(samples[: FULL_MS * MS - 1], "r", bits) is None


@given(st.integers(0, 5000))
def test_looks_come_at_multiples_of_their_step_from_the_first_to_the_last(audio_ms: int) -> None:
    looks = [ms for ms in range(0, FULL_MS + 1, LOOK_MS) if FIRST_LOOK_MS <= ms <= audio_ms]
    assert look_due_ms(audio_ms) == (looks[-1] if looks else 0)


@KINDS
def test_fingerprint_stops_when_it_is_full_however_much_comes(bits: Bits) -> None:
    growing = Fingerprint("request", bits)
    words = growing.grow(np.zeros(SAMPLE_RATE_HZ * 60, np.int16))
    assert words is not None
    assert len(words) == look_words(bits)[-1]
    assert growing.full
    assert growing.grow(np.zeros(SAMPLE_RATE_HZ, np.int16)) is None


@KINDS
def test_samples_as_int16_and_as_float_are_the_same(bits: Bits) -> None:
    samples = say(5, 6)
    assert np.array_equal(fingerprint_of("r", samples, bits), fingerprint_of("r", samples.astype(np.float32), bits))


@KINDS
def test_digital_silence_of_two_requests_differs_in_half_of_the_bits(bits: Bits) -> None:
    """Two muted microphones do not hear the same recording."""
    silence = np.zeros(3 * SAMPLE_RATE_HZ, np.int16)
    silent = [fingerprint_of(f"request-{i}", silence, bits) for i in range(6)]
    for first, second in itertools.combinations(silent, 2):
        assert naive.bit_errors(first, second) / (BITS_PER_WORD * len(first)) == pytest.approx(0.5, abs=0.04)
    assert np.array_equal(silent[0], fingerprint_of("request-0", silence, bits))


@KINDS
@pytest.mark.parametrize("constant", [-32768, -1, 1, 32767])
def test_a_stuck_microphone_is_as_good_as_silence(bits: Bits, constant: int) -> None:
    """A constant offset, at full scale too, leaves no pattern that two requests share."""
    stuck = np.full(3 * SAMPLE_RATE_HZ, constant, np.int16)
    first, second = (fingerprint_of(name, stuck, bits) for name in ("a", "b"))
    assert naive.bit_errors(first, second) / (BITS_PER_WORD * len(first)) == pytest.approx(0.5, abs=0.05)


@KINDS
@pytest.mark.parametrize("words_later", [1, 4, 17])
def test_a_sound_that_comes_whole_words_later_has_its_words_later(bits: Bits, words_later: int) -> None:
    """Dither aside, which stays with the request, and the first third of a second's means: a loud sound notices not."""
    samples = say(7, 8)
    whole = fingerprint_of("r", samples, bits)
    later = fingerprint_of("r", samples[words_later * HOPS_PER_WORD * HOP :], bits)
    settled = MEAN_FRAMES // HOPS_PER_WORD  # from here on both have the mean of their own frames
    compared = len(whole) - words_later - settled
    errors = naive.bit_errors(whole[words_later + settled :], later[settled:][:compared])
    assert errors / (BITS_PER_WORD * compared) < 0.02
    assert HOPS_PER_WORD * HOP == WORD_MS * MS

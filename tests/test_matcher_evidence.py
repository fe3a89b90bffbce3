"""How sure a match is: scores, tails, calibrations, and every request's own null."""

import dataclasses
import io
import math

import naive
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import (
    FULL_WORDS,
    fingerprint_of,
    hear,
    heard_words,
    plain_calibration,
    random_words,
    ranged_calibration,
    say,
)

from matcher.bits import GRADIENT, Bits, bits_named
from matcher.evidence import (
    ALIGNMENTS,
    MIN_WORDS,
    Calibration,
    CalibrationError,
    Comparison,
    Tail,
    compare,
    scan,
    shipped_calibration,
)
from matcher.fingerprint import MAX_WORDS
from matcher.looks import look_words
from matcher.packed import packed
from matcher.search import SCAN_SCORE

FIRST_LOOK_WORDS = look_words(GRADIENT)[0]
KINDS = pytest.mark.parametrize("bits", [GRADIENT, bits_named("learned64")], ids=lambda bits: bits.name)


# The own null of what is no closer to anything than most are, and whose null is as wide.
PLAIN = np.array([[0, 1]], np.float32)


def compare_all(calibration: Calibration, words: npt.NDArray[np.uint64], length: int) -> npt.NDArray[np.float64]:
    """Scores of every request with every other at so many words, (m, m); a request is not held against itself."""
    owns = np.array([calibration.own_null(row[:length]) for row in words])
    lengths, rows = np.full(len(words), length, np.int32), np.arange(len(words), dtype=np.int64)
    scores = [
        compare(calibration, row[:length], own, words, lengths, owns, rows).scores
        for row, own in zip(words, owns, strict=True)
    ]
    return np.array(scores) + np.diag(np.full(len(words), -np.inf))


def compare_one(calibration: Calibration, first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> Comparison:
    table = np.zeros((1, MAX_WORDS), np.uint64)
    table[0, : len(second)] = second
    return compare(calibration, first, PLAIN[0], table, np.array([len(second)], np.int32), PLAIN, np.zeros(1, np.int64))


# ---- scores ----------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(("look", "far"), [(0, 10), (3, 11), (8, 11), (-1, 11)])
def test_one_sound_in_two_homes_scores_far_over_unrelated_sounds(bits: Bits, look: int, far: float) -> None:
    """With the calibration that ships: every pair that heard one advertisement over every pair that did not."""
    calibration = shipped_calibration(bits.name)
    media = [fingerprint_of(f"m{i}", hear(1, i, 15 + 5 * (i % 3), 20 * i - 60), bits) for i in range(6)]
    people = [fingerprint_of(f"l{i}", say(i, 50 + i), bits) for i in range(14)]
    scores = compare_all(calibration, np.array(media + people), look_words(bits)[look])
    same = scores[:6, :6][~np.eye(6, dtype=bool)]
    others = np.concatenate((scores[:6, 6:].ravel(), scores[6:, 6:][~np.eye(14, dtype=bool)]))
    assert others.max() < 8
    assert same.min() > far
    assert abs(others.mean()) < 1.5


def test_more_audio_of_the_same_sound_is_more_evidence() -> None:
    calibration = plain_calibration()
    words = np.array([heard_words("m", i, 0.3) for i in range(4)])
    by_look = [compare_all(calibration, words, n)[0, 1] for n in look_words(GRADIENT)]
    assert by_look[-1] > 1.3 * by_look[0]
    assert np.all(np.diff(by_look) > -1.5)


def test_a_score_is_the_same_from_either_side() -> None:
    """Rate, words and score agree, and the alignment is turned round."""
    calibration = plain_calibration()
    first, second = heard_words("m", "a", late_words=4)[:75], heard_words("m", "b")
    there, back = compare_one(calibration, first, second).at(0), compare_one(calibration, second, first).at(0)
    assert there.alignment == 4
    assert (there.score, there.rate, there.words) == (back.score, back.rate, back.words)
    assert back.alignment == -there.alignment


@pytest.mark.parametrize("words", [0, 1, MIN_WORDS - 1])
def test_too_little_in_common_is_no_evidence_at_all(words: int) -> None:
    """Not even when it is the same to the bit."""
    full = random_words("same")
    for first, second in ((full[:words], full), (full, full[:words])):
        found = compare_one(plain_calibration(), first, second)
        assert found.scores.tolist() == [-np.inf]
        assert found.words.tolist() == [0]


def test_nobody_to_compare_with_gives_nothing() -> None:
    table = np.zeros((1, MAX_WORDS), np.uint64)
    none = np.empty(0, np.int64)
    zeros = np.zeros(1, np.int32), PLAIN
    found = compare(plain_calibration(), random_words("a"), PLAIN[0], table, *zeros, none)
    assert [len(found.scores), len(found.rates), len(found.words), len(found.alignments)] == [0, 0, 0, 0]


def test_unrelated_requests_score_by_the_null_at_every_look() -> None:
    """Mean about 0, deviation about 1, whatever their length: that is what a score means."""
    words = np.array([random_words("stranger", i) for i in range(40)])
    for n in look_words(GRADIENT):
        scores = compare_all(plain_calibration(), words, n)[~np.eye(40, dtype=bool)]
        assert abs(scores.mean()) < 0.5
        assert scores.std() == pytest.approx(1, abs=0.2)


@KINDS
def test_a_scan_finds_what_a_comparison_finds(bits: Bits) -> None:
    """At every look, with the calibration that ships: who scores, scores the same; who does not, does in neither."""
    calibration = shipped_calibration(bits.name)
    heard = [fingerprint_of(f"m{i}", hear(1, i, 5 * (i % 4), 20 * i - 60), bits) for i in range(6)]
    words = np.array(heard + [fingerprint_of(f"l{i}", say(i, 50 + i), bits) for i in range(14)])
    rows = np.arange(len(words))
    for length in look_words(bits):
        owns = np.array([calibration.own_null(row[:length], 5.0 * (i % 8)) for i, row in enumerate(words)])
        for row in rows:
            against = (
                words[row, :length],
                owns[row],
                words,
                np.full(len(words), length, np.int32),
                owns,
                rows,
            )
            whole, scanned = compare(calibration, *against), scan(calibration, *against)
            near = whole.scores > SCAN_SCORE
            for ours, theirs in zip(vars_of(scanned), vars_of(whole), strict=True):
                assert np.array_equal(ours[near], theirs[near])
            assert (scanned.scores[~near] <= SCAN_SCORE).all()


def vars_of(found: Comparison) -> tuple[npt.NDArray[np.generic], ...]:
    return found.scores, found.rates, found.words, found.alignments


# ---- tails -----------------------------------------------------------------------------------------------------------

NUMBERS = st.floats(0.01, 50)
CHANCES = st.floats(1e-15, 1.0)


@given(st.floats(-20, 20), st.floats(0, 3), NUMBERS, CHANCES, CHANCES, st.floats(0, 1e7), st.floats(0, 1e7))
def test_threshold_never_falls_with_more_requests_nor_with_a_smaller_budget(
    start: float, growth: float, scale: float, chance: float, rarer: float, few: float, many: float
) -> None:
    tail = Tail(start, growth, scale)
    chance, rarer = max(chance, rarer), min(chance, rarer)
    few, many = min(few, many), max(few, many)
    assert tail.threshold(chance, few) <= tail.threshold(rarer, few)
    assert tail.threshold(chance, few) <= tail.threshold(chance, many)
    assert tail.threshold(chance, 0) == tail.threshold(chance, 1)


@given(st.floats(-5, 5), st.floats(0, 2), st.floats(0.1, 2), CHANCES, st.floats(1, 1e6))
def test_threshold_is_the_score_of_that_probability(
    start: float, growth: float, scale: float, chance: float, n: float
) -> None:
    """The formula of the tail, put the other way round."""
    score = Tail(start, growth, scale).threshold(chance, n)
    assert math.exp((start + growth * math.log(n) - score) / scale) == pytest.approx(chance, rel=1e-6)
    assert Tail(start, growth, scale).log_odds(score, n) == pytest.approx(-math.log(chance), rel=1e-6, abs=1e-6)


@given(st.floats(-5, 5), st.floats(0, 2), st.floats(0.1, 2), CHANCES, st.floats(1, 1e6), st.integers(1, 1000))
def test_what_lies_beyond_the_scores_seen_is_extrapolated_and_the_less_certain(
    start: float, growth: float, scale: float, chance: float, n: float, excesses: int
) -> None:
    """By powers of e from the least excess on; above it nothing is. Four times as many excesses halve the error."""
    over = start + growth * math.log(n)
    tail = Tail(start, growth, scale, over, excesses)
    beyond = tail.extrapolated(chance, n)
    assert beyond == pytest.approx(-math.log(chance), abs=1e-6)
    assert tail.uncertainty(chance, n) == pytest.approx(scale * beyond / math.sqrt(excesses), abs=1e-6)
    more = dataclasses.replace(tail, excesses=4 * excesses)
    assert more.uncertainty(chance, n) == pytest.approx(tail.uncertainty(chance, n) / 2)
    seen = dataclasses.replace(tail, over=tail.threshold(chance, n) + 1)
    assert seen.extrapolated(chance, n) == seen.uncertainty(chance, n) == 0


# ---- calibrations ----------------------------------------------------------------------------------------------------


def assert_same(first: Calibration, second: Calibration) -> None:
    for field in dataclasses.fields(Calibration):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
        else:
            assert one == other


def test_calibration_comes_back_as_it_was() -> None:
    calibration = dataclasses.replace(plain_calibration(), provenance={"voices": 3, "from": ["x", None]})
    assert_same(Calibration.from_bytes(calibration.to_bytes()), calibration)


@KINDS
def test_the_calibration_that_ships_is_whole(bits: Bits) -> None:
    """Full cohort, measured at every look, numbers that a threshold can be made of."""
    calibration = shipped_calibration(bits.name)
    assert calibration.bits == bits.name
    assert calibration.cohort.shape[1] == look_words(bits)[-1]
    assert len(calibration.cohort) >= 50
    assert calibration.words.tolist() == look_words(bits)
    assert len(calibration.words) == len(calibration.mean) == len(calibration.deviation)
    assert np.all((calibration.mean > 0.3) & (calibration.mean < 0.5))
    assert np.all(calibration.deviation > 0)
    assert np.all((calibration.widening > 0) & (calibration.widening < 0.02))
    assert np.all((calibration.least_db > 2) & (calibration.least_db < calibration.typical_db))
    for tail in (calibration.triple, calibration.beside, calibration.template):
        assert 3 < tail.threshold(5e-7, 100) < 30
        assert tail.growth >= 0
    assert_same(Calibration.from_bytes(calibration.to_bytes()), calibration)


@pytest.mark.parametrize("bits", ["nosuchbits", "gradient32"])
def test_a_calibration_for_other_bits_does_not_ship(bits: str) -> None:
    with pytest.raises(CalibrationError, match=bits):
        shipped_calibration(bits)


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def _other_npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, header=np.frombuffer(b"[1, 2]", np.uint8), cohort=np.zeros(2))
    return file.getvalue()


@pytest.mark.parametrize(
    "data", [b"no calibration", b"\x80\x04N.", _npy(), _other_npz()], ids=["text", "pickle", "npy", "npz"]
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(CalibrationError):
        Calibration.from_bytes(data)


def test_a_calibration_of_before_the_widths_says_so() -> None:
    plain = plain_calibration()
    header = {"version": "old", "bits": plain.bits, "provenance": {}} | {
        name: vars(getattr(plain, name)) for name in ("triple", "beside", "template")
    }
    old = packed(header, cohort=plain.cohort, words=plain.words, mean=plain.mean, deviation=plain.deviation)
    with pytest.raises(CalibrationError, match="of this version: it has no 'typical_db'; calibrate again"):
        Calibration.from_bytes(old)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused(share: float) -> None:
    data = plain_calibration().to_bytes()
    with pytest.raises(CalibrationError):
        Calibration.from_bytes(data[: int(share * len(data))])


@given(st.data())
@settings(max_examples=100)
def test_a_file_with_a_damaged_byte_is_refused_or_harmless(data: st.DataObject) -> None:
    """Where the byte meant something, it is refused; where it did not, nothing has changed."""
    whole = bytearray(plain_calibration().to_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = Calibration.from_bytes(bytes(whole))
    except CalibrationError:
        return
    assert_same(read, plain_calibration())


DAMAGES: dict[str, dict[str, object]] = {
    "nan tail": {"triple": Tail(math.nan, 1.0, 0.4)},
    "negative scale": {"template": Tail(1.0, 0.4, -0.4)},
    "nan mean": {"mean": np.full(len(look_words(GRADIENT)), np.nan)},
    "no deviation": {"deviation": np.zeros(len(look_words(GRADIENT)))},
    "nan range": {"typical_db": np.full(len(look_words(GRADIENT)), np.nan)},
    "endless range": {"least_db": np.full(len(look_words(GRADIENT)), -np.inf)},
    "narrower with the range": {"widening": np.full(len(look_words(GRADIENT)), -0.01)},
    "wider by far": {"widening": np.full(len(look_words(GRADIENT)), 0.2)},
    "least over typical": {"least_db": np.full(len(look_words(GRADIENT)), 21.0)},
    "too few": {"deviation": np.ones(3)},
    "falling": {"words": np.array(look_words(GRADIENT)[::-1], np.int32)},
    "no cohort": {"cohort": np.zeros((0, MAX_WORDS), np.uint64)},
    "short cohort": {"cohort": np.zeros((5, 10), np.uint64)},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_calibration_that_would_let_everything_pass_is_refused(damage: dict[str, object]) -> None:
    """No score is under a threshold that is not a number: every request would be ignored."""
    data = dataclasses.replace(plain_calibration(), **damage).to_bytes()  # type: ignore[arg-type]
    with pytest.raises(CalibrationError):
        Calibration.from_bytes(data)


# ---- own nulls -------------------------------------------------------------------------------------------------------


@given(st.integers(0, FULL_WORDS), st.integers(0, 5))
@settings(max_examples=40)
def test_own_null_is_the_mean_over_the_cohort_less_the_nulls(words: int, seed: int) -> None:
    calibration = plain_calibration()
    so_far = random_words("own", seed)[:words]
    level = naive.mean_lowest_rate(so_far, calibration.cohort, ALIGNMENTS, MIN_WORDS)
    assert (level == 0.5) == (words < MIN_WORDS)
    expected = level - calibration.null_mean(words), 1
    assert calibration.own_null(so_far) == pytest.approx(expected, abs=1e-7)


def test_the_more_a_request_stands_above_its_room_the_more_alike_it_must_be() -> None:
    """Each side's width divides the score: the mean is as it was; of an average it is the calibration's own."""
    calibration, words = ranged_calibration(), random_words("a")
    assert calibration.own_null(words)[1] == calibration.own_null(words, 20)[1] == 1
    assert calibration.own_null(words, 21)[1] == pytest.approx(1.02)
    assert calibration.own_null(words, 18)[1] == pytest.approx(1.02**-2)
    assert len({float(calibration.own_null(words, db)[0]) for db in (0, 20, 60)}) == 1
    one, many = calibration.own_null(words, 18), np.array([calibration.own_null(words, db) for db in (20, 21, 30)])
    rates, lengths = np.full(3, 0.3, np.float32), np.full(3, FULL_WORDS, np.int32)
    plain = calibration.scores(rates, lengths, PLAIN[0], np.repeat(PLAIN, 3, axis=0))
    shifted = plain + (one[0] + many[:, 0]) / calibration.deviation[-1]
    assert calibration.scores(rates, lengths, one, many) == pytest.approx(shifted / (1.02**-2 * many[:, 1]), rel=1e-4)


@given(st.floats(-10, 5.99), st.sampled_from([MIN_WORDS, 40, FULL_WORDS]))
def test_less_range_than_anybody_had_makes_nobody_surer(range_db: float, words: int) -> None:
    """A hum in two homes has hardly any: nothing is known of what agrees with it."""
    so_far = random_words("a")[:words]
    assert ranged_calibration().own_null(so_far, range_db).tolist() == ranged_calibration().own_null(so_far).tolist()
    assert ranged_calibration().own_null(so_far, 6)[1] < 1


def test_a_request_that_is_close_to_everybody_is_not_closer_to_anybody() -> None:
    """Two that share a hum with the whole cohort would score high: their own means take that off."""
    hum = random_words("hum")
    keep = np.uint64(0xFFFFFFFF00000000)
    hummed = np.array([(random_words("hummed", i) & ~keep) | (hum & keep) for i in range(60)])
    plain = plain_calibration()
    calibration = dataclasses.replace(plain, cohort=hummed[:20])
    scores = compare_all(calibration, hummed[20:], FULL_WORDS)[~np.eye(40, dtype=bool)]
    without = compare_one(calibration, hummed[20], hummed[21]).scores[0]
    assert without > 20
    assert scores.max() < 0 < without  # both own means are taken off: it takes more than what all have in common


@pytest.mark.parametrize("words", [MIN_WORDS, 20, FIRST_LOOK_WORDS - 1])
def test_less_than_the_first_look_is_judged_by_its_own_null(words: int) -> None:
    """A young average is held against requests: what it agrees by chance grows as it gets shorter."""
    calibration = plain_calibration()
    strangers = np.array([random_words("short", i) for i in range(60)])
    pairs = ~np.eye(60, dtype=bool)
    full = compare_all(calibration, strangers, FIRST_LOOK_WORDS)[pairs]
    short = compare_all(calibration, strangers, words)[pairs]
    compared = short[np.isfinite(short)]  # not to compare them at all would do as well
    assert not len(compared) or compared.std() < 1.05 * full.std()

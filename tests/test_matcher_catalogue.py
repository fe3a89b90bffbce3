"""The catalogue of averages: what it holds, what it finds, what it forgets."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import (
    FULL_WORDS,
    heard_words,
    plain_calibration,
    random_words,
)

from matcher.bits import GRADIENT
from matcher.catalogue import Average, Catalogue
from matcher.looks import look_words

FIRST_LOOK_WORDS = look_words(GRADIENT)[0]
# The own null of what is no closer to anything than most are, and whose null is as wide.
PLAIN = np.array([[0, 1]], np.float32)


def average(name: str, *, from_us: int = 0, until_us: int = 1000, words: int = FULL_WORDS) -> Average:
    heard = random_words(name)[:words]
    return Average(name, heard, np.full(words, 3, np.uint8), 3, from_us, from_us, until_us, "elsewhere")


def test_an_average_decides_from_its_first_moment_to_before_its_last() -> None:
    catalogue = Catalogue(plain_calibration(), 10)
    catalogue.put(average("a", from_us=100, until_us=200))
    words = heard_words("a", "home", 0.1)
    found = {at: catalogue.best(words, PLAIN[0], at)[0] for at in (99, 100, 199, 200)}
    assert [at for at, match in found.items() if match is not None] == [100, 199]


SPAN = st.tuples(st.sampled_from("abcde"), st.integers(0, 9), st.integers(0, 9))


@given(st.lists(st.one_of(SPAN, st.sampled_from("abcde"), st.integers(-1, 10)), max_size=20))
@settings(max_examples=60)
def test_as_many_averages_are_tried_as_are_valid(steps: list[tuple[str, int, int] | str | int]) -> None:
    """Put, replaced and removed in any order, and asked at any time."""
    catalogue = Catalogue(plain_calibration(), 10)
    spans: dict[str, tuple[int, int]] = {}
    for step in steps:
        if isinstance(step, int):
            valid = sum(from_us <= step < until_us for from_us, until_us in spans.values())
            assert catalogue.best(random_words("x"), PLAIN[0], step)[1] == valid
        elif isinstance(step, str):
            assert catalogue.remove(step) == (spans.pop(step, None) is not None)
        else:
            name, from_us, until_us = step
            spans[name] = from_us, until_us
            catalogue.put(average(name, from_us=from_us, until_us=until_us))


def test_the_best_of_many_averages_is_found_with_its_alignment() -> None:
    """Word k of the average is the request's word k + alignment."""
    catalogue = Catalogue(plain_calibration(), 50)
    for i in range(40):
        catalogue.put(average(f"m{i}"))
    match, tried = catalogue.best(heard_words("m17", "home", 0.2, late_words=6), PLAIN[0], 0)
    assert tried == 40
    assert match is not None
    assert match[0].media_id == "m17"
    assert match[1].alignment == -6
    assert match[1].score > 15


def test_a_full_catalogue_loses_what_ends_first_and_never_holds_more() -> None:
    catalogue = Catalogue(plain_calibration(), 3)
    left = [gone.media_id for i in range(8) for gone in catalogue.put(average(f"m{i}", until_us=1000 + (i * 5) % 8))]
    kept = sorted(catalogue.averages)
    assert len(kept) == 3
    assert sorted(left + kept) == [f"m{i}" for i in range(8)]
    assert catalogue.put(average(kept[0], until_us=5000)) == []  # a new version of one that is there takes no room
    assert sorted(catalogue.averages) == kept


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3), st.integers(FIRST_LOOK_WORDS, FULL_WORDS)),
        max_size=40,
    )
)
@settings(max_examples=40)
def test_catalogue_after_any_history_finds_what_it_holds_and_nothing_else(history: list[tuple[str, int, int]]) -> None:
    """Rows are reused: nothing of what stood there before is left."""
    catalogue = Catalogue(plain_calibration(), 4)
    versions = [catalogue.version]
    for name, act, words in history:
        if act == 0:
            known = name in catalogue.averages
            assert catalogue.remove(name) == known
        elif act == 1:
            catalogue.expire(words)
        else:
            catalogue.put(average(name, until_us=words, words=words))
        versions.append(catalogue.version)
    assert len(catalogue.averages) <= 4
    assert versions == sorted(versions)
    for name in "abcdefgh":
        match, tried = catalogue.best(heard_words(name, "home", 0.05), PLAIN[0], 0)
        assert tried == len(catalogue.averages)
        known = catalogue.averages.get(name)
        if known is not None:
            assert match is not None
            assert match[0] is known
            assert match[1].words == len(known.words)
        elif match is not None:
            assert match[1].score < 8


def test_an_average_shorter_than_the_null_was_measured_for_matches_nobody() -> None:
    """Not even who agrees with it to the bit."""
    catalogue = Catalogue(plain_calibration(), 10)
    catalogue.put(average("short", words=FIRST_LOOK_WORDS - 1))
    match, tried = catalogue.best(random_words("short"), PLAIN[0], 0)
    assert tried == 1
    assert match is None or match[1].score == -np.inf


def test_expired_averages_are_forgotten() -> None:
    catalogue = Catalogue(plain_calibration(), 10)
    for i in range(5):
        catalogue.put(average(f"m{i}", until_us=100 * i))
    assert sorted(catalogue.expire(200)) == ["m0", "m1", "m2"]
    assert sorted(catalogue.averages) == ["m3", "m4"]
    assert catalogue.expire(200) == []

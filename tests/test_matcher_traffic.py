"""Traffic that nobody has labelled: who is a person, what aired, and the null that comes of it."""

import numpy as np
import numpy.typing as npt
import pytest
from sounds import heard_words, random_words

import matcher.traffic
from matcher.bits import GRADIENT
from matcher.evidence import Calibration
from matcher.looks import Looks, look_words
from matcher.null import NullError, Unrelated
from matcher.traffic import Census, Heard, calibrate

S = 1_000_000
LOOKS = look_words(GRADIENT)


def heard(household: str, start_s: float, words: npt.NDArray[np.uint64], route: str = "w/l") -> Heard:
    width = np.arange(LOOKS[-1])
    looks = np.array([[np.where(width < n, words[: LOOKS[-1]], 0)] for n in LOOKS], np.uint64)
    return Heard(route, household, int(start_s * S), Looks(looks, np.full((len(LOOKS), 1), 20, np.float32)))


def people(count: int) -> list[Heard]:
    return [heard(f"home of {i}", 20.0 * i, random_words("person", i)) for i in range(count)]


def airing(medium: str, homes: int, at_s: float) -> list[Heard]:
    return [heard(f"{medium} {i}", at_s + i, heard_words(medium, (i, at_s), 0.2)) for i in range(homes)]


def everything() -> list[Heard]:
    """A hundred and twenty people, 13 airings, one of them again much later in one home, and one who asks twice."""
    airings = [request for number in range(12) for request in airing(f"m{number}", 4, 150.0 * number)]
    twice = heard("home of 7", 5000.0, random_words("person", 7))
    return [*people(120), *airings, *airing("a", 6, 1900.0), *airing("a", 1, 4000.0), twice]


@pytest.fixture(scope="module")
def measured() -> tuple[Calibration, Census]:
    return calibrate(everything(), GRADIENT, "v", {"from": "test"})


def test_only_who_is_compared_is_a_stranger_or_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """People of two wake words are never held against each other, nor against an airing of the other one."""
    seen: list[Unrelated] = []

    def keep(unrelated: Unrelated, *_: object, **__: object) -> Calibration:
        seen.append(unrelated)
        raise NullError("enough")

    monkeypatch.setattr(matcher.traffic, "measure", keep)
    others = [heard(f"other {i}", 20.0 * i, random_words("other", i), "v/l") for i in range(120)]
    with pytest.raises(NullError, match="enough"):
        calibrate([*everything(), *others], GRADIENT, "v", {})
    strangers, away, apart = seen[0].strangers, seen[0].airing_strangers, seen[0].apart
    assert apart is not None
    assert apart[:119, 119:].any()  # they are in each other's cohort, as they are when they are decided
    assert strangers[:119, :119].any()
    assert strangers[119:, 119:].any()
    assert not strangers[:119, 119:].any()
    assert away[:119].any()
    assert not away[119:].any()


def test_airings_reruns_and_repeats_are_set_aside_and_counted(measured: tuple[Calibration, Census]) -> None:
    """A re-run makes its group longer than an airing takes, so it is a near-duplicate and no airing to measure with."""
    _, census = measured
    assert census.people == 119
    assert census.near_duplicates == 12 * 4 + 6 + 1 + 2
    assert census.airings == 12
    assert census.left_out == 0
    assert census.match_correlation > 0


def test_its_null_is_that_of_the_people_alone(measured: tuple[Calibration, Census]) -> None:
    """Unrelated words agree in half of their bits, at the best alignment in a little more; media in many more."""
    calibration, census = measured
    assert calibration.version == "v"
    assert calibration.bits == GRADIENT.name
    assert calibration.provenance == {"from": "test", **vars(census)}
    assert np.all((calibration.mean > 0.42) & (calibration.mean < 0.5))
    assert 2 < calibration.triple.threshold(1e-6, 100) < 30
    assert 2 < calibration.template.threshold(1e-6, 1) < 20


def test_the_same_traffic_gives_the_same_bytes(measured: tuple[Calibration, Census]) -> None:
    assert calibrate(everything(), GRADIENT, "v", {"from": "test"})[0].to_bytes() == measured[0].to_bytes()


def test_too_few_people_or_nothing_on_air_is_said() -> None:
    with pytest.raises(NullError, match="30 single persons and 1 airings"):
        calibrate([*people(30), *airing("a", 4, 300.0)], GRADIENT, "v", {})
    with pytest.raises(NullError, match="110 single persons and 0 airings"):
        calibrate(people(110), GRADIENT, "v", {})

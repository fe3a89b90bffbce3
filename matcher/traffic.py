"""Sorts anybody's traffic, of which nobody knows who spoke, into what a null can be measured on.

What was heard in two homes at once, or twice, shows itself: its fingerprints are nearer to each other than strangers'
ever are. Those groups are the airings; who is in none of them is taken for a person. Two people who spoke in different
homes at different times cannot have heard the same broadcast, whatever they said: those are the pairs of the null.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

from matcher.bits import Bits
from matcher.event import Event
from matcher.evidence import MIN_WORDS, Calibration
from matcher.looks import Looks, look_words
from matcher.null import NullError, Unrelated, measure, pair_matrix
from matcher.route import AIRING_US
from matcher.search import AIRING_HOMES

# Two full fingerprints so far under the null, in robust standard deviations, are of one sound.
NEAR_DUPLICATE = 8.0
# More people than this make the measurement longer, and hardly better.
MOST_PEOPLE = 2000
FEWEST_PEOPLE = 100
AVERAGE_SIZES = (3, 6, 12, 30)
COHORT = 200


@dataclass(frozen=True, eq=False)
class Heard:
    """One request of the traffic.

    Attributes:
        route: what is compared with each other: the wake word and the locale.
        household: that sent it.
        start_us: capture time of its first sample.
        looks: as `every_look` gives them.

    """

    route: str
    household: str
    start_us: int
    looks: Looks


@dataclass(frozen=True)
class Census:
    """How the traffic was sorted.

    Attributes:
        people: requests taken for single persons' and measured on.
        left_out: more people than were needed.
        near_duplicates: requests set aside, because another is of the same sound.
        airings: groups of those from several homes within an airing's time.
        match_correlation: how much likelier than by independent chance a person who matches one stranger matches two.

    """

    people: int
    left_out: int
    near_duplicates: int
    airings: int
    match_correlation: float


def calibrate(
    heard: Sequence[Heard], bits: Bits, version: str, provenance: dict[str, object], *, seed: int = 0
) -> tuple[Calibration, Census]:
    """Measure a calibration on traffic that nobody has labelled.

    Raises:
        NullError: there are too few people, or nothing that several homes heard.

    """
    rng = np.random.default_rng(seed)
    full = np.concatenate([request.looks.full for request in heard])
    groups, singles = _groups(full, look_words(bits)[-1], rng)
    airings = [group for group in groups if _is_airing([heard[i] for i in group])]
    people = singles if len(singles) <= MOST_PEOPLE else np.sort(rng.choice(singles, MOST_PEOPLE, replace=False))
    if len(people) < FEWEST_PEOPLE or not airings:
        raise NullError(
            f"{len(people)} single persons and {len(airings)} airings in several homes are too few to measure a null:"
            f" it takes {FEWEST_PEOPLE} and one"
        )
    households = np.array([heard[i].household for i in people])
    starts_us = np.array([heard[i].start_us for i in people])
    apart = np.abs(starts_us[:, None] - starts_us[None]) > AIRING_US
    apart &= households[:, None] != households[None]
    # Two wake words are less alike than two people who say one: what is never compared would flatter the null.
    routes = np.array([heard[i].route for i in people])
    strangers = apart & (routes[:, None] == routes[None])
    homes = [_one_a_household(heard, group) for group in airings]
    away = np.array(
        [
            [heard[i].household not in {heard[k].household for k in group} and _is_away(heard[i], heard[group[0]])
             for group in airings]
            for i in people
        ]
    )  # fmt: skip
    looks = Looks.of_all([heard[i].looks for i in people])
    chosen = [Looks.of_all([heard[k].looks for k in group[:AIRING_HOMES]]) for group in homes]
    averages, of_airing = averages_of([[heard[k].looks.full[0] for k in group] for group in homes], bits, rng)
    cohort = min(COHORT, len(people))
    draft = Unrelated(looks, strangers, averages, away[:, of_airing], chosen, away, apart)
    correlation = _match_correlation(looks.full, strangers, look_words(bits)[-1])
    census = Census(len(people), len(singles) - len(people), len(heard) - len(singles), len(airings), correlation)
    calibration = measure(draft, bits, version, provenance | vars(census), cohort_size=cohort, seed=seed)
    return calibration, census


def concurrency(heard: Sequence[Heard], window_us: int) -> dict[str, tuple[int, int]]:
    """Give by route how many requests it has, and how many are in the window when 95 % of them start, at the most."""
    starts_us: defaultdict[str, list[int]] = defaultdict(list)
    for request in heard:
        starts_us[request.route].append(request.start_us)
    found = {}
    for route, unsorted_us in starts_us.items():
        at_us = np.sort(unsorted_us)
        others = np.searchsorted(at_us, at_us, "right") - np.searchsorted(at_us, at_us - window_us, "right")
        found[route] = len(at_us), int(np.quantile(others, 0.95, method="higher"))
    return found


def averages_of(
    airings: Sequence[Sequence[npt.NDArray[np.uint64]]], bits: Bits, rng: np.random.Generator
) -> tuple[list[npt.NDArray[np.uint64]], list[int]]:
    """Averages of several sizes of every airing.

    Args:
        airings: full fingerprints uint64 (width,), one a household.
        bits: that made them.
        rng: chooses the homes.

    Returns:
        The averages, and for each which airing it is of.

    """
    averages, of_airing = [], []
    full = look_words(bits)[-1]
    for number, homes in enumerate(airings):
        for size in AVERAGE_SIZES:
            if len(homes) < size:
                continue
            chosen = [homes[i] for i in rng.permutation(len(homes))[:size]]
            alignments = pair_matrix(chosen[0][None], np.array(chosen), full, full)[1][0]
            event = Event("calibration", 0)
            for member, words in enumerate(chosen):
                event.join(str(member), str(member), int(alignments[member]), words[:full], 0)
            average, _ = event.average()
            if len(average) >= MIN_WORDS:
                averages.append(average)
                of_airing.append(number)
    return averages, of_airing


def _groups(
    full: npt.NDArray[np.uint64], length: int, rng: np.random.Generator
) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """Requests of one sound, in groups; and those that are of no group."""
    cohort = full[rng.permutation(len(full))[:COHORT]]
    own = np.median(pair_matrix(full, cohort, length, length)[0], axis=1)
    rates = pair_matrix(full, full, length, length)[0]
    margins = own[:, None] + own[None] - np.median(own) - rates
    deviation = 1.4826 * np.median(np.abs(margins - np.median(margins)))
    near = margins > NEAR_DUPLICATE * deviation
    np.fill_diagonal(near, val=True)
    _, labels = connected_components(near, directed=False)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        members[int(label)].append(i)
    groups = [np.array(group) for group in members.values() if len(group) > 1]
    return groups, np.array([group[0] for group in members.values() if len(group) == 1], np.int64)


def _is_airing(group: Sequence[Heard]) -> bool:
    """Whether several homes heard it within the time of one airing."""
    starts_us = [request.start_us for request in group]
    return len({request.household for request in group}) > 1 and max(starts_us) - min(starts_us) <= AIRING_US


def _is_away(person: Heard, member: Heard) -> bool:
    """Whether somebody could have been compared with a home of an airing, and cannot have heard it."""
    return person.route == member.route and abs(person.start_us - member.start_us) > 2 * AIRING_US


def _one_a_household(heard: Sequence[Heard], group: npt.NDArray[np.int64]) -> list[int]:
    first: dict[str, int] = {}
    for i in group.tolist():
        first.setdefault(heard[i].household, i)
    return list(first.values())


def _match_correlation(full: npt.NDArray[np.uint64], strangers: npt.NDArray[np.bool_], length: int) -> float:
    """Of the nearest hundredth of strangers' pairs: E[k (k - 1)] / E[k]^2 for the k that one person is in."""
    rates = pair_matrix(full, full, length, length)[0]
    near = strangers & (rates < np.quantile(rates[strangers], 0.01))
    matches = near.sum(axis=1)
    return float(np.mean(matches * (matches - 1)) / np.mean(matches) ** 2)

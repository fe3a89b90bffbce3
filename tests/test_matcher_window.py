"""The window of concurrent requests: bounded, expiring by event time; and how partners are drawn from it."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import FULL_WORDS, plain_calibration, random_words, ranged_calibration

from matcher.fingerprint import FIRST_LOOK_MS, FULL_MS, LOOK_MS
from matcher.outcome import Outcome
from matcher.policy import Policy
from matcher.route import Route
from matcher.search import SCAN_MS
from matcher.window import Request, Window


def filled(capacity: int, starts_us: list[int]) -> tuple[Window, list[Request]]:
    """A window after requests r0, r1, ... of these starts, and those that left."""
    window = Window(ranged_calibration(), capacity)
    left = []
    for i, start_us in enumerate(starts_us):
        left += window.add(f"r{i}", f"h{i}", "d", start_us)[1]
    return window, left


@given(st.integers(1, 12), st.lists(st.integers(0, 1000), max_size=40))
@settings(max_examples=60)
def test_window_never_holds_more_than_its_bound_and_the_oldest_leaves_first(
    capacity: int, starts_us: list[int]
) -> None:
    window = Window(plain_calibration(), capacity)
    for i, start_us in enumerate(starts_us):
        before = [request.start_us for request in window.requests.values()]
        _, left = window.add(f"r{i}", "h", "d", start_us)
        assert len(window.requests) <= capacity
        older = len(before) == capacity and start_us < min(before)  # than all of a full window: not let in
        assert [request.start_us for request in left] == (
            [min(before)] if len(before) == capacity and not older else []
        )
        assert (f"r{i}" in window.requests) == (not older)
    assert len(window.owners) <= max(64, capacity)
    assert len(window.requests) == min(capacity, len(starts_us))


@given(st.lists(st.integers(0, 100), max_size=30), st.lists(st.integers(0, 100), max_size=4))
@settings(max_examples=60)
def test_requests_leave_by_their_start_in_event_time(starts_us: list[int], horizons_us: list[int]) -> None:
    """Whatever the order in which they came; one that starts at the horizon stays."""
    window, _ = filled(100, starts_us)
    for horizon_us in horizons_us:
        left = window.expire(horizon_us)
        assert [request.start_us for request in left] == sorted(request.start_us for request in left)
        assert all(request.start_us < horizon_us for request in left)
        assert all(request.start_us >= horizon_us for request in window.requests.values())
        assert not {request.request_id for request in left} & set(window.requests)
    gone = max(horizons_us, default=0)
    assert sorted(r.start_us for r in window.requests.values()) == sorted(s for s in starts_us if s >= gone)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, FULL_WORDS)), max_size=80))
@settings(max_examples=40)
def test_rows_are_reused_and_never_shared(acts: list[tuple[int, int, int]]) -> None:
    """After any history each request stands in a row of its own, with its own words and nothing of who was there."""
    window = Window(ranged_calibration(), 7)
    told: dict[str, np.ndarray] = {}
    for number, (act, start_us, words) in enumerate(acts):
        if act == 0:
            starts = [request.start_us for request in window.requests.values()]
            request, _ = window.add(f"r{number}", f"h{number}", "d", start_us)
            if request is None:
                assert start_us < min(starts)
                continue
            told[request.request_id] = np.empty(0, np.uint64)
            assert len(window.fingerprint(request)) == 0
            assert window.owns[request.row].tolist() == [0, 1]
        elif act == 1 and window.requests:
            request = list(window.requests.values())[words % len(window.requests)]
            told[request.request_id] = random_words(number)[:words]
            window.put(request, told[request.request_id], words)
            assert window.heard[request.row]
        else:
            window.expire(start_us)
    rows = [request.row for request in window.requests.values()]
    held = [row for row, owner in enumerate(window.owners) if owner is not None]
    assert sorted(rows) == held == sorted(set(rows))
    for request in window.requests.values():
        assert window.owners[request.row] is request
        assert np.array_equal(window.fingerprint(request), told[request.request_id])
        own = ranged_calibration().own_null(told[request.request_id], request.level_range_db)
        assert window.owns[request.row].tolist() == (own.tolist() if window.heard[request.row] else [0, 1])
    idle = np.setdiff1d(np.arange(len(window.owners)), rows)
    assert not window.lengths[idle].any()
    assert window.of_rows(idle) == []


def test_window_grows_with_the_traffic_and_keeps_what_it_holds() -> None:
    """From 64 rows on to the bound; an arrival that is one too many takes no new row."""
    window = Window(plain_calibration(), 300)
    for i in range(301):
        request, left = window.add(f"r{i}", "h", "d", i)
        window.put(request, random_words(i), 20.0)
        assert len(window.owners) == min(300, 64 * 2 ** max(0, int(np.ceil(np.log2((i + 1) / 64)))))
        assert [gone.request_id for gone in left] == (["r0"] if i == 300 else [])
    for i in (1, 63, 64, 128, 299, 300):
        assert np.array_equal(window.fingerprint(window.requests[f"r{i}"]), random_words(i))
    assert len(window.requests) == 300


def test_an_id_that_left_may_come_again() -> None:
    window, _ = filled(10, [5])
    window.expire(6)
    request, _ = window.add("r0", "h", "d", 7)
    assert window.expire(7) == []
    assert window.expire(8) == [request]


def test_what_is_put_last_stands_and_is_measured_anew() -> None:
    """A request whose fingerprint has grown is as close to everything as its words so far are."""
    window, _ = filled(4, [0])
    request = window.requests["r0"]
    for words in (40, FULL_WORDS, 70):
        window.put(request, random_words("a")[:words], words)
        assert np.array_equal(window.fingerprint(request), random_words("a")[:words])
        assert request.level_range_db == words
        assert np.array_equal(window.owns[request.row], ranged_calibration().own_null(random_words("a")[:words], words))


def test_a_request_is_compared_from_when_it_has_been_heard() -> None:
    """One that was let in and has no words yet is nobody's partner; nor is one in the row of another that was heard."""
    window, _ = filled(2, [0, 1])
    assert window.rows().tolist() == window.undecided_rows().tolist() == []
    first, second = window.requests.values()
    window.put(first, random_words("a"), 20.0)
    window.put(second, random_words("b"), 20.0)
    assert sorted(window.rows().tolist()) == sorted([first.row, second.row])
    window.mark_ignored(first)
    assert window.undecided_rows().tolist() == [second.row]
    third, left = window.add("r2", "h", "d", 2)
    assert left == [first]
    assert third is not None
    assert third.row == first.row
    assert window.rows().tolist() == [second.row]
    window.put(third, random_words("c"), 20.0)
    assert sorted(window.undecided_rows().tolist()) == sorted([second.row, third.row])


# ---- partners --------------------------------------------------------------------------------------------------------


def route_of(requests: int, partners: int) -> Route:
    """A route whose window holds so many whole requests."""
    route = Route("w/l/0", Policy(partners=partners), plain_calibration())
    for i in range(requests):
        add_whole(route, f"r{i}", i)
    return route


def add_whole(route: Route, request_id: str, start_us: int) -> None:
    request, _ = route.window.add(request_id, f"home of {request_id}", "d", start_us)
    request.looked_ms = FULL_MS
    route.window.put(request, random_words(request_id), 20.0)


def drawn(route: Route, request_id: str) -> set[int]:
    request = route.window.requests[request_id]
    return set(route.search.draw(request, Counter()).tolist())


@pytest.mark.parametrize(("requests", "partners"), [(400, 20), (400, 100), (1500, 50)])
def test_partners_are_drawn_alike_from_either_side_and_about_k_of_them(requests: int, partners: int) -> None:
    """Request i draws request j when and only when j draws i; nobody draws itself."""
    route = route_of(requests, partners)
    by_row = {request.row: drawn(route, request_id) for request_id, request in route.window.requests.items()}
    for row, others in by_row.items():
        assert row not in others
        assert all(row in by_row[other] for other in others)
    sizes = np.array([len(others) for others in by_row.values()])
    assert sizes.mean() == pytest.approx(partners, rel=0.05)
    assert sizes.min() > partners - 6 * np.sqrt(partners)
    assert sizes.max() < partners + 6 * np.sqrt(partners)


def test_draws_of_a_window_look_random() -> None:
    """Of two partners of one request, as many are partners of each other as of any two: there are no cliques."""
    route = route_of(600, 60)
    by_row = {request.row: drawn(route, request_id) for request_id, request in route.window.requests.items()}
    closed = [
        second in by_row[first] for others in by_row.values() for first, second in itertools.combinations(others, 2)
    ]
    assert np.mean(closed) == pytest.approx(60 / 599, rel=0.1)


def test_draws_do_not_depend_on_rows() -> None:
    """They are a function of the request ids: a route that was restored into other rows draws the same."""
    first, second = route_of(300, 30), Route("w/l/0", Policy(partners=30), plain_calibration())
    for i in range(300):
        add_whole(second, f"r{299 - i}", i)

    def ids(route: Route) -> set[str]:
        return {request.request_id for request in route.window.of_rows(sorted(drawn(route, "r7")))}

    assert ids(first) == ids(second)


def test_a_matched_request_also_looks_at_what_still_grows() -> None:
    """Every so often at all of it, in between at what is matched itself; what has ended it draws as ever."""
    route = route_of(300, 30)
    window, own = route.window, route.window.requests["r7"]
    growing = {f"r{i}" for i in range(50, 110)}
    for name in growing:
        window.requests[name].looked_ms = FULL_MS - LOOK_MS
        window.put(window.requests[name], random_words(name), 20.0)
    rows = {name: request.row for name, request in window.requests.items()}
    by_hash = drawn(route, "r7")
    for i in range(40, 70):
        window.mark_matched(window.requests[f"r{i}"])
    assert drawn(route, "r7") == by_hash
    window.mark_matched(own)
    own.looked_ms = FIRST_LOOK_MS // SCAN_MS * SCAN_MS + SCAN_MS
    assert drawn(route, "r7") == by_hash | {rows[name] for name in growing}
    own.looked_ms += LOOK_MS
    assert drawn(route, "r7") == by_hash | {rows[f"r{i}"] for i in range(50, 70)}


@pytest.mark.parametrize("requests", [1, 2, 31])
def test_up_to_k_others_everything_is_compared_with_everything(requests: int) -> None:
    route = route_of(requests, 30)
    for request_id, request in route.window.requests.items():
        assert drawn(route, request_id) == {other.row for other in route.window.requests.values()} - {request.row}


def test_what_was_left_out_is_counted() -> None:
    route = route_of(101, 10)
    request = route.window.requests["r0"]
    outcome = Outcome()
    rows = route.search.draw(request, outcome.counts)
    assert outcome.counts["comparisons_left_out"] == 100 - len(rows)


def test_only_one_edge_a_household_and_none_to_ones_own() -> None:
    """However many devices: the strongest edge of each other household, in the order of strength."""
    route = Route("w/l/0", Policy(), plain_calibration())
    households = ["own", "own", "a", "a", "a", "b", "c", "c"]
    for i, household in enumerate(households):
        route.window.add(f"r{i}", household, f"d{i}", i)
    rows = np.array([route.window.requests[f"r{i}"].row for i in range(1, 8)], np.int64)
    scores = np.array([9.0, 2.0, 7.0, 3.0, 1.0, 8.0, 8.5])
    chosen = route.search._candidates(route.window.requests["r0"], rows, scores)
    assert [route.window.of_rows(rows[chosen])[i].request_id for i in range(2)] == ["r7", "r3"]
    assert len(chosen) == 2

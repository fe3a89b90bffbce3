"""From records to growths: the same ones in the same order, however the records came; bounds end in accept."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from assembled import LIMITS, REORDER_US, ROUTE, Feed, Log, Sent, assembled, in_order, logs, mark, spoke, told
from hypothesis import given, settings
from hypothesis import strategies as st
from records import EPOCH_US, Piece, pieces, record

from matcher.bits import GRADIENT
from matcher.fingerprint import FIRST_LOOK_MS, FULL_MS, LOOK_MS, look_due_ms, whole_fingerprint
from matcher.growth import Growth
from matcher.looks import look_words
from pipeline.assembly import HOLE_WAITS_US, Assembler
from pipeline.chunks import BadRecordError
from pipeline.marks import LAG_HOLDS_US
from pipeline.messages.hushword_pb2 import AudioChunk

# ---- the same growths, however the records came ----------------------------------------------------------------------


@st.composite
def spoken(draw: st.DrawFn, most: int = 5, spread_ms: int = 2000) -> list[list[Piece]]:
    """Some requests of up to 2.4 s, on one or two routes: some end before their first look."""
    return [
        pieces(
            f"r{number}",
            EPOCH_US + 1000 * draw(st.integers(0, spread_ms)),
            draw(st.lists(st.integers(60, 400), min_size=1, max_size=6)),
            locale=draw(st.sampled_from(["en-US", "de-DE"])),
        )
        for number in range(draw(st.integers(1, most)))
    ]


@st.composite
def disordered(draw: st.DrawFn, *, by_request: bool, spread_ms: int = 2000) -> tuple[list[Piece], Log]:
    """Give requests, and their records late by less than `reorder_us`, repeated, over some partitions."""
    requests = draw(spoken(spread_ms=spread_ms))
    partitions = draw(st.integers(1, 3))
    sent = []
    for request in requests:
        home = draw(st.integers(0, partitions - 1))
        for piece in request:
            for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
                late_us = draw(st.integers(0, REORDER_US - 1))
                partition = home if by_request else draw(st.integers(0, partitions - 1))
                sent.append(Sent(piece, piece.end_us + late_us, partition))
    return [piece for request in requests for piece in request], logs(sent, partitions)


@settings(max_examples=60)
@given(disordered(by_request=False), st.data())
def test_order_distribution_and_repetition_change_nothing(made: tuple[list[Piece], Log], data: st.DataObject) -> None:
    """Whichever partition is read first, and however much at once: the growths are those of the data."""
    everything, log = made
    feed = Feed(Assembler(LIMITS, GRADIENT, dict.fromkeys(log, 0)), log)
    while feed.unread:
        feed.read(data.draw(st.sampled_from(feed.unread)), data.draw(st.integers(1, 6)))
        if data.draw(st.booleans()):
            feed.release()
    assert feed.read_all().told() == assembled(in_order(everything)).told()
    repeated = sum(map(len, log.values())) - len(everything)
    assert feed.assembler.counts["duplicate_chunks"] == repeated
    assert feed.refused == []


@settings(max_examples=30)
@given(spoken())
def test_growths_are_the_fingerprint_so_far_at_every_look(requests: list[list[Piece]]) -> None:
    """Each chunk that makes a look due gives all words of the audio so far; times and lengths are the chunks' own."""
    feed = assembled(in_order(piece for request in requests for piece in request))
    growths = [growth for found in feed.growths.values() for growth in found]
    assert [growth.end_us for growth in growths] == sorted(growth.end_us for growth in growths) or len(feed.growths) > 1
    for request in requests:
        own = iter([growth for growth in growths if growth.request_id == request[0].request_id])
        audio, looked_ms = b"", 0
        for piece in request:
            audio += AudioChunk.FromString(piece.value).audio
            heard_ms = len(audio) // 32
            if look_due_ms(heard_ms) > looked_ms:
                looked_ms = look_due_ms(heard_ms)
                growth = next(own)
                whole = whole_fingerprint(np.frombuffer(audio, "<i2"), piece.request_id, GRADIENT)
                np.testing.assert_array_equal(growth.words, whole)
                assert (growth.start_us, growth.end_us) == (request[0].start_us, piece.end_us)
                assert growth.audio_ms == heard_ms
        assert list(own) == []


def test_a_growth_says_whose_it_is_and_when_the_broker_had_it() -> None:
    """Household, device and append time travel with it, on the route of its shard."""
    assembler = Assembler(replace(LIMITS, shards=7), GRADIENT, {0: 0})
    (piece,) = pieces("r", EPOCH_US, [FIRST_LOOK_MS])
    assembler.take(0, 0, EPOCH_US + 77, piece.value)
    assembler.take(0, 1, EPOCH_US + 99, mark(EPOCH_US + 10_000_000))
    ((route, (growth,)),) = assembler.release().items()
    assert (growth.household, growth.device, growth.appended_us) == ("home of r", "device of r", EPOCH_US + 77)
    assert route.startswith("alexa/en-US/")
    assert 0 <= int(route.rsplit("/", 1)[1]) < 7


@given(st.integers(1, 50), st.text(min_size=1, max_size=20))
def test_a_household_has_one_shard(shards: int, household: str) -> None:
    """All devices of a household, and all their requests, meet on one shard."""
    assembler = Assembler(replace(LIMITS, shards=shards), GRADIENT, {0: 0})
    for number in range(3):
        fields = {"household_id": household, "device_id": f"d{number}"}
        assembler.take(0, number, EPOCH_US, record(request_id=f"r{number}", **fields).SerializeToString())
    assert len(assembler.routes()) == 1


# ---- what goes wrong on wires ----------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(disordered(by_request=True), st.data())
def test_a_missing_chunk_ends_the_growth_there(made: tuple[list[Piece], Log], data: st.DataObject) -> None:
    """What came before it counts, what comes after does not, and nobody else is touched."""
    everything, log = made
    lost = data.draw(st.sampled_from(everything))
    held = {partition: [value for value in values if value != lost.value] for partition, values in log.items()}
    expected = {
        route: [growth for growth in growths if growth[0] != lost.request_id or growth[2] < lost.end_us]
        for route, growths in assembled(in_order(everything)).told().items()
    }
    feed = assembled(held)
    assert feed.told() == {route: growths for route, growths in expected.items() if growths}
    rest = [piece for piece in everything if piece.request_id == lost.request_id and piece.seq > lost.seq]
    assert feed.assembler.counts["gaps"] == bool(rest)
    assert feed.assembler.counts["chunks_after_gap"] == max(0, len(rest) - 1)


@pytest.mark.parametrize(("behind_us", "grown"), [(1, 3), (0, 1)])
def test_a_missing_chunk_is_waited_for_until_the_mark_is_past_its_successor(behind_us: int, grown: int) -> None:
    """By two seconds less a microsecond it is in time; then it is too late, and what came before still counts."""
    first, second, third = pieces("r", EPOCH_US, [FIRST_LOOK_MS, LOOK_MS, LOOK_MS])
    assembler = Assembler(LIMITS, GRADIENT, {0: 0})
    late_us = third.end_us + HOLE_WAITS_US - behind_us
    values = [first.value, third.value, mark(late_us), second.value, mark(third.end_us + 10_000_000)]
    ends: list[int] = []
    for offset, value in enumerate(values):
        assembler.take(0, offset, EPOCH_US, value)
        ends += [growth.end_us for growth in assembler.release().get(ROUTE, ())]
    assert ends == [piece.end_us for piece in (first, second, third)[:grown]]
    assert assembler.counts["gaps"] == (grown == 1)


@settings(max_examples=60)
@given(st.data())
def test_whatever_is_missing_for_less_than_the_wait_changes_nothing(data: st.DataObject) -> None:
    """A request that moved to a partition which is read late grows to the same words, and is heard to its end."""
    cut = pieces("r", EPOCH_US, [FIRST_LOOK_MS, *[LOOK_MS] * 6])
    first_late = data.draw(st.integers(0, len(cut) - 1))
    last_late = data.draw(st.integers(first_late, len(cut) - 1))
    late, rest = cut[first_late : last_late + 1], [*cut[:first_late], *cut[last_late + 1 :]]
    mark_us = data.draw(st.integers(EPOCH_US, cut[first_late].end_us + HOLE_WAITS_US - 1))
    values = [*(piece.value for piece in rest), mark(mark_us), *(piece.value for piece in late)]
    values.append(mark(EPOCH_US + 3_600_000_000))
    assembler, growths = Assembler(LIMITS, GRADIENT, {0: 0}), []
    for offset, value in enumerate(values):
        assembler.take(0, offset, EPOCH_US, value)
        growths += assembler.release().get(ROUTE, ())
    assert [told(growth) for growth in growths] == assembled(in_order(cut)).told()[ROUTE]
    assert assembler.counts["gaps"] == 0
    assert assembler.needed() == {0: len(values)}


def test_what_waits_behind_holes_takes_half_of_what_may_be_held() -> None:
    """More holes than that end at once, as all did: the mark is not driven on by them."""
    limits = replace(LIMITS, max_held=8)
    assembler, offset = Assembler(limits, GRADIENT, {0: 0}), 0
    for number in range(12):
        first, _, third = pieces(f"r{number}", EPOCH_US, [FIRST_LOOK_MS, LOOK_MS, LOOK_MS])
        for value in (first.value, third.value, mark(third.end_us)):
            assembler.take(0, offset, EPOCH_US, value)
            offset += 1
        assembler.release()
        assert assembler.held <= limits.max_held // 2
        assert assembler.low_mark_us == third.end_us
    assert assembler.counts["gaps"] == 8
    assert assembler.counts["held_overflow"] == 0


def test_what_was_behind_a_hole_at_a_restart_is_given_out_after_it() -> None:
    """The mark was past it, and yet nobody had heard it."""
    first, second, third = pieces("r", EPOCH_US, [FIRST_LOOK_MS, LOOK_MS, LOOK_MS])
    before = Assembler(LIMITS, GRADIENT, {0: 0, 1: 0})
    for partition, offset, value in [
        (0, 0, first.value), (0, 1, third.value), (0, 2, mark(third.end_us)), (1, 0, mark(third.end_us))
    ]:  # fmt: skip
        before.take(partition, offset, EPOCH_US, value)
    assert [growth.end_us for growth in before.release()[ROUTE]] == [first.end_us]
    assert before.needed() == {0: 0, 1: 1}
    after = Assembler(LIMITS, GRADIENT, before.positions(), before.low_mark_us)
    for partition, offset, value in [(0, 0, first.value), (0, 1, third.value), (1, 1, second.value)]:
        after.take(partition, offset, EPOCH_US, value)
    for partition in (0, 1):
        after.take(partition, 3, EPOCH_US, mark(third.end_us + 1))
    assert [growth.end_us for growth in after.release()[ROUTE]] == [second.end_us, third.end_us]


def test_a_hole_in_the_capture_times_ends_the_growth() -> None:
    """Numbered on without a gap, but captured half a second later: these words do not follow those."""
    first, second, third = pieces("r", EPOCH_US, [FIRST_LOOK_MS, LOOK_MS, LOOK_MS])
    moved = AudioChunk.FromString(second.value)
    moved.capture_time_us += 500_000
    feed = assembled({0: [first.value, moved.SerializeToString(), third.value]})
    assert [growth.end_us for growth in feed.growths[ROUTE]] == [first.end_us]


def test_clocks_round_and_drift_a_little_between_chunks() -> None:
    """Twenty milliseconds are no hole."""
    cut = [AudioChunk.FromString(piece.value) for piece in pieces("r", EPOCH_US, [FIRST_LOOK_MS, *[LOOK_MS] * 4])]
    for number, message in enumerate(cut):
        message.capture_time_us += 20_000 * (number % 2)
    feed = assembled({0: [message.SerializeToString() for message in cut]})
    assert len(feed.growths[ROUTE]) == 5


@pytest.mark.parametrize(
    "other",
    [
        {"device_id": "other"},
        {"household_id": "other"},
        {"locale": "de-DE"},
        {"wake_word": "computer"},
        {"sample_rate_hz": 8000},
    ],
)
def test_two_requests_with_one_id_do_not_mix(other: dict[str, Any]) -> None:
    """The second one's records are refused, one by one; the first goes on."""
    mine = pieces("r", EPOCH_US, [FIRST_LOOK_MS, LOOK_MS])
    whose = {"household_id": "home of r", "device_id": "device of r"}
    theirs = record(request_id="r", seq=1, capture_time_us=EPOCH_US + 100_000, **{**whose, **other}).SerializeToString()
    assembler = Assembler(LIMITS, GRADIENT, {0: 0})
    assembler.take(0, 0, EPOCH_US, mine[0].value)
    for offset in (1, 2):
        with pytest.raises(BadRecordError, match="in use") as refused:
            assembler.take(0, offset, EPOCH_US, theirs)
        assert refused.value.stage == "request"
        assert "device of r" not in str(refused.value)
    assembler.take(0, 3, EPOCH_US, mine[1].value)
    assembler.take(0, 4, EPOCH_US, mark(EPOCH_US + 10_000_000))
    assert len(assembler.release()[ROUTE]) == 2


def test_a_request_that_never_ends_is_bounded() -> None:
    """Its fingerprint is full after two seconds and is left alone; when its audio stops, it is forgotten."""
    limits = replace(LIMITS, timeout_us=3_000_000, window_us=2_000_000)
    assembler = Assembler(limits, GRADIENT, {0: 0})
    endless = pieces("endless", EPOCH_US, [250] * 240)
    growths: list[Growth] = []
    for offset, piece in enumerate(endless):
        value = AudioChunk.FromString(piece.value)
        value.final = False
        assembler.take(0, offset, EPOCH_US, value.SerializeToString())
        assembler.take(0, offset, EPOCH_US, mark(piece.end_us))
        growths += assembler.release().get(ROUTE, ())
        assert assembler.held == 0
    assert [growth.audio_ms for growth in growths] == [
        ms for ms in range(250, FULL_MS + 250, 250) if ms >= FIRST_LOOK_MS
    ]
    assert len(growths[-1].words) == look_words(GRADIENT)[-1]
    assert assembler.needed() == assembler.positions()  # a minute of one request holds no offsets back
    assert len(assembler._open) == 1
    assembler.take(0, 240, EPOCH_US, mark(endless[-1].end_us + 5_000_000))
    assembler.release()
    assert len(assembler._open) == 0


# ---- bounds ----------------------------------------------------------------------------------------------------------


def test_requests_beyond_the_most_open_ones_are_accepted_and_counted() -> None:
    """The first two are assembled; of the third every chunk is counted; when there is room again, it is used."""
    limits = replace(LIMITS, max_open=2, timeout_us=1_000_000, window_us=1_000_000)
    assembler = Assembler(limits, GRADIENT, {0: 0})
    first = [piece for name in "abc" for piece in pieces(name, EPOCH_US, [FIRST_LOOK_MS, LOOK_MS])]
    for offset, piece in enumerate(first):
        assembler.take(0, offset, EPOCH_US, piece.value)
    assembler.take(0, 6, EPOCH_US, mark(EPOCH_US + 3_000_000))
    assert {growth.request_id for growth in assembler.release()[ROUTE]} == {"a", "b"}
    assert assembler.counts["chunks_over_limit"] == 2
    (later,) = pieces("d", EPOCH_US + 3_000_000, [FIRST_LOOK_MS])
    assembler.take(0, 7, EPOCH_US, later.value)
    assembler.take(0, 8, EPOCH_US, mark(EPOCH_US + 4_000_000))
    assert [growth.request_id for growth in assembler.release()[ROUTE]] == ["d"]


def test_what_is_held_for_a_partition_that_is_behind_is_bounded() -> None:
    """Partition 1 never says anything: the oldest chunks go on without it, in their order, and are counted."""
    assembler = Assembler(replace(LIMITS, max_held=10), GRADIENT, {0: 0, 1: 0})
    released: list[int] = []
    offset = 0
    for second in range(10):
        for piece in pieces(f"r{second}", EPOCH_US + 1_000_000 * second, [FIRST_LOOK_MS, *[LOOK_MS] * 4]):
            assembler.take(0, offset, EPOCH_US, piece.value)
            offset += 1
        released += [growth.end_us for growth in assembler.release().get(ROUTE, ())]
        assert assembler.held <= 10
    assert len(released) == 40
    assert released == sorted(released)
    assert assembler.counts["held_overflow"] == 40


def test_routes_are_bounded_and_make_room_when_they_are_silent() -> None:
    """A third locale is accepted and counted; two windows later there is room for it."""
    limits = replace(LIMITS, max_routes=2, window_us=1_000_000, timeout_us=1_000_000)
    assembler = Assembler(limits, GRADIENT, {0: 0})
    for offset, locale in enumerate(["en-US", "de-DE", "fr-FR", "fr-FR"]):
        assembler.take(0, offset, EPOCH_US, pieces(f"r{offset}", EPOCH_US, [FIRST_LOOK_MS], locale=locale)[0].value)
    assert assembler.routes() == ["alexa/de-DE/0", "alexa/en-US/0"]
    assert assembler.counts["chunks_of_routes_over_limit"] == 2
    for offset, (mark_us, left) in enumerate([(1_000_000, 2), (3_000_000, 2), (3_000_001, 0)], start=4):
        assembler.take(0, offset, EPOCH_US, mark(EPOCH_US + mark_us))
        assembler.release()
        assert len(assembler.routes()) == left
    assembler.take(0, 7, EPOCH_US, pieces("later", EPOCH_US + 3_000_000, [FIRST_LOOK_MS], locale="fr-FR")[0].value)
    assert assembler.routes() == ["alexa/fr-FR/0"]


def test_a_route_that_fell_silent_while_one_of_its_requests_was_held_comes_back() -> None:
    """A device whose clock is ahead is heard when the others have caught up, long after its route was forgotten."""
    limits = replace(LIMITS, window_us=1_000_000, timeout_us=1_000_000)
    assembler = Assembler(limits, GRADIENT, {0: 0})
    assembler.take(0, 0, EPOCH_US, pieces("now", EPOCH_US, [FIRST_LOOK_MS], locale="fr-FR")[0].value)
    assembler.take(0, 1, EPOCH_US, pieces("ahead", EPOCH_US + 8_000_000, [FIRST_LOOK_MS], locale="fr-FR")[0].value)
    seen: list[str] = []
    for second in range(10):
        assembler.take(0, 2 + second, EPOCH_US, mark(EPOCH_US + 1_000_000 * second))
        seen += [growth.request_id for growth in assembler.release().get("alexa/fr-FR/0", ())]
        assembler.routes()
    assert seen == ["now", "ahead"]
    assert assembler.routes() == ["alexa/fr-FR/0"]


def test_a_route_is_named_as_long_as_there_is_something_of_it_on_its_way() -> None:
    """Also when the mark leaps over two windows with the release that gives it out."""
    assembler = Assembler(LIMITS, GRADIENT, {0: 0})
    assembler.take(0, 0, EPOCH_US, pieces("r", EPOCH_US, [FIRST_LOOK_MS])[0].value)
    assembler.take(0, 1, EPOCH_US, mark(EPOCH_US + 3_600_000_000))
    assert list(assembler.release()) == [ROUTE] == assembler.routes()


# ---- starting again --------------------------------------------------------------------------------------------------

SHORT = replace(LIMITS, window_us=4_000_000, timeout_us=4_000_000)


@settings(max_examples=80)
@given(disordered(by_request=True, spread_ms=12_000), st.data())
def test_a_fresh_assembler_goes_on_where_the_other_was(made: tuple[list[Piece], Log], data: st.DataObject) -> None:
    """From the offsets still needed, with positions and low mark: exactly the growths that had not been given out."""
    _, log = made
    expected = assembled(log, SHORT).told()
    before = Feed(Assembler(SHORT, GRADIENT, dict.fromkeys(log, 0)), log)
    for _ in range(data.draw(st.integers(0, 12), label="reads")):
        if before.unread:
            before.read(data.draw(st.sampled_from(before.unread)), data.draw(st.integers(1, 6)))
        before.release()
    kept = before.assembler
    needed = kept.needed()
    assert all(needed[partition] <= offset for partition, offset in kept.positions().items())
    after = Feed(Assembler(SHORT, GRADIENT, kept.positions(), kept.low_mark_us), log, needed)
    while after.unread:
        after.read(data.draw(st.sampled_from(after.unread)), data.draw(st.integers(1, 6)))
        after.release()
    after.read_all()
    together = {
        route: before.told().get(route, []) + after.told().get(route, []) for route in {*before.growths, *after.growths}
    }
    assert together == expected


@settings(max_examples=40)
@given(disordered(by_request=True), st.data())
def test_a_fresh_assembler_without_the_positions_gives_everything_needed_again(
    made: tuple[list[Piece], Log], data: st.DataObject
) -> None:
    """A start from committed offsets alone: nothing is lost, and what is given twice is the same."""
    _, log = made
    expected = assembled(log).told()
    before = Feed(Assembler(LIMITS, GRADIENT, dict.fromkeys(log, 0)), log)
    for _ in range(data.draw(st.integers(0, 12), label="reads")):
        if before.unread:
            before.read(data.draw(st.sampled_from(before.unread)), data.draw(st.integers(1, 6)))
        before.release()
    needed = before.assembler.needed()
    after = Feed(Assembler(LIMITS, GRADIENT, needed), log, needed).read_all()
    for route, growths in expected.items():
        again, already = after.told().get(route, []), before.told().get(route, [])
        assert set(growths) == set(again) | set(already)
        assert again == [growth for growth in growths if growth in set(again)]


def test_what_comes_too_late_after_a_restart_is_given_out_as_before_it() -> None:
    """A request that was captured before the mark, and appended after the restart, was never given out."""
    on_time, late = (
        pieces("on time", EPOCH_US, [FIRST_LOOK_MS])[0],
        pieces("late", EPOCH_US - 500_000, [FIRST_LOOK_MS])[0],
    )
    log = {0: [on_time.value, mark(EPOCH_US + 800_000), late.value]}
    before = Feed(Assembler(LIMITS, GRADIENT, {0: 0}), log)
    before.read(0, 2)
    before.release()
    kept = before.assembler
    after = Feed(Assembler(LIMITS, GRADIENT, kept.positions(), kept.low_mark_us), log, kept.needed()).read_all()
    for feed, expected in ((before, "on time"), (after, "late")):
        assert [growth.request_id for growth in feed.growths[ROUTE]] == [expected]


def test_nothing_is_needed_any_more_when_the_window_has_passed() -> None:
    """Then a restart begins where reading stopped."""
    assembler = Assembler(SHORT, GRADIENT, {0: 0, 1: 0})
    cut = pieces("r", EPOCH_US, [FIRST_LOOK_MS, LOOK_MS])
    assembler.take(0, 40, EPOCH_US, cut[0].value)
    assembler.take(0, 41, EPOCH_US, cut[1].value)
    assembler.take(1, 7, EPOCH_US, mark(EPOCH_US + 60_000_000))
    assert assembler.needed() == {0: 40, 1: 8}
    for offset, at_us in ((42, SHORT.window_us), (43, SHORT.window_us + 1)):
        assembler.take(0, offset, EPOCH_US, mark(EPOCH_US + at_us))
        assembler.release()
        assert assembler.needed() == {0: 40 if offset == 42 else 44, 1: 8}


def test_a_restart_within_a_replay_lags_again() -> None:
    """The mark that says so is needed as long as it holds; without it the low mark would be hours ahead for good."""
    hour_later_us = EPOCH_US + 3_600_000_000
    log = [mark(EPOCH_US, lags=True), spoke("a", EPOCH_US + 500_000)]
    before = Assembler(LIMITS, GRADIENT, {0: 0})
    before.take(0, 0, hour_later_us, log[0])
    before.idle(0)
    before.release()
    after = Assembler(LIMITS, GRADIENT, before.positions(), before.low_mark_us)
    for offset in range(before.needed()[0], len(log)):
        after.take(0, offset, hour_later_us, log[offset])
    after.idle(0)
    after.release()
    assert after.low_mark_us == EPOCH_US
    after.take(0, 2, hour_later_us, mark(EPOCH_US + 60_000_000))
    after.release()
    assert after.needed() == {0: 3}
    after.take(0, 3, hour_later_us, mark(EPOCH_US + 60_000_001, lags=True))
    assert after.needed() == {0: 3}
    after.take(0, 4, hour_later_us + LAG_HOLDS_US + 1, spoke("b", EPOCH_US))
    after.release()
    assert after.needed() == {0: 5}


def test_a_clock_that_is_ahead_does_not_hold_the_offsets_back_for_ever() -> None:
    """Its request is needed again while it is near; thousands of records later it is not."""
    assembler = Assembler(SHORT, GRADIENT, {0: 0})
    for offset, device in enumerate("ab"):
        assembler.take(0, offset, EPOCH_US, spoke(device, EPOCH_US))
    assembler.take(0, 2, EPOCH_US, spoke("ahead", EPOCH_US + 3_600_000_000))
    assembler.take(0, 3, EPOCH_US, mark(EPOCH_US + 10_000_000))
    assembler.release()
    assert assembler.needed() == {0: 2}
    assembler.take(0, 6000, EPOCH_US, mark(EPOCH_US + 11_500_000))
    assembler.release()
    assert assembler.needed() == {0: 6001}

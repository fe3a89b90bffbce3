"""What comes from outside is bounded: each bound is seen to hold, to be counted, and to end in 'accept'."""

import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from assembled import LIMITS, ROUTE, assembled, mark
from hypothesis import given
from hypothesis import strategies as st
from records import EPOCH_US, pieces, record

from matcher.bits import GRADIENT
from matcher.fingerprint import FIRST_LOOK_MS
from pipeline import metrics
from pipeline.assembly import Assembler
from pipeline.chunks import MAX_RECORD_BYTES, MAX_REQUEST_S, BadRecordError, read_record
from pipeline.rate import MINUTE_US, HouseholdRate

MINUTE_S = 60


@given(
    starts_s=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5 * MINUTE_S)), max_size=60),
    most=st.integers(1, 4),
)
def test_a_household_has_so_many_requests_a_minute(starts_s: list[tuple[str, int]], most: int) -> None:
    """Against the slow way: all that began in one minute, in the order of capture."""
    rate = HouseholdRate(most)
    allowed: defaultdict[tuple[str, int], int] = defaultdict(int)
    asked = Counter((household, start_s // MINUTE_S) for household, start_s in starts_s)
    for household, start_s in sorted(starts_s, key=lambda start: start[1]):
        allowed[household, start_s // MINUTE_S] += rate.allows(household, start_s * 1_000_000)
    assert {key: min(most, number) for key, number in asked.items()} == allowed


def test_the_count_of_households_is_bounded() -> None:
    """Two minutes are kept, and so many households of each: one more is over the bound until the next minute."""
    rate = HouseholdRate(5, max_households=3)
    for minute in range(10):
        assert [rate.allows(name, minute * MINUTE_US) for name in "abcda"] == [True, True, True, False, True]
        assert len(rate._minutes) <= 2
        assert max(map(len, rate._minutes.values())) == 3
    assert rate.allows("late", 0)  # too old to be counted: it is compared, or too late for that


@pytest.mark.parametrize("seed", range(5))
def test_what_a_household_asks_too_often_is_not_compared_whatever_the_order(seed: int) -> None:
    """The first two of a minute grow; the others do not, and are counted; another household is not concerned."""
    requests = [
        pieces(f"r{number}", EPOCH_US + number * 300_000, [FIRST_LOOK_MS], household_id="home") for number in range(5)
    ]
    requests.append(pieces("other", EPOCH_US + 500_000, [FIRST_LOOK_MS]))
    requests.append(pieces("next minute", EPOCH_US + MINUTE_US, [FIRST_LOOK_MS], household_id="home"))
    values = [piece.value for request in requests for piece in request]
    random.Random(seed).shuffle(values)
    feed = assembled({0: values[:3], 1: values[3:]}, replace(LIMITS, household_requests_per_minute=2, reorder_us=10**8))
    assert [growth.request_id for growth in feed.growths[ROUTE]] == ["r0", "r1", "other", "next minute"]
    assert feed.assembler.counts["requests_over_household_rate"] == 3
    assert feed.assembler.counts["requests"] == 4


def test_a_request_that_does_not_end_is_ended() -> None:
    chunks = pieces("endless", EPOCH_US, [1000] * (round(MAX_REQUEST_S) + 5))
    assembler = Assembler(LIMITS, GRADIENT, {0: 0})
    for offset, piece in enumerate(chunks):
        assembler.take(0, offset, EPOCH_US, piece.value)
        assembler.take(0, offset, EPOCH_US, mark(piece.end_us))
        assembler.release()
    assert assembler.counts["requests_too_long"] == 1
    assert assembler.counts["chunks_after_gap"] == 3  # one over 60 s is still heard


def test_a_record_has_so_many_bytes() -> None:
    """What a later version may add counts: field 500 of the message, as long as it may be and one byte longer."""

    def longer(by: int) -> bytes:
        value = record().SerializeToString()
        filling = MAX_RECORD_BYTES - len(value) - 5 + by
        return (
            value + b"\xa2\x1f" + bytes([filling & 127 | 128, filling >> 7 & 127 | 128, filling >> 14]) + bytes(filling)
        )

    assert len(longer(0)) == MAX_RECORD_BYTES
    read_record(longer(0), EPOCH_US, 10**12)
    with pytest.raises(BadRecordError, match="more than 128 KiB") as refused:
        read_record(longer(1), EPOCH_US, 10**12)
    assert refused.value.stage == "decode"
    largest = record(
        request_id="\U0001f600" * 128, household_id="\U0001f600" * 128, device_id="\U0001f600" * 128,
        sample_rate_hz=48_000, audio=bytes(96_000),
    )  # fmt: skip
    read_record(largest.SerializeToString(), EPOCH_US, 10**12)


def test_every_count_of_the_reader_has_a_metric() -> None:
    counts = ("requests_over_household_rate", "requests_too_long", "chunks_over_limit", "chunks_of_routes_over_limit")
    before = {name: metrics.OF_READER[name]._value.get() for name in counts}
    metrics.count_read(dict.fromkeys(counts, 2))
    assert {name: metrics.OF_READER[name]._value.get() - before[name] for name in counts} == dict.fromkeys(counts, 2)

"""Low marks: what may be released, whichever partition is behind, idle, ahead of its clock, or new."""

from assembled import LIMITS, REORDER_US, ROUTE, mark, spoke
from records import EPOCH_US

from matcher.bits import GRADIENT
from pipeline.assembly import Assembler
from pipeline.marks import LAG_HOLDS_US, LEAP_US, NEVER_US


def test_the_mark_stays_behind_the_newest_by_what_may_be_out_of_order() -> None:
    """And never goes back."""
    assembler = Assembler(LIMITS, GRADIENT, {0: 0})
    marks = []
    for offset, (device, at_us) in enumerate([("a", 0), ("b", 0), ("a", 500_000), ("b", 200_000), ("b", 900_000)]):
        assembler.take(0, offset, EPOCH_US, spoke(device, EPOCH_US + at_us))
        assembler.release()
        marks.append(assembler.low_mark_us)
    behind = EPOCH_US - REORDER_US
    # The first device of all is alone; the second confirms it.
    assert marks == [NEVER_US, behind, behind + 500_000, behind + 500_000, behind + 900_000]


def test_the_slowest_partition_has_the_mark() -> None:
    """What is held for it comes out when it has caught up."""
    assembler = Assembler(LIMITS, GRADIENT, {0: 0, 1: 0})
    for offset, device in enumerate("ab"):
        assembler.take(0, offset, EPOCH_US, spoke(device, EPOCH_US + 9_000_000))
        assembler.take(1, offset, EPOCH_US, spoke(device, EPOCH_US + 1_000_000))
    assert assembler.release() == {}
    assert assembler.low_mark_us == EPOCH_US + 1_000_000 - REORDER_US
    assembler.take(1, 2, EPOCH_US, mark(EPOCH_US + 8_000_000))
    assert len(assembler.release()[ROUTE]) == 2
    assert assembler.low_mark_us == EPOCH_US + 8_000_000


def test_a_lone_clock_that_leaps_takes_nobody_along() -> None:
    """However often that device speaks; the request of a device with the right time is still in time."""
    assembler = Assembler(LIMITS, GRADIENT, {0: 0})
    for offset, device in enumerate(["a", "b"]):
        assembler.take(0, offset, EPOCH_US, spoke(device, EPOCH_US))
    for offset in range(2, 6):
        assembler.take(0, offset, EPOCH_US, spoke("ahead", EPOCH_US + 3_600_000_000 + offset))
    assembler.release()
    assert assembler.low_mark_us == EPOCH_US - REORDER_US
    assembler.take(0, 6, EPOCH_US, spoke("a", EPOCH_US + 100_000))
    assembler.release()
    assert assembler.low_mark_us == EPOCH_US + 100_000 - REORDER_US


def test_a_second_device_confirms_a_leap() -> None:
    """After a silence of an hour the mark moves with the second device, to where both agree."""
    assembler = Assembler(LIMITS, GRADIENT, {0: 0})
    for offset, device in enumerate(["a", "b"]):
        assembler.take(0, offset, EPOCH_US, spoke(device, EPOCH_US))
    hour_us = EPOCH_US + 3_600_000_000
    assembler.take(0, 2, EPOCH_US, spoke("a", hour_us))
    assembler.release()
    assert assembler.low_mark_us == EPOCH_US - REORDER_US
    assembler.take(0, 3, EPOCH_US, spoke("b", hour_us + LEAP_US))
    assembler.release()
    assert assembler.low_mark_us == hour_us - REORDER_US


def test_an_idle_partition_follows_the_append_time() -> None:
    """A partition that was read to its end holds nobody up for longer than what may be out of order."""
    assembler = Assembler(LIMITS, GRADIENT, {0: 0, 1: 0})
    for offset, device in enumerate("ab"):
        assembler.take(0, offset, EPOCH_US + 5000, spoke(device, EPOCH_US))
    assembler.release()
    assert assembler.low_mark_us < EPOCH_US - REORDER_US  # nobody has said that partition 1 is at its end
    assembler.idle(1)
    assembler.release()
    assert assembler.low_mark_us == EPOCH_US - REORDER_US
    assembler.idle(0)
    assembler.release()
    assert assembler.low_mark_us == EPOCH_US + 5000 - REORDER_US
    assembler.take(1, 0, EPOCH_US + 900_000, spoke("c", EPOCH_US + 890_000))  # partition 1 is awake again
    assembler.release()
    assert assembler.low_mark_us == EPOCH_US + 5000 - REORDER_US


def test_a_partition_that_lags_does_not_follow_the_append_time() -> None:
    """Only its own marks count, until one that does not lag, or until its replay has been silent for too long."""
    assembler = Assembler(LIMITS, GRADIENT, {0: 0, 1: 0})
    hour_later_us = EPOCH_US + 3_600_000_000
    for partition in (0, 1):
        assembler.take(partition, 0, hour_later_us, mark(EPOCH_US, lags=True))
    for offset, device in enumerate("ab", start=1):
        assembler.take(0, offset, hour_later_us + LAG_HOLDS_US, spoke(device, EPOCH_US + 500_000))
    assembler.idle(0)
    assembler.idle(1)
    assert assembler.release() == {}
    assert assembler.low_mark_us == EPOCH_US
    assembler.take(1, 1, hour_later_us, mark(EPOCH_US + 600_000, lags=True))
    assembler.idle(1)
    assembler.release()
    assert assembler.low_mark_us == EPOCH_US + 500_000 - REORDER_US
    assembler.take(0, 3, hour_later_us + 10, mark(EPOCH_US + 700_000))
    assembler.idle(0)
    assembler.release()
    assert assembler.low_mark_us == EPOCH_US + 600_000  # partition 0 follows the clock again, partition 1 does not
    assembler.take(0, 4, hour_later_us + LAG_HOLDS_US + 1, spoke("c", EPOCH_US + 900_000))
    assembler.idle(0)
    assembler.release()
    assert assembler.low_mark_us == hour_later_us + LAG_HOLDS_US + 1 - REORDER_US


def test_a_partition_that_was_added_is_waited_for() -> None:
    """It has a position from then on, and its records are merged with the others'."""
    assembler = Assembler(LIMITS, GRADIENT, {0: 0})
    for offset, device in enumerate("ab"):
        assembler.take(0, offset, EPOCH_US, spoke(device, EPOCH_US + 1_000_000))
    assembler.add_partition(1, 0)
    assert assembler.release() == {}
    assembler.take(1, 0, EPOCH_US, spoke("c", EPOCH_US + 500_000))
    for partition in (0, 1):
        assembler.take(partition, 2, EPOCH_US, mark(EPOCH_US + 2_000_000))
    growths = assembler.release()[ROUTE]
    assert [growth.device for growth in growths] == ["c", "a", "b"]
    assert set(assembler.positions()) == set(assembler.needed()) == {0, 1}

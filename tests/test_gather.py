from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import EPOCH_US, Piece, pieces, record

from pipeline.chunks import MAX_REQUEST_S, BadRecordError
from pipeline.gather import Gathered, Gatherer, GatherLimits, LeftOut
from pipeline.messages.hushword_pb2 import AudioChunk

LIMITS = GatherLimits(reorder_us=100_000, timeout_us=2_000_000)


def gatherer(limits: GatherLimits = LIMITS, partitions: int = 1) -> Gatherer:
    return Gatherer(limits, dict.fromkeys(range(partitions), 0), lambda _chunk, _appended_us: True)


def take_all(gathers: Gatherer, values: list[bytes], first: int = 0) -> None:
    for offset, value in enumerate(values, start=first):
        gathers.take(0, offset, EPOCH_US, value)


def mark(us: int) -> bytes:
    return AudioChunk(low_mark_us=us).SerializeToString()


def audio_of(cut: list[Piece]) -> bytes:
    return b"".join(AudioChunk.FromString(piece.value).audio for piece in cut)


@st.composite
def disordered(draw: st.DrawFn) -> tuple[list[list[Piece]], list[tuple[int, Piece]], int]:
    """Give requests, their records shuffled and repeated over partitions, and the number of these."""
    requests = [
        pieces(
            f"r{number}",
            EPOCH_US + 1000 * draw(st.integers(0, 1500)),
            draw(st.lists(st.integers(20, 250), min_size=1, max_size=5)),
            rate_hz=draw(st.sampled_from([8000, 16_000, 48_000])),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    partitions = draw(st.integers(1, 3))
    sent = []
    for request in requests:
        home = draw(st.integers(0, partitions - 1))
        for piece in request:
            sent += [(home, piece)] * draw(st.integers(1, 3))
    return requests, draw(st.permutations(sent)), partitions


@given(disordered())
def test_requests_are_whole_however_their_chunks_come(
    case: tuple[list[list[Piece]], list[tuple[int, Piece]], int],
) -> None:
    """Each once, with its samples, its rate and the capture time of its first sample; no other is there."""
    requests, sent, partitions = case
    gathers = gatherer(partitions=partitions)
    over = []
    offsets = dict.fromkeys(range(partitions), 0)
    for partition, piece in sent:
        gathers.take(partition, offsets[partition], EPOCH_US, piece.value)
        offsets[partition] += 1
        over += gathers.release()
    assert gathers.still_open == 0
    assert gathers.needed() == gathers.positions() == offsets
    found = {request.first.request_id: request for request in over if isinstance(request, Gathered)}
    assert len(over) == len(found) == len(requests)
    for cut in requests:
        request = found[cut[0].request_id]
        assert request.cut is None
        assert request.samples.tobytes() == audio_of(cut)
        first = AudioChunk.FromString(cut[0].value)
        assert (request.first.start_us, request.first.rate_hz) == (first.capture_time_us, first.sample_rate_hz)


@given(disordered(), st.data())
def test_requests_are_the_same_when_gathering_starts_again(
    case: tuple[list[list[Piece]], list[tuple[int, Piece]], int], data: st.DataObject
) -> None:
    """From the offsets needed, wherever it was interrupted: together they have each request once."""
    requests, sent, partitions = case
    log: dict[int, list[bytes]] = {partition: [] for partition in range(partitions)}
    for partition, piece in sent:
        log[partition].append(piece.value)
    done: dict[str, bytes] = {}
    first = gatherer(partitions=partitions)
    upto = {partition: data.draw(st.integers(0, len(values))) for partition, values in log.items()}
    for partition, end in upto.items():
        for offset in range(end):
            first.take(partition, offset, EPOCH_US, log[partition][offset])
    done |= {one.first.request_id: one.samples.tobytes() for one in first.release() if isinstance(one, Gathered)}
    second = Gatherer(LIMITS, first.positions(), lambda chunk, _appended_us: chunk.request_id not in done)
    for partition, start in first.needed().items():
        for offset in range(start, len(log[partition])):
            second.take(partition, offset, EPOCH_US, log[partition][offset])
    for one in second.release():
        assert isinstance(one, Gathered)
        assert one.first.request_id not in done
        done[one.first.request_id] = one.samples.tobytes()
    assert done == {cut[0].request_id: audio_of(cut) for cut in requests}


@pytest.mark.parametrize(
    ("lost", "heard", "cut"), [({2}, 2, "gap"), ({4}, 4, "no final chunk"), ({1, 4}, 1, "gap"), ({2, 3, 4}, 2, None)]
)
def test_a_request_with_a_hole_ends_there(lost: set[int], heard: int, cut: str | None) -> None:
    """What the job would have heard of it, and why it ends; nothing before its time is over."""
    sent = pieces("r", EPOCH_US, [100] * 5)
    gathers = gatherer()
    take_all(gathers, [piece.value for piece in sent if piece.seq not in lost])
    gathers.take(0, 9, EPOCH_US, mark(EPOCH_US + 2_000_000))
    assert gathers.release() == []
    assert gathers.needed() == {0: 0}
    gathers.take(0, 10, EPOCH_US, mark(EPOCH_US + 3_000_000))
    (request,) = gathers.release()
    assert isinstance(request, Gathered)
    assert request.samples.tobytes() == audio_of(sent[:heard])
    assert request.cut == (cut or "no final chunk")
    assert gathers.needed() == {0: 11}


def test_a_hole_in_time_is_a_hole() -> None:
    """As the job has it: the chunks after it belong to another time."""
    sent = [AudioChunk.FromString(piece.value) for piece in pieces("r", EPOCH_US, [100] * 4)]
    for message in sent[2:]:
        message.capture_time_us += 200_000
    gathers = gatherer()
    take_all(gathers, [message.SerializeToString() for message in sent])
    (request,) = gathers.release()
    assert isinstance(request, Gathered)
    assert (len(request.samples), request.cut) == (3200, "gap")


def test_a_request_that_began_before_is_left_out_and_said() -> None:
    """Once, however many of its chunks come."""
    gathers = gatherer()
    take_all(gathers, [piece.value for piece in pieces("r", EPOCH_US, [100] * 4)[1:]])
    assert gathers.release() == []
    gathers.take(0, 3, EPOCH_US, mark(EPOCH_US + 3_000_000))
    assert gathers.release() == [LeftOut("r")]
    gathers.take(0, 4, EPOCH_US, pieces("r", EPOCH_US, [100] * 5)[4].value)
    assert gathers.release(everything=True) == []
    assert gathers.counts == {"late_chunks": 1}


def test_the_end_of_everything_closes_what_is_open() -> None:
    """When the topic is silent, event time stands still."""
    gathers = gatherer()
    gathers.take(0, 0, EPOCH_US, pieces("r", EPOCH_US, [100, 100])[0].value)
    assert gathers.release() == []
    (request,) = gathers.release(everything=True)
    assert isinstance(request, Gathered)
    assert request.cut == "no final chunk"


@pytest.mark.parametrize("wrong_us", [-3_600_000_000, 3_600_000_000])
def test_a_clock_that_is_wrong_neither_ends_its_request_nor_keeps_it_open(wrong_us: int) -> None:
    """Its chunks count as they come among the others'."""
    gathers = gatherer()
    wrong = pieces("wrong", EPOCH_US + wrong_us, [100] * 30)
    right = [pieces(f"r{n}", EPOCH_US + 100_000 * n, [100]) for n in range(60)]
    over = []
    for n, request in enumerate(right):
        sent = [request[0].value, *([wrong[n].value] if n < 20 else [])]
        for value in sent:
            gathers.take(0, gathers.positions()[0], EPOCH_US + 100_000 * (n + 1), value)
        over += [one for one in gathers.release() if isinstance(one, Gathered)]
        assert ("wrong" in [one.first.request_id for one in over]) == (n > 40)
    (ended,) = [one for one in over if one.first.request_id == "wrong"]
    assert (len(ended.samples), ended.cut) == (20 * 1600, "no final chunk")


def test_a_request_without_end_is_cut() -> None:
    """Memory does not grow with it."""
    gathers = gatherer()
    endless = pieces("r", EPOCH_US, [1000] * (round(MAX_REQUEST_S) + 5), samples=np.zeros(16_000 * 65, np.int16))
    take_all(gathers, [piece.value for piece in endless])
    (request,) = gathers.release()
    assert isinstance(request, Gathered)
    assert (len(request.samples), request.cut) == (MAX_REQUEST_S * 16_000, "too long")
    assert gathers.still_open == 0


def test_more_than_the_most_open_are_counted() -> None:
    """They are left out, and it is said."""
    gathers = gatherer(GatherLimits(max_open=2))
    take_all(gathers, [pieces(name, EPOCH_US, [100, 100])[0].value for name in "abc"])
    assert gathers.still_open == 2
    assert gathers.counts == {"chunks_over_limit": 1}


def test_another_device_cannot_take_over_a_request() -> None:
    """Its chunks cannot be used; when they were read before, they were said before."""
    gathers = Gatherer(LIMITS, {0: 2}, lambda _chunk, _appended_us: True)
    mine = record(request_id="r").SerializeToString()
    theirs = record(request_id="r", seq=1, device_id="other").SerializeToString()
    gathers.take(0, 0, EPOCH_US, mine)
    gathers.take(0, 1, EPOCH_US, theirs)
    with pytest.raises(BadRecordError, match="another device"):
        gathers.take(0, 2, EPOCH_US, theirs)


def test_the_oldest_open_request_is_what_is_needed() -> None:
    """Whatever is over in between."""
    sent = {name: pieces(name, EPOCH_US, [100, 100]) for name in "abc"}
    for order in permutations("abc"):
        gathers = gatherer()
        take_all(gathers, [sent[name][0].value for name in "abc"])
        for offset, name in enumerate(order, start=3):
            gathers.take(0, offset, EPOCH_US, sent[name][1].value)
            left = set("abc") - set(order[: offset - 2])
            assert gathers.needed()[0] == min(("abc".index(name) for name in left), default=offset + 1)

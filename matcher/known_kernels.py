"""Numba kernels of known media: the index that finds candidates, and their scores. Slow twins are in tests/naive.py.

Entries lie in rows: word 2 j of an entry in slot j. A request's word k with an *alignment* a holds the same sound as
the entry's word k + LEAD_WORDS + a.

The index holds *anchors*. A group is a fixed choice of GROUP_BITS of a word's 64 bits. Each slot is entered under the
ANCHORS groups in which most of its bits are clear: those a room seldom changes. A request looks every word up in all
groups. For every group, value of its bits and block of BLOCK_SLOTS slots there is a list, in chunks of one cache line's
quarter: a number of the next chunk, and places, (row << SLOT_BITS | slot) + 1; 0 is none.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from matcher.kernels import popcount
from matcher.known_null import LEAD_WORDS, LEAST_APART, LEAST_BITS, MAX_ALIGNMENT, MOST_APART, SEGMENT_WORDS, SLOT_WORDS

GROUPS = 32
GROUP_BITS = 14
ANCHORS = 3
# The alignments of one word reach over little more than a block.
BLOCK_SLOTS, BLOCK_BITS = 8, 4
SLOT_BITS = 7
LISTS = GROUPS << GROUP_BITS << BLOCK_BITS
CHUNK = 4
# A list of more places is passed over.
CROWD = 24
assert BLOCK_SLOTS << BLOCK_BITS == 1 << SLOT_BITS

_rng = np.random.default_rng(0)
GROUP_PLACES: npt.NDArray[np.int64] = np.stack([_rng.permutation(64)[:GROUP_BITS] for _ in range(GROUPS)])
GROUP_MASKS: npt.NDArray[np.uint64] = (np.uint64(1) << GROUP_PLACES.astype(np.uint64)).sum(axis=1, dtype=np.uint64)


def _group_values() -> npt.NDArray[np.uint16]:
    """What each byte of a word puts into the value of each group: uint16 (8, 256, GROUPS)."""
    table = np.zeros((8, 256, GROUPS), np.uint16)
    for group, places in enumerate(GROUP_PLACES):
        for bit, place in enumerate(places):
            byte = np.arange(256)
            table[place // 8, :, group] |= ((byte >> (place % 8)) & 1).astype(np.uint16) << np.uint16(bit)
    return table


GROUP_VALUES = _group_values()
GROUP_MASKS.setflags(write=False)
GROUP_VALUES.setflags(write=False)

_U8 = npt.NDArray[np.uint64]
_I4 = npt.NDArray[np.int32]
_F4 = npt.NDArray[np.float32]
_U2 = npt.NDArray[np.uint16]

_u8 = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_values = nb.types.Array(nb.uint16, 3, "C", readonly=True)
_upkeep = nb.void(
    nb.uint64[:, ::1], nb.int32[::1], _values, nb.uint8[:, :, ::1], nb.int64, nb.int32[::1], nb.int32[:, ::1],
    nb.int64[::1],
)  # fmt: skip


@nb.njit(nb.int64(nb.uint64, nb.int64, nb.int64, _values), cache=True, nogil=True, inline="always")
def _list(word: int, group: int, slot: int, values: _U2) -> int:
    """Number of the list of a word in a group, at a slot."""
    value = nb.int64(0)
    for byte in range(8):
        value |= values[byte, (word >> np.uint64(8 * byte)) & np.uint64(255), group]
    number: int = ((group << GROUP_BITS | value) << BLOCK_BITS) | slot // BLOCK_SLOTS
    return number


@nb.njit(nb.void(nb.uint64[:, ::1], nb.int32[::1], _u8, nb.int64, nb.uint8[:, :, ::1]), cache=True)
def choose_anchors(clear: _U8, lengths: _I4, masks: _U8, row: int, out: npt.NDArray[np.uint8]) -> None:
    """Choose for every slot of a row the groups with the most clear bits; of equals the first.

    Args:
        clear: uint64 (R, slots).
        lengths: int32 (R,), slots filled.
        masks: uint64 (GROUPS,).
        row: which.
        out: uint8 (R, slots, ANCHORS), row `row` overwritten.

    """
    for slot in range(lengths[row]):
        taken = np.uint64(0)
        for anchor in range(out.shape[2]):
            best, most = 0, -1
            for group in range(len(masks)):
                count = popcount(clear[row, slot] & masks[group])
                if count > most and not (taken >> np.uint64(group)) & np.uint64(1):
                    best, most = group, count
            out[row, slot, anchor] = best
            taken |= np.uint64(1) << np.uint64(best)


@nb.njit(_upkeep, cache=True)
def enter(
    words: _U8,
    lengths: _I4,
    values: _U2,
    anchors: npt.NDArray[np.uint8],
    row: int,
    heads: _I4,
    chunks: _I4,
    free: npt.NDArray[np.int64],
) -> None:
    """Enter a row's anchors.

    Args:
        words: uint64 (R, slots).
        lengths: int32 (R,).
        values: uint16 (8, 256, GROUPS), GROUP_VALUES.
        anchors: uint8 (R, slots, ANCHORS).
        row: which.
        heads: int32 (LISTS,), first chunk of each list; 0 is none.
        chunks: int32 (n, CHUNK), the next chunk and places; chunk 0 is none.
        free: int64 (2,), updated: the first of the chunks that are free, each with the next one in its place, and how
            many there are. There must be as many as the row has anchors.

    """
    for slot in range(lengths[row]):
        for anchor in range(anchors.shape[2]):
            at = _list(words[row, slot], nb.int64(anchors[row, slot, anchor]), slot, values)
            chunk = heads[at]
            room = 0
            if chunk:
                for i in range(1, CHUNK):
                    if chunks[chunk, i] == 0:
                        room = i
                        break
            if not room:
                taken = free[0]
                free[0] = chunks[taken, 0]
                free[1] -= 1
                chunks[taken, 0] = chunk
                heads[at] = taken
                chunk, room = nb.int32(taken), 1
            chunks[chunk, room] = (row << SLOT_BITS | slot) + 1


@nb.njit(_upkeep, cache=True)
def leave(
    words: _U8,
    lengths: _I4,
    values: _U2,
    anchors: npt.NDArray[np.uint8],
    row: int,
    heads: _I4,
    chunks: _I4,
    free: npt.NDArray[np.int64],
) -> None:
    """Take a row's anchors out again, and give empty chunks back; arguments as for `enter`."""
    for slot in range(lengths[row]):
        for anchor in range(anchors.shape[2]):
            at = _list(words[row, slot], nb.int64(anchors[row, slot, anchor]), slot, values)
            place = (row << SLOT_BITS | slot) + 1
            first = heads[at]
            chunk = first
            found = 0
            while chunk and not found:
                for i in range(1, CHUNK):
                    if chunks[chunk, i] == place:
                        found = i
                        break
                if not found:
                    chunk = chunks[chunk, 0]
            if not found:
                continue
            # The last of the first chunk goes where it was.
            last = 0
            for i in range(1, CHUNK):
                if chunks[first, i]:
                    last = i
            chunks[chunk, found] = chunks[first, last]
            chunks[first, last] = 0
            if last == 1:
                heads[at] = chunks[first, 0]
                chunks[first, 0] = free[0]
                free[0] = first
                free[1] += 1


@nb.njit(
    nb.int64(
        _u8, nb.int64, nb.int64, nb.int64, _values, nb.int64, nb.int32[::1], nb.int32[:, ::1], nb.int32[:, ::1],
        nb.int64, nb.int32[::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def find(
    query: _U8,
    first: int,
    end: int,
    step: int,
    values: _U2,
    slots: int,
    heads: _I4,
    chunks: _I4,
    seen: _I4,
    needed: int,
    out: _I4,
) -> int:
    """Find the rows that have an anchor like one of some words of a request, at an alignment that is possible.

    Args:
        query: uint64 (n,).
        first: the first word to look up ...
        end: ... and one past the last.
        step: words whose number is a multiple of it are looked up.
        values: uint16 (8, 256, GROUPS), GROUP_VALUES.
        slots: of a row.
        heads: int32 (LISTS,).
        chunks: int32 (n, CHUNK).
        seen: int32 (a power of two, 2), for needed over 1: what was found (0: nothing) and how often, kept from look to
            look. What finds no room near its place is forgotten.
        needed: how often a row must be found at one alignment.
        out: int32 (m,), overwritten as far as it reaches: the rows, some of them more than once.

    Returns:
        How many were found; those beyond m are lost.

    """
    found = 0
    waiting, following = np.empty((2, 4 * GROUPS), np.int32)
    number = np.empty(GROUPS, np.int64)
    places = np.empty(CROWD + CHUNK, np.int32)
    for k in range(first + first % step, end, step):
        centre = k + LEAD_WORDS
        low = max(0, (centre - MAX_ALIGNMENT + SLOT_WORDS - 1) // SLOT_WORDS)
        high = min(slots - 1, (centre + MAX_ALIGNMENT) // SLOT_WORDS)
        number[:] = 0
        for byte in range(8):
            given = values[byte, (query[k] >> np.uint64(8 * byte)) & np.uint64(255)]
            for group in range(GROUPS):
                number[group] |= given[group]
        # All heads first, then the first two chunks: the processor fetches many at a time when none waits for another.
        lists = 0
        for group in range(GROUPS):
            at = (group << GROUP_BITS | number[group]) << BLOCK_BITS
            for block in range(low // BLOCK_SLOTS, high // BLOCK_SLOTS + 1):
                waiting[lists] = following[lists] = heads[at | block]
                lists += waiting[lists] > 0
        for _ in range(2):
            for i in range(lists):
                following[i] = chunks[following[i], 0]
        for i in range(lists):
            chunk = waiting[i]
            length = 0
            while chunk and length < CROWD:
                for j in range(1, CHUNK):
                    places[length] = chunks[chunk, j] - 1
                    length += chunks[chunk, j] > 0
                chunk = chunks[chunk, 0]
            if chunk:
                continue  # a crowd: what so many share tells little
            for j in range(length):
                slot = places[j] & ((1 << SLOT_BITS) - 1)
                if not low <= slot <= high:
                    continue
                row = places[j] >> SLOT_BITS
                times = 1
                if needed > 1:
                    key = nb.int32(row << 4 | (SLOT_WORDS * slot - centre + MAX_ALIGNMENT + 1))
                    at = (nb.int64(key) * 0x9E3779B1 >> 7) & (len(seen) - 1)
                    for _ in range(4):
                        if seen[at, 0] == key or seen[at, 0] == 0:
                            seen[at, 0] = key
                            seen[at, 1] += 1
                            times = seen[at, 1]
                            break
                        at = (at + 1) & (len(seen) - 1)
                if times >= needed:
                    if found < len(out):
                        out[found] = row
                    found += 1
    return found


@nb.njit(nb.void(_u8, nb.types.Array(nb.uint64, 2, "C", readonly=True), nb.uint64[::1], nb.int64, nb.int64,
                 nb.float32[::1]), cache=True, nogil=True)  # fmt: skip
def own_means(query: _U8, cohort_columns: _U8, clear: _U8, first: int, end: int, out: _F4) -> None:
    """Mean error rate of each segment against unrelated people, at alignment 0.

    Args:
        query: uint64 (n,).
        cohort_columns: uint64 (width, C).
        clear: uint64 (n,), which bits count; of length 0: all.
        first: the first segment wanted ...
        end: ... and one past the last; those that begin past the query's or the cohort's end have a mean of NaN.
        out: float32 (S,), these segments overwritten.

    """
    for segment in range(first, end):
        errors, bits = 0, 0
        for k in range(segment * SEGMENT_WORDS, min((segment + 1) * SEGMENT_WORDS, len(query), len(cohort_columns))):
            word = query[k]
            mask = clear[k] if len(clear) else ~np.uint64(0)
            for other in cohort_columns[k]:
                errors += popcount((word ^ other) & mask)
            bits += popcount(mask) * cohort_columns.shape[1]
        out[segment] = errors / bits if bits else np.nan


@nb.njit(
    nb.void(
        _u8, _u8, nb.int64, nb.uint64[:, ::1], nb.uint64[:, ::1], nb.int32[::1], nb.float32[:, ::1], nb.int32[::1],
        nb.float32[::1], nb.types.Array(nb.float32, 1, "C", readonly=True),
        nb.types.Array(nb.float32, 1, "C", readonly=True), nb.types.Array(nb.float32, 1, "C", readonly=True),
        nb.float32[::1], nb.float32[::1], nb.int32[::1], nb.int32[::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def score_rows(
    query: _U8,
    query_clear: _U8,
    segments: int,
    words: _U8,
    clear: _U8,
    lengths: _I4,
    row_means: _F4,
    rows: _I4,
    own: _F4,
    base: _F4,
    usual: _F4,
    weights: _F4,
    out_score: _F4,
    out_rate: _F4,
    out_alignment: _I4,
    out_words: _I4,
) -> None:
    """Score a request against some rows, each at the alignment of its lowest error rate; of equals the first.

    Args:
        query: uint64 (n,), n >= segments * SEGMENT_WORDS.
        query_clear: uint64 (n,), which bits of it are clear.
        segments: how many count.
        words: uint64 (R, slots).
        clear: uint64 (R, slots).
        lengths: int32 (R,).
        row_means: float32 (R, S), as `own_means` gives them.
        rows: int32 (m,).
        own: float32 (S,), the request's.
        base: float32 (S,).
        usual: float32 (S,).
        weights: float32 (S,).
        out_score: float32 (m,), sum over the segments of weight * (base + both own means - error rate, from
            LEAST_APART to MOST_APART, less the usual); where fewer than LEAST_BITS are common a segment says nothing.
        out_rate: float32 (m,), error rate over the bits of all common words that are clear on both sides; 1 where there
            are none.
        out_alignment: int32 (m,), MAX_ALIGNMENT at most either way.
        out_words: int32 (m,), words compared.

    """
    for i in range(len(rows)):
        row = rows[i]
        best, at, compared = 2.0, 0, 0
        for alignment in range(-MAX_ALIGNMENT, MAX_ALIGNMENT + 1):
            errors, bits, common = 0, 0, 0
            shift = LEAD_WORDS + alignment
            for k in range(max(-shift, shift % SLOT_WORDS), segments * SEGMENT_WORDS, SLOT_WORDS):
                slot = (k + shift) // SLOT_WORDS
                if slot >= lengths[row]:
                    break
                both = clear[row, slot] & query_clear[k]
                errors += popcount((query[k] ^ words[row, slot]) & both)
                bits += popcount(both)
                common += 1
            if bits and errors / bits < best:
                best, at, compared = errors / bits, alignment, common
        score = 0.0
        for segment in range(segments):
            errors, bits = 0, 0
            for k in range(segment * SEGMENT_WORDS, (segment + 1) * SEGMENT_WORDS):
                place = k + LEAD_WORDS + at
                if place < 0 or place % SLOT_WORDS or place // SLOT_WORDS >= lengths[row]:
                    continue
                both = clear[row, place // SLOT_WORDS] & query_clear[k]
                errors += popcount((query[k] ^ words[row, place // SLOT_WORDS]) & both)
                bits += popcount(both)
            expected = base[segment] + own[segment] + row_means[row, segment]
            if bits >= LEAST_BITS and not np.isnan(expected):
                score += weights[segment] * (
                    min(max(expected - errors / bits, LEAST_APART), MOST_APART) - usual[segment]
                )
        out_score[i] = score
        out_rate[i] = min(best, 1.0)
        out_alignment[i] = at
        out_words[i] = compared

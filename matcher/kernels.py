"""Numba kernels over words of bits. The caller allocates; each has a slow twin in tests/naive.py.

An *alignment* of a words says that word k of the first fingerprint holds the same sound as word k + a of the second.
"""

import numba as nb
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from matcher.bits import BITS_PER_WORD

_U8 = npt.NDArray[np.uint64]
_I4 = npt.NDArray[np.int32]
_F4 = npt.NDArray[np.float32]
_F8 = npt.NDArray[np.float64]


@intrinsic
def popcount(typingctx, word):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """Number of bits set in a uint64: LLVM's own instruction, which it also vectorises."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, ARG001
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(64), [ir.IntType(64)]), "llvm.ctpop.i64"
        )
        return builder.call(function, [args[0]])

    return nb.int64(nb.uint64), codegen


_words_in = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_rows_in = nb.types.Array(nb.uint64, 2, "C", readonly=True)
_own_in = nb.types.Array(nb.float32, 1, "C", readonly=True)
_curve_in = nb.types.Array(nb.float64, 1, "C", readonly=True)

# Rows that are compared at once: as many words as the widest registers hold.
LANES = 8


@intrinsic
def lane_errors(typingctx, query, start, tile, at, count, out, place):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001, D417
    """Bits that differ between query[start:][:count] and each lane of tile[at:][:count], into out[place].

    A loop over vectors as LLVM knows them: numba makes none of it by itself, because the arrays might overlap.

    Args:
        query: uint64 (n,).
        start: in the query.
        tile: uint64 (width, LANES), word k of each lane in row k.
        at: in the tile.
        count: words.
        out: int64 (m, LANES).
        place: the row of `out` that is overwritten.

    """

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        index, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), LANES)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        nothing = ir.Constant(vector, ir.Undefined)
        count_bits = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v{LANES}i64"
        )

        def pointer(argument: int, offset):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            array = context.make_array(signature.args[argument])(context, builder, args[argument])
            return builder.gep(array.data, [offset])

        def lanes(argument: int, row):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            return builder.bitcast(pointer(argument, builder.mul(row, index(LANES))), vector.as_pointer())

        errors = cgutils.alloca_once_value(builder, ir.Constant(vector, [0] * LANES))
        with cgutils.for_range(builder, args[4]) as loop:
            word = builder.load(pointer(0, builder.add(args[1], loop.index)))
            word = builder.insert_element(nothing, word, ir.IntType(32)(0))
            word = builder.shuffle_vector(word, nothing, everywhere)
            row = builder.load(lanes(2, builder.add(args[3], loop.index)), align=8)
            differing = builder.call(count_bits, [builder.xor(word, row)])
            builder.store(builder.add(builder.load(errors), differing), errors)
        builder.store(builder.load(errors), lanes(5, args[6]), align=8)
        return context.get_dummy_value()

    return nb.void(query, nb.int64, tile, nb.int64, nb.int64, out, nb.int64), codegen


@nb.njit(nb.int64(_words_in, _words_in, nb.int64, nb.int64, nb.int64), cache=True, nogil=True)
def errors_between(first: _U8, second: _U8, first_start: int, second_start: int, count: int) -> int:
    """Bits that differ between first[first_start:][:count] and second[second_start:][:count]."""
    total = 0
    a = first[first_start : first_start + count]
    b = second[second_start : second_start + count]
    for k in range(count):
        total += popcount(a[k] ^ b[k])
    return total


_flags_in = nb.types.Array(nb.boolean, 1, "C", readonly=True)


@nb.njit(nb.int64(_flags_in, _flags_in, _words_in, nb.int64, nb.uint64, nb.int64[::1]), cache=True, nogil=True)
def drawn(
    heard: npt.NDArray[np.bool_],
    anyway: npt.NDArray[np.bool_],
    hashes: _U8,
    own: int,
    share: int,
    out: npt.NDArray[np.int64],
) -> int:
    """Draw others by a hash of both: whoever is drawn by one draws it, too.

    Args:
        heard: bool (R,), rows that there are.
        anyway: bool (R,), those of them that are taken whatever is drawn.
        hashes: uint64 (R,).
        own: the row that draws; it is not drawn.
        share: of the rows, times 2^64.
        out: int64 (R,), overwritten with the rows as far as there are any, rising.

    Returns:
        How many there are.

    """
    count = 0
    for row in range(len(heard)):
        mixed = (hashes[row] ^ hashes[own]) * np.uint64(0x9E3779B97F4A7C15)
        low = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9) < share
        out[count] = row
        count += heard[row] & (row != own) & (low | anyway[row])
    return count


@nb.njit(
    nb.types.Tuple((nb.float32, nb.int32, nb.int32))(_words_in, _words_in, nb.int64, nb.int32[::1], nb.int64),
    cache=True,
    nogil=True,
)
def lowest_rate(
    first: _U8, second: _U8, length: int, alignments: _I4, min_words: int
) -> tuple[np.float32, np.int32, np.int32]:
    """Lowest bit error rate of two fingerprints over the alignments; of equals the first alignment wins.

    Args:
        first: uint64 (n,).
        second: uint64 (width,).
        length: words filled in the second.
        alignments: int32 (A,), in words.
        min_words: alignments that leave fewer words in common are passed over.

    Returns:
        The rate, its alignment and the words compared at it; 1, 0 and 0 where nothing is left in common.

    """
    n = len(first)
    best_rate = np.float32(1.0)
    best_alignment = nb.int32(0)
    best_words = nb.int32(0)
    for a in alignments:
        start = max(0, -a)
        count = min(n, length - a) - start
        if count < min_words or count <= 0:
            continue
        errors = errors_between(first, second, start, start + a, count)
        rate = np.float32(errors) / np.float32(BITS_PER_WORD * count)
        if rate < best_rate or best_words == 0:
            best_rate, best_alignment, best_words = rate, a, nb.int32(count)
    return best_rate, best_alignment, best_words


@nb.njit(
    nb.void(
        _words_in, _rows_in, nb.int32[::1], nb.int64[::1], nb.int32[::1], nb.int64,
        nb.float32[::1], nb.int32[::1], nb.int32[::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def one_against_many(
    query: _U8,
    many: _U8,
    lengths: _I4,
    rows: npt.NDArray[np.int64],
    alignments: _I4,
    min_words: int,
    out_rate: _F4,
    out_alignment: _I4,
    out_words: _I4,
) -> None:
    """Lowest bit error rate over the alignments, of one fingerprint against some rows of many.

    Each alignment is compared as widely as the shorter side allows. Of equals the first alignment wins.

    Args:
        query: uint64 (n,), the words so far.
        many: uint64 (R, width).
        lengths: int32 (R,), words filled in each row of `many`.
        rows: int64 (m,), which rows to compare with.
        alignments: int32 (A,), in words.
        min_words: alignments that leave fewer words in common are passed over.
        out_rate: float32 (m,), bit errors over bits compared; 1 where no alignment leaves enough in common.
        out_alignment: int32 (m,), the alignment of that rate.
        out_words: int32 (m,), words compared at it; 0 where there was none.

    """
    for r in range(len(rows)):
        out_rate[r], out_alignment[r], out_words[r] = lowest_rate(
            query, many[rows[r]], lengths[rows[r]], alignments, min_words
        )


@nb.njit(
    nb.void(
        _words_in, _own_in, _rows_in, nb.int32[::1], nb.float32[:, ::1], nb.int64[::1], nb.int32[::1], nb.int64,
        _curve_in, _curve_in, nb.int64, nb.float64, nb.float64[::1], nb.float32[::1], nb.int32[::1], nb.int32[::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def scan_many(
    query: _U8,
    own: _F4,
    many: _U8,
    lengths: _I4,
    owns: _F4,
    rows: npt.NDArray[np.int64],
    alignments: _I4,
    min_words: int,
    mean: _F8,
    deviation: _F8,
    least_words: int,
    near_score: float,
    out_score: _F8,
    out_rate: _F4,
    out_alignment: _I4,
    out_words: _I4,
) -> None:
    """Scores of one fingerprint against some rows of many, exact for those that are near.

    Every row is first compared by every second word at every second alignment, a quarter of the work. Only a row that
    scores over `near_score` by these is compared by all of them; the others keep what the first comparison gave.

    Args:
        query: uint64 (n,), the words so far.
        own: float32 (2,), by how much the query's own null mean is off, and how many times as wide its null is.
        many: uint64 (R, width).
        lengths: int32 (R,), words filled in each row of `many`.
        owns: float32 (R, 2), the same of the rows.
        rows: int64 (m,), which rows to compare with.
        alignments: int32 (A,), in words; the even ones are tried first.
        min_words: alignments that leave fewer words in common are passed over; half as many of every second word.
        mean: float64 (N,), the null's mean by the shorter side's words.
        deviation: float64 (N,), likewise.
        least_words: below so many words of the shorter side nothing is known of the null.
        near_score: what a row must score to be compared by all words.
        out_score: float64 (m,); -inf where too little is common or less than the null was measured for.
        out_rate: float32 (m,), the lowest bit error rate; 1 where too little is common.
        out_alignment: int32 (m,), the alignment of that rate.
        out_words: int32 (m,), words compared at it; 0 where too little is common.

    """
    half = query[::2].copy()
    n, least = len(half), max(min_words // 2, 1)
    every_second = alignments[alignments % 2 == 0] // 2
    reach = 0
    for a in every_second:
        reach = max(reach, a)
    # Lanes are as long as the longest of them, filled up with zeros: so many errors are not theirs.
    beyond = np.zeros(n + 1, np.int64)
    for k in range(n - 1, -1, -1):
        beyond[k] = beyond[k + 1] + popcount(half[k])
    tile = np.zeros(((many.shape[1] + 1) // 2, LANES), np.uint64)
    errors = np.zeros((len(every_second), LANES), np.int64)
    sizes = np.zeros(LANES, np.int64)
    rates, best, common = np.empty(LANES, np.float32), np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    for first in range(0, len(rows), LANES):
        lanes = min(LANES, len(rows) - first)
        longest = 0
        for lane in range(LANES):
            sizes[lane] = min((lengths[rows[first + lane]] + 1) // 2, n + reach) if lane < lanes else 0
            longest = max(longest, sizes[lane])
        for lane in range(lanes):
            row = many[rows[first + lane]]
            for k in range(sizes[lane]):
                tile[k, lane] = row[2 * k]
            for k in range(sizes[lane], longest):
                tile[k, lane] = 0
        rates[:], best[:], common[:] = 1, 0, 0
        for i in range(len(every_second)):
            a = every_second[i]
            start, end = max(0, -a), min(n, longest - a)
            if end - start < least:
                continue
            lane_errors(half, start, tile, start + a, end - start, errors, i)
            for lane in range(LANES):
                own_end = min(end, max(start, sizes[lane] - a))
                count = own_end - start
                of_lane = errors[i, lane] - (beyond[own_end] - beyond[end])
                rate = np.float32(of_lane) / np.float32(BITS_PER_WORD * max(count, 1))
                better = (count >= least) & ((rate < rates[lane]) | (common[lane] == 0))
                rates[lane] = rate if better else rates[lane]
                best[lane] = 2 * a if better else best[lane]
                common[lane] = count if better else common[lane]
        for lane in range(lanes):
            at = rows[first + lane]
            shorter = min(lengths[at], len(query))
            expected = mean[shorter] + own[0] + owns[at, 0]
            wide = deviation[shorter] * own[1] * owns[at, 1]
            rate, alignment, words = rates[lane], best[lane], common[lane]
            if words and shorter >= least_words and (expected - rate) / wide > near_score:
                rate, alignment, words = lowest_rate(query, many[at], lengths[at], alignments, min_words)
            known = words > 0 and shorter >= least_words
            out_score[first + lane] = (expected - rate) / wide if known else -np.inf
            out_rate[first + lane], out_alignment[first + lane], out_words[first + lane] = rate, alignment, words


@nb.njit(nb.float64(_words_in, _rows_in, nb.int32[::1], nb.int64), cache=True, nogil=True)
def mean_lowest_rate(query: _U8, columns: _U8, alignments: _I4, min_words: int) -> float:
    """Mean over a fixed set of fingerprints of the lowest bit error rate over alignments.

    The set is given by columns, so that the innermost loop runs over many fingerprints and not over few words.

    Args:
        query: uint64 (n,).
        columns: uint64 (width, R): word k of all R fingerprints in row k, every fingerprint full.
        alignments: int32 (A,), in words.
        min_words: alignments that leave fewer words in common are passed over.

    Returns:
        The mean; 0.5 where no alignment leaves enough in common.

    """
    n, (width, count) = len(query), columns.shape
    lowest = np.full(count, 2.0)
    errors = np.empty(count, np.int64)
    compared = False
    for a in alignments:
        start, end = max(0, -a), min(n, width - a)
        if end - start < min_words or end <= start:
            continue
        compared = True
        errors[:] = 0
        for k in range(start, end):
            word, column = query[k], columns[k + a]
            for r in range(count):
                errors[r] += popcount(word ^ column[r])
        bits = np.float64(BITS_PER_WORD * (end - start))
        for r in range(count):
            lowest[r] = min(lowest[r], errors[r] / bits)
    return lowest.mean() if compared else 0.5


@nb.njit(
    nb.void(_rows_in, nb.int32[::1], nb.int64[::1], nb.int32[::1], nb.uint64[::1], nb.uint8[::1]),
    cache=True,
    nogil=True,
)
def majority(
    many: _U8,
    lengths: _I4,
    rows: npt.NDArray[np.int64],
    alignments: _I4,
    out_words: _U8,
    out_votes: npt.NDArray[np.uint8],
) -> None:
    """Bit-wise majority of aligned fingerprints.

    Args:
        many: uint64 (R, width).
        lengths: int32 (R,), words filled in each row.
        rows: int64 (m,), m <= 255, the members.
        alignments: int32 (m,): word k of the average is word k + alignments[i] of member i.
        out_words: uint64 (n,), overwritten. A tie goes to the first member that has the word.
        out_votes: uint8 (n,), members that have the word; 0 where out_words is 0 because nobody has it.

    """
    ones = np.empty(BITS_PER_WORD, np.int32)
    for k in range(len(out_words)):
        ones[:] = 0
        votes = 0
        first = np.uint64(0)
        for i in range(len(rows)):
            at = k + alignments[i]
            if 0 <= at < lengths[rows[i]]:
                word = many[rows[i], at]
                if votes == 0:
                    first = word
                votes += 1
                for b in range(BITS_PER_WORD):
                    ones[b] += (word >> np.uint64(b)) & np.uint64(1)
        word_out = np.uint64(0)
        for b in range(BITS_PER_WORD):
            twice = 2 * ones[b]
            if twice > votes or (twice == votes and (first >> np.uint64(b)) & np.uint64(1)):
                word_out |= np.uint64(1) << np.uint64(b)
        out_words[k] = word_out
        out_votes[k] = votes


@nb.njit(
    nb.void(_rows_in, nb.int32[::1], nb.int64[::1], nb.int32[::1], nb.float32[::1], nb.int32[::1]),
    cache=True,
    nogil=True,
)
def rates_against_others(
    many: _U8,
    lengths: _I4,
    rows: npt.NDArray[np.int64],
    alignments: _I4,
    out_rate: _F4,
    out_words: _I4,
) -> None:
    """Bit error rate of each of some aligned fingerprints against the majority of the others, itself left out.

    Args:
        many: uint64 (R, width).
        lengths: int32 (R,), words filled in each row.
        rows: int64 (m,), the members.
        alignments: int32 (m,), as in `majority`. A tie among the others agrees with everybody.
        out_rate: float32 (m,), overwritten; 0 where no other has any of its words.
        out_words: int32 (m,), words that at least one other has.

    """
    width = many.shape[1]
    m = len(rows)
    ones = np.zeros((width, BITS_PER_WORD), np.int32)
    votes = np.zeros(width, np.int32)
    for i in range(m):
        for at in range(max(0, alignments[i]), min(lengths[rows[i]], width + alignments[i])):
            votes[at - alignments[i]] += 1
            word = many[rows[i], at]
            for b in range(BITS_PER_WORD):
                ones[at - alignments[i], b] += (word >> np.uint64(b)) & np.uint64(1)
    for i in range(m):
        errors = 0
        words = nb.int32(0)
        for at in range(max(0, alignments[i]), min(lengths[rows[i]], width + alignments[i])):
            k = at - alignments[i]
            others = votes[k] - 1
            if others == 0:
                continue
            words += nb.int32(1)
            word = many[rows[i], at]
            for b in range(BITS_PER_WORD):
                own = nb.int32((word >> np.uint64(b)) & np.uint64(1))
                twice = 2 * (ones[k, b] - own)
                errors += (twice > others and own == 0) or (twice < others and own == 1)
        out_words[i] = words
        out_rate[i] = np.float32(errors) / np.float32(BITS_PER_WORD * words) if words else np.float32(0.0)

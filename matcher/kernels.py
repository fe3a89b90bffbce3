"""Numba kernels over words of bits. The caller allocates; each has a slow twin in tests/naive.py.

An *alignment* of a words says that word k of the first fingerprint holds the same sound as word k + a of the second.
"""

import numba as nb
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

_U4 = npt.NDArray[np.uint32]
_I4 = npt.NDArray[np.int32]
_F4 = npt.NDArray[np.float32]


@intrinsic
def popcount(typingctx, word):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG001
    """Number of bits set in a uint32: LLVM's own instruction, which it also vectorises."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, ARG001
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), [ir.IntType(32)]), "llvm.ctpop.i32"
        )
        return builder.call(function, [builder.trunc(args[0], ir.IntType(32))])

    return nb.int32(nb.uint32), codegen


_words_in = nb.types.Array(nb.uint32, 1, "C", readonly=True)
_rows_in = nb.types.Array(nb.uint32, 2, "C", readonly=True)


@nb.njit(nb.int32(_words_in, _words_in, nb.int64, nb.int64, nb.int64), cache=True, nogil=True)
def errors_between(first: _U4, second: _U4, first_start: int, second_start: int, count: int) -> int:
    """Bits that differ between first[first_start:][:count] and second[second_start:][:count]."""
    total: int = nb.int32(0)
    a = first[first_start : first_start + count]
    b = second[second_start : second_start + count]
    for k in range(count):
        total += popcount(a[k] ^ b[k])
    return total


@nb.njit(
    nb.void(
        _words_in, _rows_in, nb.int32[::1], nb.int64[::1], nb.int32[::1], nb.int64,
        nb.float32[::1], nb.int32[::1], nb.int32[::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def one_against_many(
    query: _U4,
    many: _U4,
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
        query: uint32 (n,), the words so far.
        many: uint32 (R, width).
        lengths: int32 (R,), words filled in each row of `many`.
        rows: int64 (m,), which rows to compare with.
        alignments: int32 (A,), in words.
        min_words: alignments that leave fewer words in common are passed over.
        out_rate: float32 (m,), bit errors over bits compared; 1 where no alignment leaves enough in common.
        out_alignment: int32 (m,), the alignment of that rate.
        out_words: int32 (m,), words compared at it; 0 where there was none.

    """
    n = len(query)
    for r in range(len(rows)):
        row = many[rows[r]]
        length = lengths[rows[r]]
        best_rate = np.float32(1.0)
        best_alignment = nb.int32(0)
        best_words = nb.int32(0)
        for a in alignments:
            start = max(0, -a)
            count = min(n, length - a) - start
            if count < min_words or count <= 0:
                continue
            errors = errors_between(query, row, start, start + a, count)
            rate = np.float32(errors) / np.float32(32 * count)
            if rate < best_rate:
                best_rate, best_alignment, best_words = rate, a, nb.int32(count)
        out_rate[r] = best_rate
        out_alignment[r] = best_alignment
        out_words[r] = best_words


@nb.njit(nb.void(_words_in, nb.int64, _rows_in, nb.int32[::1], nb.int32[:, ::1], nb.int32[::1]), cache=True, nogil=True)
def add_errors(query: _U4, done: int, columns: _U4, alignments: _I4, errors: _I4, compared: _I4) -> None:
    """Add the bit errors of the query's words from `done` on to running sums, one per alignment and fingerprint.

    What a growing fingerprint costs against a fixed set is then its new words, not all of them at every look. The set
    is given by columns, so that the innermost loop runs over many fingerprints and not over few new words.

    Args:
        query: uint32 (n,), the words so far.
        done: words that earlier calls have counted.
        columns: uint32 (width, R): word k of all fingerprints in row k, every fingerprint full.
        alignments: int32 (A,), in words.
        errors: int32 (A, R), running sums of bit errors.
        compared: int32 (A,), running sums of words compared.

    """
    n, width = len(query), columns.shape[0]
    for i in range(len(alignments)):
        a = alignments[i]
        start, end = max(done, -a), min(n, width - a)
        sums = errors[i]
        for k in range(start, end):
            word, column = query[k], columns[k + a]
            for r in range(len(column)):
                sums[r] += popcount(word ^ column[r])
        compared[i] += nb.int32(max(0, end - start))


@nb.njit(nb.float64(nb.int32[:, ::1], nb.int32[::1], nb.int64), cache=True, nogil=True)
def mean_lowest_rate(errors: _I4, compared: _I4, min_words: int) -> float:
    """Mean over rows of the lowest bit error rate over alignments, from `add_errors`' sums; 0.5 when none counts."""
    lowest = np.full(errors.shape[1], 2.0)
    for i in range(len(compared)):
        if compared[i] > 0 and compared[i] >= min_words:
            for r in range(len(lowest)):
                lowest[r] = min(lowest[r], errors[i, r] / (32.0 * compared[i]))
    total = 0.0
    rows = 0
    for r in range(len(lowest)):
        if lowest[r] < 2.0:
            total += lowest[r]
            rows += 1
    return total / rows if rows else 0.5


@nb.njit(
    nb.void(_rows_in, nb.int32[::1], nb.int64[::1], nb.int32[::1], nb.uint32[::1], nb.uint8[::1]),
    cache=True,
    nogil=True,
)
def majority(
    many: _U4,
    lengths: _I4,
    rows: npt.NDArray[np.int64],
    alignments: _I4,
    out_words: _U4,
    out_votes: npt.NDArray[np.uint8],
) -> None:
    """Bit-wise majority of aligned fingerprints.

    Args:
        many: uint32 (R, width).
        lengths: int32 (R,), words filled in each row.
        rows: int64 (m,), m <= 255, the members.
        alignments: int32 (m,): word k of the average is word k + alignments[i] of member i.
        out_words: uint32 (n,), overwritten. A tie goes to the first member that has the word.
        out_votes: uint8 (n,), members that have the word; 0 where out_words is 0 because nobody has it.

    """
    ones = np.empty(32, np.int32)
    for k in range(len(out_words)):
        ones[:] = 0
        votes = 0
        first = np.uint32(0)
        for i in range(len(rows)):
            at = k + alignments[i]
            if 0 <= at < lengths[rows[i]]:
                word = many[rows[i], at]
                if votes == 0:
                    first = word
                votes += 1
                for b in range(32):
                    ones[b] += (word >> np.uint32(b)) & np.uint32(1)
        word_out = np.uint32(0)
        for b in range(32):
            twice = 2 * ones[b]
            if twice > votes or (twice == votes and (first >> np.uint32(b)) & np.uint32(1)):
                word_out |= np.uint32(1) << np.uint32(b)
        out_words[k] = word_out
        out_votes[k] = votes


@nb.njit(
    nb.void(_rows_in, nb.int32[::1], nb.int64[::1], nb.int32[::1], nb.float32[::1], nb.int32[::1]),
    cache=True,
    nogil=True,
)
def rates_against_others(
    many: _U4,
    lengths: _I4,
    rows: npt.NDArray[np.int64],
    alignments: _I4,
    out_rate: _F4,
    out_words: _I4,
) -> None:
    """Bit error rate of each of some aligned fingerprints against the majority of the others, itself left out.

    Args:
        many: uint32 (R, width).
        lengths: int32 (R,), words filled in each row.
        rows: int64 (m,), the members.
        alignments: int32 (m,), as in `majority`. A tie among the others agrees with everybody.
        out_rate: float32 (m,), overwritten; 0 where no other has any of its words.
        out_words: int32 (m,), words that at least one other has.

    """
    width = many.shape[1]
    m = len(rows)
    ones = np.zeros((width, 32), np.int32)
    votes = np.zeros(width, np.int32)
    for i in range(m):
        for at in range(max(0, alignments[i]), min(lengths[rows[i]], width + alignments[i])):
            votes[at - alignments[i]] += 1
            word = many[rows[i], at]
            for b in range(32):
                ones[at - alignments[i], b] += (word >> np.uint32(b)) & np.uint32(1)
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
            for b in range(32):
                own = nb.int32((word >> np.uint32(b)) & np.uint32(1))
                twice = 2 * (ones[k, b] - own)
                errors += (twice > others and own == 0) or (twice < others and own == 1)
        out_words[i] = words
        out_rate[i] = np.float32(errors) / np.float32(32 * words) if words else np.float32(0.0)

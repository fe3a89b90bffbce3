"""Slow, obvious twins of the library's kernels: what each docstring says, written down once more without any haste."""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from matcher.bits import LearnedBits
from matcher.event import CONSISTENT_WORDS
from matcher.grid import BANDS, HIGH_HZ, HOP, LOW_HZ, SAMPLE_RATE_HZ, WINDOW
from matcher.known_kernels import ANCHORS, GROUP_MASKS
from matcher.known_null import LEAD_WORDS, LEAST_APART, LEAST_BITS, MAX_ALIGNMENT, MOST_APART, SEGMENT_WORDS, SLOT_WORDS

_U8 = npt.NDArray[np.uint64]
_I4 = npt.NDArray[np.int32]
_F4 = npt.NDArray[np.float32]
_MASK = 2**64 - 1


def dither(seed: int, index: int) -> np.float32:
    """SplitMix64 of a counter, as a triangle between -1 and 1."""
    x = (seed + index * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    x ^= x >> 31
    return np.float32(((x >> 40) - (x & 0xFFFFFF)) / 2**24)


def add_dither(samples: _F4, seed: int, start: int) -> _F4:
    """Give the samples with their dither."""
    return np.array([sample + dither(seed, start + i) for i, sample in enumerate(samples)], np.float32)


def windowed_frames(samples: _F4, window: _F4, frames: int) -> _F4:
    """Cut frames one by one."""
    out = np.empty((frames, len(window)), np.float32)
    for frame in range(frames):
        out[frame] = samples[frame * HOP : frame * HOP + len(window)] * window
    return out


def triangles() -> npt.NDArray[np.float64]:
    """Every filter's weight of every FFT bin, float64 (BANDS, WINDOW // 2 + 1)."""
    edges_hz = [LOW_HZ * (HIGH_HZ / LOW_HZ) ** (i / (BANDS + 1)) for i in range(BANDS + 2)]
    out = np.zeros((BANDS, WINDOW // 2 + 1))
    for band in range(BANDS):
        low, centre, high = edges_hz[band : band + 3]
        for k in range(WINDOW // 2 + 1):
            hz = k * SAMPLE_RATE_HZ / WINDOW
            if low < hz <= centre:
                out[band, k] = (hz - low) / (centre - low)
            elif centre < hz < high:
                out[band, k] = (high - hz) / (high - centre)
    return out


def band_energies(spectra: npt.NDArray[np.complex64]) -> npt.NDArray[np.float64]:
    """Weigh the power of every bin with every filter."""
    power = np.abs(spectra.astype(np.complex128)) ** 2
    return power @ triangles().T


def log_energies(samples: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Window, transform, weigh and take the logarithm, frame by frame in double precision."""
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * k / WINDOW) for k in range(WINDOW)]
    rows = [
        np.fft.rfft(samples[start : start + WINDOW].astype(np.float64) * hann)
        for start in range(0, len(samples) - WINDOW + 1, HOP)
    ]
    spectra = np.array(rows).reshape(-1, WINDOW // 2 + 1)
    return np.log((np.abs(spectra) ** 2) @ triangles().T + 1e-6)


def gradient_words(energies: _F4) -> _U8:
    """Compare slope with slope, bit by bit: the earlier of a word's two hops in its low half."""
    out = []
    for first in range(0, len(energies) - 9, 2):
        word = 0
        for half in range(2):
            before, after = energies[first + half], energies[first + half + 8]
            for b in range(BANDS - 1):
                if after[b] - after[b + 1] > before[b] - before[b + 1]:
                    word |= 1 << (32 * half + b)
        out.append(word)
    return np.array(out, np.uint64)


def filter_margins(energies: _F4, bits: LearnedBits) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """By how much each filter's response exceeds its offset, word by word, and the sum of what was added up for it.

    Both are (words, 64), in double precision; what is within some millionths of the sum is too close to call.
    """
    powers = np.exp(energies.astype(np.float64))
    taps = len(bits.filters)
    margins, sizes = [], []
    for first in range(0, len(powers) - (taps - 1) * bits.tap_frames if len(powers) >= bits.mean_frames else 0, 2):
        last = first + (taps - 1) * bits.tap_frames
        heard = (
            powers[: bits.mean_frames] if last < bits.mean_frames else powers[last + 1 - bits.mean_frames : last + 1]
        )
        mean = sum(heard) / bits.mean_frames
        parts = [
            (powers[first + tap * bits.tap_frames, band] / mean[band]) ** bits.exponent * bits.filters[tap, band]
            for tap in range(taps)
            for band in range(BANDS)
        ]
        margins.append(sum(parts) - bits.offsets)
        sizes.append(sum(abs(part) for part in parts) + abs(bits.offsets))
    return np.array(margins).reshape(-1, 64), np.array(sizes).reshape(-1, 64)


def bits_of(words: _U8) -> npt.NDArray[np.bool_]:
    """Give the bits of words, the lowest first: bool (n, 64)."""
    return np.array([[bool(int(word) >> b & 1) for b in range(64)] for word in words], np.bool_).reshape(-1, 64)


def bit_errors(first: _U8, second: _U8) -> int:
    """Count the bits that differ."""
    return int(np.unpackbits((first ^ second).view(np.uint8)).sum())


def common(n: int, length: int, alignment: int) -> list[int]:
    """Every k for which word k of the first and word k + alignment of the second exist."""
    return [k for k in range(n) if 0 <= k + alignment < length]


def one_against_many(
    query: _U8, many: _U8, lengths: _I4, rows: npt.NDArray[np.int64], alignments: _I4, min_words: int
) -> tuple[_F4, _I4, _I4]:
    """Try every alignment of every row; give the lowest rates, their alignments, and the words compared there."""
    found: list[tuple[np.float32, int, int]] = []
    for row in rows:
        tried = []
        for a in alignments.tolist():
            shared = common(len(query), int(lengths[row]), a)
            if shared and len(shared) >= min_words:
                first, last = shared[0], shared[-1] + 1
                errors = bit_errors(query[first:last], many[row, first + a : last + a])
                tried.append((np.float32(errors / (64 * len(shared))), a, len(shared)))
        found.append(min(tried, key=lambda one: one[0], default=(np.float32(1), 0, 0)))
    rates, at, compared = zip(*found, strict=True) if found else ((), (), ())
    return np.array(rates, np.float32), np.array(at, np.int32), np.array(compared, np.int32)


def scan_many(
    query: _U8,
    own: _F4,
    many: _U8,
    lengths: _I4,
    owns: _F4,
    rows: npt.NDArray[np.int64],
    alignments: _I4,
    min_words: int,
    mean: npt.NDArray[np.float64],
    deviation: npt.NDArray[np.float64],
    least_words: int,
    near_score: float,
) -> tuple[npt.NDArray[np.float64], _F4, _I4, _I4]:
    """Compare every second word at every second alignment, and all of those that are near by these."""
    second = np.array([a // 2 for a in alignments.tolist() if a % 2 == 0], np.int32)
    found: list[tuple[float, np.float32, int, int]] = []
    for row in rows.tolist():
        shorter = min(int(lengths[row]), len(query))

        def score(rate: np.float32, words: int, row: int = row, shorter: int = shorter) -> float:
            if words == 0 or shorter < least_words:
                return -np.inf
            under = mean[shorter] + own[0] + owns[row, 0] - rate
            return float(under / (deviation[shorter] * own[1] * owns[row, 1]))

        one = np.array([row])
        halves = (lengths + 1) // 2
        (rate,), (at,), (words,) = one_against_many(
            query[::2], many[:, ::2], halves, one, second, max(min_words // 2, 1)
        )
        at *= 2
        if score(rate, words) > near_score:
            (rate,), (at,), (words,) = one_against_many(query, many, lengths, one, alignments, min_words)
        found.append((score(rate, words), rate, at, words))
    scores, rates, best, compared = zip(*found, strict=True) if found else ((), (), (), ())
    return np.array(scores), np.array(rates, np.float32), np.array(best, np.int32), np.array(compared, np.int32)


def drawn(
    heard: npt.NDArray[np.bool_],
    anyway: npt.NDArray[np.bool_],
    hashes: _U8,
    own: int,
    share: int,
) -> list[int]:
    """Hash every row with one's own, and take those whose hash is low."""
    out = []
    for row in range(len(heard)):
        x = (int(hashes[row] ^ hashes[own]) * 0x9E3779B97F4A7C15) & _MASK
        x = ((x ^ (x >> 32)) * 0xBF58476D1CE4E5B9) & _MASK
        if heard[row] and row != own and (x < share or anyway[row]):
            out.append(row)
    return out


def mean_lowest_rate(query: _U8, many: _U8, alignments: _I4, min_words: int) -> float:
    """Mean over full rows of the lowest bit error rate over alignments; 0.5 where rows have nothing in common."""
    lowest = []
    for row in many:
        rates = []
        for a in alignments.tolist():
            shared = common(len(query), len(row), a)
            if shared and len(shared) >= min_words:
                first, last = shared[0], shared[-1] + 1
                rates.append(bit_errors(query[first:last], row[first + a : last + a]) / (64 * len(shared)))
        if rates:
            lowest.append(min(rates))
    return float(np.mean(lowest)) if lowest else 0.5


def majority(
    many: _U8, lengths: _I4, rows: npt.NDArray[np.int64], alignments: _I4, n: int
) -> tuple[_U8, npt.NDArray[np.uint8]]:
    """Let the members that have a word vote on each of its bits; a tie goes to the first of them."""
    words, votes = np.zeros(n, np.uint64), np.zeros(n, np.uint8)
    for k in range(n):
        members = [
            int(many[row, k + a])
            for row, a in zip(rows.tolist(), alignments.tolist(), strict=True)
            if 0 <= k + a < lengths[row]
        ]
        votes[k] = len(members)
        for b in range(64):
            ones = sum(word >> b & 1 for word in members)
            if 2 * ones > len(members) or (members and 2 * ones == len(members) and members[0] >> b & 1):
                words[k] |= np.uint64(1 << b)
    return words, votes


def rates_against_others(many: _U8, lengths: _I4, rows: npt.NDArray[np.int64], alignments: _I4) -> tuple[_F4, _I4]:
    """Hold every member's words against the majority of the others that have them; a tie is no error."""
    rates, compared = [], []
    placed = [
        {k: int(many[row, k + a]) for k in range(many.shape[1]) if 0 <= k + a < lengths[row]}
        for row, a in zip(rows.tolist(), alignments.tolist(), strict=True)
    ]
    for i, own in enumerate(placed):
        errors = words = 0
        for k, word in own.items():
            others = [other[k] for j, other in enumerate(placed) if j != i and k in other]
            words += bool(others)
            for b in range(64):
                ones = sum(other >> b & 1 for other in others)
                errors += 2 * ones != len(others) and (2 * ones > len(others)) != bool(word >> b & 1)
        rates.append(errors / (64 * words) if words else 0)
        compared.append(words)
    return np.array(rates, np.float32), np.array(compared, np.int32)


def triple_score(first: float, second: float, third: float) -> float:
    """4/7 of the sum of three pair scores, of which the highest counts no more than 3/4 of the other two."""
    low, middle, high = sorted((first, second, third))
    return 4 / 7 * (low + middle + min(high, 3 / 4 * (low + middle)))


def consistent_triples(
    scores: npt.NDArray[np.float64], alignments: _I4, edge_score: float
) -> Iterator[tuple[tuple[int, int, int], float]]:
    """Every triple i < j < k whose three pairs score over `edge_score` and whose alignments add up, and its score.

    Both arrays are (m, m), read where the row is below the column.
    """
    for i, j, k in itertools.combinations(range(len(scores)), 3):
        pairs = scores[i, j], scores[i, k], scores[j, k]
        off = int(alignments[i, j]) + int(alignments[j, k]) - int(alignments[i, k])
        if min(pairs) > edge_score and abs(off) <= CONSISTENT_WORDS:
            yield (i, j, k), triple_score(*pairs)


def best_beside(scores: _F4, alignments: _I4, between: _I4, edge_score: float) -> _F4:
    """Best sum of each request's scores with two homes that line up with it and with each other; 0 without any."""
    out = np.zeros(len(scores), np.float32)
    for i, (row, at) in enumerate(zip(scores, alignments, strict=True)):
        for j, k in itertools.combinations(range(len(row)), 2):
            off = int(at[j]) + int(between[j, k]) - int(at[k])
            if min(row[j], row[k]) > edge_score and abs(off) <= CONSISTENT_WORDS:
                out[i] = max(out[i], row[j] + row[k])
    return out


def known_places(n: int, length: int, alignment: int) -> list[tuple[int, int]]:
    """Every request's word that an entry of so many slots has at an alignment, and its slot."""
    places = [(k, k + LEAD_WORDS + alignment) for k in range(n)]
    return [
        (k, place // SLOT_WORDS) for k, place in places if place % SLOT_WORDS == 0 and 0 <= place // SLOT_WORDS < length
    ]


def _rate(pairs: list[tuple[int, int]], query: _U8, query_clear: _U8, words: _U8, clear: _U8) -> tuple[int, int]:
    """Errors and bits over some places, bit by bit."""
    errors = bits = 0
    for k, slot in pairs:
        both = int(query_clear[k]) & int(clear[slot])
        bits += both.bit_count()
        errors += ((int(query[k]) ^ int(words[slot])) & both).bit_count()
    return errors, bits


def known_score(
    query: _U8,
    query_clear: _U8,
    segments: int,
    words: _U8,
    clear: _U8,
    expected: npt.NDArray[np.float64],
    usual: _F4,
    weights: _F4,
) -> tuple[float, float, int, int]:
    """Score, rate, alignment and common words of a request and the slots of one entry."""
    best, at, compared = 2.0, 0, 0
    for alignment in range(-MAX_ALIGNMENT, MAX_ALIGNMENT + 1):
        pairs = known_places(segments * SEGMENT_WORDS, len(words), alignment)
        errors, bits = _rate(pairs, query, query_clear, words, clear)
        if bits and errors / bits < best:
            best, at, compared = errors / bits, alignment, len(pairs)
    score = 0.0
    for segment in range(segments):
        pairs = [p for p in known_places(len(query), len(words), at) if p[0] // SEGMENT_WORDS == segment]
        errors, bits = _rate(pairs, query, query_clear, words, clear)
        if bits >= LEAST_BITS and not np.isnan(expected[segment]):
            apart = min(max(float(expected[segment]) - errors / bits, LEAST_APART), MOST_APART)
            score += float(weights[segment]) * (apart - float(usual[segment]))
    return score, min(best, 1.0), at, compared


def own_mean(query: _U8, clear: _U8 | None, cohort: _U8, segment: int) -> float:
    """Mean error rate of one segment against the cohort, (C, width), at alignment 0; NaN where there is nothing."""
    errors = bits = 0
    for k in range(segment * SEGMENT_WORDS, (segment + 1) * SEGMENT_WORDS):
        for other in cohort:
            if k < len(query) and k < len(other):
                mask = _MASK if clear is None else int(clear[k])
                errors += ((int(query[k]) ^ int(other[k])) & mask).bit_count()
                bits += mask.bit_count()
    return errors / bits if bits else float("nan")


def anchors_of(clear: _U8) -> list[list[int]]:
    """Of each slot the groups with the most clear bits, of equals the first."""
    counts = [
        [(-(int(word) & int(mask)).bit_count(), group) for group, mask in enumerate(GROUP_MASKS)] for word in clear
    ]
    return [[group for _, group in sorted(row)[:ANCHORS]] for row in counts]


def found_rows(query: _U8, first: int, end: int, entries: dict[int, tuple[_U8, _U8]]) -> list[tuple[int, int]]:
    """Row and alignment of every anchor of an entry that a request's word has, alignment after alignment."""
    found = []
    for row, (words, clear) in entries.items():
        anchors = anchors_of(clear)
        for alignment in range(-MAX_ALIGNMENT, MAX_ALIGNMENT + 1):
            for k, slot in known_places(len(query), len(words), alignment):
                found += [
                    (row, alignment)
                    for group in anchors[slot]
                    if first <= k < end and (int(query[k]) ^ int(words[slot])) & int(GROUP_MASKS[group]) == 0
                ]
    return found

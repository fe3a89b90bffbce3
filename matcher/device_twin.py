"""What a device decides, as slowly and as plainly as it can be said: the twin of deploy/device/hushword_device.c."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matcher.device import CUT, FILTERS, FIRST_LOOK, LEAST_ENTRIES, LOOK_STEP, RATE_ONE, SIDE, Pack, PackEntry


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a device says of a request: the entry that it matches, None for none; after so many of its words."""

    entry: int | None
    words: int
    margin: int


def lowest_rates(
    words: npt.NDArray[np.uint32], many: npt.NDArray[np.uint32], heard: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Bit error rates at the alignment where that over all words is lowest, in 65,536ths.

    Args:
        words: uint32 (n,), of the request.
        many: uint32 (m, width), entries that are no shorter than what was heard.
        heard: words of the request at each look, n at most.

    Returns:
        int64 (looks, 3, m): over all words, over those of the entry before CUT, and over those from there on, where
        nothing common counts as no error.

    """
    rates = np.full((len(heard), 3, len(many)), RATE_ONE - 1, np.int64)
    for a in range(-SIDE, SIDE + 1):
        start, stop = max(0, -a), min(len(words) - a, many.shape[1])
        errors = np.zeros((len(many), many.shape[1] + 1), np.int64)
        differing = np.bitwise_count(words[start + a : stop + a] ^ many[:, start:stop])
        np.cumsum(differing, axis=1, dtype=np.int64, out=errors[:, start + 1 : stop + 1])
        for look, n in enumerate(heard):
            end = min(n - a, many.shape[1])
            here = np.stack([_rate(errors, start, end), _rate(errors, start, min(CUT, end)), _rate(errors, CUT, end)])
            rates[look] = np.where(here[0] < rates[look, 0], here, rates[look])
    return rates


def _rate(errors: npt.NDArray[np.int64], start: int, end: int) -> npt.NDArray[np.int64]:
    """From errors before each word, int64 (m, width + 1), to the rates between two of them: int64 (m,)."""
    if end <= start:
        return np.zeros(len(errors), np.int64)
    rates: npt.NDArray[np.int64] = (errors[:, end] - errors[:, start]) * (RATE_ONE // FILTERS) // (end - start)
    np.minimum(rates, RATE_ONE - 1, out=rates)
    return rates


def decide(pack: Pack, words: npt.NDArray[np.uint32], unix_s: int) -> Verdict | None:
    """Say what a device says of a request, as slowly and as plainly as it can be said.

    Args:
        pack: its list.
        words: uint32 (n,), all words of the request so far.
        unix_s: the device's clock, 0 where it has none.

    Returns:
        None while it would go on listening.

    """
    for number, look in enumerate(pack.looks):
        heard = FIRST_LOOK + LOOK_STEP * number
        if heard > len(words):
            return None
        rows = [i for i, entry in enumerate(pack.entries) if len(entry.words) >= heard]
        best, margins = None, (-RATE_ONE, 0, 0)
        if len(rows) >= LEAST_ENTRIES:
            rates = {
                i: lowest_rates(words[:heard], pack.entries[i].words[None], [heard])[0, :, 0].tolist() for i in rows
            }
            totals = [sum(part) for part in zip(*rates.values(), strict=True)]
            for i in rows:
                own = tuple(
                    min((total - rate) // (len(rows) - 1), cap) - rate
                    for total, rate, cap in zip(totals, rates[i], look.caps, strict=True)
                )
                if _in_force(pack.entries[i], unix_s) and own[0] > margins[0]:
                    best, margins = i, own
        whole, before, after = (margin >= accept for margin, accept in zip(margins, look.accept, strict=True))
        if whole or (before and after):
            return Verdict(best, heard, margins[0])
        if margins[0] < look.reject or number == len(pack.looks) - 1:
            return Verdict(None, heard, margins[0])
    return None


def _in_force(entry: PackEntry, unix_s: int) -> bool:
    if not entry.decides:
        return False
    if not unix_s:
        return not (entry.valid_from_s or entry.valid_until_s)
    return entry.valid_from_s <= unix_s and not 0 < entry.valid_until_s <= unix_s

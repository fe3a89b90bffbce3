"""Why an event was ignored, as a picture and a curve: its homes' fingerprints against the average of the others.

The numbers are worked out anew, with the matcher's own functions, from what the page has heard. They come close to the
job's, which had heard other homes too, and less of each.
"""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from matcher.bits import WORD_MS, Bits, frame_count, word_count
from matcher.budget import CATALOGUE_SHARE
from matcher.event import Event
from matcher.evidence import ALIGNMENTS, MIN_WORDS, Calibration, compare
from matcher.fingerprint import FIRST_LOOK_MS, FULL_MS, LOOK_MS, MAX_WORDS
from matcher.growth import Growth
from matcher.kernels import one_against_many
from pipeline.messages import hushword_pb2 as pb
from pipeline.monitor.parts import Case, Words

MAX_SHOWN = 8


def explain(case: Case, bits: Bits, calibration: Calibration, false_ignore_budget: float) -> dict[str, Any]:
    """Work out the evidence.

    Args:
        case: the event's homes, each with what it said, and its average where that is known.
        bits: of the words.
        calibration: gives the scores.
        false_ignore_budget: the job's; CATALOGUE_SHARE of it is for averages of before, as in `matcher.budget`.

    Returns:
        As JSON has it: the average; per home its words, shifted into step with it (base64, little-endian), the average
        of the others, and how score and bit error rate against that grew with its audio; the same of a stranger.

    """
    long_enough = [member for member in case.members if len(member[1].words) >= MIN_WORDS][:MAX_SHOWN]
    answer: dict[str, Any] = {
        "version": case.version,
        "media": case.media_id,
        "word_ms": WORD_MS,
        "threshold": round(calibration.template.threshold(CATALOGUE_SHARE * false_ignore_budget, 1), 2),
        "homes": [],
        "average": None,
        "stranger": None,
    }
    if not long_enough:
        return answer
    reference = long_enough[0][1].words if case.average is None else case.average
    voters = [(said.words, _alignment(reference, said.words)) for _, said, _ in long_enough]
    average = reference if len(voters) < 3 else _average(voters)
    answer["chance"] = round(calibration.null_mean(len(average)), 4)
    answer["average"] = _row(average, 0)
    answer["bits"] = 8 * average.itemsize
    for n, (home, said, decision) in enumerate(long_enough):
        others = voters[:n] + voters[n + 1 :]
        against = reference if len(others) < 2 else _average(others)
        answer["homes"].append(
            {
                "home": home,
                **_row(said.words, voters[n][1]),
                "against": _base64(against),
                "growth": growth(said, against, bits, calibration),
                "decided": _decided(decision),
            }
        )
    if case.stranger is not None:
        home, said = case.stranger
        answer["stranger"] = {
            "home": home,
            **_row(said.words, _alignment(average, said.words)),
            "against": _base64(average),
            "growth": growth(said, average, bits, calibration),
        }
    return answer


def growth(said: Growth, against: Words, bits: Bits, calibration: Calibration) -> list[list[float]]:
    """Give how sure a request's match is, the more of it has been heard.

    Args:
        said: the request; the range of its levels is taken as it is now.
        against: (m,), an average that it had no part in.
        bits: of the words.
        calibration: gives the scores.

    Returns:
        At each look of the matcher: ms of audio, score in standard deviations under the null, bit error rate.

    """
    owns = calibration.own_null(against)[None]
    many, lengths = _rows([against])
    curve = []
    for look_ms in range(FIRST_LOOK_MS, FULL_MS + 1, LOOK_MS):
        heard = np.ascontiguousarray(said.words[: word_count(frame_count(look_ms), bits)])
        own = calibration.own_null(heard, said.level_range_db)
        found = compare(calibration, heard, own, many, lengths, owns, np.zeros(1, np.int64)).at(0)
        if np.isfinite(found.score):
            curve.append([look_ms, round(found.score, 2), round(found.rate, 4)])
        if len(heard) == len(said.words):
            break
    return curve


def _average(voters: list[tuple[Words, int]]) -> Words:
    event = Event("", 0)
    for number, (words, alignment) in enumerate(voters):
        event.join(str(number), str(number), alignment, words, 0)
    return event.average()[0]


def _alignment(reference: Words, words: Words) -> int:
    """Give the alignment at which the fewest bits differ: word k of the reference is word k + alignment."""
    many, lengths = _rows([words])
    rates, (alignments, compared) = np.empty(1, np.float32), np.empty((2, 1), np.int32)
    one_against_many(
        reference, many, lengths, np.zeros(1, np.int64), ALIGNMENTS, MIN_WORDS, rates, alignments, compared
    )
    return int(alignments[0])


def _rows(fingerprints: list[Words]) -> tuple[Words, npt.NDArray[np.int32]]:
    """Give fingerprints as the matcher compares many: (R, MAX_WORDS), and their lengths."""
    many = np.zeros((len(fingerprints), MAX_WORDS), fingerprints[0].dtype)
    for row, words in zip(many, fingerprints, strict=True):
        row[: len(words)] = words
    return many, np.array([len(words) for words in fingerprints], np.int32)


def _row(words: Words, alignment: int) -> dict[str, Any]:
    """Give words in step with the average, and where on it they begin."""
    return {"from": max(0, -alignment), "words": _base64(words[max(0, alignment) :])}


def _base64(words: Words) -> str:
    return base64.b64encode(words.astype(words.dtype.newbyteorder("<")).tobytes()).decode()


def _decided(decision: pb.Decision) -> dict[str, Any]:
    return {
        "used_ms": decision.audio_used_ms,
        "score": round(decision.score, 2),
        "rate": round(decision.bit_error_rate, 4),
        "bits": decision.bits_compared,
        "households": decision.households,
        "reason": pb.Decision.Reason.Name(decision.reason),
    }

"""Devices that do not send 16 kHz: one fingerprint at every rate."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from assembled import ROUTE, assembled
from records import EPOCH_US, RATE_HZ, noise, pieces

from matcher.bits import GRADIENT
from matcher.fingerprint import whole_fingerprint
from pipeline.messages.hushword_pb2 import AudioChunk


def sweep(rate_hz: int, seconds: float = 2.0) -> npt.NDArray[np.int16]:
    """Noise below 3.6 kHz in bursts, the same sound at every rate: made at 48 kHz and brought down by soxr."""
    draw = np.random.default_rng(5)
    at_48 = soxr.resample(draw.normal(0, 1, int(7200 * seconds)), 7200, 48_000, quality="VHQ")
    loud = 1 + np.repeat(draw.uniform(0, 4, int(seconds * 20)), 2400)[: len(at_48)]
    sound = soxr.resample(at_48 * loud, 48_000, rate_hz, quality="VHQ") if rate_hz != 48_000 else at_48 * loud
    return (1500 * sound).astype(np.int16)


def grown(samples: npt.NDArray[np.int16], rate_hz: int, lengths_ms: Sequence[int]) -> npt.NDArray[np.uint64]:
    cut = pieces("r", EPOCH_US, lengths_ms, samples=samples, rate_hz=rate_hz)
    feed = assembled({0: [piece.value for piece in cut]})
    return feed.growths[ROUTE][-1].words


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("lengths_ms", [[80] * 25, [100, 250, 150] * 4, [500] * 4])
def test_other_rates_are_resampled_chunk_by_chunk_as_if_whole(rate_hz: int, lengths_ms: list[int]) -> None:
    """Bit for bit what the whole request at once gives, resampled by the same library."""
    samples = sweep(rate_hz)[: sum(lengths_ms) * rate_hz // 1000]
    whole = soxr.resample(samples.astype(np.float32), rate_hz, RATE_HZ)
    expected = whole_fingerprint(whole, "r", GRADIENT)
    words = grown(samples, rate_hz, lengths_ms)
    assert abs(len(words) - len(expected)) <= 1
    n = min(len(words), len(expected))
    assert np.bitwise_count(words[:n] ^ expected[:n]).mean() < 0.2  # of 64: rounding decides a few close ones


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 24_000, 44_100, 48_000])
def test_one_sound_has_about_one_fingerprint_at_every_rate(rate_hz: int) -> None:
    """At 8 kHz the highest bands are gone; unrelated sounds differ in half of their bits."""
    lengths_ms = [100] * 20
    expected = grown(sweep(RATE_HZ), RATE_HZ, lengths_ms)
    words = grown(sweep(rate_hz), rate_hz, lengths_ms)
    n = min(len(words), len(expected))
    assert n >= 92
    rate = np.bitwise_count(words[:n] ^ expected[:n]).mean() / 64
    assert rate < (0.12 if rate_hz == 8000 else 0.05)
    unrelated = grown(noise(1, 32_000), RATE_HZ, lengths_ms)
    assert np.bitwise_count(words[:n] ^ unrelated[:n]).mean() / 64 > 0.4


def test_a_request_without_an_end_is_resampled_too() -> None:
    """The last samples stay with the resampler; nothing else is missing."""
    cut = pieces("r", EPOCH_US, [100] * 10, samples=sweep(48_000), rate_hz=48_000)
    ended = assembled({0: [piece.value for piece in cut]}).growths[ROUTE]
    open_ended = []
    for piece in cut:
        message = AudioChunk.FromString(piece.value)
        message.final = False
        open_ended.append(message.SerializeToString())
    found = assembled({0: open_ended}).growths[ROUTE]
    words, all_words = (growths[-1].words for growths in (found, ended))
    assert 0 <= len(all_words) - len(words) <= 2
    np.testing.assert_array_equal(words, all_words[: len(words)])

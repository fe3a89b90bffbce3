"""The list that devices carry: what is chosen for it, how it is laid out, and what the slow twin decides by it."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer
from test_cli import _run

from matcher.bits import bits_named
from matcher.device import (
    CUT,
    ENTRY_WORDS,
    FILTERS,
    FIRST_LOOK,
    LEAST_ENTRIES,
    LOOK_STEP,
    LOOKS,
    MOST_ENTRIES,
    RATE_ONE,
    SIDE,
    DeviceBits,
    Look,
    Pack,
    PackEntry,
    PackError,
    device_bits,
    media_digest,
    pack_bytes,
    parse_pack,
)  # fmt: skip
from matcher.device_fit import PAIRS, design_half_band, gain, quantise
from matcher.device_twin import decide, lowest_rates
from pipeline.kafka.topics import create_topics
from pipeline.media.device_pack import choose, pack_of
from pipeline.messages.hushword_pb2 import Decision, MediaFingerprint
from pipeline.options import Settings

BITS = device_bits()
words_of_entries = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 2**32, ENTRY_WORDS, dtype=np.uint32)
)


def noise(seed: int, count: int = ENTRY_WORDS) -> npt.NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)


def small_pack(*first: PackEntry, looks: list[Look] | None = None) -> Pack:
    others = [PackEntry(1000 + n, noise(1000 + n)) for n in range(LEAST_ENTRIES)]
    return Pack(BITS.bits_id, 5, looks or BITS.looks(1e-6, 50), [*first, *others])


@given(
    words=words_of_entries, length=st.integers(1, ENTRY_WORDS), decides=st.booleans(), digest=st.integers(0, 2**64 - 1),
    times=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
)  # fmt: skip
def test_a_pack_is_read_as_it_was_written(
    words: npt.NDArray[np.uint32], length: int, decides: bool, digest: int, times: tuple[int, int]
) -> None:
    pack = small_pack(PackEntry(digest, words[:length], *times, decides))
    back = parse_pack(pack_bytes(pack, BITS.name))
    assert (back.bits_id, back.made_s, list(back.looks)) == (pack.bits_id, 5, list(pack.looks))
    assert len(back.entries) == len(pack.entries)
    for one, other in zip(back.entries, pack.entries, strict=True):
        np.testing.assert_array_equal(one.words, other.words)
        assert (one.digest, one.valid_from_s, one.valid_until_s, one.decides) == (
            other.digest, other.valid_from_s, other.valid_until_s, other.decides,
        )  # fmt: skip


def test_a_fingerprint_takes_at_most_600_bytes() -> None:
    entries = [PackEntry(n, noise(n)) for n in range(100)]
    data = pack_bytes(Pack(BITS.bits_id, 0, BITS.looks(1e-6, 100), entries), BITS.name)
    assert len(data) / 100 <= 600


@given(at=st.integers(0, 4000), value=st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(at: int, value: int) -> None:
    data = bytearray(pack_bytes(small_pack(), BITS.name))
    at %= len(data)
    data[at] ^= value
    with pytest.raises(PackError):
        parse_pack(bytes(data))


@pytest.mark.parametrize("count", [0, LEAST_ENTRIES - 1, MOST_ENTRIES + 1])
def test_a_pack_has_neither_too_few_entries_nor_too_many(count: int) -> None:
    entries = [PackEntry(n, noise(n)) for n in range(count)]
    with pytest.raises(PackError, match=f"not {count}"):
        pack_bytes(Pack(BITS.bits_id, 0, BITS.looks(1e-6, 50), entries), BITS.name)


def test_rates_are_those_of_counting_bits() -> None:
    request, entry = noise(1), noise(2)
    for heard, (whole, before, after) in zip(
        (16, 31, ENTRY_WORDS), lowest_rates(request, entry[None], (16, 31, ENTRY_WORDS))[:, :, 0].tolist(), strict=True
    ):
        by_alignment = {}
        for a in range(-SIDE, SIDE + 1):
            pairs = [(k, k + a) for k in range(ENTRY_WORDS) if 0 <= k + a < heard]
            errors = [(k, (int(entry[k]) ^ int(request[j])).bit_count()) for k, j in pairs]
            by_alignment[a] = errors
        rate = {a: sum(e for _, e in errors) * 2048 // len(errors) for a, errors in by_alignment.items()}
        best = min(rate, key=lambda a: rate[a])
        assert whole == rate[best]
        parts = [[e for k, e in by_alignment[best] if (k < CUT) == first] for first in (True, False)]
        assert [before, after] == [sum(part) * 2048 // len(part) if part else 0 for part in parts]


def test_the_twin_matches_what_an_entry_says_and_nothing_else() -> None:
    entry = noise(7)
    pack = small_pack(PackEntry(media_digest("k-1"), entry))
    flipped = entry ^ np.uint32(0b1011)  # a tenth of the bits
    found = decide(pack, flipped, 0)
    assert found is not None
    assert found.entry == 0
    shifted = decide(pack, np.concatenate((noise(8, 2), flipped)), 0)
    assert shifted is not None
    assert shifted.entry == 0
    stranger = decide(pack, noise(9), 0)
    assert stranger is not None
    assert stranger.entry is None
    assert decide(pack, entry[: FIRST_LOOK - 1], 0) is None


@pytest.mark.parametrize(
    ("from_s", "until_s", "now_s", "decides"),
    [(0, 0, 0, True), (0, 0, 9, True), (5, 0, 0, False), (5, 0, 4, False), (5, 0, 5, True), (0, 5, 0, False),
     (0, 5, 4, True), (0, 5, 5, False)],
)  # fmt: skip
def test_an_entry_decides_while_it_is_valid_and_the_clock_says_so(
    from_s: int, until_s: int, now_s: int, decides: bool
) -> None:
    entry = noise(7)
    found = decide(small_pack(PackEntry(1, entry, from_s, until_s)), entry, now_s)
    assert found is not None
    assert (found.entry == 0) == decides


def test_who_says_the_wake_word_alike_and_goes_on_otherwise_is_no_match() -> None:
    """Half of the entry alike is not enough, whichever half; both parts a little alike is."""
    entry = noise(7)
    pack = small_pack(PackEntry(1, entry))
    rng = np.random.default_rng(1)
    person = entry.copy()
    person[CUT:] = noise(10)[CUT:]
    person[:CUT] ^= _errors(rng, CUT, 0.3)
    found = decide(pack, person, 0)
    assert found is not None
    assert found.entry is None
    noisy = entry ^ _errors(rng, ENTRY_WORDS, 0.25)
    found = decide(pack, noisy, 0)
    assert found is not None
    assert found.entry == 0


def _errors(rng: np.random.Generator, count: int, share: float) -> npt.NDArray[np.uint32]:
    flips = (rng.random((count, FILTERS)) < share) << np.arange(FILTERS)
    return flips.sum(axis=1).astype(np.uint32)


def test_device_words_are_bits_of_the_clouds() -> None:
    words = np.random.default_rng(1).integers(0, 2**64, 9, dtype=np.uint64)
    device = BITS.words(words)
    assert len(device) == 5
    for k, word in enumerate(device.tolist()):
        for b, column in enumerate(BITS.columns.tolist()):
            assert word >> b & 1 == int(words[2 * k]) >> column & 1


def test_a_smaller_budget_and_more_entries_take_larger_margins() -> None:
    looks = BITS.looks(1e-6, 50)
    assert len(looks) == LOOKS
    assert FIRST_LOOK + LOOK_STEP * (LOOKS - 1) == ENTRY_WORDS
    for looser, tighter in ((looks, BITS.looks(1e-8, 50)), (looks, BITS.looks(1e-6, 100))):
        assert all(a.accept <= b.accept for a, b in zip(looser, tighter, strict=True))
        assert looser[-1].accept < tighter[-1].accept
    assert all(look.accept[0] > look.reject for look in looks)
    assert max(look.accept[0] for look in looks) < RATE_ONE // 2


def test_what_ships_is_whole() -> None:
    back = DeviceBits.from_bytes(BITS.to_bytes())
    assert back.bits_id == BITS.bits_id
    assert back.provenance == BITS.provenance
    assert BITS.weights.dtype == np.int8
    assert BITS.weights.shape[0] == FILTERS
    # The search ends elsewhere in the last digits on another processor's arithmetic.
    np.testing.assert_allclose(BITS.half_band, design_half_band(), rtol=0, atol=1e-6)


def test_the_decimator_leaves_the_bands_alone() -> None:
    half_band = design_half_band().astype(np.float64)
    assert len(half_band) == PAIRS
    assert np.abs(gain(half_band, np.linspace(200, 3400, 50)) - 1).max() < 0.02
    assert np.abs(gain(half_band, np.linspace(4600, 7800, 50))).max() < 0.02


def test_rounding_makes_up_for_what_it_rounds() -> None:
    """Less than plain rounding gets wrong, over inputs that go together as loudness does."""
    bits = bits_named("learned64")
    rng = np.random.default_rng(2)
    common = rng.standard_normal((2000, 12)) @ rng.standard_normal((12, 297))
    seen = np.abs(1 + 0.2 * common + 0.05 * rng.standard_normal((2000, 297))).astype(np.float32)
    quantised = quantise(bits, seen)  # type: ignore[arg-type]
    filters = bits.filters.reshape(297, 64)  # type: ignore[attr-defined]
    plain = (
        np.round(filters.reshape(9, 33, 64) / (quantised.scales.T[:, None])) * quantised.scales.T[:, None]
    ).reshape(297, 64)
    exact = seen @ filters
    rounded = seen @ (quantised.weights * quantised.scales[..., None]).reshape(64, 297).T
    assert (rounded - exact).std(axis=0).mean() < 0.7 * (seen @ plain - exact).std(axis=0).mean()


def known(media_id: str, seed: int = 1, **fields: int) -> MediaFingerprint:
    words = np.random.default_rng(seed).integers(0, 2**64, 200, dtype=np.uint64)
    return MediaFingerprint(
        media_id=media_id, kind=MediaFingerprint.KNOWN, wake_word="alexa", locale="en-US", bits=BITS.source,
        words=words.astype("<u8").tobytes(), **fields,
    )  # fmt: skip


def test_what_is_valid_now_comes_first_then_what_was_heard_most() -> None:
    entries = [
        known("k-over", valid_until_us=99), known("k-soon", valid_from_us=101), known("k-often"),
        known("k-old", added_us=1), known("k-new", added_us=2), known("k-most", valid_from_us=100, valid_until_us=101),
    ]  # fmt: skip
    heard = {"k-over": 99, "k-soon": 50, "k-often": 3, "k-most": 4}
    chosen = [entry.media_id for entry in choose(entries, heard, 100, 5)]
    assert chosen == ["k-most", "k-often", "k-new", "k-old", "k-soon"]
    assert [entry.media_id for entry in choose(entries, heard, 100, 2)] == chosen[:2]


def test_strangers_make_up_for_missing_entries_and_decide_nothing() -> None:
    pack = pack_of([known("k-1"), known("k-2", 2)], BITS, 1e-6, 7)
    assert len(pack.entries) == LEAST_ENTRIES
    assert [entry.decides for entry in pack.entries] == [True] * 2 + [False] * (LEAST_ENTRIES - 2)
    stranger = decide(pack, pack.entries[5].words, 0)
    assert stranger is not None
    assert stranger.entry is None


def test_an_entry_is_valid_in_no_second_in_which_it_is_not() -> None:
    (entry,) = pack_of([known("k-1", valid_from_us=1_000_001, valid_until_us=2_999_999)], BITS, 1e-6, 7).entries[:1]
    assert (entry.valid_from_s, entry.valid_until_s) == (2, 2)


def test_the_command_packs_what_airs_now(kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(
        bootstrap_servers=kafka, **{f"{name}_topic": f"device-{name}" for name in
        ("audio", "decisions", "media", "dead_letter", "control")},
    )  # fmt: skip
    create_topics(settings, 2, 1)
    flags = ("--bootstrap-servers", kafka, "--media-topic", "device-media", "--decisions-topic", "device-decisions",
             "--wake-word", "alexa", "--locale", "en-US")  # fmt: skip
    out = tmp_path / "list.hwp"
    code, _, err = _run(capsys, "media", "export-device", "--out", str(out), *flags)
    assert code == 2
    assert "has no known media for alexa/en-US" in err

    producer = KafkaProducer(bootstrap_servers=kafka)
    other = known("k-german", 3)
    other.locale = "de-DE"
    discovered = known("d-1", 4)
    discovered.kind = MediaFingerprint.DISCOVERED
    now_us = time.time_ns() // 1000
    media = [
        known("k-1", 1),
        known("k-2", 2),
        known("k-gone", 5),
        known("k-over", 6, valid_until_us=now_us - 1),
        other,
        discovered,
    ]
    for message in media:
        producer.send("device-media", key=message.media_id.encode(), value=message.SerializeToString())
    producer.send("device-media", key=b"k-gone", value=None)
    for request_id in ("r1", "r1", "r2"):
        decision = Decision(request_id=request_id, verdict=Decision.IGNORE, reason=Decision.KNOWN, media_id="k-2")
        producer.send("device-decisions", key=request_id.encode(), value=decision.SerializeToString())
    for n in range(5):  # of another kind: it says nothing of known media
        decision = Decision(request_id=f"d{n}", verdict=Decision.IGNORE, reason=Decision.DISCOVERED, media_id="k-1")
        producer.send("device-decisions", key=b"d", value=decision.SerializeToString())
    producer.close()

    code, text, err = _run(capsys, "media", "export-device", "--out", str(out), *flags, "--count", "100")
    assert code == 0, err
    pack = parse_pack(out.read_bytes())
    assert [e.digest for e in pack.entries if e.decides] == [media_digest("k-2"), media_digest("k-1")]
    assert "k-2  heard 2" in text
    assert "2 entries of 3" in text
    code, _, _ = _run(capsys, "media", "export-device", "--out", str(out), *flags, "--count", str(MOST_ENTRIES + 1))
    assert code == 2
    _run(capsys, "media", "export-device", "--out", str(out), *flags, "--count", "1")
    assert [e.digest for e in parse_pack(out.read_bytes()).entries if e.decides] == [media_digest("k-2")]

"""Known media: the index and the scores against their slow twins, and the three ways to be recognised."""

import dataclasses
import math

import naive
import numpy as np
import numpy.typing as npt
import pytest

from matcher.bits import bits_named
from matcher.evidence import CalibrationError, Tail
from matcher.fingerprint import Fingerprint
from matcher.known import (
    FIRST_KNOWN_LOOK_MS,
    FULL_KNOWN_MS,
    MOST_ON_AIR,
    TOGETHER,
    TOGETHER_US,
    KnownMatch,
    KnownMedia,
    Listening,
    looked_at,
)
from matcher.known_entry import Entry, EntryError, entry_words
from matcher.known_index import FOUND_ONCE_ENTRIES, KnownIndex
from matcher.known_null import (
    LEAD_WORDS,
    MAX_ALIGNMENT,
    SEGMENT_WORDS,
    SLOT_WORDS,
    KnownCalibration,
    known_calibration,
)

BITS = bits_named("learned64")
SHIPPED = known_calibration("learned64")
S = 1_000_000
_U8 = npt.NDArray[np.uint64]


def random_words(rng: np.random.Generator, *shape: int) -> _U8:
    return rng.integers(0, 2**64, shape, np.uint64, endpoint=False)


def heard(entry: Entry, rng: np.random.Generator, rate: float, shift: int = 0) -> tuple[_U8, _U8]:
    """A home's request, so many words late: that share of the clear bits wrong, and of the others two fifths."""
    words, clear = entry.words[LEAD_WORDS + shift :], entry.clear[LEAD_WORDS + shift :]
    wrong = rng.random((len(words), 64)) < np.where(naive.bits_of(clear), rate, 0.4)
    flips = np.packbits(wrong, axis=1, bitorder="little").view(np.uint64)[:, 0]
    return words ^ flips, np.full(len(words), ~np.uint64(0))


def an_entry(seed: int, name: str | None = None, words: int = 230, **valid: int) -> Entry:
    rng = np.random.default_rng(seed)
    clear = random_words(rng, words) | random_words(rng, words)
    return Entry(name or f"k-{seed}", random_words(rng, words), clear, **valid)


def a_catalogue(*entries: Entry, budget: float = 1e-6) -> KnownMedia:
    media = KnownMedia(SHIPPED, budget)
    for entry in entries:
        media.put(entry)
    return media


def play(
    media: KnownMedia, request: tuple[_U8, _U8], name: str = "r", household: str = "h", start_us: int = 0
) -> tuple[KnownMatch | None, int, Listening]:
    """Let a request grow word by word; gives what it was recognised as, with how many words, and its listening."""
    listening = media.listen(name, household, start_us)
    words, clear = request
    for n in range(1, len(words) + 1):
        match = listening.look(words[:n], clear[:n], start_us + 20_000 * n)
        if match is not None:
            return match, n, listening
    return None, len(words), listening


# ---- recognising -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", range(-5, 6, 2))
def test_one_home_that_hears_an_entry_clearly_is_recognised(shift: int) -> None:
    """Early or late by 100 ms; the evidence says by how much, and what was compared."""
    entries = [an_entry(seed) for seed in range(40)]
    match, n, _ = play(a_catalogue(*entries), heard(entries[7], np.random.default_rng(0), 0.1, shift))
    assert match is not None
    assert (match.media_id, match.evidence.alignment, match.households) == ("k-7", -shift, 1)
    assert n < 120
    assert match.evidence.rate == pytest.approx(0.1, abs=0.04)
    assert match.calibration == SHIPPED.version
    assert match.evidence.log_odds >= -math.log(1e-6)


def test_a_sound_that_is_no_entry_is_never_recognised() -> None:
    """Nor is an entry of too much noise, or one that begins half a second off."""
    media = a_catalogue(*(an_entry(seed) for seed in range(200)))
    rng = np.random.default_rng(1)
    strangers = [(random_words(rng, 193), random_words(rng, 193)) for _ in range(20)]
    far = heard(an_entry(3), rng, 0.05, shift=25)
    for request in [*strangers, heard(an_entry(3), rng, 0.49), far]:
        assert play(media, request)[0] is None


def test_what_has_few_clear_bits_recognises_nobody() -> None:
    """Steady noise is no sound to be known by, nor is an entry of which next to nothing is clear."""
    rng = np.random.default_rng(0)
    noise = entry_words(rng.normal(0, 3000, 11 * 16_000).astype(np.float32), 700.0, BITS)
    few = dataclasses.replace(an_entry(1), clear=np.full(230, np.uint64(1)))
    media = a_catalogue(Entry("k-noise", *noise), few)
    for seed in range(10):
        fingerprint = Fingerprint(f"r{seed}", BITS, FULL_KNOWN_MS)
        fingerprint.grow(np.random.default_rng(seed).normal(0, 3000, 5 * 16_000).astype(np.int16))
        listening = media.listen(f"r{seed}", f"h{seed}", 60 * S * seed)
        for look_ms, words, clear in fingerprint.looks(FIRST_KNOWN_LOOK_MS):
            assert listening.look(words, clear, 60 * S * seed + 1000 * look_ms) is None
    request = few.words[LEAD_WORDS:], np.full(230 - LEAD_WORDS, ~np.uint64(0))
    assert play(media, request, start_us=3600 * S)[0] is None


def test_an_entry_decides_only_for_requests_that_start_while_it_is_valid() -> None:
    """From its first moment, and no more at its last."""
    entry = an_entry(0, valid_from_us=10 * S, valid_until_us=20 * S)
    request = heard(entry, np.random.default_rng(0), 0.1)
    valid = {start: play(a_catalogue(entry), request, start_us=start)[0] is not None for start in (9, 10, 19, 20)}
    assert valid == dict.fromkeys((9, 10, 19, 20), False)
    valid = {s: play(a_catalogue(entry), request, start_us=s * S)[0] is not None for s in (9, 10, 19, 20)}
    assert valid == {9: False, 10: True, 19: True, 20: False}


def test_an_entry_that_is_removed_or_replaced_is_seen_by_requests_that_grow() -> None:
    """In the middle of a request, at its next look; rows that are used again do not bring the old one back."""
    entry, other = an_entry(0), an_entry(1)
    words, clear = heard(entry, np.random.default_rng(0), 0.28)
    media = a_catalogue(entry)
    listening = media.listen("r", "h", 0)
    assert listening.look(words[:25], clear[:25], 0) is None
    assert media.remove("k-0")
    assert not media.remove("k-0")
    media.put(other)
    assert (len(media), "k-0" in media, "k-1" in media) == (1, False, True)
    assert all(listening.look(words[:n], clear[:n], 0) is None for n in range(26, 194))
    media.put(dataclasses.replace(entry, media_id="k-1"))
    match, _, _ = play(media, (words, clear))
    assert match is not None
    assert match.media_id == "k-1"


def test_many_changes_leave_the_same_catalogue_as_few() -> None:
    """Entering, leaving and growing change no decision and no score."""
    rng = np.random.default_rng(5)
    entries = {f"k-{i}": an_entry(i) for i in range(60)}
    changed = a_catalogue()
    for name in rng.choice(list(entries), 400):
        if name in changed and rng.random() < 0.5:
            changed.remove(name)
        else:
            changed.put(entries[name])
    plain = a_catalogue(*(entries[name] for name in sorted(entries) if name in changed))
    assert len(plain) == len(changed)
    for name, entry in entries.items():
        request = heard(entry, np.random.default_rng(9), 0.15)
        first, second = play(changed, request)[:2], play(plain, request)[:2]
        assert first == second
        assert (first[0] is not None) == (name in changed)


def test_looks_depend_on_the_words_alone_and_not_on_how_many_came_at_once() -> None:
    """Asked between two looks nothing happens; what is asked twice is answered once."""
    entry = an_entry(0)
    words, clear = heard(entry, np.random.default_rng(0), 0.3)
    looks = [n for n in range(1, 194) if n % SEGMENT_WORDS == 0 and looked_at(n // SEGMENT_WORDS)]
    by_word = play(a_catalogue(entry), (words, clear))
    listening = a_catalogue(entry).listen("r", "h", 0)
    found = [(n, listening.look(words[:n], clear[:n], 20_000 * n)) for n in looks]
    assert [(n, match) for n, match in found if match is not None] == [(by_word[1], by_word[0])]


def test_the_threshold_grows_with_the_entries_and_falls_with_the_budget() -> None:
    """A hundred thousand times the entries ask for as much more as a budget of a hundred thousandth."""
    few, many = a_catalogue(an_entry(0)), a_catalogue(*(an_entry(i) for i in range(64)))
    scale = SHIPPED.tail.scale
    assert many.threshold() - few.threshold() == pytest.approx(scale * np.log(64))
    strict = KnownMedia(SHIPPED, 1e-8)
    strict.put(an_entry(0))
    assert strict.threshold() - few.threshold() == pytest.approx(scale * np.log(100))


def between(low: float, high: float, entry: Entry, seed: int) -> tuple[_U8, _U8]:
    """A request whose best score against an entry lies between two: its noise is raised and lowered until it does."""
    lone = KnownMedia(dataclasses.replace(SHIPPED, tail=Tail(1e3, 0, 1)), 1e-6)  # recognises nobody
    lone.put(entry)
    for noise in range(20):
        least, most = 0.05, 0.5
        for _ in range(9):
            rate = (least + most) / 2
            request = heard(entry, np.random.default_rng([seed, noise]), rate)
            best = best_score(lone, *request)
            if low <= best < high:
                return request
            least, most = (rate, most) if best >= high else (least, rate)
    raise AssertionError("no such request")


def best_score(media: KnownMedia, words: _U8, clear: _U8) -> float:
    listening, best = media.listen("r", "h", 0), 0.0
    for segments in filter(looked_at, range(len(words) // SEGMENT_WORDS)):
        n = segments * SEGMENT_WORDS
        listening.look(words[:n], clear[:n], n)
        if listening._kept:
            rows = np.array(sorted(listening._kept), np.int32)
            best = max([best, *(evidence.score for _, evidence in listening._score(words[:n], clear[:n], rows))])
    return best


def test_three_households_that_agree_a_little_are_recognised_together() -> None:
    """Two are not, nor two devices of one household; the third makes sure of all, and of those that waited."""
    entry = an_entry(0)
    media = a_catalogue(entry)
    low, high = media.threshold_together(TOGETHER) + 0.1, media.threshold() - 0.1
    requests = [between(low, high, entry, seed) for seed in range(4)]
    assert play(media, requests[0], "a", "h0")[0] is None
    assert play(media, requests[1], "b", "h1")[0] is None
    assert play(media, requests[3], "b2", "h1")[0] is None
    assert media.swept() == []
    match, _, _ = play(media, requests[2], "c", "h2")
    assert match is not None
    assert (match.media_id, match.households) == ("k-0", 3)
    assert {(found.request_id, known.media_id) for found, known in media.swept()} == {
        ("a", "k-0"), ("b", "k-0"), ("b2", "k-0"),
    }  # fmt: skip
    assert media.swept() == []


def test_those_that_agree_too_long_ago_do_not_count() -> None:
    """Neither towards three households nor among the swept."""
    entry = an_entry(0)
    media = a_catalogue(entry)
    low, high = media.threshold_together(TOGETHER) + 0.1, media.threshold() - 0.1
    requests = [between(low, high, entry, seed) for seed in range(3)]
    for i, start_us in enumerate((0, TOGETHER_US, 2 * TOGETHER_US)):
        assert play(media, requests[i], f"r{i}", f"h{i}", start_us + 5 * S * i)[0] is None
    assert media.swept() == []


def test_while_an_entry_is_on_air_less_is_enough_and_afterwards_not() -> None:
    """One home that is sure opens it, for those that come within seconds; each prolongs it."""
    entry = an_entry(0)
    media = a_catalogue(entry)
    low, high = media.threshold_on_air() + 0.1, media.threshold_together(TOGETHER) - 0.1
    weak = [between(low, high, entry, seed) for seed in range(3)]
    assert play(media, weak[0], "early", "h0", 0)[0] is None
    assert play(media, heard(entry, np.random.default_rng(3), 0.2), "sure", "h1", 1 * S)[0] is not None
    assert [listening.request_id for listening, _ in media.swept()] == ["early"]
    match, _, _ = play(media, weak[1], "late", "h2", 4 * S)
    assert match is not None
    assert match.households == 3
    assert match.evidence.log_odds >= -math.log(1e-6)
    assert play(media, weak[2], "too late", "h3", 30 * S)[0] is None


def test_a_look_costs_no_more_however_many_entries_are_on_air() -> None:
    """Those recognised last are tried unasked, and the others are still found."""
    entries = [an_entry(seed) for seed in range(MOST_ON_AIR + 40)]
    media = a_catalogue(*entries)
    for seed, entry in enumerate([*entries, entries[0]]):
        assert play(media, heard(entry, np.random.default_rng(seed), 0.05), f"r{seed}", f"h{seed}")[0] is not None
    listening = media.listen("person", "h", 0)
    rows = listening._candidates(random_words(np.random.default_rng(0), 24))
    assert len(rows) <= MOST_ON_AIR + 3
    assert {media.index.row_of["k-0"], media.index.row_of[entries[-1].media_id]} <= set(rows.tolist())
    match, _, _ = play(media, heard(entries[1], np.random.default_rng(0), 0.1), "late", "h")
    assert match is not None
    assert match.media_id == "k-1"


def test_a_clock_that_was_ahead_keeps_nothing_on_air() -> None:
    """When event time has leaped and comes back, what was recognised then does not make today's requests easy."""
    entry = an_entry(0)
    media = a_catalogue(entry)
    weak = between(media.threshold_on_air() + 0.1, media.threshold_together(TOGETHER) - 0.1, entry, 0)
    assert play(media, heard(entry, np.random.default_rng(3), 0.2), "tomorrow", "h1", 86_400 * S)[0] is not None
    assert play(media, weak, "today", "h2", 1 * S)[0] is None
    for i in range(1000):
        media.listen(f"r{i}", "h3", 2 * S + i * S)
    assert len(media._recent) <= TOGETHER_US // S + 1


def test_a_request_is_recognised_once() -> None:
    """Not again at a later look, and not swept when it was recognised itself."""
    entry = an_entry(0)
    media = a_catalogue(entry)
    request = heard(entry, np.random.default_rng(0), 0.2)
    match, n, listening = play(media, request)
    assert match is not None
    assert all(listening.look(request[0][:m], request[1][:m], 5 * S) is None for m in range(n, 194))
    play(media, heard(entry, np.random.default_rng(1), 0.2), "other", "h2")
    assert media.swept() == []


def test_a_large_catalogue_is_searched_by_what_is_found_twice() -> None:
    """Over FOUND_ONCE_ENTRIES the index asks for two anchors, and a clear request has many."""
    media = a_catalogue()
    for seed in range(FOUND_ONCE_ENTRIES + 50):
        media.put(an_entry(seed))
    match, _, listening = play(media, heard(an_entry(77), np.random.default_rng(0), 0.1))
    assert match is not None
    assert match.media_id == "k-77"
    assert len(listening._search.seen)


# ---- entries ---------------------------------------------------------------------------------------------------------


def test_an_entry_begins_before_its_wake_word_with_silence_where_there_is_nothing() -> None:
    """The words after the wake word are the same wherever the recording begins."""
    noise = np.random.default_rng(0).normal(0, 2000, 5 * 16_000).astype(np.float32)
    whole, cut = entry_words(noise, 2000.0, BITS), entry_words(noise[2 * 16_000 - 160 :], 10.0, BITS)
    assert len(whole[0]) == len(cut[0]) == len(whole[1])
    later = (620 + 400) // 20  # past everything that the mean remembers
    agree = naive.bits_of(whole[0][later:]) == naive.bits_of(cut[0][later:])
    assert agree.mean() > 0.99


def test_a_recording_that_ends_at_its_wake_word_is_no_entry() -> None:
    """The sentence says how much there is, and how much it takes."""
    with pytest.raises(EntryError, match=r"0\.40 s of audio from the wake word on .* takes 0\.7 s"):
        entry_words(np.zeros(16_000, np.float32), 600.0, BITS)


# ---- calibration -----------------------------------------------------------------------------------------------------


def test_a_calibration_survives_the_disk_and_damage_is_refused() -> None:
    """Whatever byte is wrong, or whichever number."""
    data = SHIPPED.to_bytes()
    again = KnownCalibration.from_bytes(data)
    assert (again.version, again.bits, again.tail) == (SHIPPED.version, SHIPPED.bits, SHIPPED.tail)
    assert np.array_equal(again.weights, SHIPPED.weights)
    assert np.array_equal(again.usual, SHIPPED.usual)
    for damaged in (data[:100], b"", data[:2000] + bytes(100) + data[2100:]):
        with pytest.raises(CalibrationError):
            KnownCalibration.from_bytes(damaged)
    for change in (
        {"tail": Tail(float("nan"), 0, 1)},
        {"tail": Tail(0, 0, 0)},
        {"weights": -SHIPPED.weights},
        {"weights": SHIPPED.weights[:, :-1]},
        {"base": SHIPPED.base * np.nan},
        {"usual": SHIPPED.usual * np.inf},
        {"usual": SHIPPED.usual[:-1]},
        {"cohort": SHIPPED.cohort[:, :5]},
    ):
        with pytest.raises(CalibrationError):
            KnownCalibration.from_bytes(dataclasses.replace(SHIPPED, **change).to_bytes())


def test_there_is_none_for_unknown_bits() -> None:
    """A sentence, not a stack of errors."""
    with pytest.raises(CalibrationError, match="no calibration of known media ships for bits 'other'"):
        known_calibration("other")


def test_alignments_of_a_request_stay_within_an_entrys_slots() -> None:
    """The longest request at the last alignment still has slots to be compared with."""
    slots = KnownIndex(SHIPPED).slots
    last = SHIPPED.segments * SEGMENT_WORDS - 1 + LEAD_WORDS + MAX_ALIGNMENT
    assert last // SLOT_WORDS < slots

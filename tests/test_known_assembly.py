"""Known media in the reader: recognised on the same audio however it came, and nothing else changes."""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import EPOCH_US, pieces
from sounds import LEAD_S, SAMPLE_RATE_HZ, advertisement, hear, say

from matcher.bits import GRADIENT, Bits, bits_named, frame_count, word_count
from matcher.evidence import Evidence
from matcher.fingerprint import FULL_MS, LOOK_MS, Fingerprint, look_due_ms, whole_fingerprint
from matcher.growth import Growth
from matcher.known import FIRST_KNOWN_LOOK_MS, FULL_KNOWN_MS, KnownMatch, KnownMedia, Listening
from matcher.known_entry import Entry, entry_words
from matcher.known_index import FOUND_ONCE_ENTRIES
from matcher.known_null import known_calibration
from pipeline.assembly import Assembler, AssemblyLimits
from pipeline.messages.hushword_pb2 import AudioChunk

ROUTE = "alexa/en-US/0"
BITS = bits_named("learned64")
LIMITS = AssemblyLimits()
KINDS = pytest.mark.parametrize("bits", [GRADIENT, BITS], ids=lambda bits: bits.name)


def entry(ad_seed: int, **validity: int) -> Entry:
    clean = 3000 * advertisement(ad_seed).astype(np.float32)
    return Entry(f"k-{ad_seed}", *entry_words(clean, 1000 * LEAD_S, BITS), **validity)


def catalogue(*entries: Entry) -> KnownMedia:
    media = KnownMedia(known_calibration(BITS.name), 1e-7)
    for one in entries:
        media.put(one)
    return media


def heard(
    samples: npt.NDArray[np.int16], media: KnownMedia | None, lengths_ms: Sequence[int], name: str = "r"
) -> list[Growth]:
    """Give the growths of one request whose chunks are so long, over and over."""
    total_ms = len(samples) * 1000 // SAMPLE_RATE_HZ
    cut: list[int] = []
    while sum(cut) < total_ms:
        cut.append(min(lengths_ms[len(cut) % len(lengths_ms)], total_ms - sum(cut)))
    assembler = Assembler(LIMITS, BITS, {0: 0}, known=lambda _wake_word, _locale: media)
    return fed(assembler, [piece.value for piece in pieces(name, EPOCH_US, cut, samples=samples)])


def fed(assembler: Assembler, values: Sequence[bytes], first: int = 0) -> list[Growth]:
    """Give the growths of one partition's records; then it ends."""
    for offset, value in enumerate(values, start=first):
        assembler.take(0, offset, EPOCH_US, value)
    end = AudioChunk(low_mark_us=EPOCH_US + 3_600_000_000).SerializeToString()
    assembler.take(0, first + len(values), EPOCH_US, end)
    return assembler.release().get(ROUTE, [])


def plain(growths: Sequence[Growth]) -> list[tuple[int, int, bytes]]:
    return [(growth.end_us, growth.audio_ms, growth.words.tobytes()) for growth in growths]


# ---- fingerprints ----------------------------------------------------------------------------------------------------


@KINDS
@settings(max_examples=30)
@given(st.lists(st.integers(20, 1000), min_size=1, max_size=12), st.integers(0, 2**32))
def test_words_of_a_look_are_those_of_its_audio_alone(bits: Bits, lengths_ms: list[int], seed: int) -> None:
    """Up to eight seconds, bit for bit, and whatever was looked at in between."""
    sound = np.random.default_rng(seed).normal(0, 2000, 12 * SAMPLE_RATE_HZ).astype(np.int16)
    growing, looks, at = Fingerprint("r", bits, FULL_KNOWN_MS), [], 0
    for length_ms in lengths_ms:
        end = at + length_ms * SAMPLE_RATE_HZ // 1000
        growing.grow(sound[at:end])
        looks += [words for _, words, _ in growing.looks(FIRST_KNOWN_LOOK_MS)]
        at = end
    total_ms = min(sum(lengths_ms), FULL_KNOWN_MS)
    assert len(looks) == max(0, (total_ms - FIRST_KNOWN_LOOK_MS) // LOOK_MS + 1)
    for number, words in enumerate(looks):
        look_ms = FIRST_KNOWN_LOOK_MS + number * LOOK_MS
        assert len(words) == word_count(frame_count(look_ms), bits)
    alone = Fingerprint("r", bits, FULL_KNOWN_MS)
    alone.grow(sound[:at])
    if looks:
        np.testing.assert_array_equal(list(alone.looks(FIRST_KNOWN_LOOK_MS))[-1][1], looks[-1])
        energies_ms = FIRST_KNOWN_LOOK_MS + (len(looks) - 1) * LOOK_MS
        at_once = Fingerprint("r", bits, energies_ms)
        at_once.grow(sound[: energies_ms * SAMPLE_RATE_HZ // 1000])
        np.testing.assert_array_equal(next(at_once.looks(energies_ms))[1], looks[-1])


@KINDS
@settings(max_examples=30)
@given(st.lists(st.integers(20, 600), min_size=1, max_size=20), st.integers(0, 2**32))
def test_a_longer_fingerprint_grows_for_the_route_as_one_that_ends_where_it_looks_no_more(
    bits: Bits, lengths_ms: list[int], seed: int
) -> None:
    sound = np.random.default_rng(seed).normal(0, 2000, 12 * SAMPLE_RATE_HZ).astype(np.int16)
    short, long, at = Fingerprint("r", bits), Fingerprint("r", bits, FULL_KNOWN_MS), 0
    for length_ms in lengths_ms:
        end = at + length_ms * SAMPLE_RATE_HZ // 1000
        one, other = short.grow(sound[at:end]), long.grow(sound[at:end])
        list(long.looks(FIRST_KNOWN_LOOK_MS))
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(
                one, bits_at(bits, sound[:end], min(sum(lengths_ms), end * 1000 // SAMPLE_RATE_HZ))
            )
        at = end


def bits_at(bits: Bits, sound: npt.NDArray[np.int16], audio_ms: int) -> npt.NDArray[np.uint64]:
    assert look_due_ms(audio_ms)
    return whole_fingerprint(sound, "r", bits)


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_request_that_is_known_is_given_once_and_its_audio_dropped() -> None:
    """With its words so far, for what is blocked to be held against."""
    growths = heard(hear(5, 1), catalogue(entry(5), entry(6)), [100])
    assert [growth.known.media_id for growth in growths if growth.known is not None] == ["k-5"]
    last = growths[-1]
    assert last.known is not None
    assert last.audio_ms < FULL_MS
    assert last.known.households == 1
    np.testing.assert_array_equal(last.words, whole_fingerprint(hear(5, 1), "r", BITS)[: len(last.words)])
    assert len(last.words) >= word_count(frame_count(FIRST_KNOWN_LOOK_MS), BITS)


@pytest.mark.parametrize("home", range(3))
def test_it_is_recognised_on_the_same_audio_whatever_the_chunks(home: int) -> None:
    """The same evidence, at the end of the chunk that brought the look."""
    found = []
    for lengths_ms in ([80], [100], [160], [500], [1000], [90, 370, 210]):
        growths = heard(hear(5, home, snr_db=5.0), catalogue(entry(5)), lengths_ms)
        assert [growth.known is not None for growth in growths] == [False] * (len(growths) - 1) + [True]
        found.append((growths[-1].known, growths[-1].audio_ms, max(lengths_ms)))
    assert len({(match.media_id, match.evidence) for match, _, _ in found if match is not None}) == 1
    least_ms = min(audio_ms for _, audio_ms, _ in found)
    assert all(least_ms <= audio_ms <= least_ms + longest_ms for _, audio_ms, longest_ms in found)


@pytest.mark.parametrize("lengths_ms", [[80], [250, 400]])
@pytest.mark.parametrize("media", [None, catalogue(), catalogue(entry(5))], ids=["none", "empty", "another"])
def test_what_is_not_known_grows_as_if_nothing_were(media: KnownMedia | None, lengths_ms: list[int]) -> None:
    samples = say(3, 4)
    assert plain(heard(samples, media, lengths_ms)) == plain(heard(samples, None, lengths_ms))
    assert all(growth.known is None for growth in heard(samples, media, lengths_ms))


class Late(KnownMedia):
    """Recognises every request once it has so many words."""

    def __init__(self, least_words: int) -> None:
        super().__init__(known_calibration(BITS.name), 1e-7)
        self.least_words, self.sure = least_words, False
        self.put(entry(5))

    def listen(self, request_id: str, household: str, start_us: int) -> "LateListening":
        return LateListening(self, request_id, household, start_us)


class LateListening(Listening):
    def look(
        self,
        words: npt.NDArray[np.uint64],
        clear: npt.NDArray[np.uint64],
        end_us: int,
    ) -> KnownMatch | None:
        media = self._media
        assert isinstance(media, Late)
        assert len(clear) == len(words)
        if len(words) < media.least_words:
            return None
        media.sure = True
        return KnownMatch("k-5", Evidence(9.0, 0.1, len(words), 0), 1, end_us, "late")


@pytest.mark.parametrize("known_ms", [FULL_MS + LOOK_MS, FULL_KNOWN_MS])
def test_a_request_may_be_known_after_its_last_look_at_others(known_ms: int) -> None:
    """Up to there it grows for its route as ever, and long silence is not listened to for ever."""
    samples = np.concatenate([say(seed, 4) for seed in range(4)])
    growths = heard(samples, Late(word_count(frame_count(known_ms), BITS)), [LOOK_MS])
    assert plain(growths[:-1]) == plain(heard(samples, None, [LOOK_MS]))
    assert growths[-1].known is not None
    assert growths[-1].audio_ms == known_ms
    never = heard(samples, Late(1 + word_count(frame_count(FULL_KNOWN_MS), BITS)), [LOOK_MS])
    assert plain(never) == plain(growths[:-1])


def test_an_entry_decides_from_its_beginning_to_its_end_of_event_time() -> None:
    """By when the request starts."""
    samples = hear(5, 1)
    for validity, known in (
        ({"valid_from_us": EPOCH_US}, True),
        ({"valid_from_us": EPOCH_US + 1}, False),
        ({"valid_until_us": EPOCH_US}, False),
        ({"valid_until_us": EPOCH_US + 1}, True),
    ):
        growths = heard(samples, catalogue(entry(5, **validity)), [100])
        assert (growths[-1].known is not None) == known


def test_an_entry_that_is_removed_while_a_request_grows_recognises_it_no_more() -> None:
    media = catalogue(entry(5))
    cut = pieces("r", EPOCH_US, [100] * 28, samples=hear(5, 1))
    assembler = Assembler(LIMITS, BITS, {0: 0}, known=lambda _wake_word, _locale: media)
    for offset, piece in enumerate(cut[:3]):
        assembler.take(0, offset, EPOCH_US, piece.value)
    assembler.release()
    media.remove("k-5")
    growths = fed(assembler, [piece.value for piece in cut[3:]], first=3)
    assert plain(growths) == plain(heard(hear(5, 1)[: 28 * 1600], None, [100]))


def test_a_reader_that_is_restarted_gives_the_same() -> None:
    """What it had given before the restart is not given again; what it had not is given as it would have been."""
    values = [piece.value for piece in pieces("r", EPOCH_US, [100] * 28, samples=hear(5, 1, snr_db=10.0))]
    whole = heard(hear(5, 1, snr_db=10.0)[: 28 * 1600], catalogue(entry(5)), [100])
    media = catalogue(entry(5))
    for cut in range(1, len(values)):
        media.begin_anew()
        before = Assembler(LIMITS, BITS, {0: 0}, known=lambda _wake_word, _locale: media)
        for offset, value in enumerate(values[:cut]):
            before.take(0, offset, EPOCH_US, value)
        given = before.release().get(ROUTE, [])
        media.begin_anew()
        after = Assembler(LIMITS, BITS, before.positions(), before.low_mark_us, lambda _wake_word, _locale: media)
        again = fed(after, values[before.needed()[0] :], first=before.needed()[0])
        assert plain([*given, *again]) == plain(whole)
        assert sum(growth.known is not None for growth in [*given, *again]) == 1


class Together(Late):
    """Recognises the first request when it recognises the second."""

    def __init__(self, least_words: int) -> None:
        super().__init__(least_words)
        self.first: Listening | None = None

    def listen(self, request_id: str, household: str, start_us: int) -> Listening:
        if self.first is None:
            self.first = Listening(KnownMedia(self.calibration, self.budget), request_id, household, start_us)
            return self.first
        return super().listen(request_id, household, start_us)

    def swept(self) -> list[tuple[Listening, KnownMatch]]:
        sure, self.sure = self.sure, False
        match = KnownMatch("k-5", Evidence(5.0, 0.2, 30, 0), 2, 1, "late")
        return [(self.first, match)] if sure and self.first is not None else []


@pytest.mark.parametrize("late_ms", [30, 2030])
def test_a_request_may_be_recognised_with_another_one(late_ms: int) -> None:
    """At the time of the other's audio, on the route of its own household, and though it may have ended."""
    media = Together(30)
    assembler = Assembler(AssemblyLimits(shards=16), BITS, {0: 0}, known=lambda _wake_word, _locale: media)
    one = pieces("one", EPOCH_US, [100] * 20, samples=hear(5, 1))
    other = pieces("other", EPOCH_US + 1000 * late_ms, [100] * 20, samples=hear(5, 2))
    for offset, piece in enumerate(sorted([*one, *other], key=lambda piece: piece.end_us)):
        assembler.take(0, offset, EPOCH_US + offset, piece.value)
    end = AudioChunk(low_mark_us=EPOCH_US + 3_600_000_000).SerializeToString()
    assembler.take(0, len(one) + len(other), EPOCH_US, end)
    growths = assembler.release()
    known = {
        growth.request_id: (route, growth)
        for route, found in growths.items()
        for growth in found
        if growth.known is not None
    }
    assert set(known) == {"one", "other"}
    for request_id, (route, growth) in known.items():
        household = f"home of {request_id}"
        assert growth.household == household
        assert route == f"alexa/en-US/{zlib.crc32(household.encode()) % 16}"
        assert [g for g in growths[route] if g.request_id == request_id][-1] is growth
    first, second = (known[request_id][1] for request_id in ("one", "other"))
    assert (first.end_us, first.appended_us) == (second.end_us, second.appended_us)
    assert (first.start_us, first.audio_ms) == (EPOCH_US, min(2000, (second.end_us - EPOCH_US) // 100_000 * 100))
    assert first.known is not None
    assert first.known.households == 2


def test_what_looks_found_is_kept_no_longer_than_they_come() -> None:
    """After the last chunk, the last look or the recognition: with many entries it is a hundred kilobytes a request."""
    media, listenings = catalogue(entry(5)), []
    for seed in range(FOUND_ONCE_ENTRIES):
        media.put(Entry(f"o-{seed}", *np.random.default_rng(seed).integers(0, 2**64, (2, 100), np.uint64)))
    listen = media.listen
    media.listen = lambda *request: listenings.append(listen(*request)) or listenings[-1]  # type: ignore[method-assign,func-returns-value]
    long = say(3, 4)[: 3 * SAMPLE_RATE_HZ]
    for samples, lengths_ms in ((hear(5, 1), [100]), (long, [100]), (np.tile(long, 3), [1000])):
        heard(samples, media, lengths_ms)
        assert not len(listenings[-1]._search.seen)
    assert len(listenings) == 3

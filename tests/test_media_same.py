"""What is the same recording, and what only sounds alike."""

import functools
import itertools

import numpy as np
import numpy.typing as npt
import pytest

from matcher.bits import bits_named
from matcher.known_entry import entry_words
from pipeline.media.same import OFFSET_MS, SAME_RATE, Fingerprints, both_phases
from pipeline.simulate.broadcast import LEAD_S, PATHS, TAIL_S, mix, transmitted
from pipeline.simulate.clips import SAMPLE_RATE_HZ, Clip, Samples, choose, read
from pipeline.simulate.music import music
from pipeline.simulate.randomness import rng_for
from pipeline.simulate.stretch import stretch

BITS = bits_named("learned64")
ADVERTS = choose("advert", "all", ["alexa"])
SOME = ADVERTS[::5]


def on_scale(samples: Samples) -> npt.NDArray[np.float32]:
    return (samples * 32768).astype(np.float32)


@functools.cache
def entry(clip: Clip) -> npt.NDArray[np.uint64]:
    return entry_words(on_scale(mix(clip).samples), mix(clip).wake_word_start_s * 1000, BITS)[0]


def shelf_of(*clips: Clip) -> Fingerprints:
    shelf = Fingerprints()
    for clip in clips:
        shelf.put(clip.file, entry(clip))
    return shelf


def another(clip: Clip, tempo: float, take: int = 0) -> tuple[npt.NDArray[np.float32], float]:
    """The same words of the same voice, said a little faster or slower, over other music."""
    speech = read(clip.file) if tempo == 1 else stretch(read(clip.file), tempo)
    speech = np.pad(speech, (round(LEAD_S * SAMPLE_RATE_HZ), round(TAIL_S * SAMPLE_RATE_HZ)))
    bed = music(rng_for(0, "another", clip.file, take), len(speech) / SAMPLE_RATE_HZ)
    bed *= np.sqrt(np.mean(speech**2) / np.mean(bed**2)) / 4
    both = speech + bed
    return on_scale(both / np.abs(both).max()), 1000 * (clip.wake_word_start_s * tempo + LEAD_S)


@pytest.mark.parametrize("path", sorted(PATHS))
def test_an_encoding_another_level_and_another_cut_are_the_same(path: str) -> None:
    shelf = shelf_of(*ADVERTS)
    offsets = itertools.cycle((-OFFSET_MS, -50, -7, 0, 10, 33, 90, OFFSET_MS))
    for clip, late_ms, gain in zip(SOME, offsets, itertools.cycle((1.0, 0.1, 0.01)), strict=False):
        sent = transmitted(clip, path)
        place_ms = sent.wake_word_start_s * 1000 + late_ms
        assert shelf.find(both_phases(on_scale(gain * sent.samples), place_ms, BITS)) == clip.file


def test_two_advertisements_are_never_taken_for_one() -> None:
    for clip in ADVERTS:
        others = shelf_of(*(other for other in ADVERTS if other is not clip))
        sent = mix(clip)
        assert others.find(both_phases(on_scale(sent.samples), sent.wake_word_start_s * 1000, BITS)) is None


@pytest.mark.parametrize("tempo", [0.99, 1.02])
def test_the_same_words_of_the_same_voice_are_another_advertisement(tempo: float) -> None:
    shelf = shelf_of(*ADVERTS)
    for clip in SOME:
        samples, place_ms = another(clip, tempo)
        assert shelf.find(both_phases(samples, place_ms, BITS)) is None


def test_a_shorter_cut_of_a_recording_is_the_same_and_so_is_a_longer_one() -> None:
    clip = ADVERTS[0]
    whole, place_ms = on_scale(mix(clip).samples), mix(clip).wake_word_start_s * 1000
    short = whole[: round((place_ms / 1000 + 1.5) * SAMPLE_RATE_HZ)]
    assert shelf_of(clip).find(both_phases(short, place_ms, BITS)) == clip.file
    shelf = Fingerprints()
    assert shelf.find(both_phases(whole, place_ms, BITS)) is None
    shelf.put("short", entry_words(short, place_ms, BITS)[0])
    assert shelf.find(both_phases(whole, place_ms, BITS)) == "short"
    assert len(both_phases(whole[: round((place_ms / 1000 + 0.7) * SAMPLE_RATE_HZ)], place_ms, BITS)) in (1, 2)


def test_a_shelf_grows_and_keeps_what_it_has() -> None:
    rng = np.random.default_rng(3)
    made = [rng.integers(0, 2**63, length).astype(np.uint64) for length in rng.integers(40, 500, 100)]
    shelf = Fingerprints()
    for number, words in enumerate(made):
        shelf.put(str(number), words)
    assert [shelf.find([words]) for words in made] == [str(number) for number in range(100)]


@pytest.mark.slow
def test_what_differs_between_the_same_and_others() -> None:
    """Prints what docs/media.md says of it."""
    clips = choose("advert", "all", ["alexa", "computer", "hey_jarvis"])
    rates: dict[str, list[float]] = {"itself": [], "the same take": [], "another take": [], "another one": []}

    def rate(clip: Clip, samples: npt.NDArray[np.float32], place_ms: float) -> float:
        shelf = shelf_of(clip)
        return min(float(shelf._rates(w, np.zeros(1, np.int64))[0]) for w in both_phases(samples, place_ms, BITS))

    for clip in clips:
        for path in PATHS:
            sent = transmitted(clip, path)
            for late_ms in (-95, 0, 5, 10, 37, 50, 90, 95, 100):
                place_ms = 1000 * sent.wake_word_start_s + late_ms
                rates["itself"].append(rate(clip, on_scale(sent.samples), place_ms))
        rates["the same take"] += [rate(clip, *another(clip, 1, take)) for take in range(4)]
        rates["another take"] += [rate(clip, *another(clip, tempo)) for tempo in (0.99, 1.01)]
        own = on_scale(mix(clip).samples), 1000 * mix(clip).wake_word_start_s
        rates["another one"] += [rate(other, *own) for other in clips if other.file < clip.file]
    for what, found in rates.items():
        print(f"{what}: {len(found)} pairs, {min(found):.1%} to {max(found):.1%}, median {np.median(found):.1%}")
    assert max(rates["itself"]) < SAME_RATE
    assert min(rates["another take"]) > 1.5 * SAME_RATE
    assert min(rates["another one"]) > 3 * SAME_RATE

"""The two presets that are hard: what they promise holds, and nothing that was there before sounds otherwise."""

import hashlib
import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from pipeline.recordings.recording import Recording
from pipeline.simulate import render, scene, write
from pipeline.simulate.beside import draw_person, draw_television, talk
from pipeline.simulate.clips import SAMPLE_RATE_HZ, choose
from pipeline.simulate.homes import draw_homes
from pipeline.simulate.randomness import rng_for
from pipeline.simulate.scene import plan
from pipeline.simulate.settings import settings_from
from pipeline.simulate.stretch import stretch

# Of the manifest that commit 0b3ecd7 gives, which had no such presets.
QUICK_5 = "c1210319a6b66dd81511007f675161dfcf09c67a8b7e3ff9cb0f0f5121e0a79f"


def test_what_was_drawn_for_the_other_presets_has_not_changed() -> None:
    """Everything that a rendered request depends on, by its manifest."""
    lines = [json.dumps(write.manifest_entry(heard)) for heard in plan(settings_from("quick", {"seed": 5})).heard]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == QUICK_5


@pytest.fixture(scope="module")
def noisy() -> scene.Scene:
    """The noisy preset, planned and not rendered."""
    return plan(settings_from("noisy", {"split": "evaluation", "seed": 1}))


@pytest.fixture(scope="module")
def crowded() -> scene.Scene:
    """Half a minute of the crowded one."""
    return plan(settings_from("crowded", {"split": "evaluation", "seed": 1, "minutes": 0.5, "events": 22}))


def test_noisy_is_loud_and_its_events_are_small(noisy: scene.Scene) -> None:
    """0 to 10 dB, three to five homes, all of them to be ignored; nobody else is."""
    assert {heard.snr_db for heard in noisy.heard} == {0.0, 5.0, 10.0}
    assert {airing.households for airing in noisy.airings} == {3, 4, 5}
    assert {(heard.kind, heard.expect) for heard in noisy.heard} == {("live", "accept"), ("media", "ignore")}


def test_two_advertisements_of_one_voice_air_at_once(noisy: scene.Scene) -> None:
    """Six times: other words of the same voice, within a second, in other homes."""
    voices = {clip.file: clip.voice for clip in noisy.adverts}
    homes = defaultdict(set)
    for heard in noisy.heard:
        homes[heard.event].add(heard.home.household)
    twins = [
        (a, b)
        for a, b in itertools.combinations(noisy.airings, 2)
        if abs(a.at_s - b.at_s) <= 1 and voices[a.clip_file] == voices[b.clip_file]
    ]
    assert len(twins) == 6
    for one, other in twins:
        assert one.clip_file != other.clip_file
        assert not homes[one.event] & homes[other.event]


def test_half_of_the_requests_have_somebody_talking_beside_them(noisy: scene.Scene) -> None:
    """A person over the television, in the room; the television beside a person."""
    for live in (True, False):
        found = [heard for heard in noisy.heard if (heard.kind == "live") == live]
        beside = [heard.beside for heard in found if heard.beside is not None]
        assert len(beside) == pytest.approx(len(found) / 2, abs=1)
        assert all((one.talker is None) == live for one in beside)
        assert {clip.role for one in beside for clip in one.clips} == {"advert" if live else "live"}
        assert {clip.split for one in beside for clip in one.clips} == {"evaluation"}
    said = {write.manifest_entry(heard).get("beside") for heard in noisy.heard}
    assert said == {None, "person", "television"}


def test_talk_counts_as_noise_and_goes_on_all_the_time(noisy: scene.Scene) -> None:
    """The SNR is that against talk and noise together; the talk never stops for half a second."""
    for live in (True, False):
        heard = next(h for h in noisy.heard if h.beside is not None and (h.kind == "live") == live)
        signal, noise = render.stems(heard, noisy.settings)
        start = round(heard.wake_word_start_s * SAMPLE_RATE_HZ)
        window = signal[start : start + round(render.SNR_WINDOW_S * SAMPLE_RATE_HZ)]
        assert 10 * np.log10(np.mean(window**2) / np.mean(noise**2)) == pytest.approx(heard.snr_db, abs=0.1)
        alone = render.stems(scene.replace(heard, beside=None), noisy.settings)[1]
        assert abs(np.corrcoef(noise, alone)[0, 1]) < 0.8  # it is not the noise that was there without them
    home = draw_homes(1, 1, ["en-US"])[0]
    rng = rng_for(1, "talk")
    for beside in (
        draw_person(rng, home, 0, choose("live", "evaluation", ["alexa"])),
        draw_television(rng, choose("advert", "evaluation", ["alexa"])),
    ):
        sound = talk(beside, home, 0, 4 * SAMPLE_RATE_HZ)
        assert len(sound) == 4 * SAMPLE_RATE_HZ
        level = np.mean(sound.reshape(8, -1) ** 2, axis=1)
        assert level.min() > 1e-3 * level.max()


def test_a_thousand_are_concurrent_in_a_crowd(crowded: scene.Scene) -> None:
    """In any ten seconds but the first and the last; ten airings at a time, of three to sixty homes."""
    starts = np.array([heard.start_s for heard in crowded.heard])
    for at_s in np.arange(3.0, 15.0):
        assert 850 <= np.count_nonzero((starts >= at_s) & (starts < at_s + 10)) <= 1250
        airings = sum(at_s <= airing.at_s < at_s + 10 for airing in crowded.airings)
        assert 8 <= airings <= 12
    sizes = [airing.households for airing in crowded.airings]
    assert 3 <= min(sizes) < 10
    assert 30 < max(sizes) <= 60
    assert {heard.clip.voice for heard in crowded.heard if heard.kind == "live"} == {
        clip.voice for clip in choose("live", "evaluation", ["alexa"])
    }


def test_words_that_come_again_in_a_crowd_come_at_another_tempo(crowded: scene.Scene) -> None:
    """Within the window: a person's tempo or pitch, an advertisement's tempo."""
    said = defaultdict(list)
    for heard in crowded.heard:
        if heard.kind == "live":
            said[heard.clip.voice].append((heard.start_s + heard.wake_word_start_s, heard.tempo, heard.pitch))
    assert min(len(times) for times in said.values()) > 50
    for times in said.values():
        for (one_s, *one), (other_s, *other) in itertools.combinations(times, 2):
            assert abs(one_s - other_s) > 10 or max(abs(np.subtract(one, other))) > 0.015
    for one, other in itertools.combinations(crowded.airings, 2):
        if one.clip_file == other.clip_file:
            assert abs(one.at_s - other.at_s) >= 12
            assert abs(one.tempo - other.tempo) > 0.02
    tempos = {airing.event: airing.tempo for airing in crowded.airings}
    assert all(heard.tempo == tempos[heard.event] for heard in crowded.heard if heard.event is not None)


def test_a_home_of_a_crowd_is_woken_by_one_thing_at_a_time(crowded: scene.Scene) -> None:
    """No person speaks where another one does, or the television."""
    times = defaultdict(list)
    for heard in crowded.heard:
        if heard.kind == "live":
            times[heard.home.household].append(heard.start_s)
    media = defaultdict(list)
    for heard in crowded.heard:
        if heard.kind != "live":
            media[heard.home.household].append(heard.start_s)
    for home, starts in times.items():
        assert all(b - a > 5 for a, b in itertools.pairwise(sorted(starts)))
        assert all(abs(a - b) > 5 for a in starts for b in media[home])


def test_an_advertisement_at_another_tempo_has_its_wake_word_in_the_same_place(crowded: scene.Scene) -> None:
    """What is cut faster is shorter and begins later, so that the wake word is where the manifest says."""
    heard = next(h for h in crowded.heard if h.kind == "media" and abs(h.tempo - 1) > 0.1)
    n = 3 * SAMPLE_RATE_HZ
    cut = render._broadcast(heard, n)
    plain = render._broadcast(scene.replace(heard, tempo=1.0), n)
    start = render._SPARE + round(heard.wake_word_start_s * SAMPLE_RATE_HZ)
    at = slice(start, start + SAMPLE_RATE_HZ // 10)
    assert len(cut) == len(plain)
    assert np.sqrt(np.mean(cut[at] ** 2)) == pytest.approx(np.sqrt(np.mean(plain[at] ** 2)), rel=0.5)
    assert np.corrcoef(cut[start + 8000 :], plain[start + 8000 :])[0, 1] < 0.2


@pytest.mark.parametrize("factor", [0.83, 1.0, 1.2])
def test_stretching_keeps_the_pitch_and_the_times(factor: float) -> None:
    """A tone that is switched on four times: as high as before, and on where it belongs within 10 ms or so."""
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    longer = stretch(np.sin(2 * np.pi * 200 * time_s) * (time_s % 0.5 < 0.25), factor)
    assert len(longer) == pytest.approx(factor * len(time_s), rel=0.02)
    assert np.argmax(np.abs(np.fft.rfft(longer))) * SAMPLE_RATE_HZ / len(longer) == pytest.approx(200, abs=2)
    loud = np.convolve(longer**2, np.ones(80) / 80, "same") > 0.1
    on_s = (np.flatnonzero(np.diff(loud.astype(int)) == 1) / SAMPLE_RATE_HZ / factor)[-3:]
    np.testing.assert_allclose(on_s, [0.5, 1.0, 1.5], atol=0.025)


@pytest.mark.parametrize("preset", ["noisy", "crowded"])
def test_the_same_seed_gives_the_same_bytes(preset: str, tmp_path: Path) -> None:
    """A little of each, with one worker and with two; the recording can be read back, with its voices."""
    small = {"minutes": 0.5, "homes": 30, "events": 2, "event_size": "3-4", "live_per_minute": 8.0, "seed": 3}
    settings = settings_from(preset, {**small, "split": "evaluation"})
    written = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        write.write_recording(plan(settings), folder, workers)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        written.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert written[0] == written[1]
    truth = Recording.load(tmp_path / "1").truth
    assert {label.voice for label in truth.values()} == {heard.clip.voice for heard in plan(settings).heard}

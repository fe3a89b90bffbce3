"""The simulator's sound is measured, not believed; its truth follows from who heard what; it leaves all or nothing."""

import csv
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.errors import InputError
from pipeline.recordings.recording import check_folder
from pipeline.simulate import noise, render, rooms, scene, truth, write
from pipeline.simulate.broadcast import LEAD_S, PATHS, mix, transmitted
from pipeline.simulate.clips import SAMPLE_RATE_HZ, all_clips, choose, read
from pipeline.simulate.command import simulate
from pipeline.simulate.homes import draw_homes
from pipeline.simulate.randomness import rng_for
from pipeline.simulate.scene import Heard, plan
from pipeline.simulate.settings import Settings, parse_spans
from pipeline.simulate.spectra import octaves
from pipeline.simulate.truth import Airing

SMALL = Settings(minutes=0.5, homes=20, events=1, event_size="4", live_per_minute=8.0, seed=3)

app = typer.Typer()
app.command()(simulate)


def run(*args: str) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def evening() -> scene.Scene:
    """Ten minutes planned, not rendered."""
    return plan(Settings(seed=5))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recording, rendered in this process."""
    folder = tmp_path_factory.mktemp("simulate") / "recording"
    write.write_recording(plan(SMALL), folder, workers=1)
    return folder


# What ships


def test_there_are_enough_voices_and_no_voice_has_two_places() -> None:
    """24 live voices and 12 advertisements at least, half of them for calibration; no voice in two places."""
    places = defaultdict(set)
    for clip in all_clips():
        places[clip.voice].add((clip.role, clip.split))
    assert all(len(found) == 1 for found in places.values())
    count = Counter(next(iter(found)) for found in places.values())
    assert count["live", "calibration"] >= count["live", "evaluation"] >= 24
    for split in ("calibration", "evaluation"):
        assert len(choose("advert", split, ["alexa"])) >= 12
    assert len({clip.synthesiser for clip in all_clips()}) >= 4
    assert {clip.wake_word for clip in all_clips()} == {"alexa", "computer", "hey_jarvis"}


def test_clips_are_small_sound_to_8_khz_and_begin_where_the_index_says() -> None:
    """Each clip is silent before its first sound, and has energy in the topmost octave."""
    assert sum(path.stat().st_size for path in (Path(write.__file__).parent / "clips").iterdir()) < 9e6
    for clip in all_clips():
        samples = read(clip.file)
        power = np.square(samples)
        top = scipy.signal.welch(samples, SAMPLE_RATE_HZ, nperseg=1024)[1][360:]
        assert np.sum(top) > 0, clip.file
        start = round(clip.wake_word_start_s * SAMPLE_RATE_HZ)
        # The pause before the wake word is 50 ms of silence at least; then half a second of speech follows.
        assert np.mean(power[start - 700 : start - 50]) < 1e-3 * np.mean(power[start : start + 8000]), clip.file


# How it sounds


def test_rt60_of_a_home_is_what_its_manifest_says() -> None:
    """T20 of the middle octaves, from the rendered impulse response, against the home's rt60."""
    middle = scipy.signal.butter(4, [354, 1414], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    ratios = []
    for home in draw_homes(3, 40, ["en-US"]):
        response = rooms.impulse_response(home.room, home.room.television, home.room.devices_m[0])
        ratios.append(rooms.rt60_s(scipy.signal.sosfilt(middle, response)) / home.room.rt60_s)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.05)
    assert min(ratios) > 0.75
    assert max(ratios) < 1.3


def test_rt60_as_measured_from_a_request(monkeypatch: pytest.MonkeyPatch, evening: scene.Scene) -> None:
    """A sweep said in place of the words, deconvolved from what the device sends, decays as the manifest says."""
    seconds = 1.2
    time_s = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    sweep = scipy.signal.chirp(time_s, 60, seconds, 7900, "logarithmic")
    monkeypatch.setattr(render, "read", lambda _: np.pad(sweep, (800, 0)))
    middle = scipy.signal.butter(4, [354, 1414], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    ratios = []
    for heard in [h for h in evening.heard if h.kind == "live" and h.noise == "pink" and h.snr_db == 25.0][:8]:
        quiet = scene.replace(heard, snr_db=60.0, tempo=1.0, duration_s=3.0)
        samples = render.render(quiet, evening.settings) / 32768
        n = 2 * len(samples)
        spectrum = np.fft.rfft(np.pad(sweep, (0, n - len(sweep))))
        limit = 1e-4 * np.max(np.abs(spectrum)) ** 2
        response = np.fft.irfft(np.fft.rfft(samples, n) * np.conj(spectrum) / (np.abs(spectrum) ** 2 + limit))
        response = scipy.signal.sosfilt(middle, response)
        start = int(np.argmax(np.abs(response)))
        ratios.append(rooms.rt60_s(response[start : start + SAMPLE_RATE_HZ]) / heard.home.room.rt60_s)
    assert len(ratios) >= 3
    assert np.median(ratios) == pytest.approx(1.0, abs=0.12)


def test_snr_is_what_the_manifest_says_by_the_stems(evening: scene.Scene) -> None:
    """Every kind of noise and of talker: the power of the wake word against that of the noise."""
    seen = set()
    for heard in evening.heard:
        if (heard.noise, heard.kind == "live") in seen:
            continue
        seen.add((heard.noise, heard.kind == "live"))
        signal_, noise_ = render.stems(heard, evening.settings)
        start = round(heard.wake_word_start_s * SAMPLE_RATE_HZ)
        window = signal_[start : start + round(render.SNR_WINDOW_S * SAMPLE_RATE_HZ)]
        assert 10 * np.log10(np.mean(window**2) / np.mean(noise_**2)) == pytest.approx(heard.snr_db, abs=0.1)
    assert len(seen) == 2 * len(noise.NOISES)


def test_snr_and_jitter_as_measured_from_the_audio(evening: scene.Scene) -> None:
    """A person in steady noise: the pre-roll has the noise alone, and sound begins where the manifest says."""
    errors_db, late_s = [], []
    steady = [h for h in evening.heard if h.kind == "live" and h.noise in noise.STEADY]
    for heard in steady[:30]:
        samples = render.render(heard, evening.settings) / 32768
        start = round(heard.wake_word_start_s * SAMPLE_RATE_HZ)
        before = np.mean(samples[: start - 800] ** 2)
        after = np.mean(samples[start : start + round(render.SNR_WINDOW_S * SAMPLE_RATE_HZ)] ** 2)
        errors_db.append(10 * np.log10(max(after - before, 1e-12) / before) - heard.snr_db)
        if heard.snr_db >= 20:
            level = np.sqrt(scipy.signal.fftconvolve(samples**2, np.ones(80) / 80, "same").clip(0))
            late_s.append(np.argmax(level > 3 * np.sqrt(before)) / SAMPLE_RATE_HZ - (0.5 - heard.jitter_ms / 1000))
    assert np.max(np.abs(errors_db)) < 2.0
    assert np.mean(np.abs(errors_db)) < 0.5
    # Words begin softly, so noise hides some milliseconds of them.
    assert len(late_s) >= 3
    assert min(late_s) > -0.01
    assert np.median(late_s) < 0.04
    assert max(late_s) < 0.12


def test_a_device_starts_when_its_manifest_says(evening: scene.Scene) -> None:
    """Jitter is spread over +-80 ms, and start_s + wake_word_start_s is when the wake word is heard."""
    jitters = [h.jitter_ms for h in evening.heard]
    assert -80 <= min(jitters) < -60
    assert 60 < max(jitters) <= 80
    airings = {airing.event: airing for airing in evening.airings}
    for heard in evening.heard:
        assert heard.wake_word_start_s == pytest.approx(0.5 - heard.jitter_ms / 1000)
        if heard.kind == "media":
            heard_at_s = heard.start_s + heard.wake_word_start_s
            assert heard_at_s == pytest.approx(airings[heard.event or ""].at_s + heard.home.delay_s, abs=1e-3)


def test_two_homes_that_hear_one_airing_are_aligned_by_the_manifest(evening: scene.Scene) -> None:
    """What two devices send, shifted by their manifest's times, correlates best within an echo's few milliseconds."""
    media = [h for h in evening.heard if h.expect == "ignore" and h.snr_db == 25.0 and h.home.room.rt60_s < 0.5]
    pairs = [(a, b) for a, b in itertools.combinations(media, 2) if a.event == b.event and a.home != b.home]
    lags_s = []
    for a, b in pairs[:6]:
        one, other = (
            _envelope(render.render(h, evening.settings), round(h.wake_word_start_s * SAMPLE_RATE_HZ)) for h in (a, b)
        )
        correlation = scipy.signal.correlate(one - one.mean(), other - other.mean())
        lags_s.append((int(np.argmax(correlation)) - (len(other) - 1)) / 1000)
    assert len(lags_s) >= 2
    assert np.median(np.abs(lags_s)) <= 0.015


def _envelope(samples: np.ndarray, start: int) -> np.ndarray:
    """Level each millisecond of the 1.5 s from the wake word on."""
    part = samples[start - 3200 : start + 24_000].astype(float) ** 2
    return np.log(part[: len(part) // 16 * 16].reshape(-1, 16).mean(axis=1) + 1)


@pytest.mark.parametrize("kind", noise.NOISES)
def test_noises_reach_up_to_8_khz(kind: str) -> None:
    """No octave is empty, and the topmost kHz is within 55 dB of the loudest: no filter has cut it."""
    made = noise.make_noise(kind, rng_for(1, kind), 6.0, choose("live", "all", ["alexa"]))
    assert len(made) == 6 * SAMPLE_RATE_HZ
    assert np.mean(made**2) == pytest.approx(1.0)
    hz, density = scipy.signal.welch(made, SAMPLE_RATE_HZ, nperseg=1024)
    by_khz = [10 * np.log10(np.mean(density[(hz >= k * 1000) & (hz < (k + 1) * 1000)])) for k in range(8)]
    assert by_khz[7] > max(by_khz) - 55
    assert all(abs(b - a) < 25 for a, b in itertools.pairwise(by_khz[1:])), "a cliff: something is band-limited"


def test_pink_noise_falls_three_db_an_octave() -> None:
    """Its octaves are equally strong."""
    bands = octaves(noise.make_noise("pink", rng_for(2), 20.0, ()))
    levels_db = 10 * np.log10(np.mean(bands**2, axis=1))[1:-1]
    assert np.ptp(levels_db) < 1.0


@pytest.mark.parametrize("path", PATHS)
def test_codecs_keep_the_time_and_lose_something(path: str) -> None:
    """A codec's delay is taken out, the sound is close to the clean one, and not the same."""
    clip = choose("advert", "evaluation", ["alexa"])[0]
    clean, coded = mix(clip), transmitted(clip, path)
    assert len(coded.samples) == len(clean.samples)
    assert clean.wake_word_start_s == pytest.approx(clip.wake_word_start_s + LEAD_S)
    ratio_db = 10 * np.log10(np.sum(clean.samples**2) / np.sum((clean.samples - coded.samples) ** 2))
    assert 8 < ratio_db < 45


def test_octaves_add_up_to_what_was_split() -> None:
    """The filter bank loses nothing."""
    samples = rng_for(3).standard_normal(5000)
    np.testing.assert_allclose(octaves(samples).sum(axis=0), samples, atol=1e-9)


def test_no_two_homes_are_alike() -> None:
    """Rooms, loudspeakers and microphones differ, and so do their impulse responses."""
    homes = draw_homes(0, 300, ["en-US"])
    for part in (lambda h: h.room.size_m, lambda h: h.loudspeaker, lambda h: h.microphones, lambda h: h.room.rt60_s):
        assert len({part(home) for home in homes}) == len(homes)
    responses = [rooms.impulse_response(h.room, h.room.television, h.room.devices_m[0])[:3000] for h in homes[:25]]
    for one, other in itertools.combinations(responses, 2):
        peak = np.max(np.abs(scipy.signal.fftconvolve(one, other[::-1])))
        # Two loudspeakers close to each other look alike in dry rooms, but never the same.
        assert peak / np.linalg.norm(one) / np.linalg.norm(other) < 0.95


# The truth


SIZES = st.integers(1, 5)
AIRINGS = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 600), SIZES, st.integers(0, 3)), min_size=1, max_size=12
).map(lambda rows: [Airing(f"e{i}", f, "en-US", at, n, n + more) for i, (f, at, n, more) in enumerate(rows)])


@given(AIRINGS)
def test_truth_is_a_function_of_who_heard_what_before(airings: list[Airing]) -> None:
    """ignore: three homes; ignore_by_cache: known for a minute; accept: all else. Devices do not count."""
    for airing in airings:
        expect = truth.expectation(airing, airings)
        known = any(
            o.clip_file == airing.clip_file and o.households >= 3 and airing.at_s - o.at_s >= 60 for o in airings
        )
        assert (expect == "ignore") == (airing.households >= 3)
        assert (expect == "ignore_by_cache") == (airing.households < 3 and known)
        assert (truth.kind(airing, airings) == "rerun") == (expect == "ignore_by_cache")
        if expect == "ignore_by_cache":
            first = next(o for o in airings if o.event == truth.event_of(airing, airings))
            assert (first.clip_file, first.households >= 3) == (airing.clip_file, True)
        else:
            assert truth.event_of(airing, airings) == airing.event


def _assert_truth(found: scene.Scene) -> None:
    households: dict[str, set[str]] = defaultdict(set)
    for heard in found.heard:
        if heard.event is not None and heard.kind != "rerun":
            households[heard.event].add(heard.home.household)
    for heard in found.heard:
        if heard.kind == "live":
            assert (heard.expect, heard.event, heard.clip.role) == ("accept", None, "live")
            continue
        assert heard.clip.role == "advert"
        if heard.kind == "rerun":
            first = min(h.start_s for h in found.heard if h.event == heard.event and h.kind != "rerun")
            assert heard.expect == "ignore_by_cache"
            assert heard.start_s - first > 55
            assert len(households[heard.event or ""]) >= 3
        else:
            assert heard.households_in_event == len(households[heard.event or ""])
            assert (heard.expect == "ignore") == (heard.households_in_event >= 3)


def test_truth_of_a_scene(evening: scene.Scene) -> None:
    """Every label follows from the requests themselves; all four kinds occur."""
    _assert_truth(evening)
    several = plan(Settings(minutes=20, events=20, event_size="1,2,3,12", seed=2, reruns=6))
    _assert_truth(several)
    assert {h.kind for h in several.heard} == {"live", "media", "media_same_household", "rerun"}


@given(st.integers(0, 10_000))
def test_truth_of_any_scene(seed: int) -> None:
    """The labels hold for any seed."""
    _assert_truth(plan(Settings(minutes=4, events=4, event_size="1-12", live_per_minute=4, seed=seed, reruns=2)))


def test_nobody_repeats_the_same_words_within_half_a_minute(evening: scene.Scene) -> None:
    """Neither a person (one synthetic voice, one text) nor an actor (any of its advertisements, within a minute)."""
    last: dict[tuple[str, str], float] = {}
    for heard in evening.heard:
        if heard.kind == "live":
            key = (heard.clip.voice, heard.clip.text)
            assert heard.start_s - last.get(key, -1e9) > 29.5
            last[key] = heard.start_s
    by_voice = defaultdict(list)
    voices = {clip.file: clip.voice for clip in all_clips()}
    for airing in evening.airings:
        by_voice[voices[airing.clip_file]].append(airing.at_s)
    assert all(b - a >= 60 for times in by_voice.values() for a, b in itertools.pairwise(sorted(times)))


def test_few_voices_wait_for_their_turn() -> None:
    """Ten people who know the word "computer" can be asked for as often as their half minutes allow."""
    found = plan(
        Settings(split="evaluation", wake_words=("computer",), events=0, live_per_minute=14, minutes=5, seed=1)
    )
    assert len(found.heard) == 70
    times = defaultdict(list)
    for heard in found.heard:
        times[heard.clip.voice, heard.clip.text].append(heard.start_s + heard.wake_word_start_s)
    assert all(b - a > 29.99 for said in times.values() for a, b in itertools.pairwise(sorted(said)))


def test_a_home_is_woken_by_one_thing_at_a_time(evening: scene.Scene) -> None:
    """No person speaks where the television just woke a device."""
    media = [(h.home.household, h.start_s) for h in evening.heard if h.kind != "live"]
    for heard in evening.heard:
        if heard.kind == "live":
            assert all(abs(at_s - heard.start_s) > 4 for home, at_s in media if home == heard.home.household)


@pytest.mark.parametrize("split", ["calibration", "evaluation"])
def test_a_split_uses_its_own_voices_only(split: str) -> None:
    """Words, advertisements and babble come from one split."""
    found = plan(Settings(split=split, seed=1))
    assert {heard.clip.split for heard in found.heard} == {split}
    assert {clip.split for clip in render._talkers(split, ("alexa",))} == {split}


def test_locales_and_wake_words_are_mixed_and_an_airing_stays_in_one_locale() -> None:
    """Requests carry their home's locale; an event never straddles two routes."""
    found = plan(Settings(wake_words=("alexa", "computer"), locales=("en-US", "en-GB"), events=8, seed=4))
    routes = defaultdict(set)
    for heard in found.heard:
        routes[heard.event].add((heard.clip.wake_word, heard.home.locale))
    assert len(routes.pop(None)) == 4
    assert all(len(route) == 1 for route in routes.values())


# The recording


def test_a_recording_is_as_its_format_says(recording: Path) -> None:
    """Sorted manifest, 16 kHz mono FLAC of the stated length, sources with the wake word where it is."""
    from pipeline.recordings.recording import Recording

    lines = entries(recording)
    assert lines == sorted(lines, key=lambda line: line["start_s"])
    for line in lines:
        info = soundfile.info(recording / line["file"])
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
        assert 2.4 < info.duration < 3.1
    with (recording / "sources" / "media.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert {row["file"] for row in rows} == {line["source"] for line in lines if line["source"]}
    for row in rows:
        clean, _ = soundfile.read(recording / "sources" / row["file"])
        assert 1 < float(row["at_s"]) < len(clean) / 16_000 - 2
    loaded = Recording.load(recording)
    for line in lines:
        label = loaded.truth[line["request_id"]]
        assert label.households_in_event == line["households_in_event"]


def test_the_same_seed_gives_the_same_bytes_with_one_worker_and_with_two(recording: Path, tmp_path: Path) -> None:
    """Nothing depends on who renders what, or in which order."""
    write.write_recording(plan(SMALL), tmp_path / "again", workers=2)
    assert digest(tmp_path / "again") == digest(recording)
    other = plan(scene.replace(SMALL, seed=4))
    assert [write.manifest_entry(h) for h in other.heard] != entries(recording)


def test_the_announced_size_is_about_right(recording: Path) -> None:
    """Within a third of what was written."""
    size = sum(path.stat().st_size for path in recording.rglob("*") if path.is_file())
    assert write.recording_bytes(plan(SMALL)) == pytest.approx(size, rel=0.33)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    """One sentence, and nothing is touched; an empty folder is taken."""
    (tmp_path / "letter.txt").write_text("dear")
    result = run(tmp_path, "--preset", "quick")
    assert isinstance(result.exception, InputError)
    assert "holds something already" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(InputError, match="is a file"):
        check_folder(tmp_path / "letter.txt")
    (tmp_path / "new").mkdir()
    check_folder(tmp_path / "new")
    with pytest.raises(InputError, match="the disk has"):
        check_folder(tmp_path / "new", needed_bytes=1 << 60)


def test_the_command_says_what_it_makes_and_what_it_made(tmp_path: Path) -> None:
    """Options reach the scene; the closing line counts what is to be accepted and ignored."""
    folder = tmp_path / "new" / "r"
    options = ["--minutes", "0.5", "--homes", "10", "--events", "1", "--event-size", "3", "--live-per-minute", "4"]
    options += ["--wake-words", "computer", "--split", "evaluation", "--workers", "1"]
    result = run(folder, *options, "--snr", "12", "--request-s", "1.5")
    assert result.exit_code == 0, result.exception
    assert "2 to accept" in result.stdout
    assert "about" in result.stderr
    lines = entries(folder)
    assert {line["wake_word"] for line in lines} == {"computer"}
    assert {line["snr_db"] for line in lines} == {12.0}
    assert {soundfile.info(folder / line["file"]).frames for line in lines} == {24_000}
    assert {line["household"] for line in lines} <= {f"h{i:04d}" for i in range(10)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--preset", "breakfast"], "quick, evening, superbowl"),
        (["--snr", "loud"], "'loud' is not a mix"),
        (["--snr", "20-5"], "is not a mix"),
        (["--event-size", "0-3"], "whole numbers from 1"),
        (["--event-size", "50", "--homes", "40"], "fewer than an event of 50"),
        (["--minutes", "0"], "--minutes 0"),
        (["--minutes", "1", "--events", "60"], "are too many for the advertisements"),
        (["--live-per-minute", "100000"], "is more than"),
        (["--wake-words", "olivia"], "no clip says the wake word 'olivia'"),
        (["--split", "training"], "--split training"),
        (["--locale", "de-DE"], "the clips are English"),
        (["--seed", "-1"], "--seed -1"),
        (["--request-s", "0.5"], "a request lasts 1 to 30 s"),
        (["--events", "0", "--live-per-minute", "0"], "nobody speaks"),
    ],
)
def test_what_cannot_be_simulated_is_said_in_a_sentence(options: list[str], sentence: str, tmp_path: Path) -> None:
    """An InputError, which the command line turns into one line and exit code 2."""
    result = run(tmp_path / "r", *options)
    assert isinstance(result.exception, InputError)
    assert sentence in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_mixes_are_read() -> None:
    """Numbers and spans, separated by commas."""
    assert parse_spans("0,5, 10-25", "--snr") == [(0.0, 0.0), (5.0, 5.0), (10.0, 25.0)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupted_run_leaves_nothing(number: int, workers: str, tmp_path: Path) -> None:
    """Neither the recording, nor its beginnings, nor a process."""
    code = (
        "import pipeline.simulate.command as c, signal, typer; app = typer.Typer(pretty_exceptions_enable=False);"
        "app.command()(c.simulate);"
        # A shell starts what it runs in the background deaf to Ctrl-C, and its children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)"
        "\nif __name__ == '__main__': app()"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    target = tmp_path / "out" / "r"
    command = [sys.executable, str(script), str(target), "--preset", "superbowl", "--workers", workers]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not list(target.parent.glob(".r.*.partial/audio/*.flac")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.terminate()
        process.communicate(timeout=30)
        assert process.returncode != 0
    assert list(target.parent.iterdir()) == []
    deadline = time.monotonic() + 10
    while _group_lives(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("moment", ["submit", "wait"])
def test_a_signal_while_the_pool_is_at_work_waits_until_it_is_not(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that raises there leaves the pool's locks taken, and the run never ended."""
    left = []

    def interrupted(whole: Any) -> Any:
        def call(*args: Any, **others: Any) -> Any:
            if not left:
                signal.raise_signal(signal.SIGTERM)
            done = whole(*args, **others)
            left.append(moment)
            return done

        return call

    if moment == "wait":
        monkeypatch.setattr(write, "wait", interrupted(write.wait))
    else:
        monkeypatch.setattr(write.ProcessPoolExecutor, "submit", interrupted(write.ProcessPoolExecutor.submit))
    with pytest.raises(SystemExit):
        write.write_recording(plan(SMALL), tmp_path / "r", workers=2)
    assert left
    assert list(tmp_path.iterdir()) == []


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_importing_the_package_is_light() -> None:
    """Neither pyroomacoustics nor audio libraries come with the command."""
    heavy = ("pyroomacoustics", "soundfile", "scipy", "numpy")
    code = f"import sys, pipeline.simulate.command; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyroomacoustics a room cannot sound, and the message says how to get it."""
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    rooms._pyroomacoustics.cache_clear()
    with pytest.raises(InputError, match=r"hushword\[simulate\]"):
        rooms._pyroomacoustics()
    rooms._pyroomacoustics.cache_clear()


def test_a_room_always_has_a_place() -> None:
    """Devices and people are 0.8 to 4 m from what they hear, and half a metre from the walls."""
    for home in draw_homes(9, 200, ["en-US"]):
        rng = rng_for(9, home.household)
        talker = rooms.draw_talker(rng, home.room, 0).place_m
        assert 0.8 <= rooms.distance_m(talker, home.room.devices_m[0]) <= 4.0
        assert all(0.5 <= x <= size - 0.5 for x, size in zip(talker[:2], home.room.size_m[:2], strict=True))
        assert -50 <= min(home.ppm) <= max(home.ppm) <= 50


def test_a_fast_clock_takes_more_samples(evening: scene.Scene) -> None:
    """50 ppm is 2.4 samples in three seconds: the tail of a request moves by so much."""
    heard: Heard = next(h for h in evening.heard if h.kind == "live" and h.snr_db == 25.0)
    ends = []
    for ppm in (-1000.0, 1000.0):  # twenty times more than a quartz, so that it can be measured on one request
        home = scene.replace(heard.home, ppm=(ppm,) * len(heard.home.ppm))
        ends.append(render.render(scene.replace(heard, home=home), evening.settings).astype(float))
    part = slice(20_000, 36_000)
    correlation = scipy.signal.correlate(ends[1][part], ends[0][part], "same")
    shift = int(np.argmax(correlation)) - 8000
    assert 0.0015 * 20_000 < shift < 0.0025 * 36_000

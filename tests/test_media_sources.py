"""Recordings of every format, tables of mentions, and the entries that they make."""

import csv
import io
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from matcher.bits import bits_named
from matcher.known_entry import AFTER_MS, PREROLL_MS
from pipeline.media.adding import Adding, Recording
from pipeline.media.entries import check_entry, media_id_of, words_of
from pipeline.media.sources import COLUMNS, Mention, SourceError, fingerprint, read_audio, read_csv, time_us
from pipeline.simulate.broadcast import mix
from pipeline.simulate.clips import SAMPLE_RATE_HZ, choose
from pipeline.wire import BadMediaError

BITS = bits_named("learned64")
ADVERT = choose("advert", "all", ["alexa"])[0]
AT_S = mix(ADVERT).wake_word_start_s
DAY_US = 86_400_000_000
HEAD = ",".join(COLUMNS)


def mention(file: Path, **changes: object) -> Mention:
    return replace(Mention(file, "", "alexa", "en-US", AT_S), **changes)  # type: ignore[arg-type]


def encode_with_av(path: Path, samples: npt.NDArray[np.float64], rate_hz: int) -> None:
    av = pytest.importorskip("av")
    with av.open(path, "w") as out:
        stream = out.add_stream("aac", rate=rate_hz, layout="mono", bit_rate=96_000)
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)


# ---- audio -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.mp4"])
def test_every_format_gives_the_same_sound(name: str, tmp_path: Path) -> None:
    clean = mix(ADVERT).samples
    path = tmp_path / name
    if path.suffix in (".m4a", ".mp4"):
        encode_with_av(path, clean, SAMPLE_RATE_HZ)
    else:
        soundfile.write(path, clean, SAMPLE_RATE_HZ)
    heard = read_audio(path)
    assert heard.dtype == np.float32
    n = min(len(heard), len(clean))
    assert abs(len(heard) - len(clean)) < 0.15 * SAMPLE_RATE_HZ
    lags = np.fft.irfft(np.fft.rfft(heard[:n], 2 * n) * np.fft.rfft(clean[:n], 2 * n).conj())
    assert min(np.argmax(lags), 2 * n - np.argmax(lags)) <= 0.03 * SAMPLE_RATE_HZ
    assert np.std(heard) == pytest.approx(np.std(clean) * 32768, rel=0.05)


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_and_any_channels_become_one_channel_at_16_khz(rate_hz: int, tmp_path: Path) -> None:
    seconds = np.arange(3 * rate_hz) / rate_hz
    tone = 0.25 * np.sin(2 * np.pi * 1000 * seconds)
    soundfile.write(tmp_path / "a.wav", np.stack((2 * tone, 0 * tone, tone, tone), axis=1), rate_hz, subtype="FLOAT")
    heard = read_audio(tmp_path / "a.wav")
    assert len(heard) == pytest.approx(3 * 16_000, abs=2)
    expected = 0.25 * 32768 * np.sin(2 * np.pi * 1000 * np.arange(len(heard)) / 16_000)
    assert np.abs(heard - expected)[800:-800].max() < 30


def test_what_is_no_audio_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(b"not audio at all")
    (tmp_path / "a.txt").write_text("neither", encoding="utf-8")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    for name, why in [
        ("a.flac", "audio"),
        ("a.txt", "audio"),
        ("empty.wav", "there is no audio in it"),
        ("nan.wav", "are no numbers"),
        ("none.wav", "there is no such file"),
        ("", "there is no such file"),
    ]:
        with pytest.raises(SourceError, match=why) as error:
            read_audio(tmp_path / name)
        assert "\n" not in str(error.value)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"no audio for libsndfile")
    with pytest.raises(SourceError, match=r"hushword\[media\]"):
        read_audio(tmp_path / "a.m4a")


# ---- entries ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def advert(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "advert.flac", mix(ADVERT).samples, SAMPLE_RATE_HZ)
    return tmp_path / "advert.flac"


def test_an_entry_is_named_by_what_it_is_made_of(advert: Path) -> None:
    entry = fingerprint(mention(advert, title="Soap", valid_from_us=5, valid_until_us=DAY_US), BITS, added_us=7)
    check_entry(entry, BITS)
    words = words_of(entry)
    left_ms = 1000 * (len(mix(ADVERT).samples) / SAMPLE_RATE_HZ - AT_S)
    assert len(words) * 20 == pytest.approx(PREROLL_MS + min(AFTER_MS, left_ms), abs=500)
    assert (entry.title, entry.source, entry.wake_word_ms) == ("Soap", "advert.flac", round(1000 * AT_S))
    assert (entry.valid_from_us, entry.valid_until_us, entry.added_us) == (5, DAY_US, 7)
    again = fingerprint(mention(advert), BITS)
    assert again.media_id == entry.media_id == media_id_of(words, "alexa", "en-US")
    others = [mention(advert, locale="en-GB"), mention(advert, wake_word="computer"), mention(advert, at_s=AT_S + 0.1)]
    assert len({fingerprint(other, BITS).media_id for other in others} | {entry.media_id}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"words": b"123"}, {"words": bytes(8)}, {"words": bytes(8 * 2000)}, {"kind": 2}, {"bits": "other"},
        {"wake_word": "Alexa"}, {"locale": "?"}, {"title": "\x1b[31m"}, {"valid_from_us": 9, "valid_until_us": 9},
        {"media_id": "k-0000000000000000"}, {"added_us": -1}, {"locale": "en-GB"},
    ],
)  # fmt: skip
def test_what_no_recording_gives_is_refused(change: dict[str, object], advert: Path) -> None:
    entry = fingerprint(mention(advert), BITS)
    check_entry(entry, BITS)
    for name, value in change.items():
        setattr(entry, name, value)
    with pytest.raises(BadMediaError):
        check_entry(entry, BITS)


def test_a_place_where_nobody_speaks_makes_no_entry(advert: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    seconds = np.arange(5 * 16_000) / 16_000
    for name, sound, why in [
        ("silent", np.zeros(5 * 16_000), "silent"),
        ("quiet", 1e-4 * rng.standard_normal(5 * 16_000), "silent"),
        ("noise", 0.1 * rng.standard_normal(5 * 16_000), "steady"),
        ("tone", 0.5 * np.sin(2 * np.pi * 440 * seconds), "steady"),
    ]:
        soundfile.write(tmp_path / f"{name}.wav", sound, 16_000, subtype="FLOAT")
        with pytest.raises(SourceError, match=why):
            fingerprint(mention(tmp_path / f"{name}.wav", at_s=1.0), BITS)
    long_s = len(mix(ADVERT).samples) / SAMPLE_RATE_HZ
    with pytest.raises(SourceError, match=r"it takes 0\.7 s"):
        fingerprint(mention(advert, at_s=long_s - 0.5), BITS)
    with pytest.raises(SourceError, match=f"it is {long_s:.2f} s long"):
        fingerprint(mention(advert, at_s=1000 * AT_S), BITS)


def test_somebody_speaks_in_every_advertisement() -> None:
    for clip in choose("advert", "all", ["alexa", "computer", "hey_jarvis"]):
        clean = mix(clip)
        samples = (clean.samples * 32768).astype(np.float32)
        fingerprint(mention(Path(clip.file), at_s=clean.wake_word_start_s), BITS, samples)


# ---- tables ----------------------------------------------------------------------------------------------------------


def table(tmp_path: Path, text: str) -> Path:
    (tmp_path / "media.csv").write_text(text, encoding="utf-8")
    return tmp_path / "media.csv"


def test_a_table_names_files_beside_it(tmp_path: Path) -> None:
    text = (
        "\ufeffvalid_until,at_s,locale,wake_word,title,file,valid_from\r\n"
        '2026-02-01,1.5,en-US,alexa,"Soap, ""new""",sub/a.wav,2026-01-31T20:00:00+01:00\r\n'
        ",2,de-DE,hey_jarvis,,b.mp3,\r\n"
    )
    first, second = read_csv(table(tmp_path, text))
    assert first == Mention(
        tmp_path / "sub" / "a.wav", 'Soap, "new"', "alexa", "en-US", 1.5,
        time_us("2026-01-31T19:00:00"), time_us("2026-02-02"),
    )  # fmt: skip
    assert second == Mention(tmp_path / "b.mp3", "", "hey_jarvis", "de-DE", 2.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: there is no column 'file'"),
        ("file,title,wake_word,locale\n", "line 1: there is no column 'at_s'"),
        (f"{HEAD},colour\n", "line 1: nobody knows a column 'colour'"),
        (f"{HEAD},file\n", "line 1: a column is there twice"),
        (f"{HEAD}\n", "names no recordings"),
        (f"{HEAD}\na,t,alexa,en-US,1\n,t,alexa,en-US,1\n", "line 3, column file: there is nothing in it"),
        (f"{HEAD}\na,t,alexa,en-US\n", "line 2: it has fewer cells"),
        (f"{HEAD}\na,t,alexa,en-US,1,2\n", "line 2: it has more cells"),
        (f"{HEAD}\na,t,alexa,en-US,soon\n", "line 2, column at_s: 'soon' is no number"),
        (f"{HEAD}\na,t,alexa,en-US,-1\n", "line 2, column at_s: -1 is no place"),
        (f"{HEAD}\na,t,alexa,en-US,nan\n", "line 2, column at_s: nan is no place"),
        (f"{HEAD}\na,t,Alexa!,en-US,1\n", "line 2, column wake_word: 'Alexa!' is no wake word"),
        (f"{HEAD}\na,t,alexa,en_US,1\n\n", "line 2, column locale: 'en_US' is no locale"),
        (f"{HEAD}\na,{'t' * 201},alexa,en-US,1\n", "line 2, column title: a title has"),
        (f"{HEAD}\na,\x07,alexa,en-US,1\n", "line 2, column title: a title has"),
        (f"{HEAD}\na\0,t,alexa,en-US,1\n", "line 2"),
        (f"{HEAD},valid_from\na,t,alexa,en-US,1,soon\n", "line 2, column valid_from: 'soon' is no time"),
        (f"{HEAD},valid_until\na,t,alexa,en-US,1,1950-01-01\n", "column valid_until: '1950-01-01' lies before 1970"),
        (
            f"{HEAD},valid_from,valid_until\na,t,alexa,en-US,1,2026-02-02,2026-02-01\n",
            "line 2, column valid_until: it would be valid until before",
        ),
        (f'{HEAD}\n"a"b,t,alexa,en-US,1\n', "line 2: not CSV"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_said_by_line_and_column(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        read_csv(table(tmp_path, text))
    assert said in str(error.value)
    assert "media.csv" in str(error.value)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("file,title\nä,ö\n".encode("latin-1"))
    for name in ("latin.csv", "none.csv", ""):
        with pytest.raises(SourceError, match="cannot be read as a table"):
            read_csv(tmp_path / name)


def test_a_date_until_is_that_whole_day() -> None:
    assert time_us("2026-02-01", until=True) - time_us("2026-02-01") == DAY_US
    assert time_us("2026-02-01T00:00", until=True) == time_us("2026-02-01") == time_us("2026-02-01T01:00+01:00")
    assert time_us("") == 0


@given(st.text())
def test_a_time_is_a_number_or_a_sentence(text: str) -> None:
    for until in (False, True):
        with suppress(SourceError):
            assert time_us(text, until=until) >= 0


@given(text=st.one_of(st.text(), st.lists(st.lists(st.text(max_size=8), max_size=8)).map(
    lambda rows: HEAD + "\n" + "\n".join(",".join(row) for row in rows))))  # fmt: skip
def test_any_table_gives_mentions_or_a_sentence(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    with suppress(SourceError):
        assert read_csv(path)


titles = st.text(max_size=30).filter(lambda text: text.isprintable() and text == text.strip())


@given(rows=st.lists(st.tuples(titles, st.floats(0, 1e6)), min_size=1))
def test_a_table_gives_back_what_was_written(
    rows: list[tuple[str, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(["a.wav", title, "alexa", "en-US", at_s] for title, at_s in rows)
    found = read_csv(table(tmp_path_factory.getbasetemp(), text.getvalue()))
    assert [(m.title, m.at_s) for m in found] == rows


def test_an_entry_with_little_sound_after_the_wake_word_is_warned_of(tmp_path: Path) -> None:
    """Silent after it, or at its end: it is an entry all the same."""
    clean = mix(ADVERT).samples
    over = round((AT_S + 0.9) * SAMPLE_RATE_HZ)
    silent = np.where(np.arange(len(clean)) < over, clean, 0)
    for name, samples, warned in (("whole", clean, False), ("silent", silent, True), ("short", clean[:over], True)):
        file = tmp_path / f"{name}.flac"
        soundfile.write(file, samples, SAMPLE_RATE_HZ)
        (outcome,), (entry,) = Adding(BITS, []).take(Recording(file, (mention(file),)))
        assert (outcome.result, outcome.media_id) == ("added", entry.media_id)
        assert bool(outcome.why) == warned
        assert ("0.2 s of sound after the wake word" in outcome.why) == warned

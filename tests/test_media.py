"""The catalogue's upkeep: recordings become entries on a real Kafka, and entries become files and entries again."""

import csv
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from test_cli import _run
from test_media_sources import encode_with_av

from matcher.bits import bits_named, frame_count, word_count
from matcher.catalogue import Average
from matcher.known_entry import AFTER_MS, PREROLL_MS
from matcher.known_null import LEAD_WORDS
from pipeline.control import publish
from pipeline.kafka.topics import create_topics
from pipeline.media.adding import Adding, Outcome, Recording
from pipeline.media.entries import media_id_of, words_of
from pipeline.media.file import write_entries
from pipeline.media.topic import fingerprints
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.options import Settings
from pipeline.simulate.broadcast import mix, transmitted
from pipeline.simulate.clips import SAMPLE_RATE_HZ, Clip, choose
from pipeline.wire import average_to_message

ADVERTS = choose("advert", "all", ["alexa"])
BITS = bits_named("learned64")
names = itertools.count()


@dataclass
class Shelf:
    """A media topic of the test's own, and the command line to it."""

    settings: Settings
    capsys: pytest.CaptureFixture[str]

    def run(self, command: str, *arguments: str | Path) -> tuple[int, str, str]:
        flags = ["--bootstrap-servers", self.settings.bootstrap_servers, "--media-topic", self.settings.media_topic]
        if command in ("list", "show", "block"):
            flags += ["--control-topic", self.settings.control_topic]
        return _run(self.capsys, "media", command, *arguments, *flags)

    def add(self, *arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
        code, out, err = self.run("add", *arguments, "--json")
        return code, json.loads(out) if out else [], err

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        code, out, _ = self.run("list", "--json", *arguments)
        assert code == 0
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def there(self) -> dict[str, MediaFingerprint]:
        return fingerprints(self.settings)

    def discover(self, media_id: str, words: np.ndarray[Any, np.dtype[np.uint64]], agreement: float) -> None:
        votes = np.full(len(words), 5, np.uint8)
        average = Average(media_id, words, votes, 5, 10**15, 10**15, 4 * 10**15, "s", 2 * 10**15, agreement)
        message = average_to_message(average, "alexa/en-US/0", "learned64").SerializeToString()
        publish(self.settings, self.settings.media_topic, {media_id: message})


@pytest.fixture
def shelf(kafka: str, capsys: pytest.CaptureFixture[str]) -> Shelf:
    name = f"shelf-{next(names)}"
    settings = Settings(bootstrap_servers=kafka, media_topic=f"{name}-media", control_topic=f"{name}-control")
    create_topics(settings, roles=["media", "control"])
    return Shelf(settings, capsys)


US = "--wake-word", "alexa", "--locale", "en-US"


def at(clip: Clip, later_s: float = 0.0) -> tuple[str, str]:
    return "--at", f"{mix(clip).wake_word_start_s + later_s:.4f}"


def write(path: Path, clip: Clip, gain: float = 1.0) -> Path:
    soundfile.write(path, gain * mix(clip).samples, SAMPLE_RATE_HZ)
    return path


def table(folder: Path, clips: list[Clip]) -> Path:
    """Adverts as their makers deliver them."""
    folder.mkdir(exist_ok=True)
    with (folder / "media.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "title", "wake_word", "locale", "at_s", "valid_until"])
        for clip in clips:
            write(folder / clip.file, clip)
            rows.writerow([clip.file, clip.text, "alexa", "en-US", mix(clip).wake_word_start_s, "2099-12-31"])
    return folder / "media.csv"


def test_recordings_are_added_listed_shown_and_removed(shelf: Shelf, tmp_path: Path) -> None:
    table(tmp_path / "spots", ADVERTS[:3])
    code, dry, _ = shelf.add(tmp_path / "spots", "--dry-run")
    assert (code, [said["result"] for said in dry]) == (0, ["added"] * 3)
    assert shelf.there() == {}
    code, out, _ = shelf.run("add", tmp_path / "spots")
    assert (code, "3 entries added, 0 already there, 0 recordings refused" in out) == (0, True)
    assert set(shelf.there()) == {said["media_id"] for said in dry}
    listed = shelf.listed()
    assert {entry["title"] for entry in listed} == {clip.text for clip in ADVERTS[:3]}
    assert {entry["kind"] for entry in listed} == {"KNOWN"}
    assert all(entry["valid"] and entry["valid_until_s"] > 4e9 for entry in listed)

    one = listed[0]
    assert shelf.listed("--title", one["title"][3:12].upper(), "--wake-word", "alexa", "--known", "--valid") == [one]
    assert shelf.listed("--locale", "de-DE") == shelf.listed("--discovered") == shelf.listed("--blocked") == []
    code, out, _ = shelf.run("list")
    assert all(entry["media_id"] in out for entry in listed)
    code, out, _ = shelf.run("show", one["media_id"])
    assert code == 0
    assert all(said in out for said in (one["title"][:20], one["source"], "2100-01-01 00:00:00Z"))
    assert out.count("│") == 32
    assert json.loads(shelf.run("show", one["media_id"], "--json")[1]) == one

    code, _, err = shelf.run("remove", one["media_id"], "k-nothing")
    assert (code, "there is no entry 'k-nothing'" in err, len(shelf.there())) == (2, True, 3)
    code, out, _ = shelf.run("remove", one["media_id"])
    assert (code, f"{one['media_id']} ({one['title']}) is removed" in out) == (0, True)
    assert {entry["media_id"] for entry in shelf.listed()} == {entry["media_id"] for entry in listed[1:]}
    code, _, err = shelf.run("block", listed[1]["media_id"])
    assert (code, "`hushword media remove" in err) == (2, True)
    code, _, err = shelf.run("show", one["media_id"])
    assert (code, "there is no" in err) == (2, True)


def test_a_recording_is_added_once_whatever_its_encoding_level_and_cut(shelf: Shelf, tmp_path: Path) -> None:
    clip = ADVERTS[0]
    code, said, _ = shelf.add(write(tmp_path / "first.flac", clip), *US, *at(clip))
    (media_id,) = shelf.there()
    assert (code, said[0]["result"], said[0]["media_id"]) == (0, "added", media_id)
    again: list[tuple[Path, float]] = [
        (write(tmp_path / "quiet.wav", clip, gain=0.05), late) for late in (-0.1, 0.033, 0.1)
    ]
    again += [(write(tmp_path / f"coded.{kind}", clip), 0.05) for kind in ("mp3", "ogg")]
    for path in ("cable", "antenna", "stream", "web"):
        soundfile.write(tmp_path / f"{path}.wav", transmitted(clip, path).samples, SAMPLE_RATE_HZ)
        again.append((tmp_path / f"{path}.wav", 0.01))
    encode_with_av(tmp_path / "coded.m4a", mix(clip).samples, SAMPLE_RATE_HZ)
    again.append((tmp_path / "coded.m4a", 0.0))
    for file, late in again:
        code, said, _ = shelf.add(file, *US, *at(clip, late))
        assert (code, said[0]["result"], said[0]["media_id"]) == (0, "there", media_id), file
    assert set(shelf.there()) == {media_id}
    # For requests of another locale it is another entry.
    code, said, _ = shelf.add(tmp_path / "coded.mp3", "--wake-word", "alexa", "--locale", "en-GB", *at(clip))
    assert (code, said[0]["result"]) == (0, "added")


def test_what_is_wrong_changes_nothing_and_the_others_go_on(shelf: Shelf, tmp_path: Path) -> None:
    good = table(tmp_path / "spots", ADVERTS[:2])
    (tmp_path / "spots" / "text.mp3").write_text("this is no sound", encoding="utf-8")
    with good.open("a", encoding="utf-8") as file:
        file.write("text.mp3,t,alexa,en-US,1,\n")
        file.write(f"{ADVERTS[0].file},said twice,alexa,en-US,{mix(ADVERTS[0]).wake_word_start_s + 0.01},\n")
        file.write(f"{ADVERTS[1].file},beyond its end,alexa,en-US,99,\n")
        file.write("missing.wav,t,alexa,en-US,1,\n")
    code, said, err = shelf.add(tmp_path / "spots")
    assert code == 1
    assert "3 of 4 recordings changed nothing" in err
    assert [(Path(one["file"]).name, one["result"]) for one in said] == [
        (ADVERTS[0].file, "added"), (ADVERTS[0].file, "there"),
        (ADVERTS[1].file, "refused"), ("text.mp3", "refused"), ("missing.wav", "refused"),
    ]  # fmt: skip
    assert all(one["why"].count("\n") == 0 and one["why"] for one in said if one["result"] == "refused")
    assert len(shelf.there()) == 1
    code, out, err = shelf.run("add", tmp_path / "spots")
    assert (code, "0 entries added, 2 already there, 3 recordings refused" in out) == (1, True)
    assert "99" in err


def test_ctrl_c_leaves_whole_recordings_and_the_rest_for_later(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path / "spots", ADVERTS[:3])
    take = Adding.take

    def interrupted(adding: Adding, recording: Recording) -> tuple[list[Outcome], list[MediaFingerprint]]:
        signal.raise_signal(signal.SIGINT)
        return take(adding, recording)

    with monkeypatch.context() as patched:
        patched.setattr(Adding, "take", interrupted)
        code, said, err = shelf.add(tmp_path / "spots")
    assert (code, len(said), "stopped after 1 of 3 recordings" in err) == (130, 1, True)
    assert set(shelf.there()) == {said[0]["media_id"]}
    code, said, _ = shelf.add(tmp_path / "spots")
    assert (code, [one["result"] for one in said]) == (0, ["there", "added", "added"])


def test_the_wake_word_is_found_in_a_folder_without_a_table(shelf: Shelf, tmp_path: Path) -> None:
    pytest.importorskip("pyopen_wakeword")
    write(tmp_path / "spot.flac", ADVERTS[0])
    soundfile.write(tmp_path / "nobody.wav", 0.1 * np.random.default_rng(1).standard_normal(48_000), 16_000)
    (tmp_path / "notes.txt").write_text("no audio, and not looked at", encoding="utf-8")
    code, said, _ = shelf.add(tmp_path, "--find", *US)
    assert (code, [one["result"] for one in said]) == (1, ["refused", "added"])
    assert "hears no alexa in it" in said[0]["why"]
    assert said[1]["at_s"] == pytest.approx(mix(ADVERTS[0]).wake_word_start_s, abs=0.15)
    assert [entry["title"] for entry in shelf.listed()] == ["spot"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.wav", *US), "give --at, a table or --find"),
        (("a.wav", "--at", "1"), "give --wake-word and --locale"),
        (("a.wav", "--at", "1", "--wake-word", "alexa"), "belong together"),
        (("a.wav", "--at", "1", "--find", *US), "give one of the two"),
        (("a.wav", "b.wav", "--at", "1", *US), "--at is about one recording, and 2 are named"),
        (("a.wav", "--at", "-1", *US), "is no place in a recording"),
        (("a.wav", "--at", "1", *US, "--valid-until", "soon"), "'soon' is no time"),
        (
            ("a.wav", "--at", "1", *US, "--valid-from", "2026-02-02", "--valid-until", "2026-02-01"),
            "valid until before",
        ),
        (("a.wav", "--find", "--wake-word", "computer", "--locale", "en-US"), "--find knows the wake words alexa, hey"),
        (("empty",), "has neither a media.csv nor audio in it"),
        (("media.csv", "--title", "t"), "--title is for recordings that no table names"),
        (("none.csv",), "cannot be read as a table"),
    ],
)
def test_a_wrong_command_is_a_sentence(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "media.csv").write_text("file,title,wake_word,locale,at_s\na,t,alexa,en-US,1\n", encoding="utf-8")
    code, out, err = _run(capsys, "media", "add", *arguments, "--bootstrap-servers", "127.0.0.1:1")
    assert (code, out) == (2, "")
    assert said in err


def test_a_missing_topic_is_said_before_anything_starts(kafka: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("list",), ("show", "k-1"), ("remove", "k-1"), ("promote", "d-1", "--title", "t"), ("export", "x")):
        code, out, err = _run(
            capsys, "media", *command, "--bootstrap-servers", kafka, "--media-topic", "shelf-that-is-not"
        )
        assert (code, out) == (2, "")
        assert "`hushword topics create` makes it" in err


def test_a_catalogue_becomes_a_file_and_a_catalogue_again(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(table(tmp_path / "spots", ADVERTS[:3]))
    there = shelf.there()
    shelf.discover("d-0", words_of(next(iter(there.values())))[:54], 0.9)
    code, out, _ = shelf.run("export", tmp_path / "all.jsonl")
    assert (code, out) == (0, f"{tmp_path / 'all.jsonl'}: 3 entries\n")
    other = Shelf(shelf.settings.model_copy(update={"media_topic": f"shelf-{next(names)}-media"}), shelf.capsys)
    create_topics(other.settings, roles=["media"])
    code, out, _ = other.run("import", tmp_path / "all.jsonl")
    assert (code, "3 entries added, 0 changed, 0 as they were" in out) == (0, True)
    assert other.there() == there
    code, out, _ = other.run("import", tmp_path / "all.jsonl")
    assert (code, "0 entries added, 0 changed, 3 as they were" in out) == (0, True)
    lines = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), "title": "changed"})
    (tmp_path / "all.jsonl").write_text("\n".join(lines), encoding="utf-8")
    code, out, _ = other.run("import", tmp_path / "all.jsonl")
    assert (code, "0 entries added, 1 changed, 2 as they were" in out) == (0, True)
    # One wrong line, and nothing of the others is written.
    lines[1] = json.dumps({**json.loads(lines[1]), "title": "not written"})
    lines[3] = json.dumps({**json.loads(lines[3]), "locale": "de-DE"})
    (tmp_path / "all.jsonl").write_text("\n".join(lines), encoding="utf-8")
    code, out, err = other.run("import", tmp_path / "all.jsonl")
    assert (code, out, "line 4" in err) == (2, "", True)
    assert "not written" not in {entry.title for entry in other.there().values()}


def test_a_discovered_average_is_listed_and_becomes_known(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(table(tmp_path / "spots", ADVERTS[:1]))
    (known,) = shelf.there()
    words = words_of(shelf.there()[known])[:54] ^ np.uint64(1)
    shelf.discover("d-0123", words, 0.87123)
    shelf.discover("d-short", words[:20], 0.0)
    listed = {entry["media_id"]: entry for entry in shelf.listed("--discovered")}
    assert (listed["d-0123"]["agreement"], listed["d-short"]["agreement"]) == (0.8712, None)
    _, out, _ = shelf.run("list")
    assert "87.1%" in out
    code, out, _ = shelf.run("promote", "d-0123", "--title", "Soap", "--valid-until", "2098-01-01")
    assert (code, "is known media now until 2098-01-02" in out) == (0, True)
    (new,) = set(shelf.there()) - {known, "d-0123", "d-short"}
    entry = shelf.there()[new]
    assert (entry.kind, entry.title, entry.source) == (MediaFingerprint.KNOWN, "Soap", "d-0123")
    assert np.array_equal(words_of(entry)[LEAD_WORDS:], words)
    assert not any(entry.clear[: 8 * LEAD_WORDS])
    assert set(entry.clear[8 * LEAD_WORDS :]) == {255}
    assert f"known already, as {new}" in shelf.run("promote", "d-0123", "--title", "Soap")[1]
    for media_id, said in [("d-none", "there is no average"), (known, "and is known"), ("d-short", "it takes")]:
        code, _, err = shelf.run("promote", media_id, "--title", "t")
        assert (code, said in err) == (2, True)
    code, _, err = shelf.run("remove", "d-0123")
    assert (code, "`hushword media block d-0123` withdraws it" in err) == (2, True)


class Many:
    """Entries that are made as they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[MediaFingerprint]:
        rng = np.random.default_rng(0)
        for number in range(self.count):
            words = rng.integers(0, 2**64, word_count(frame_count(PREROLL_MS + AFTER_MS), BITS), np.uint64)
            yield MediaFingerprint(
                media_id=media_id_of(words, "alexa", "en-US"), kind=MediaFingerprint.KNOWN, wake_word="alexa",
                locale="en-US", bits=BITS.name, words=words.tobytes(), title=f"spot {number}", added_us=1,
            )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_large_catalogue_goes_in_and_out_whole(shelf: Shelf, tmp_path: Path) -> None:
    """Prints what docs/media.md says of it, with HUSHWORD_MEDIA_ENTRIES=100000."""
    count = int(os.environ.get("HUSHWORD_MEDIA_ENTRIES", "20000"))
    write_entries(tmp_path / "in.jsonl", BITS.name, Many(count))
    spots = table(tmp_path / "spots", ADVERTS[:10])
    for command, argument, said in [
        ("import", tmp_path / "in.jsonl", f"{count} entries added, 0 changed, 0 as they were"),
        ("import", tmp_path / "in.jsonl", f"0 entries added, 0 changed, {count} as they were"),
        ("export", tmp_path / "out.jsonl", f"{count} entries"),
        ("add", spots, "10 entries added, 0 already there"),
        ("list", f"--title=spot {count - 1}", "spot"),
    ]:
        began_s = time.monotonic()
        code, out, _ = shelf.run(command, argument)
        with shelf.capsys.disabled():
            print(f"\n{command}: {time.monotonic() - began_s:.1f} s", end="")
        assert (code, said in out) == (0, True)
    before, after = (sorted((tmp_path / name).read_bytes().splitlines()) for name in ("in.jsonl", "out.jsonl"))
    assert before == after

"""The file of known media: what was written comes back, and what is wrong is said by line."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.bits import GRADIENT, bits_named
from pipeline.errors import FailedError, InputError
from pipeline.media.entries import MAX_TITLE, media_id_of
from pipeline.media.file import entries_said, read_entries, write_entries
from pipeline.messages.hushword_pb2 import MediaFingerprint

BITS = bits_named("learned64")


@st.composite
def entries(draw: st.DrawFn) -> MediaFingerprint:
    seed, length = draw(st.integers(0, 2**32)), draw(st.integers(60, 500))
    words = np.random.default_rng(seed).integers(0, 2**64, length, np.uint64)
    wake_word, locale = draw(st.sampled_from(["alexa", "hey jarvis"])), draw(st.sampled_from(["en-US", "de"]))
    valid_from_us = draw(st.integers(0, 2**50))
    return MediaFingerprint(
        media_id=media_id_of(words, wake_word, locale),
        kind=MediaFingerprint.KNOWN,
        wake_word=wake_word,
        locale=locale,
        bits=BITS.name,
        words=words.tobytes(),
        title=draw(st.text(max_size=MAX_TITLE).filter(str.isprintable)),
        source=draw(st.text(max_size=50)),
        wake_word_ms=draw(st.integers(0, 10**7)),
        households=draw(st.integers(0, 2**32 - 1)),
        valid_from_us=valid_from_us,
        valid_until_us=draw(st.sampled_from([0, valid_from_us + 1])),
        added_us=draw(st.integers(0, 2**62)),
    )


@given(made=st.lists(entries(), max_size=4, unique_by=lambda entry: entry.media_id))
@settings(max_examples=30)
def test_what_was_written_comes_back(made: list[MediaFingerprint], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    write_entries(path, BITS.name, made)
    assert entries_said(path, BITS) == len(made)
    assert list(read_entries(path, BITS)) == made
    assert [p.name for p in path.parent.glob(".round*")] == []


@given(text=st.one_of(st.text(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["media_id", "wake_word", "locale", "words", "title", "households", "colour"]), inner),
).map(json.dumps)))  # fmt: skip
@settings(max_examples=60)
def test_any_line_is_an_entry_or_a_sentence(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    header = json.dumps({"hushword_media": 1, "bits": BITS.name, "entries": 1})
    for content in (text, f"{header}\n{text}"):
        path.write_text(content, encoding="utf-8", errors="replace", newline="")
        with suppress(InputError):
            list(read_entries(path, BITS))


@pytest.fixture
def lines(tmp_path: Path) -> list[dict[str, object]]:
    """A header and two entries."""
    made = []
    for number in range(2):
        words = np.arange(60 + number, dtype=np.uint64)
        name = media_id_of(words, "alexa", "en-US")
        made.append(
            MediaFingerprint(
                media_id=name, kind=MediaFingerprint.KNOWN, wake_word="alexa", locale="en-US", bits=BITS.name,
                words=words.tobytes(),
            )
        )  # fmt: skip
    write_entries(tmp_path / "two.jsonl", BITS.name, made)
    return [json.loads(line) for line in (tmp_path / "two.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("line", "change", "said"),
    [
        (1, {"hushword_media": 2}, "line 1: it is of version 2"),
        (1, {"bits": "gradient64"}, "fingerprints of bits 'gradient64', and these settings have learned64"),
        (1, {"entries": 3}, "says that it has 3 entries, and has 2: it is not whole"),
        (1, {"entries": -1}, "line 1: entries must be a whole number, not -1"),
        (2, {"title": 3}, "line 2: title must be a text"),
        (2, {"title": "\ud800"}, "line 2: title must be a text"),
        (2, {"households": 2**32}, "line 2: households must be a whole number"),
        (2, {"added_us": True}, "line 2: added_us must be a whole number"),
        (2, {"colour": "red"}, "line 2: nobody knows a field 'colour'"),
        (3, {"words": "?"}, "line 3: words are not base64"),
        (3, {"words": "AAAA"}, "line 3: 3 bytes of words"),
        (3, {"wake_word": "Alexa"}, "line 3: 'Alexa' is no wake word"),
        (3, {"locale": "en-GB"}, "line 3: it is not what"),
        (3, {"valid_from_us": 2, "valid_until_us": 1}, "line 3: its times"),
    ],
)
def test_a_wrong_line_is_named(
    lines: list[dict[str, object]], line: int, change: dict[str, object], said: str, tmp_path: Path
) -> None:
    lines[line - 1] |= change
    path = tmp_path / "wrong.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(InputError) as error:
        list(read_entries(path, BITS))
    assert said in str(error.value)


def test_a_line_twice_or_missing_and_what_is_no_such_file(lines: list[dict[str, object]], tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    for content, said in [
        ("\n".join(map(json.dumps, [*lines, lines[1]])), "line 4: k-"),
        ("\n".join(map(json.dumps, lines[:2])), "it is not whole"),
        (json.dumps(lines[0]) + "\n[]\n", "line 2: not a JSON object"),
        (json.dumps(lines[0]) + "\n{\n", "line 2: not valid JSON"),
        (json.dumps(lines[0]) + '\n{"media_id": "k-1"}\n', "line 2: there is no wake_word"),
        ("", "is empty"),
        ("{}", "line 1: this is no header"),
        ("title,file", "line 1: this is no header"),
    ]:
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            list(read_entries(path, BITS))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        list(read_entries(path, BITS))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_entries(tmp_path / "none.jsonl", BITS))
    with pytest.raises(FailedError, match="cannot be written"):
        write_entries(tmp_path / "no folder" / "a.jsonl", BITS.name, [])


def test_entries_of_other_bits_are_refused_before_any_is_read(tmp_path: Path) -> None:
    write_entries(tmp_path / "a.jsonl", BITS.name, [])
    with pytest.raises(InputError, match="recordings must be added anew"):
        entries_said(tmp_path / "a.jsonl", GRADIENT)

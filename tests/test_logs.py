"""The log's lines: one JSON object each, with these fields and no others, whoever logs what."""

import io
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.logs import FIELDS, JsonLines, LogFormat, log_handler


def lines(record: logging.LogRecord, log_format: LogFormat = "json") -> list[str]:
    """What is written of a record."""
    handler = log_handler(log_format)
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written := io.StringIO())
    handler.handle(record)
    return written.getvalue().splitlines()


def record(message: str, *args: object, **extra: Any) -> logging.LogRecord:
    """A record as `logging` makes it."""
    return logging.getLogger("pipeline.x").makeRecord(
        "pipeline.x", logging.INFO, "x.py", 1, message, args, None, extra=extra
    )


@given(st.text(), st.text(min_size=1), st.text(min_size=1))
def test_a_record_is_one_json_object_with_its_ids(said: str, request_id: str, decision_id: str) -> None:
    """Whatever is in them: line breaks, quotes, other alphabets."""
    (line,) = lines(record("said %s", said, request_id=request_id, decision_id=decision_id))
    found = json.loads(line)
    assert set(found) == set(FIELDS) - {"exception"}
    assert (found["message"], found["request_id"], found["decision_id"]) == (f"said {said}", request_id, decision_id)
    assert (found["level"], found["logger"]) == ("INFO", "pipeline.x")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["time"])).total_seconds()) < 300


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_else_somebody_attaches_is_not_written(log_format: LogFormat) -> None:
    """A household, a device, audio."""
    (line,) = lines(record("m", household_id="secret", device_id="secret", audio=b"secret"), log_format)
    assert "secret" not in line


def test_a_dictionary_as_message_cannot_bring_fields_of_its_own() -> None:
    """The formatter would take it for fields."""
    dictionary = record("m")
    dictionary.msg = {"household": "secret", "message": "m"}  # type: ignore[assignment]
    assert "secret" not in JsonLines().format(dictionary)


def test_an_exception_stays_within_its_line() -> None:
    """With its traceback."""
    failed = record("failed")
    with pytest.raises(ValueError, match="invalid literal") as raised:
        int("two\nlines")
    failed.exc_info = (raised.type, raised.value, raised.tb)
    (line,) = lines(failed)
    exception = json.loads(line)["exception"]
    assert exception.startswith("Traceback")
    assert exception.count("\n") >= 2


def test_text_is_what_it_was() -> None:
    """Time, level, logger and message."""
    (line,) = lines(record("hello"), "text")
    assert line.endswith(" INFO pipeline.x: hello")

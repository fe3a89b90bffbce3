"""What the job writes to standard error: lines of text, or JSON objects, one a line.

Never audio, and never a household or a device: JSON lines have the fields below and no others, whoever logs.
"""

import logging
import sys
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]
FIELDS = ("time", "level", "logger", "message", "request_id", "decision_id", "exception")


class JsonLines(JsonFormatter):
    """A record as JSON: its time in UTC, what was said, and the ids of what it is about."""

    def __init__(self) -> None:
        super().__init__(
            ("levelname", "name", "message"),
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            timestamp="time",
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Keep the fields that there are, in their order."""
        return {name: log_data[name] for name in FIELDS if name in log_data}


def log_handler(log_format: LogFormat) -> logging.Handler:
    """Give a handler that writes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if log_format == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    return handler


def configure_logs(log_format: LogFormat) -> None:
    """Write our own records from INFO on, and warnings of all others."""
    logging.basicConfig(level=logging.WARNING, handlers=[log_handler(log_format)], force=True)
    logging.getLogger("pipeline").setLevel(logging.INFO)
    # "Task ran for 0.1s blocking the event loop" is what a busy machine looks like, not a fault.
    logging.getLogger("kafka.net").setLevel(logging.ERROR)

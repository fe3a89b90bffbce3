"""Points in time as people give them on a command line."""

import re
from datetime import UTC, datetime

from pipeline.errors import InputError

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def time_ms(text: str, now_s: float) -> int:
    """Give milliseconds of Unix time for "90s", "15m", "2h" or "1d" ago, an ISO 8601 time, or seconds of Unix time.

    A time without a zone is UTC.

    Raises:
        InputError: it is none of these.

    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return round((now_s - float(ago[1]) * _SECONDS[ago[2]]) * 1000)
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{text!r} is no time: it takes 15m, 2h, 2026-01-31T20:15:00 or seconds of Unix time"
        ) from error
    return round((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)

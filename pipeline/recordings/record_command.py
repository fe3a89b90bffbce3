"""`hushword record`: a topic's traffic as a recording."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipeline.errors import InputError
from pipeline.options import ConfigError, load_settings

if TYPE_CHECKING:
    from pipeline.growing import GrowingRecording, State
    from pipeline.recordings.record import Ended

RECORD_SETTINGS = (
    *("bootstrap_servers", "audio_topic", "reorder_ms", "request_timeout_s", "max_clock_skew_s"),
    "max_open_requests",
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME_HELP = "an ISO time (UTC unless it says otherwise), -10m (so long ago)"


def record(
    folder: Annotated[Path, typer.Argument(help="A new folder for the recording.", metavar="FOLDER")],
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            help=f"earliest, latest, an offset (in every partition), {_TIME_HELP}. [default: latest]",
            metavar="WHEN",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(help=f"now, {_TIME_HELP}. [default: Ctrl-C]", metavar="WHEN")] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="So long from its beginning: 90s, 10m, 2h, 1d.", metavar="DURATION")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="End with so many requests.", metavar="N")] = None,
    locale: Annotated[
        list[str] | None, typer.Option(help="Only this locale, such as en-US; may be repeated.", metavar="TAG")
    ] = None,
    wake_word: Annotated[
        list[str] | None, typer.Option(help="Only this wake word; may be repeated.", metavar="WORD")
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(help="Only this share of the requests, the same ones every time. [default: 1]", metavar="SHARE"),
    ] = None,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Keep the ids of requests, households and devices as they are.")
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="Key to hash ids with, so that several recordings agree in them. [default: drawn, and forgotten]",
            metavar="FILE",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a recording that was interrupted; only an end may be given.")
    ] = False,
    **flags: Any,
) -> None:
    """Record a topic's requests into a folder that replay can play back and evaluate can read.

    Times are those at which the broker appended a request's first chunk; a request that began before the end is
    recorded to its own end. Ids are replaced by keyed hashes. After Ctrl-C or a crash, --resume goes on without a
    hole or a repetition.
    """
    ends = {"--until": until, "--for": duration, "--requests": requests}
    if sum(value is not None for value in ends.values()) > 1:
        raise ConfigError(f"a recording has one end: give one of {', '.join(ends)}")
    begins = {"--from": begin, "--locale": locale, "--wake-word": wake_word, "--sample": sample}
    begins |= {"--keep-ids": keep_ids or None}
    refused = [name for name, value in begins.items() if value]
    if resume and refused:
        raise ConfigError(f"--resume goes on with what the recording was begun with: leave {', '.join(refused)} out")
    if keep_ids and key_file is not None:
        raise ConfigError("--keep-ids keeps ids and --key-file hashes them: give one of the two")
    if sample is not None and not 0 < sample <= 1:
        raise ConfigError(f"--sample {sample:g} is not a share over 0 and up to 1")
    now_ms = round(time.time() * 1000)
    until_ms = None if until is None else now_ms if until == "now" else _time_ms("--until", until, now_ms)
    for_ms = None if duration is None else _duration_ms("--for", duration)
    where = begin or "latest"
    named: str | int = int(where) if where.isascii() and where.isdecimal() else where
    from_ms = None if named in ("earliest", "latest") or isinstance(named, int) else _time_ms("--from", where, now_ms)
    settings = load_settings(config, flags)

    from pipeline.gather import GatherLimits
    from pipeline.growing import GrowingRecording, State
    from pipeline.interrupt import stoppable
    from pipeline.kafka.topics import check_cluster
    from pipeline.progress import RateProgress
    from pipeline.pseudonyms import Pseudonyms, new_key, read_key
    from pipeline.recordings.record import first_offsets
    from pipeline.recordings.record import record as read
    from pipeline.recordings.recording import check_folder

    given_key = None if key_file is None else read_key(key_file)
    if resume:
        state = GrowingRecording.left(folder)
        if "audio_topic" in settings.model_fields_set and settings.audio_topic != state.topic:
            raise ConfigError(f"{folder} is a recording of topic {state.topic!r}, not of {settings.audio_topic!r}")
        settings = settings.model_copy(update={"audio_topic": state.topic})
        check_cluster(settings, {"audio": ("READ",)})
        key = given_key if state.key is None else bytes.fromhex(state.key)
        names = Pseudonyms(None if state.ids == "kept" else key)
        if names.check != state.key_check:
            raise InputError(f"{folder} was begun with another key: name its file with --key-file")
        if any(value is not None for value in ends.values()):
            state = state.model_copy(update={"until_ms": until_ms, "for_ms": for_ms, "requests": requests})
        growing = GrowingRecording.resume(folder, state, names)
    else:
        check_folder(folder)
        check_cluster(settings, {"audio": ("READ",)})
        drawn = None if keep_ids or given_key is not None else new_key()
        names = Pseudonyms(None if keep_ids else given_key or drawn)
        offsets = first_offsets(settings, settings.audio_topic, named, from_ms)
        state = State(
            topic=settings.audio_topic,
            locales=locale or [],
            wake_words=wake_word or [],
            sample=sample or 1.0,
            ids="kept" if keep_ids else "hashed",
            key=drawn.hex() if drawn else None,
            key_check=names.check,
            from_ms=now_ms if named == "latest" else from_ms,
            for_ms=for_ms,
            until_ms=until_ms,
            requests=requests,
            next=offsets,
            needed=offsets,
        )
        growing = GrowingRecording.begin(folder, state, names)
    limits = GatherLimits(
        reorder_us=settings.reorder_ms * 1000,
        timeout_us=int(settings.request_timeout_s * 1e6),
        max_clock_skew_us=int(settings.max_clock_skew_s * 1e6),
        max_open=settings.max_open_requests,
    )
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    with stoppable() as stop, RateProgress(err, "recording") as progress:
        ended = read(settings, growing, limits, stop, lambda done, share: progress(done, growing.state.requests, share))
    print(_summary(growing, state, ended))
    if not ended.complete:
        raise typer.Exit(stop.exit_code)


def _summary(growing: "GrowingRecording", state: "State", ended: "Ended") -> str:
    """Say what was written, and whatever was not: nothing is dropped in silence."""
    counts, read = growing.counts, state.counts
    said = [f"{counts['requests']} requests, {growing.audio_s:.1f} s of audio, in {ended.wall_s:.1f} s"]
    cut = {name: counts[name] for name in ("gap", "no final chunk", "too long") if counts[name]}
    if cut:
        parts = ", ".join(f"{name}: {number}" for name, number in cut.items())
        said.append(f"{sum(cut.values())} of them end before their last chunk ({parts})")
    if counts["no first chunk"]:
        said.append(
            f"{counts['no first chunk']} requests left out: they had begun before, or their first chunk is missing"
        )
    told = {
        "chunks_of_others": "chunks of other locales or wake words left out",
        "chunks_not_sampled": "chunks of requests that are not in the sample left out",
        "repeated_chunks": "chunks left out whose request id was recorded before",
        "late_chunks": "chunks came after their request was over",
        "duplicate_chunks": "chunks came twice",
        "chunks_over_limit": "chunks left out: more requests at once than max_open_requests",
        "unreadable_chunks": "records could not be read",
    }
    said += [f"{read[name]} {text}" for name, text in told.items() if read.get(name)]
    if not ended.complete:
        said.append(f"stopped with {ended.still_open} requests still being spoken: --resume goes on with them")
    return "\n".join(said)


def _duration_ms(option: str, text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or not float(found[1]):
        raise ConfigError(f"{option} {text} is not a duration such as 90s, 10m, 2h or 1d")
    return round(float(found[1]) * _UNIT_S[found[2]] * 1000)


def _time_ms(option: str, text: str, now_ms: int) -> int:
    if text.startswith("-") and _DURATION.fullmatch(text[1:]):
        return now_ms - _duration_ms(option, text[1:])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} {text} is no time: write 2026-05-01T20:15:00Z, or -10m") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)

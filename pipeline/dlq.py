"""`hushword dlq`: the records that the job refused; why, which, and back to the audio topic."""

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.table import Column, Table

from pipeline.errors import FailedError, InputError
from pipeline.flags import AsJson, ConfigFile, with_settings
from pipeline.options import Settings, load_settings
from pipeline.times import time_ms

app = typer.Typer(help="Dead letters: what the job could not read.", no_args_is_help=True)

HEAD_BYTES = 128
_DELIVERY_S = 30
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")

Since = Annotated[str | None, typer.Option(help="Only from here on: 15m, 2h, or a time.", metavar="TIME")]


@dataclass(frozen=True)
class Letter:
    """One record of the dead-letter topic: the original bytes, and what its headers say of them."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, str]
    written_ms: int  # append time in the dead-letter topic

    @classmethod
    def of(cls, record: Any) -> Self:
        """Read one; headers that are missing are empty."""
        headers = {name: (text or b"").decode(errors="replace") for name, text in record.headers}
        return cls(record.partition, record.offset, record.key, record.value or b"", headers, record.timestamp)

    @property
    def letter_id(self) -> str:
        """Its place in the dead-letter topic."""
        return f"{self.partition}:{self.offset}"

    @property
    def stage(self) -> str:
        """Where it failed."""
        return self.headers.get("stage", "")

    @property
    def is_of_media(self) -> bool:
        """Whether it came from the media topic, and not from the audio topic."""
        from pipeline.chunks import MEDIA_STAGE

        return self.stage == MEDIA_STAGE

    @property
    def reason(self) -> str:
        """What was wrong with it."""
        return f"{self.stage}: {self.headers.get('error', '')}"

    @property
    def redriven(self) -> int:
        """How many times it had been sent again before it came here."""
        from pipeline.wire import REDRIVEN, times_redriven

        return times_redriven([(REDRIVEN, self.headers.get(REDRIVEN, "").encode())])

    @property
    def appended_ms(self) -> int:
        """When the audio topic had it."""
        text = self.headers.get("timestamp", "")
        return int(text) if text.isdigit() else self.written_ms


@app.command("list")
@with_settings("bootstrap_servers", "dead_letter_topic", "audio_topic")
def list_letters(config: ConfigFile = None, since: Since = None, as_json: AsJson = False, **flags: Any) -> None:
    """Count the dead letters by what was wrong with them."""
    settings = load_settings(config, flags)
    groups: dict[str, list[Letter]] = defaultdict(list)
    for letter in letters(settings, since):
        groups[_NUMBER.sub("…", letter.reason)].append(replace(letter, value=b""))
    ordered = sorted(groups.values(), key=len, reverse=True)
    if as_json:
        print(json.dumps([_group(group) for group in ordered], indent=2))
        return
    if not ordered:
        print(f"there are none on {settings.dead_letter_topic}")
        return
    from pipeline.control import when

    table = Table(Column("letters", justify="right"), "the newest of them: why", "first", "last", "id", "redriven")
    for group in ordered:
        told = _group(group)
        times = [when(round(told[name] * 1e6)) for name in ("first_s", "last_s")]
        table.add_row(str(len(group)), group[-1].reason, *times, told["newest_id"], str(told["redriven"] or ""))
    Console().print(table)


@app.command()
@with_settings("bootstrap_servers", "dead_letter_topic", "audio_topic")
def show(
    letter_id: Annotated[str, typer.Argument(help="PARTITION:OFFSET, as `dlq list` says it.", metavar="ID")],
    config: ConfigFile = None,
    **flags: Any,
) -> None:
    """Show one letter: where it came from, what was wrong, how its bytes begin. No audio."""
    settings = load_settings(config, flags)
    letter = _find(settings, letter_id)
    for name, text in letter.headers.items():
        print(f"{name + ':':<12} {text}")
    from pipeline.control import when

    print(f"{'written:':<12} {when(letter.written_ms * 1000)}")
    print(f"{'key:':<12} {'none' if letter.key is None else letter.key.decode(errors='backslashreplace')}")
    head, fields = head_of(letter.value)
    print(f"{'value:':<12} {len(letter.value)} bytes{fields}")
    for line in hexdump(head):
        print(line)
    if len(head) < len(letter.value):
        print(f"... {len(letter.value) - len(head)} more bytes")


@app.command()
@with_settings("bootstrap_servers", "dead_letter_topic", "audio_topic", "media_topic", "window_s", "max_clock_skew_s")
def redrive(
    config: ConfigFile = None,
    stage: Annotated[str | None, typer.Option(help="Only those of this stage: decode, audio, time ...")] = None,
    error: Annotated[str | None, typer.Option(help="Only those whose error has this text in it.")] = None,
    since: Since = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition of the dead letters.")] = None,
    first: Annotated[int, typer.Option("--from-offset", min=0, help="The first offset.")] = 0,
    last: Annotated[int | None, typer.Option("--to-offset", min=0, help="The last offset.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also those that were sent again before, and refused.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    **flags: Any,
) -> None:
    """Send the original bytes to the topic that they came from again."""
    settings = load_settings(config, flags)
    from pipeline.kafka.topics import check_cluster

    check_cluster(settings, {"audio": ("WRITE",), "dead_letter": ("READ",)})
    chosen = [
        letter
        for letter in letters(settings, since)
        if (stage is None or letter.stage == stage)
        and (error is None or error in letter.headers.get("error", ""))
        and (partition is None or letter.partition == partition)
        and first <= letter.offset <= (letter.offset if last is None else last)
    ]
    if any(letter.is_of_media for letter in chosen):
        check_cluster(settings, {"media": ("WRITE",)})
    now_ms = time.time() * 1000
    loops = [letter for letter in chosen if letter.redriven and not again]
    sent = [letter for letter in chosen if again or not letter.redriven]
    # How long ago is of no interest to what is known of media.
    ages_ms = {letter.letter_id: 0.0 if letter.is_of_media else now_ms - letter.appended_ms for letter in sent}
    refused = [letter for letter in sent if ages_ms[letter.letter_id] > settings.max_clock_skew_s * 1000]
    sent = [letter for letter in sent if ages_ms[letter.letter_id] <= settings.max_clock_skew_s * 1000]
    old = sum(ages_ms[letter.letter_id] > settings.window_s * 1000 for letter in sent)
    if not dry_run:
        send_again(settings, sent)
    topics = sorted({home_of(settings, letter) for letter in sent}) or [settings.audio_topic]
    done = "would be sent" if dry_run else "were sent"
    print(f"{len(sent)} of {len(chosen)} {done} to {' and '.join(topics)} again")
    if loops:
        print(f"{len(loops)} left alone: they were sent again before, and refused again (--again sends them)")
    if refused:
        print(
            f"{len(refused)} left alone: captured over {settings.max_clock_skew_s:g} s ago, they would be refused again"
        )
    if old:
        print(
            f"{old} of those sent are older than the window of {settings.window_s:g} s: a job that is not behind reads"
            " them, compares them with nothing, and accepts"
        )


def letters(settings: Settings, since: str | None = None) -> Iterator[Letter]:
    """Give the letters, in the order of their partitions' offsets.

    Raises:
        TopicError: the topic cannot be read.
        InputError: `since` is no time.

    """
    from pipeline.reading import records

    since_ms = None if since is None else time_ms(since, time.time())
    for record in records(settings, settings.dead_letter_topic, since_ms=since_ms):
        yield Letter.of(record)


def home_of(settings: Settings, letter: Letter) -> str:
    """Give the topic that a letter's record came from."""
    return settings.media_topic if letter.is_of_media else settings.audio_topic


def send_again(settings: Settings, chosen: Iterable[Letter]) -> None:
    """Write letters' original bytes to their topics, each to the partition that it came from, with a mark.

    Raises:
        FailedError: the broker did not take one.

    """
    from kafka.errors import KafkaError

    from pipeline.kafka.broker_faults import why
    from pipeline.kafka.clients import client_arguments
    from pipeline.kafka.producer import Producer
    from pipeline.wire import REDRIVEN

    try:
        producer = Producer(
            **client_arguments(settings),
            acks="all",
            bootstrap_timeout_ms=5000,
            max_request_size=2 << 20,
        )
        try:
            futures = []
            for letter in chosen:
                topic, text = home_of(settings, letter), letter.headers.get("partition", "")
                home = int(text) if text.isdigit() and int(text) in producer.partitions_for(topic) else None
                # The job gave an empty value for none, and both are refused alike; a record needs a key or a value.
                mark = [(REDRIVEN, str(letter.redriven + 1).encode())]
                futures.append(producer.send(topic, letter.value, key=letter.key, headers=mark, partition=home))
            for future in futures:
                future.get(_DELIVERY_S)
        finally:
            producer.close(_DELIVERY_S)
    except (KafkaError, OSError) as error:
        raise FailedError(f"the broker did not take what was sent again: {why(settings, error)}") from error


def head_of(value: bytes) -> tuple[bytes, str]:
    """Give the bytes before a record's audio, at most HEAD_BYTES, and what can be said of its fields."""
    from google.protobuf.message import DecodeError

    from pipeline.messages.hushword_pb2 import AudioChunk

    try:
        chunk = AudioChunk.FromString(value)
    except DecodeError:
        return value[: HEAD_BYTES // 2], ", not an AudioChunk"
    begin = value.find(chunk.audio) if chunk.audio else len(value)
    fields = (
        f", seq {chunk.seq}, {chunk.sample_rate_hz} Hz, encoding {chunk.encoding}, {len(chunk.audio)} bytes of audio"
    )
    return value[: min(begin, HEAD_BYTES)], fields


def hexdump(data: bytes) -> Iterator[str]:
    """Give lines of sixteen bytes: offset, hexadecimal, and what is printable."""
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{start:08x}  {part.hex(' '):<47}  {text}"


def _find(settings: Settings, letter_id: str) -> Letter:
    from kafka import TopicPartition

    from pipeline.reading import connected

    partition, _, offset = letter_id.partition(":")
    if not (partition.isdigit() and offset.isdigit()):
        raise InputError(f"{letter_id!r} is no letter's id: it takes PARTITION:OFFSET, as `hushword dlq list` says it")
    missing = InputError(f"there is no letter {letter_id} on {settings.dead_letter_topic!r}: see `hushword dlq list`")
    with connected(settings, settings.dead_letter_topic) as (consumer, partitions):
        at = TopicPartition(settings.dead_letter_topic, int(partition))
        if at not in partitions:
            raise missing
        if not consumer.beginning_offsets([at])[at] <= int(offset) < consumer.end_offsets([at])[at]:
            raise missing
        consumer.assign([at])
        consumer.seek(at, int(offset))
        deadline_s = time.monotonic() + _DELIVERY_S
        while time.monotonic() < deadline_s:
            for record in consumer.poll(timeout_ms=500).get(at, []):
                if record.offset != int(offset):
                    raise missing
                return Letter.of(record)
    raise FailedError(f"{settings.dead_letter_topic!r} gave nothing for {_DELIVERY_S} s")


def _group(group: list[Letter]) -> dict[str, Any]:
    newest = max(group, key=lambda letter: letter.written_ms)
    return {
        "letters": len(group),
        "stage": newest.headers.get("stage"),
        "newest_error": newest.headers.get("error"),
        "first_s": min(letter.written_ms for letter in group) / 1000,
        "last_s": newest.written_ms / 1000,
        "newest_id": newest.letter_id,
        "redriven": sum(letter.redriven > 0 for letter in group),
    }

"""Decisions as JSON lines, and the decisions topic: read from its beginning to its end, or followed."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from kafka import TopicPartition
from kafka.errors import KafkaError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import InputError
from pipeline.kafka.broker_faults import why
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.consumer import Consumer
from pipeline.messages import hushword_pb2 as pb
from pipeline.options import Settings

_NO_RECORD_FOR_S = 30.0


class DecisionsError(InputError):
    """Decisions cannot be read; the message says where and why."""


class DecisionLine(BaseModel):
    """One line of a decisions file; unknown fields are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    request_id: str = Field(min_length=1)
    verdict: Literal["IGNORE"]
    reason: Literal["CONCURRENT", "DISCOVERED", "KNOWN"]
    media_id: str
    households: int = Field(ge=0)
    audio_used_ms: int = Field(ge=0)  # of the request's own audio, from its first sample
    decided_at_s: float  # capture time of the newest audio it rests on, from the recording's start
    decision_id: str | None = None
    bit_error_rate: float | None = None
    bits_compared: int | None = None
    alignment_ms: int | None = None
    score: float | None = None  # standard deviations under the null
    log_odds: float | None = None  # -ln of the probability that chance brings as much to one live request
    latency_ms: float | None = None  # append of the decision minus append of the chunk that sufficed
    late: bool = False
    shadow: bool = False

    @classmethod
    def from_message(cls, decision: pb.Decision, epoch_s: float, appended_ms: int | None) -> "DecisionLine":
        """Translate a record of the topic.

        Args:
            decision: the record's value.
            epoch_s: Unix time of the recording's zero.
            appended_ms: when the broker appended the record, milliseconds of Unix time, where known.

        Raises:
            ValidationError: the message is not a decision as the contract has it.

        """
        latency_ms = None
        if appended_ms is not None and decision.audio_appended_us:
            latency_ms = round(appended_ms - decision.audio_appended_us / 1000, 3)
        return cls.model_validate(
            {
                "request_id": decision.request_id,
                "verdict": pb.Decision.Verdict.Name(decision.verdict),
                "reason": pb.Decision.Reason.Name(decision.reason),
                "media_id": decision.media_id,
                "households": decision.households,
                "audio_used_ms": decision.audio_used_ms,
                "decided_at_s": round(decision.decided_at_us / 1e6 - epoch_s, 6),
                "decision_id": decision.decision_id or None,
                "bit_error_rate": round(decision.bit_error_rate, 6),
                "bits_compared": decision.bits_compared,
                "alignment_ms": decision.alignment_ms,
                "score": round(decision.score, 4),
                "log_odds": round(decision.log_odds, 3),
                "latency_ms": latency_ms,
                "late": decision.late,
                "shadow": decision.shadow,
            }
        )


def read_file(path: Path) -> list[DecisionLine]:
    """Read a decisions file; empty lines are skipped.

    Raises:
        DecisionsError: the file cannot be read, or a line (named) is not a decision.

    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DecisionsError(f"the decisions file {path} cannot be read: {error}") from error
    decisions = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                decisions.append(DecisionLine.model_validate_json(line))
            except ValidationError as error:
                raise DecisionsError(f"{path}, line {number}: {_first(error)}") from error
    return decisions


def write_file(path: Path, decisions: Iterable[DecisionLine]) -> None:
    """Write one JSON object a line; what is not known is left out.

    Raises:
        DecisionsError: the file cannot be written.

    """
    text = "".join(json.dumps(decision.model_dump(exclude_none=True)) + "\n" for decision in decisions)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DecisionsError(f"the decisions file {path} cannot be written: {error}") from error


def read_topic(settings: Settings, epoch_s: float = 0.0) -> list[DecisionLine]:
    """Read the topic of decisions from its beginning to where it ends now, in the order of their append times.

    Args:
        settings: name the brokers and the topic.
        epoch_s: Unix time of the recording's zero; with 0, decided_at_s is Unix time.

    Raises:
        DecisionsError: no such topic, no answer, or a record (named by partition and offset) that is not a decision.

    """
    topic = settings.decisions_topic
    found: list[tuple[int, DecisionLine]] = []
    try:
        consumer = Consumer(
            **client_arguments(settings),
            enable_auto_commit=False,
            bootstrap_timeout_ms=5000,
        )
        try:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            if not partitions:
                raise DecisionsError(f"there is no topic {topic!r} at {settings.bootstrap_servers}")
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            consumer.seek_to_beginning()
            deadline_s = time.monotonic() + _NO_RECORD_FOR_S
            while any(consumer.position(partition) < ends[partition] for partition in partitions):
                batches = consumer.poll(timeout_ms=500)
                if batches:
                    deadline_s = time.monotonic() + _NO_RECORD_FOR_S
                elif time.monotonic() > deadline_s:
                    raise DecisionsError(f"topic {topic!r} gave no record for {_NO_RECORD_FOR_S:.0f} s before its end")
                found += [
                    (record.timestamp, _decision(record, epoch_s))
                    for partition, batch in batches.items()
                    for record in batch
                    if record.offset < ends[partition]
                ]
        finally:
            consumer.close()
    except (KafkaError, OSError) as error:
        raise DecisionsError(f"topic {topic!r} cannot be read: {why(settings, error)}") from error
    # Stable: within a partition, and so within a request, the order stays the topic's.
    return [decision for _, decision in sorted(found, key=lambda item: item[0])]


class TopicFollower:
    """The decisions topic from its beginning on, as it grows; for one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        topic = settings.decisions_topic
        self._where = f"topic {topic!r} at {settings.bootstrap_servers}"
        try:
            self._consumer = Consumer(**client_arguments(settings), enable_auto_commit=False, bootstrap_timeout_ms=5000)
            partitions = [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic) or ()]
        except (KafkaError, OSError) as error:
            raise DecisionsError(f"topic {topic!r} cannot be read: {why(settings, error)}") from error
        if not partitions:
            self.close()
            raise DecisionsError(f"there is no {self._where}")
        self._consumer.assign(partitions)
        self._consumer.seek_to_beginning()

    def poll(self, epoch_s: float, timeout_ms: int) -> list[DecisionLine]:
        """Wait up to `timeout_ms` for decisions that were not given before; `epoch_s` as for read_topic.

        Raises:
            DecisionsError: no answer, or a record that is not a decision.

        """
        try:
            batches = self._consumer.poll(timeout_ms=timeout_ms)
        except (KafkaError, OSError) as error:
            raise DecisionsError(f"{self._where} cannot be read: {error}") from error
        return [_decision(record, epoch_s) for batch in batches.values() for record in batch]

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def _decision(record: Any, epoch_s: float) -> DecisionLine:
    from google.protobuf.message import DecodeError

    where = f"topic {record.topic!r}, partition {record.partition}, offset {record.offset}"
    try:
        decision = pb.Decision.FromString(record.value or b"")
        return DecisionLine.from_message(decision, epoch_s, record.timestamp)
    except DecodeError as error:
        raise DecisionsError(f"{where}: not a decision: {error}") from error
    except ValidationError as error:
        raise DecisionsError(f"{where}: {_first(error)}") from error
    except ValueError as error:  # an enum's number that this version does not know
        raise DecisionsError(f"{where}: {error}") from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"{name}: {first['msg']}" if name else first["msg"]

"""`hushword erase`: a household is forgotten where it can be, and what cannot be is said, with how long it stays."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import InputError
from pipeline.flags import ConfigFile, with_settings
from pipeline.options import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.kafka.topics import Role

# Topics in which records name a household.
NAMED: "tuple[Role, ...]" = ("audio", "decisions", "dead_letter")


@dataclass(frozen=True)
class Keeping:
    """How long a topic keeps its records, from its broker's own configuration; None for ever."""

    topic: str
    policy: str
    retention_ms: int | None
    segment_ms: int

    @property
    def is_compacted(self) -> bool:
        """Whether a tombstone removes a record."""
        return "compact" in self.policy.split(",")

    @property
    def at_most_ms(self) -> int | None:
        """Longest time that a record stays: until the whole segment that it is in is old enough."""
        if "delete" not in self.policy.split(",") or self.retention_ms is None:
            return None
        return self.retention_ms + self.segment_ms


@with_settings(
    "bootstrap_servers", "audio_topic", "decisions_topic", "media_topic", "dead_letter_topic", "control_topic",
    "hash_ids", "hash_ids_key_file",
)  # fmt: skip
def erase(
    household: Annotated[str, typer.Option("--household", help="As the gateway names it.", metavar="ID")],
    config: ConfigFile = None,
    **flags: Any,
) -> None:
    """Forget a household, and say exactly what that leaves."""
    from pipeline.chunks import MAX_ID_LENGTH

    if not 0 < len(household) <= MAX_ID_LENGTH:
        raise InputError(f"a household's id has 1 to {MAX_ID_LENGTH} characters")
    settings = load_settings(config, flags)
    from pipeline.kafka.topics import check_cluster
    from pipeline.pseudonyms import pseudonyms_of

    household = pseudonyms_of(settings).household(household)  # as workers and decisions know it

    check_cluster(
        settings,
        {"audio": ("DESCRIBE",), "decisions": ("READ",), "dead_letter": ("DESCRIBE",), "control": ("READ", "WRITE")},
    )
    kept = keeping(settings)
    withdrawn = order(settings, household, kept["audio"])
    lines = [
        "done:",
        "  every worker is told: the household's requests leave its windows, those that began before now are heard no",
        "  more, and averages of open events are made again without it, or end with fewer than three households",
        f"  the order is on {settings.control_topic!r} with a digest of the id, not with the id",
    ]
    if withdrawn:
        lines.append(f"  {withdrawn} older orders to erase are taken back: nothing is left that they were about")
    if kept["decisions"].is_compacted:
        count = delete_decisions(settings, household)
        lines.append(f"  {count} decisions on {settings.decisions_topic!r} have tombstones and go when it is compacted")
    lines += [
        "left to retention:",
        *(f"  {_left(kept[role])}" for role in NAMED),
        "without the household from the beginning:",
        f"  {settings.media_topic!r}: averages are majorities of three households or more and name none; those of",
        "  events that are over stay until they expire",
        "not reached:",
        "  checkpoints and savepoints that the runner wrote before now, and whatever else reads these topics",
    ]
    print("\n".join(lines))


def order(settings: Settings, household: str, audio: Keeping) -> int:
    """Tell every worker, and take back older such orders; gives how many.

    Raises:
        FailedError: the broker did not take the order.

    """
    from matcher.route import household_digest
    from pipeline.control import ERASE, give, given
    from pipeline.messages.hushword_pb2 import Control

    orders: dict[str, Control | None] = {}
    if audio.at_most_ms is not None:
        # A worker that reads the audio again must still know; when the audio is gone, nobody can.
        over_us = (time.time() * 1000 - audio.at_most_ms) * 1000
        orders = {
            key: None
            for key, old in given(settings).items()
            if key.startswith(f"{ERASE}/") and old.ordered_at_us < over_us
        }
    withdrawn = len(orders)
    give(settings, {**orders, f"{ERASE}/{household_digest(household)}": Control()})
    return withdrawn


def delete_decisions(settings: Settings, household: str) -> int:
    """Write a tombstone for each decision about a household; gives how many.

    Raises:
        FailedError: the broker did not take them.
        TopicError: the topic cannot be read.

    """
    from google.protobuf.message import DecodeError

    from pipeline.control import publish
    from pipeline.messages.hushword_pb2 import Decision
    from pipeline.reading import records

    wanted = household.encode()
    found: dict[str, bytes | None] = {}
    for record in records(settings, settings.decisions_topic):
        if record.key is None or wanted not in (record.value or b""):
            continue
        try:
            if Decision.FromString(record.value).household_id == household:
                found[record.key.decode()] = None
        except DecodeError:
            continue  # no decision, and nobody's
    publish(settings, settings.decisions_topic, found)
    return len(found)


def keeping(settings: Settings) -> "dict[Role, Keeping]":
    """Ask the broker how long the topics that name households keep their records.

    Raises:
        ConfigError: no broker answered.

    """
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.errors import KafkaError

    from pipeline.kafka.topics import admin_client, topic_names
    from pipeline.options import ConfigError

    names = topic_names(settings)
    wanted = ["cleanup.policy", "retention.ms", "segment.ms"]
    resources = [ConfigResource(ConfigResourceType.TOPIC, names[role], configs=wanted) for role in NAMED]
    with admin_client(settings) as admin:
        try:
            found = admin.describe_configs(resources, config_filter="all").get("topic", {})
        except KafkaError as error:
            raise ConfigError(f"{settings.bootstrap_servers} did not describe the topics: {error}") from error
    kept: dict[Role, Keeping] = {}
    for role in NAMED:
        values = {name: found[names[role]][name]["value"] for name in wanted}
        retention_ms = int(values["retention.ms"])
        kept[role] = Keeping(
            names[role], values["cleanup.policy"], None if retention_ms < 0 else retention_ms, int(values["segment.ms"])
        )
    return kept


def _left(kept: Keeping) -> str:
    if kept.at_most_ms is None:
        return f"{kept.topic!r} keeps its records FOR EVER (cleanup.policy={kept.policy}, retention.ms unlimited)"
    return (
        f"{kept.topic!r}: what was written before now is gone in {_span(kept.at_most_ms)} at most"
        f" (retention.ms {_span(kept.retention_ms or 0)}, and its segments roll every {_span(kept.segment_ms)})"
    )


def _span(ms: int) -> str:
    hours = ms / 3_600_000
    return f"{hours / 24:.4g} days" if hours >= 48 else f"{hours:.4g} h"

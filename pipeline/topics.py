"""The five topics: how they are made, and whether those of a cluster are as the job needs them."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from pipeline.options import ConfigError, Settings

Role = Literal["audio", "decisions", "media", "dead_letter", "control"]
ROLES: tuple[Role, ...] = ("audio", "decisions", "media", "dead_letter", "control")
# Small, and read whole by every worker.
_COMPACTED: tuple[Role, ...] = ("media", "control")

AUDIO_RETENTION_MS = 6 * 3600 * 1000  # privacy: somebody's voice is kept for hours
DECISIONS_RETENTION_MS = 7 * 86_400 * 1000
BROKER_TIMEOUT_MS = 5000

# What a topic is made with. With CreateTime a recording from yesterday is deleted within a minute and a time in the
# future is refused, so the broker's clock counts. Segments roll with the retention: only whole segments are deleted.
_APPEND_TIME = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
_CONFIGS: dict[Role, dict[str, str]] = {
    "audio": {
        **_APPEND_TIME,
        "retention.ms": str(AUDIO_RETENTION_MS),
        "segment.ms": str(AUDIO_RETENTION_MS // 6),
        "max.message.bytes": str(512 * 1024),  # of a whole batch: the job's and the replay's have 256 KiB
    },
    "decisions": {
        **_APPEND_TIME,
        "retention.ms": str(DECISIONS_RETENTION_MS),
    },
    "media": {
        "cleanup.policy": "compact",
    },
    "dead_letter": {
        **_APPEND_TIME,
        "retention.ms": str(AUDIO_RETENTION_MS),  # the same voices, the same rule
        "segment.ms": str(AUDIO_RETENTION_MS // 6),
        "max.message.bytes": str(1024 * 1024),  # the largest record of the audio topic and headers about it
    },
    "control": {
        "cleanup.policy": "compact",
    },
}

# What the job cannot do without; the rest is the operator's choice.
_REQUIRED: dict[Role, tuple[str, str, str]] = {
    "audio": ("message.timestamp.type", "LogAppendTime", "append times measure latency and drive retention"),
    "decisions": ("message.timestamp.type", "LogAppendTime", "append times measure latency"),
    "media": ("cleanup.policy", "compact", "media must outlive any retention"),
    "control": ("cleanup.policy", "compact", "orders must outlive any retention"),
}


def topic_names(settings: Settings) -> dict[Role, str]:
    """Give the topic's name for each role."""
    return {
        "audio": settings.audio_topic,
        "decisions": settings.decisions_topic,
        "media": settings.media_topic,
        "dead_letter": settings.dead_letter_topic,
        "control": settings.control_topic,
    }


@contextmanager
def admin_client(bootstrap_servers: str) -> Iterator[Any]:
    """Connect as an administrator for the length of a `with`.

    Raises:
        ConfigError: no broker answered within about 5 s.

    """
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=BROKER_TIMEOUT_MS,
            request_timeout_ms=BROKER_TIMEOUT_MS,
        )
    except (KafkaError, OSError) as error:
        raise ConfigError(
            f"no Kafka broker answered at {bootstrap_servers} within {BROKER_TIMEOUT_MS // 1000} s"
            " (setting bootstrap_servers)"
        ) from error
    try:
        yield admin
    finally:
        admin.close()


def a_broker_listens(bootstrap_servers: str, within_s: float = 1.0) -> bool:
    """Tell whether one of the servers takes a connection.

    For those who wait for a broker: each client of kafka-python that cannot connect leaves a thread and three open
    files behind, so none is made before this says yes.
    """
    for server in bootstrap_servers.split(","):
        host, port = server.rsplit(":", 1)
        with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), within_s):
            return True
    return False


def create_topics(
    bootstrap_servers: str,
    settings: Settings,
    partitions: int = 4,
    replication_factor: int = -1,
    roles: Sequence[Role] = ROLES,
) -> list[str]:
    """Create those topics that do not exist yet, and wait until each has its leaders.

    Args:
        bootstrap_servers: host:port, comma separated.
        settings: names the topics.
        partitions: of the audio, decisions and dead-letter topics; the compacted ones, small and read whole, have one.
        replication_factor: -1 leaves it to the broker's default.
        roles: which of the topics.

    Returns:
        The names of the topics that were created.

    Raises:
        ConfigError: no broker answered, or it refused.

    """
    names = topic_names(settings)
    with admin_client(bootstrap_servers) as admin:
        try:
            present = set(admin.list_topics())
            wanted = {
                names[role]: {
                    "num_partitions": 1 if role in _COMPACTED else partitions,
                    "replication_factor": replication_factor,
                    "configs": _CONFIGS[role],
                }
                for role in roles
                if names[role] not in present
            }
            if wanted:
                admin.create_topics(wanted, timeout_ms=30_000, wait_for_metadata=True)
        except KafkaError as error:
            raise ConfigError(f"{bootstrap_servers} did not create the topics: {error}") from error
    return list(wanted)


def delete_topics(bootstrap_servers: str, settings: Settings) -> None:
    """Delete the five topics and all that is in them.

    Raises:
        ConfigError: no broker answered, or it refused.

    """
    with admin_client(bootstrap_servers) as admin:
        try:
            admin.delete_topics(list(topic_names(settings).values()))
        except KafkaError as error:
            raise ConfigError(f"{bootstrap_servers} did not delete the topics: {error}") from error


def check_cluster(settings: Settings, roles: Sequence[Role] = ROLES) -> None:
    """Verify that a broker answers and that the topics are there and made as the job needs them.

    Raises:
        ConfigError: one sentence with what is wrong and the setting or command that mends it.

    """
    names = topic_names(settings)
    with admin_client(settings.bootstrap_servers) as admin:
        try:
            present = set(admin.list_topics())
            for role in roles:
                if names[role] not in present:
                    raise ConfigError(
                        f"topic {names[role]!r} (setting {role}_topic) does not exist at {settings.bootstrap_servers}:"
                        " `hushword topics create` makes it"
                    )
            asked = [role for role in roles if role in _REQUIRED]
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, names[role], configs=[_REQUIRED[role][0]]) for role in asked
            ]
            found = admin.describe_configs(resources, config_filter="all").get("topic", {}) if resources else {}
        except KafkaError as error:
            raise ConfigError(f"{settings.bootstrap_servers} did not describe the topics: {error}") from error
    for role in asked:
        key, value, why = _REQUIRED[role]
        actual = found.get(names[role], {}).get(key, {}).get("value")
        if value not in str(actual).split(","):  # a cleanup policy may be "compact,delete"
            raise ConfigError(
                f"topic {names[role]!r} (setting {role}_topic) has {key}={actual} but needs {value}, because {why}:"
                f" set it with kafka-configs --alter --entity-type topics --entity-name {names[role]}"
                f" --add-config {key}={value}"
            )

"""The five topics: how they are made, and whether those of a cluster are as the job needs them."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    BrokerResponseError,
    GroupAuthorizationFailedError,
    KafkaError,
    NoError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from pipeline.kafka.admin import Admin
from pipeline.kafka.broker_faults import check_reachable, name_of_user, why
from pipeline.kafka.clients import client_arguments
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
        "segment.ms": str(DECISIONS_RETENTION_MS // 7),
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

# What the job does with each topic, in the words of Kafka's ACLs.
Rights = tuple[Literal["READ", "WRITE", "DESCRIBE"], ...]
JOB_RIGHTS: Mapping[Role, Rights] = {
    "audio": ("READ",),
    "decisions": ("WRITE",),
    "media": ("READ", "WRITE"),
    "dead_letter": ("WRITE",),
    "control": ("READ", "WRITE"),  # a route that turns itself to shadow gives the order
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
def admin_client(settings: Settings) -> Iterator[Any]:
    """Connect as an administrator for the length of a `with`.

    Raises:
        ConfigError: no broker answered within about 5 s, or none that takes us.

    """
    check_reachable(settings)
    try:
        admin = Admin(
            **client_arguments(settings),
            bootstrap_timeout_ms=BROKER_TIMEOUT_MS,
            request_timeout_ms=BROKER_TIMEOUT_MS,
        )
    except (KafkaError, OSError) as error:
        raise ConfigError(why(settings, error)) from error
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
    settings: Settings,
    partitions: int = 4,
    replication_factor: int = -1,
    roles: Sequence[Role] = ROLES,
) -> list[str]:
    """Create those topics that do not exist yet, and wait until each has its leaders.

    Args:
        settings: name the brokers and the topics.
        partitions: of the audio, decisions and dead-letter topics; the compacted ones, small and read whole, have one.
        replication_factor: -1 leaves it to the broker's default.
        roles: which of the topics.

    Returns:
        The names of the topics that were created.

    Raises:
        ConfigError: no broker answered, or it refused.

    """
    names = topic_names(settings)
    with admin_client(settings) as admin:
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
            raise ConfigError(f"the topics were not created: {why(settings, error)}") from error
    return list(wanted)


def delete_topics(settings: Settings) -> None:
    """Delete the five topics and all that is in them.

    Raises:
        ConfigError: no broker answered, or it refused.

    """
    with admin_client(settings) as admin:
        try:
            admin.delete_topics(list(topic_names(settings).values()))
        except KafkaError as error:
            raise ConfigError(f"the topics were not deleted: {why(settings, error)}") from error


def check_cluster(settings: Settings, rights: Mapping[Role, Rights] | None = None) -> None:
    """Verify that a broker answers, and that the topics are there, made as the job needs them, and open to us.

    Args:
        settings: name the brokers, the topics and the group.
        rights: what will be done with which topics; None for all that the job does, and its group.

    Raises:
        ConfigError: one sentence with what is wrong and the setting or command that mends it.

    """
    wanted = JOB_RIGHTS if rights is None else rights
    names = topic_names(settings)
    with admin_client(settings) as admin:
        try:
            topics = {topic["name"]: topic for topic in admin.describe_topics([names[role] for role in wanted])}
            for role, operations in wanted.items():
                _check_topic(settings, role, operations, topics[names[role]])
            asked = [role for role in wanted if role in _REQUIRED]
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, names[role], configs=[_REQUIRED[role][0]]) for role in asked
            ]
            found = admin.describe_configs(resources, config_filter="all").get("topic", {}) if resources else {}
            if rights is None:
                _check_group(settings, admin)
        except (KafkaError, OSError) as error:
            raise ConfigError(f"the topics were not described: {why(settings, error)}") from error
    for role in asked:
        key, value, reason = _REQUIRED[role]
        actual = found.get(names[role], {}).get(key, {}).get("value")
        if value not in str(actual).split(","):  # a cleanup policy may be "compact,delete"
            raise ConfigError(
                f"topic {names[role]!r} (setting {role}_topic) has {key}={actual} but needs {value}, because {reason}:"
                f" set it with kafka-configs --alter --entity-type topics --entity-name {names[role]}"
                f" --add-config {key}={value}"
            )


def _check_topic(settings: Settings, role: Role, operations: Rights, topic: Mapping[str, Any]) -> None:
    """Hold what the broker says of a topic against what is to be done with it."""
    what = f"topic {topic['name']!r} (setting {role}_topic)"
    error = for_code(topic["error_code"])
    if error is UnknownTopicOrPartitionError:
        raise ConfigError(f"{what} does not exist at {settings.bootstrap_servers}: `hushword topics create` makes it")
    if error is TopicAuthorizationFailedError:
        raise ConfigError(
            f"{what} is not shown to {name_of_user(settings)}: its ACLs must allow {' and '.join(operations)}"
        )
    if error is not NoError:
        raise error
    needed = (*operations, "DESCRIBE_CONFIGS") if role in _REQUIRED else operations
    for operation in needed:
        if operation not in topic["authorized_operations"]:
            raise ConfigError(f"{what} has no ACL that allows {operation} to {name_of_user(settings)}")


def _check_group(settings: Settings, admin: Any) -> None:
    """Hold what the broker says of the group against the commit; of one that is not there yet it says little."""
    what = f"group {settings.group_id!r} (setting group_id)"
    try:
        group = admin.describe_groups([settings.group_id])[settings.group_id]
    except GroupAuthorizationFailedError as error:
        raise ConfigError(f"{what} is not shown to {name_of_user(settings)}: its ACLs must allow READ") from error
    except BrokerResponseError as error:
        if error.retriable:  # a broker that has just come is still making its coordinator
            return
        raise
    if not group["error"] and "READ" not in group["authorized_operations"]:
        raise ConfigError(f"{what} has no ACL that allows READ to {name_of_user(settings)}")

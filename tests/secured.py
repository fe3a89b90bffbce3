"""A real broker with users, certificates and rights: a listener for each way to reach it, right and wrong."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from records import RATE_HZ, noise, pieces

from pipeline.kafka.sender import Sender
from pipeline.kafka.topics import topic_names
from pipeline.local.kafka import LocalKafka
from pipeline.local.process import LOOPBACK, free_port
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.options import Settings, load_settings
from pipeline.trial import Job

PASSWORD = "correct horse battery staple"  # noqa: S105
LISTENERS = ("TLS", "EXPIRED", "ELSEWHERE", "MTLS", "SASL")
JOB = {"audio": "READ", "decisions": "WRITE", "media": "READ WRITE", "dead_letter": "WRITE", "control": "READ WRITE"}


def rights(settings: Settings, of_topics: dict[str, str]) -> list[tuple[str, str, str]]:
    """Give what a user of the job's group may do with these topics."""
    names = topic_names(settings)
    given = [("GROUP", settings.group_id, "READ")]
    for role, operations in of_topics.items():
        given += [("TOPIC", names[role], operation) for operation in (*operations.split(), "DESCRIBE_CONFIGS")]
    return given


def hear(sender: Sender, start_us: int, name: str) -> None:
    """Let three homes hear one thing."""
    heard = noise(7, 2 * RATE_HZ)
    for home in range(3):
        for piece in pieces(f"{name}-{home}", start_us, [100] * 20, samples=heard):
            sender.send(piece.value, piece.request_id.encode())
    sender.mark(AudioChunk(low_mark_us=start_us + 3_000_000).SerializeToString())
    sender.flush()


def until(job: Job, condition: Callable[[], bool]) -> None:
    """Wait for something that a job does; its own end comes as a RunError."""
    deadline_s = time.monotonic() + 120
    while not condition():
        job.check()
        assert time.monotonic() < deadline_s, job.tail()
        time.sleep(0.1)


@dataclass(frozen=True)
class Certificates:
    """Files of one authority and of those it vouches for."""

    folder: Path
    authority: trustme.CA

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        return cls(folder, authority)

    def issue(
        self, name: str, *identities: str, user: str | None = None, expired: bool = False, password: bytes | None = None
    ) -> Path:
        """Write a certificate and its key, in PKCS#8 as Java wants it, to one file, with the user that it is for."""
        past = datetime.now(UTC) - timedelta(days=1)
        before = {"not_before": past - timedelta(days=1), "not_after": past} if expired else {}
        made = self.authority.issue_cert(*identities, common_name=user, **before)
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password),
        )
        path = self.folder / f"{name}.pem"
        path.write_bytes(key + b"".join(blob.bytes() for blob in made.cert_chain_pems))
        return path


class SecuredKafka(LocalKafka):
    """The broker's own address is for its superuser; the other listeners are for whoever has the rights."""

    def __init__(self, certificates: Certificates) -> None:
        super().__init__()
        self._certificates = certificates
        self._ports = {name: free_port() for name in LISTENERS}

    def listener(self, name: str) -> str:
        """Give the address of a listener."""
        return f"{LOOPBACK}:{self._ports[name]}"

    def settings_of(self, user: str, own: Settings, password: Path) -> Settings:
        """Give the settings `own` for a user who comes with TLS and a password."""
        reached = {
            "bootstrap_servers": self.listener("SASL"),
            "security_protocol": "SASL_SSL",
            "ssl_cafile": self._certificates.folder / "ca.pem",
            "sasl_username": user,
            "sasl_password_file": password,
        }
        return load_settings(None, {**own.model_dump(), **reached})

    def settings_of_certificate(self, user: str, own: Settings) -> Settings:
        """Give the settings `own` for a user who comes with a certificate."""
        reached = {
            "bootstrap_servers": self.listener("MTLS"),
            "security_protocol": "SSL",
            "ssl_cafile": self._certificates.folder / "ca.pem",
            "ssl_certfile": self._certificates.issue(user, user, user=user),
        }
        return load_settings(None, {**own.model_dump(), **reached})

    def _server_properties(self) -> dict[str, str]:
        own = super()._server_properties()
        listeners = "".join(f",{name}://{self.listener(name)}" for name in LISTENERS)
        protocols = "".join(f",{name}:{'SASL_SSL' if name == 'SASL' else 'SSL'}" for name in LISTENERS)
        good = self._certificates.issue("broker", LOOPBACK)
        stores = dict.fromkeys(LISTENERS, good)
        stores["EXPIRED"] = self._certificates.issue("expired", LOOPBACK, expired=True)
        stores["ELSEWHERE"] = self._certificates.issue("elsewhere", "kafka.example")
        tls = {}
        for name, store in stores.items():
            prefix = f"listener.name.{name.lower()}"
            tls |= {
                f"{prefix}.ssl.keystore.type": "PEM",
                f"{prefix}.ssl.keystore.location": str(store),
                f"{prefix}.ssl.truststore.type": "PEM",
                f"{prefix}.ssl.truststore.location": str(self._certificates.folder / "ca.pem"),
            }
        return {
            **own,
            **tls,
            "listeners": own["listeners"] + listeners,
            "advertised.listeners": own["advertised.listeners"] + listeners,
            "listener.security.protocol.map": own["listener.security.protocol.map"] + protocols,
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.mtls.ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/",
            "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    @contextmanager
    def superuser(self) -> Iterator[KafkaAdminClient]:
        """Give an administrator who may do everything."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        try:
            yield admin
        finally:
            admin.close()

    def add_user(self, name: str, rights: Sequence[tuple[str, str, str]]) -> None:
        """Make a user with PASSWORD and allow it so much: (TOPIC or GROUP, its name, an operation)."""
        with self.superuser() as admin:
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, PASSWORD)]
            )
            allowed = admin.create_acls([_rule(name, *right) for right in rights])
        assert not allowed["failed"]

    def take_right(self, name: str, right: tuple[str, str, str]) -> None:
        """Allow a user one thing less."""
        with self.superuser() as admin:
            (found,) = admin.delete_acls([_rule(name, *right)])
        assert len(found[1]) == 1


def _rule(user: str, kind: str, name: str, operation: str) -> ACL:
    pattern = ResourcePattern(ResourceType[kind], name)
    return ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)

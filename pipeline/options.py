"""The job's settings: flags over HUSHWORD_ environment variables over a TOML file over the defaults."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from pipeline.errors import InputError

ENV_PREFIX = "HUSHWORD_"

# Kafka's own rule for the names of topics; it also keeps out the names "." and "..".
TopicName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}$")]
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# Whoever connects needs all of them.
BROKER_SETTINGS = (
    "bootstrap_servers", "security_protocol", "ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password_file",
    "sasl_mechanism", "sasl_username", "sasl_password_file",
)  # fmt: skip
_HOST_PORT = re.compile(r"^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$")


class ConfigError(InputError):
    """A setting or the cluster is not as it must be; the message is one sentence that says what to mend."""


class Settings(BaseSettings):
    """Everything that can be set about the job, checked when made; immutable, and picklable for Beam's workers."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma separated.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to; SASL_PLAINTEXT only on the loopback address."
    )
    ssl_cafile: Path | None = Field(
        None, description="PEM file of who may vouch for the brokers; by default the system's own."
    )
    ssl_certfile: Path | None = Field(None, description="PEM file of our certificate, for brokers that ask for one.")
    ssl_keyfile: Path | None = Field(None, description="PEM file of its key, if not in ssl_certfile.")
    ssl_key_password_file: Path | None = Field(
        None, description="File with the key's password; or the variable HUSHWORD_SSL_KEY_PASSWORD."
    )
    sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256"] = Field(
        "SCRAM-SHA-512", description="How sasl_username proves that it knows its password."
    )
    sasl_username: str | None = Field(None, min_length=1, description="Our name with the brokers.")
    sasl_password_file: Path | None = Field(
        None, description="File with its password; or the variable HUSHWORD_SASL_PASSWORD."
    )
    audio_topic: TopicName = Field("wakeword-audio", description="Topic the audio of requests is read from.")
    decisions_topic: TopicName = Field("wakeword-decisions", description="Topic the decisions are written to.")
    media_topic: TopicName = Field(
        "media-fingerprints", description="Compacted topic of known and discovered media, read and written."
    )
    dead_letter_topic: TopicName = Field(
        default_factory=lambda fields: f"{fields['audio_topic']}.dlq",
        description="Topic for records that cannot be read; by default the audio topic's name and '.dlq'.",
    )
    control_topic: TopicName = Field(
        "hushword-control", description="Compacted topic of what operators order: shadow, blocked media, erasures."
    )
    group_id: str = Field(
        "hushword", min_length=1, max_length=249, description="Consumer group whose committed offsets are the progress."
    )
    start_at: Literal["earliest", "latest"] = Field(
        "latest", description="Where a group without committed offsets begins."
    )
    reorder_ms: int = Field(
        100, ge=0, le=60_000, description="How long to wait for records that come out of order, in ms of capture time."
    )
    window_s: float = Field(
        10.0, ge=1.0, le=600.0, description="How long a request stays comparable with others, in s of capture time."
    )
    window_requests: int = Field(
        4096, ge=3, le=1_000_000, description="Most requests in one route's window; more end in 'accept'."
    )
    partners: int = Field(
        100, ge=2, le=100_000, description="How many others, drawn at random, each request is compared with."
    )
    shards: int = Field(1, ge=1, le=4096, description="Shards per wake word and locale, by household.")
    deadline_ms: int = Field(
        1000, ge=1, le=600_000, description="Decisions so much later than their audio are marked late, in ms."
    )
    shadow: bool = Field(default=False, description="Mark every decision as shadow: for the record, not to act on.")
    bits: Literal["learned64", "gradient64"] = Field("learned64", description="The kind of sub-fingerprint.")
    filters: Path | None = Field(
        None, description="File of other filters (hushword train-filters) in the place of those of learned64."
    )
    calibration: Path | None = Field(
        None, description="Calibration file for the bits (hushword calibrate); by default the one that ships."
    )
    false_ignore_budget: float = Field(
        1e-6, gt=0.0, le=1e-2, description="Accepted probability that one live request is ignored."
    )
    budget_concurrency: int = Field(
        100, ge=3, le=10_000_000, description="Concurrent requests at which the false-ignore budget holds."
    )
    airing_share: float = Field(
        0.01,
        gt=0.0,
        le=1.0,
        description="Share of live requests with an airing in their window; 1 on a route where there always is one.",
    )
    max_clock_skew_s: float = Field(
        86_400.0, gt=0.0, le=3.2e7, description="Largest distance of capture time from the broker's append time, in s."
    )
    request_timeout_s: float = Field(
        10.0, ge=0.5, le=600.0, description="A request without new audio for so long is over, in s of capture time."
    )
    max_open_requests: int = Field(
        20_000, ge=1, le=10_000_000, description="Most requests open at once in a reader; more end in 'accept'."
    )
    household_requests_per_minute: int = Field(
        60, ge=1, le=1_000_000, description="Most requests a household and minute of capture; more end in 'accept'."
    )
    catalogue_entries: int = Field(1000, ge=1, le=1_000_000, description="Most discovered averages kept per route.")
    catalogue_ttl_s: float = Field(
        7 * 86_400.0, ge=1.0, le=3.2e7, description="How long a discovered average stays valid, in s of capture time."
    )
    known_entries: int = Field(
        200_000, ge=0, le=10_000_000, description="Most entries of known media, over all routes; 0 for none."
    )
    discovery_delay_ms: int = Field(
        2000, ge=0, le=600_000, description="A discovered average is valid on other shards so long after it was found."
    )
    ignore_rate_bound: float = Field(
        0.6,
        gt=0.0,
        le=1.0,
        description="Mean share of ignored requests over which a route turns itself to shadow; 1 for never.",
    )
    ignore_rate_window_s: float = Field(
        600.0, ge=60.0, le=86_400.0, description="Over how long that share is taken, in s of capture time."
    )
    ignore_rate_requests: int = Field(
        100, ge=1, le=1_000_000, description="Requests in that time without which the share says nothing."
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="Port for /metrics, /healthz and /readyz; none is served by default."
    )
    metrics_host: str = Field("127.0.0.1", min_length=1, description="Address at which metrics_port is served.")
    hash_ids: bool = Field(
        default=False, description="Replace the ids of households and devices by keyed hashes as soon as they are read."
    )
    hash_ids_key_file: Path | None = Field(None, description="File with the key of these hashes, 16 bytes or more.")
    log_format: Literal["text", "json"] = Field("text", description="Lines of the log: text, or JSON with ids.")

    @field_validator("bootstrap_servers")
    @classmethod
    def _servers_have_ports(cls, servers: str) -> str:
        for server in servers.split(","):
            found = _HOST_PORT.match(server.strip())
            if found is None or not 0 < int(found[1]) < 65_536:
                raise ValueError(f"{server.strip()!r} is not host:port")
        return ",".join(server.strip() for server in servers.split(","))

    @property
    def uses_tls(self) -> bool:
        """Whether brokers are spoken to through TLS."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether brokers are told a name and shown that its password is known."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @model_validator(mode="after")
    def _are_as_safe_as_they_look(self) -> Self:
        """Refuse what would leave a connection less safe than somebody who set it up believes."""
        protocol = f"security_protocol is {self.security_protocol}"
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password_file"):
            if getattr(self, name) is not None and not self.uses_tls:
                raise ValueError(f"{name} is set, but {protocol}, which has no TLS")
        for name in ("sasl_username", "sasl_password_file"):
            if getattr(self, name) is not None and not self.uses_sasl:
                raise ValueError(f"{name} is set, but {protocol}, which has no SASL")
        for name in ("ssl_keyfile", "ssl_key_password_file"):
            if getattr(self, name) is not None and self.ssl_certfile is None:
                raise ValueError(f"{name} is set, but ssl_certfile is not")
        if self.uses_sasl and self.sasl_username is None:
            raise ValueError(f"{protocol}, which takes sasl_username")
        if self.security_protocol == "SASL_PLAINTEXT":
            for server in self.bootstrap_servers.split(","):
                if server.rsplit(":", 1)[0] not in _LOOPBACK:
                    raise ValueError(
                        f"{protocol}, but {server} is not on the loopback address: whoever listens could guess the"
                        " password at leisure and hears the audio; use SASL_SSL"
                    )
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        topics = [
            self.audio_topic, self.decisions_topic, self.media_topic, self.dead_letter_topic, self.control_topic
        ]  # fmt: skip
        if len(set(topics)) < len(topics):
            raise ValueError(
                "audio_topic, decisions_topic, media_topic, dead_letter_topic and control_topic must be five different"
                " topics"
            )
        if self.hash_ids and self.hash_ids_key_file is None:
            raise ValueError("hash_ids takes a key: set hash_ids_key_file")
        if self.request_timeout_s * 1000 <= self.reorder_ms:
            raise ValueError(
                f"request_timeout_s ({self.request_timeout_s:g}) must be longer than reorder_ms ({self.reorder_ms})"
            )
        if self.window_s * 1000 <= self.reorder_ms:
            raise ValueError(f"window_s ({self.window_s:g}) must be longer than reorder_ms ({self.reorder_ms})")
        return self

    def as_environment(self) -> dict[str, str]:
        """Give these settings as environment variables that make the same settings in another process."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in values.items()}


def load_settings(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Merge the sources and check the result.

    Args:
        config: a TOML file whose top-level keys are fields of Settings, or None.
        overrides: values by field name (the command line's flags); None means not given.

    Raises:
        ConfigError: one sentence that names the field and where its value came from.

    """
    flags = {name: value for name, value in (overrides or {}).items() if value is not None}
    file = _read_toml(config) if config is not None else {}
    try:
        environment = EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise ConfigError(f"an environment variable that starts with {ENV_PREFIX} cannot be read: {error}") from error
    try:
        return Settings(**{**file, **environment, **flags})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # a rule over several fields: its message names them
            raise ConfigError(f"settings do not fit together: {message}") from error
        name = str(first["loc"][0])
        if name not in Settings.model_fields:
            source = f"{config}" if name in file else "the settings given"
            raise ConfigError(f"unknown setting {name!r} in {source}") from error
        if name in flags:
            source = f"from --{name.replace('_', '-')}"
        elif name in environment:
            source = f"from the environment variable {ENV_PREFIX}{name.upper()}"
        else:
            source = f"from {config}"
        message = message[0].lower() + message[1:]
        raise ConfigError(f"setting {name} = {first['input']!r} ({source}) is not valid: {message}") from error


def _read_toml(config: Path) -> dict[str, Any]:
    try:
        with config.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {config}: {os.strerror(error.errno or 0)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config} is not valid TOML: {error}") from error

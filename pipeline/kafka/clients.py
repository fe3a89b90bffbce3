"""How every Kafka client of the project reaches its brokers.

Secrets are read here and nowhere else, when a client is made: settings, and whatever is pickled or printed with them,
hold the paths of files.
"""

import os
import random
import ssl
import time
from pathlib import Path
from typing import Any

from kafka.errors import NodeNotReadyError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from pipeline.options import ENV_PREFIX, ConfigError, Settings

# A broker that says nothing for so long has died or stands still: by then the controller has given its partitions to
# another one (broker.session.timeout.ms, 9 s). kafka-python would wait for 30 s.
REQUEST_TIMEOUT_MS = 10_000
# How long a client that finds no broker waits at most before it tries again; kafka-python would wait for up to 30 s.
_RECONNECT_WITHIN_MS = 1000
# How long a broker that takes a connection may take to answer at first; each time that it did not, twice as long.
_CONNECT_WITHIN_MS = 3000
# A broker that has let a request lie for so long may stand still; a fetch may wait for half a second of it.
_ANSWERS_WITHIN_S = 2.0


class _Connections(KafkaConnectionManager):
    """Tries the next broker when one takes the connection and does not answer, as one that stands still does.

    kafka-python 3.0.12 gives the first that it draws all the time that a client has to find its brokers, and may draw
    it again and again; one that it has lost is the one that it asks first.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._tried = set[Any]()

    def get_connection(self, node_id: Any, timeout_ms: float | None = None, **how: Any) -> Any:
        """Connect to a broker, in no more time than any connection may take; to one twice only after all others.

        Raises:
            NodeNotReadyError: it is not its turn, and another one is to be drawn.

        """
        if timeout_ms is not None:
            timeout_ms = min(timeout_ms, self.socket_connection_setup_timeout_ms(node_id))
            if node_id not in self._conns and not self.connection_delay(node_id):
                self._take_turn(node_id)
        return super().get_connection(node_id, timeout_ms=timeout_ms, **how)

    def least_loaded_node(self) -> Any:
        """Give the connected broker that has left nothing unanswered for longest, else what kafka-python would.

        It prefers one that it has lost, and would have to connect to, to those that are at work on a fetch: metadata
        would be asked of a broker that stands still, again and again, while its partitions have long been another's.
        """
        now_s = time.monotonic()
        waited_s = {}
        for broker in self.cluster.brokers():
            connection = self._conns.get(broker.node_id)
            if connection is not None and connection.connected and not connection.paused:
                asked_s = (sent_s for _, _, sent_s, *_ in list(connection.in_flight_requests))
                waited_s[broker.node_id] = now_s - min(asked_s, default=now_s)
        node_id = min(waited_s, key=lambda node: (waited_s[node], random.random()), default=None)
        if node_id is None or waited_s[node_id] > _ANSWERS_WITHIN_S:
            return super().least_loaded_node()
        return node_id

    def _take_turn(self, node_id: Any) -> None:
        named = {broker.node_id for broker in self.cluster.bootstrap_brokers()}
        if self._tried >= named:
            self._tried.clear()
        if node_id in named & self._tried:
            raise NodeNotReadyError(node_id)
        self._tried.add(node_id)


class _Client(KafkaNetClient):
    def __init__(self, **arguments: Any) -> None:
        arguments["socket_connection_setup_timeout_ms"] = _CONNECT_WITHIN_MS
        net = NetworkSelector(**arguments)
        super().__init__(net, _Connections(net, **arguments), **arguments)


class Secret(str):
    """Text that is not shown: kafka-python logs its arguments as they are when it is told to log everything."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Give asterisks."""
        return "'***'"


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Give the keyword arguments by which kafka-python's consumers, producers and administrators reach the brokers.

    Clients read certificates again for each connection, so renewed ones need no restart; a password is read here.

    Raises:
        ConfigError: a file cannot be used, or a password is missing.

    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
        "reconnect_backoff_max_ms": _RECONNECT_WITHIN_MS,
        "kafka_client": _Client,
    }
    if settings.uses_tls:
        tls_context(settings)  # a client would try for ever with a file that cannot be used
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            path: Path | None = getattr(settings, name)
            arguments[name] = None if path is None else str(path)
        arguments["ssl_password"] = _secret("ssl_key_password", settings.ssl_key_password_file)
    if settings.uses_sasl:
        password = _secret("sasl_password", settings.sasl_password_file)
        if not password:
            raise ConfigError(
                f"security_protocol {settings.security_protocol} takes a password: set sasl_password_file, or the"
                f" environment variable {ENV_PREFIX}SASL_PASSWORD"
            )
        arguments |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": password,
        }
    return arguments


def _secret(name: str, path: Path | None) -> Secret | None:
    """Give a secret from its file or, without one, from the environment; a line feed at its end is an editor's."""
    if path is None:
        value = os.environ.get(f"{ENV_PREFIX}{name.upper()}")
        return None if value is None else Secret(value)
    try:
        return Secret(path.read_text(encoding="utf-8").rstrip("\r\n"))
    except OSError as error:
        raise ConfigError(f"setting {name}_file = {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"setting {name}_file = {path} is not text") from None


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Give what a client would make of the files: brokers must prove the name that they are called by."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if settings.ssl_cafile is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ssl_cafile)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"setting ssl_cafile = {settings.ssl_cafile} cannot be used: {_of_file(error)}") from error
    if settings.ssl_certfile is not None:
        # Without a password in hand OpenSSL would ask the terminal for one.
        password = _secret("ssl_key_password", settings.ssl_key_password_file) or ""
        try:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
        except OSError as error:
            key = f" with ssl_keyfile = {settings.ssl_keyfile}" if settings.ssl_keyfile is not None else ""
            raise ConfigError(
                f"setting ssl_certfile = {settings.ssl_certfile}{key} cannot be used: {_of_file(error)}"
            ) from error
    return context


def _of_file(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or "it cannot be read"
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if error.reason in ("NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE") or error.reason is None:
        return "it is not PEM, or its key takes another password (setting ssl_key_password_file)"
    return f"it is not PEM, or its key takes another password (setting ssl_key_password_file): {error.reason}"

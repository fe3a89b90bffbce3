"""Why brokers cannot be used, in one sentence without a secret in it.

kafka-python tries again until its time is up, and says no more than that. So this connects by itself and goes the same
way, step by step: TLS, what the listener wants, who we are.
"""

import socket
import ssl
import struct
from contextlib import closing

from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError
from kafka.net.sasl.scram import ScramClient

from pipeline.kafka.clients import client_arguments, tls_context
from pipeline.options import ConfigError, Settings

_ANSWER_S = 5.0
# X509_V_ERR_*, as OpenSSL numbers them.
_NOT_YET_VALID, _EXPIRED, _WRONG_NAMES = 9, 10, (62, 64)
# Alerts of TLS that are about a certificate, or may be.
_OF_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
# Kafka's protocol: two requests, and what they are answered.
_SASL_HANDSHAKE, _SASL_AUTHENTICATE = 17, 36
_NO_ERROR, _UNSUPPORTED_MECHANISM, _ILLEGAL_SASL_STATE = 0, 33, 34
_CLIENT = b"hushword"
_LONGEST_ANSWER = 1 << 16


class _SilentError(OSError):
    """The other end gave no answer that Kafka would."""


def check_reachable(settings: Settings) -> None:
    """See whether a broker takes us.

    Raises:
        ConfigError: one sentence about what is wrong with the first that answers, or that none does.

    """
    client_arguments(settings)
    servers = settings.bootstrap_servers.split(",")
    faults = []
    for server in servers:
        try:
            fault = _fault(settings, server)
        except OSError:
            continue
        if fault is None:
            return
        faults.append(fault)
    silent = (
        f"no Kafka broker answered at {settings.bootstrap_servers} within {_ANSWER_S:.0f} s (setting bootstrap_servers)"
    )
    raise ConfigError(next(iter(faults), silent))


def why(settings: Settings, error: BaseException) -> str:
    """Give a sentence about what a client of ours was told."""
    if isinstance(error, AuthorizationError):
        return f"{name_of_user(settings)} is not allowed to: {type(error).__name__} {_plain(error)}"
    if isinstance(error, OSError | SaslAuthenticationFailedError) or (
        isinstance(error, KafkaError) and error.retriable
    ):
        try:
            check_reachable(settings)
        except ConfigError as fault:
            return str(fault)
    return f"{type(error).__name__} {_plain(error)}"


def name_of_user(settings: Settings) -> str:
    """Say who we are to the brokers."""
    if settings.sasl_username is not None:
        return f"the user {settings.sasl_username!r}"
    return f"the owner of {settings.ssl_certfile}" if settings.ssl_certfile is not None else "an anonymous user"


def _plain(error: BaseException) -> str:
    return ", ".join(str(part) for part in error.args)


def _fault(settings: Settings, server: str) -> str | None:
    """Connect to one server and say what is wrong.

    Raises:
        OSError: nobody listens there.

    """
    host, port = server.rsplit(":", 1)
    host = host.strip("[]")
    connection = socket.create_connection((host, int(port)), _ANSWER_S)
    with closing(connection):
        if not settings.uses_tls:
            return _fault_of_listener(settings, server, connection)
        try:
            secured = tls_context(settings).wrap_socket(connection, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            return f"{server} cannot be trusted: {_of_certificate(error, host)}"
        except OSError as error:
            return _of_handshake(settings, server, error)
        with closing(secured):
            return _fault_of_listener(settings, server, secured)


def _of_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code == _EXPIRED:
        return "its certificate has expired"
    if error.verify_code == _NOT_YET_VALID:
        return "its certificate is not valid yet"
    if error.verify_code in _WRONG_NAMES:
        return f"its certificate is not for {host}; use a name that it is for (setting bootstrap_servers)"
    return f"nobody in ssl_cafile vouches for its certificate ({error.verify_message})"


def _of_handshake(settings: Settings, server: str, error: OSError) -> str:
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or type(error).__name__
    if "ALERT" in reason and any(name in reason for name in _OF_CERTIFICATES):
        ours = settings.ssl_certfile
        if ours is None:
            return f"{server} ended the TLS handshake ({reason}): it asks for a certificate of ours (ssl_certfile)"
        return f"{server} ended the TLS handshake ({reason}): it does not accept our certificate, {ours}"
    return (
        f"{server} does not speak TLS as we do ({reason}): its listener may have none"
        f" (security_protocol is {settings.security_protocol})"
    )


def _fault_of_listener(settings: Settings, server: str, connection: socket.socket) -> str | None:
    """Ask for our SASL mechanism: every listener answers that, and says by it what it wants."""
    mechanism, protocol = settings.sasl_mechanism.encode(), f"security_protocol is {settings.security_protocol}"
    try:
        body = struct.pack(">h", len(mechanism)) + mechanism
        (code,) = struct.unpack_from(">h", _ask(connection, _SASL_HANDSHAKE, 1, body))
    except ssl.SSLError as error:  # with TLS 1.3, what is said of our certificate comes after the handshake
        return _of_handshake(settings, server, error)
    except (OSError, struct.error):
        if settings.uses_tls:
            return f"{server} took the connection and did not answer: is it a Kafka broker?"
        return f"{server} does not answer without TLS ({protocol}), or is no Kafka broker"
    if not settings.uses_sasl:
        return (
            None if code == _ILLEGAL_SASL_STATE else f"{server} wants a user and a password ({protocol}: use SASL_SSL)"
        )
    if code == _ILLEGAL_SASL_STATE:
        return f"{server} has a listener without SASL ({protocol})"
    if code == _UNSUPPORTED_MECHANISM:
        return f"{server} does not know the mechanism {settings.sasl_mechanism} (setting sasl_mechanism)"
    try:
        is_known = _log_in(settings, connection)
    except (OSError, struct.error, ValueError, KeyError):  # the last two are ScramClient's, about what it is answered
        is_known = False
    if is_known:
        return None
    return (
        f"{server} refused the user {settings.sasl_username!r} ({settings.sasl_mechanism}): no such user, or another"
        " password (settings sasl_username and sasl_password_file)"
    )


def _log_in(settings: Settings, connection: socket.socket) -> bool:
    """Show that we know the password, which does not leave this process for that."""
    arguments = client_arguments(settings)
    scram = ScramClient(arguments["sasl_plain_username"], arguments["sasl_plain_password"], settings.sasl_mechanism)
    for message, take in (
        (scram.first_message, scram.process_server_first_message),
        (scram.final_message, scram.process_server_final_message),
    ):
        said = message()
        answer = _ask(connection, _SASL_AUTHENTICATE, 0, struct.pack(">i", len(said)) + said)
        code, length = struct.unpack_from(">hh", answer)
        if code != _NO_ERROR:
            return False
        take(answer[8 + max(0, length) :])
    return True


def _ask(connection: socket.socket, request: int, version: int, body: bytes) -> bytes:
    """Send one request of Kafka's protocol, and give what follows the head of its answer."""
    head = struct.pack(">hhih", request, version, 1, len(_CLIENT)) + _CLIENT
    connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    (length,) = struct.unpack(">i", _exactly(connection, 4))
    if not 4 < length <= _LONGEST_ANSWER:
        raise _SilentError
    return _exactly(connection, length)[4:]


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            raise _SilentError
        received += part
    return received

"""The page's address: taken, and told, before anything heavy is imported. Who comes early waits a moment."""

import importlib.util
import socket

from pipeline.errors import InputError

INSTALL_HINT = "pip install 'hushword[monitor]'"


class AddressError(InputError):
    """The page cannot be served there, or not at all; the message says why."""


def require_extra() -> None:
    """Raise AddressError when what serves the page is not installed."""
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise AddressError(f"the page in the browser needs an extra ({name} is missing): {INSTALL_HINT}")


def listen(host: str, port: int) -> socket.socket:
    """Listen.

    Args:
        host: a name or an address of this machine.
        port: 0 for any that is free.

    Raises:
        AddressError: it cannot be had.

    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise AddressError(f"the page cannot be served at {host}:{port}: {error}") from error
    return listening


def address_of(listening: socket.socket) -> str:
    """Give its address as browsers take it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

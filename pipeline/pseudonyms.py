"""Ids that tell who asked, replaced by keyed hashes: the same within a recording, and nobody's without the key."""

import hashlib
import secrets
from pathlib import Path

from pipeline.errors import InputError
from pipeline.options import Settings

_KEY_BYTES = 32
_SHORTEST_KEY_BYTES = 16


class Pseudonyms:
    """Replaces ids: BLAKE2b of the id under a key, 128 bits as hex; a household and a device never share one."""

    def __init__(self, key: bytes | None) -> None:
        """`key`: any number of bytes; None keeps all ids as they are."""
        # Hashed, so that a key of any length fits.
        self._key = None if key is None else hashlib.blake2b(key, digest_size=_KEY_BYTES).digest()

    def request(self, request_id: str) -> str:
        """Give the request's pseudonym."""
        return self._of(b"request", request_id)

    def household(self, household: str) -> str:
        """Give the household's pseudonym."""
        return self._of(b"household", household)

    def device(self, device: str) -> str:
        """Give the device's pseudonym."""
        return self._of(b"device", device)

    @property
    def check(self) -> str:
        """Tells keys apart, and nothing else about them."""
        return self._of(b"check", "") or "none"

    def _of(self, kind: bytes, identifier: str) -> str:
        if self._key is None:
            return identifier
        return hashlib.blake2b(identifier.encode(), digest_size=16, key=self._key, person=kind).hexdigest()


# Ids as they are.
CLEAR = Pseudonyms(None)


def pseudonyms_of(settings: Settings) -> Pseudonyms:
    """Give what the settings make of the ids of households and devices; those of requests stay.

    Raises:
        InputError: their key cannot be used.

    """
    if not settings.hash_ids or settings.hash_ids_key_file is None:
        return CLEAR
    return Pseudonyms(read_key(settings.hash_ids_key_file))


def new_key() -> bytes:
    """Draw a key."""
    return secrets.token_bytes(_KEY_BYTES)


def read_key(path: Path) -> bytes:
    """Read a key from a file.

    Raises:
        InputError: it cannot be read, or is too short to be one.

    """
    try:
        key = path.read_bytes()
    except OSError as error:
        raise InputError(f"the key file {path} cannot be read: {error.strerror}") from error
    if len(key) < _SHORTEST_KEY_BYTES:
        raise InputError(
            f"the key file {path} has {len(key)} bytes: a key that cannot be guessed has {_SHORTEST_KEY_BYTES} or more"
        )
    return key


def share_of(request_id: str) -> float:
    """Give a number in [0, 1) that hangs on the request id alone, to draw a sample of requests by."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8, person=b"sample").digest()
    return int.from_bytes(digest, "big") / 2**64

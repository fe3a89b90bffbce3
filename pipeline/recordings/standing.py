"""Where a replay stands, in a small file, so that another process can go on from there."""

import hashlib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.atomic import replace_text
from pipeline.errors import InputError
from pipeline.recordings.departures import Key, Programme
from pipeline.recordings.recording import Recording


class StandingError(InputError):
    """There is nothing that a replay could go on from; the message says why."""


class Standing(BaseModel):
    """What a replay was started with, and the last departure before which all are acknowledged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest_sha256: str
    topic: str
    speed: Annotated[float, Field(gt=0)] | None  # None: as fast as it goes
    epoch_us: int
    programme: Programme
    key: Key | None = None  # None: nothing is acknowledged yet
    requests: int = 0  # whose final chunk is acknowledged

    @classmethod
    def read(cls, path: Path, recording: Recording) -> Self:
        """Read what `write` wrote.

        Raises:
            StandingError: no replay was interrupted, the file is damaged, or the recording is another one now.

        """
        try:
            standing = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StandingError(f"there is nothing to resume: no replay has left {path}") from None
        except (OSError, ValidationError) as error:
            raise StandingError(f"{path} does not say where a replay stands: {error}") from error
        if standing.manifest_sha256 != manifest_sha256(recording):
            raise StandingError(f"{recording.folder} has changed since its replay was interrupted: start it anew")
        return standing

    def write(self, path: Path) -> None:
        """Put it in place of what was there.

        Raises:
            StandingError: the file cannot be written.

        """
        try:
            replace_text(path, self.model_dump_json())
        except OSError as error:
            raise StandingError(
                f"{path} cannot be written, which is to say where the replay stands: name another place (--state)"
            ) from error


def manifest_sha256(recording: Recording) -> str:
    """Tell one recording from another."""
    return hashlib.sha256((recording.folder / "manifest.jsonl").read_bytes()).hexdigest()

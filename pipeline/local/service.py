"""What the local servers have in common: a directory, one port for clients, and a process that comes and goes."""

import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from pipeline.local.process import LOOPBACK, ServerProcess, free_port


class Startable(ABC):
    """What runs for the length of a `with`; a start that fails, or is interrupted, leaves nothing behind."""

    @abstractmethod
    def start(self) -> Self:
        """Start it; it is ready when this returns."""

    @abstractmethod
    def close(self) -> None:
        """Stop whatever of it runs."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LocalService(Startable):
    """A context manager around one server.

    Its files live in `directory`, which is kept, or in a temporary one, which goes when the context ends. A directory
    belongs to one object: ports are chosen when it is made.
    """

    name: ClassVar[str]  # short, for file names

    def __init__(self, directory: Path | None, heap: str) -> None:
        self._temporary = None
        if directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix=f"hushword-{self.name}-", ignore_cleanup_errors=True)
            directory = Path(self._temporary.name)
        self.directory, self.heap = directory.absolute(), heap
        self._port = free_port()
        self._process: ServerProcess | None = None

    @abstractmethod
    def _prepare(self, scratch: Path) -> ServerProcess:
        """Write what the server wants to find and return its process, not yet started; called once."""

    @property
    def address(self) -> str:
        """Host and port for clients, the same after a restart."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def log_path(self) -> Path:
        """What the server has to say: warnings and errors."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        return self._process.pid if self._process else None

    def start(self, *, deadline_s: float = 60.0) -> Self:
        """Start the server, or start it again on the same data and port; it is ready when this returns."""
        self._prepared().start(self._port, deadline_s=deadline_s)
        return self

    def _prepared(self) -> ServerProcess:
        if self._process is None:
            scratch = self.directory / "tmp"
            scratch.mkdir(parents=True, exist_ok=True)
            self._process = self._prepare(scratch)
        return self._process

    def stop(self) -> None:
        """Stop the server in order; its files stay."""
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """End the server as a crash would; its files stay."""
        if self._process:
            self._process.kill()

    def close(self) -> None:
        """Stop the server and remove its temporary directory."""
        self.stop()
        if self._temporary:
            self._temporary.cleanup()

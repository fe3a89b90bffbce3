"""The life of a command that starts servers: whenever and however it ends, no process and no file stays behind."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.errors import FailedError
from pipeline.local import LocalServiceError
from pipeline.local.jars import INSTALL_HINT

if TYPE_CHECKING:
    import psutil

_ENDED_WITHIN_S = 5.0


class StoppedError(SystemExit):
    """A signal ended the command; its code is 128 and the signal's number, as shells have it."""


class Lifetime:
    """What `guarded` hands to the work: a folder for all its files, and whether a signal has come."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0  # of the first signal that came
        self._raises = False

    def check(self) -> None:
        """Raise StoppedError when a signal has come: Python drops what a handler raises inside a finaliser."""
        if self.number:
            raise StoppedError(128 + self.number)

    def _arm(self) -> None:
        self._raises = True
        self.check()

    def _disarm(self) -> None:
        self._raises = False

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        # Only the first raises, so that tidying up is never interrupted.
        if not self.number:
            self.number = number
            if self._raises:
                raise StoppedError(128 + number)


def guarded(work: Callable[[Lifetime], int]) -> int:
    """Do the work in a folder of its own; afterwards end every process that it started, and remove the folder.

    Ctrl-C, SIGTERM and SIGHUP raise StoppedError in the work. The handlers stay: the command ends with this.

    Args:
        work: gets the lifetime; all temporary files, its own and those of its children, go into the folder.

    Returns:
        What the work returned.

    Raises:
        StoppedError: a signal came; everything is tidied up when this arrives.
        FailedError: the work's own; then the folder stays, with nothing but logs in it.

    """
    try:
        import psutil  # noqa: F401  needed in the end: better to miss it now
    except ImportError as error:
        raise LocalServiceError(f"local servers need an extra: {INSTALL_HINT}") from error
    # The name is chosen before the folder is made, so that no moment is left in which it is there and not known.
    folder = Path(tempfile.gettempdir()) / f"hushword-demo-{os.getpid()}-{os.urandom(4).hex()}"
    life = Lifetime(folder)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, life._hear)  # noqa: SLF001
    failed = False
    try:
        try:
            life._arm()  # noqa: SLF001
            folder.mkdir(mode=0o700)
            tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
            code = work(life)
        finally:
            # Two levels: a signal may raise right here, before this line is done, and never again after that.
            life._disarm()  # noqa: SLF001
    except FailedError:
        failed = True
        raise
    finally:
        end_descendants()
        _remove(folder, keep_logs=failed)
    life.check()
    return code


def end_descendants() -> None:
    """End all processes that descend from this one, and wait until they are dead."""
    import psutil

    # The tracker of multiprocessing ends with this process, and complains when it is ended before.
    found = [p for p in psutil.Process().children(recursive=True) if "resource_tracker" not in _command(p)]
    for process in found:
        process.kill()
    # Not psutil's wait: it takes the exit codes, and those who started the processes would wait for them for ever.
    deadline_s = time.monotonic() + _ENDED_WITHIN_S
    while any(_runs(process) for process in found) and time.monotonic() < deadline_s:
        time.sleep(0.02)


def _runs(process: "psutil.Process") -> bool:
    import psutil

    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(process: "psutil.Process") -> str:
    import psutil

    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _remove(folder: Path, *, keep_logs: bool) -> None:
    logs = [path for path in folder.glob("*.log") if path.stat().st_size] if keep_logs else []
    if not logs:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path not in logs:
            path.unlink()
    print(f"hushword: the job's log stays in {folder}", file=sys.stderr)

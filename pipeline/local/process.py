"""A server as a child process: started in its own session, ready when its port opens, never left behind."""

import atexit
import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.local import LocalServiceError

LOOPBACK = "127.0.0.1"
POLL_S = 0.05
TAIL_LINES = 15

# Runs in the child before the server takes its place: the kernel kills it when the parent (argument 1) is gone. Not
# `preexec_fn`, which may deadlock beside gRPC's threads. SIGKILL, as nobody is left to insist.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]): sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def free_port() -> int:
    """Return a free port on loopback, below those that outgoing connections get: a restart finds it free again."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise LocalServiceError(f"no free port was found on {LOOPBACK}")


def log_tail(log_path: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, or what there is."""
    with contextlib.suppress(OSError):
        return "\n".join(log_path.read_text(errors="replace").splitlines()[-lines:])
    return ""


class ServerProcess:
    """One server: `start`, `stop` (SIGTERM, then SIGKILL), `kill` (SIGKILL), and `start` again."""

    def __init__(self, name: str, command: Sequence[str], log_path: Path) -> None:
        self.name, self.log_path = name, log_path
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while it runs, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, port: int, *, deadline_s: float = 60.0) -> None:
        """Start the server and wait until `port` accepts connections; raise with its log's tail if it never does."""
        self.launch()
        self.wait_for(port, deadline_s=deadline_s)

    def launch(self) -> None:
        """Start the server and do not wait, for those that need each other to get ready."""
        assert self.pid is None, f"{self.name} runs already"
        command = self._command
        # The signal comes when the starting *thread* ends, so a short-lived one must not ask for it; then only atexit
        # helps.
        if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which stops it in order
            )
        atexit.register(self.stop)

    def wait_for(self, port: int, *, deadline_s: float = 60.0) -> None:
        """Wait until `port` of a launched server accepts connections; if it never does, end it and raise."""
        assert self._process is not None, f"{self.name} was not launched"
        try:
            self._wait_for(port, self._process, deadline_s)
        except BaseException:
            self.kill()
            raise

    def _wait_for(self, port: int, process: subprocess.Popen[bytes], deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while True:
            if (code := process.poll()) is not None:
                problem = f"{self.name} ended with code {code} before its port {port} opened"
                break
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
                return
            if time.monotonic() > deadline:
                problem = f"{self.name} did not open its port {port} within {deadline_s:g} s"
                break
            time.sleep(POLL_S)
        raise LocalServiceError(f"{problem}; its log {self.log_path} ends with:\n{log_tail(self.log_path)}")

    def stop(self, *, grace_s: float = 10.0) -> None:
        """Ask the server to end, insist after `grace_s`, and return when it has ended; do nothing when none runs."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._ended()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._process = None
        atexit.unregister(self.stop)


def run_to_end(name: str, command: Sequence[str], *, deadline_s: float = 60.0) -> None:
    """Run a command that ends by itself; raise with the end of its output when it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LocalServiceError(f"{name} did not end within {deadline_s:g} s") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-TAIL_LINES:])
        raise LocalServiceError(f"{name} ended with code {done.returncode}:\n{tail}")

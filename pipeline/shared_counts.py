"""Where the processes of one job count together. Needed before prometheus_client is imported: it looks only then."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

# prometheus_client's own name for it; what a job starts inherits it.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FILES = ("counter_*.db", "gauge_*.db", "histogram_*.db", "summary_*.db")


class SharedCounts:
    """A directory that this process, and all that it starts, count in; the one the environment names, or a new one."""

    def __init__(self) -> None:
        """Make it, or empty it of what an earlier job has counted.

        Raises:
            RuntimeError: prometheus_client was imported before.

        """
        if "prometheus_client" in sys.modules:
            raise RuntimeError("prometheus_client was imported before it could be told where to count")
        given = os.environ.get(VARIABLE)
        self._own = not given
        self.directory = Path(given or tempfile.mkdtemp(prefix="hushword-metrics-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        for pattern in _FILES:
            for old in self.directory.glob(pattern):
                old.unlink()
        os.environ[VARIABLE] = str(self.directory)

    def close(self) -> None:
        """Remove the directory, if it was made here."""
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

"""The jars of Kafka and of Beam's Flink job server: fetched once, checked with `jars.csv`, kept outside the checkout.

`jars.csv` is the resolved closure of the coordinates below, one jar a line with size and SHA-256 (`python -m
pipeline.local.lock` writes it). A pinned closure is fetched in seconds where resolving takes a minute, and what runs
is what was tested.
"""

import csv
import fcntl
import functools
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from pipeline.local import LocalServiceError

if TYPE_CHECKING:
    import requests

INSTALL_HINT = "pip install 'hushword[local]'"
LOCK_NAME = "jars.csv"
DOWNLOADS_AT_ONCE = 8
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60
_CENTRAL = {"*", "external:*", "central"}  # names by which a mirror in Maven's settings covers the central repository


@dataclass(frozen=True)
class Jar:
    """One file of a Maven repository."""

    path: str  # within the repository: group/artifact/version/file
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, which the cache keeps."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class JarSet:
    """A program: its Maven coordinates, and through `jars` everything that they need."""

    name: str
    version: str
    coordinates: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name and version: the folder in the cache and the first column of the lock file."""
        return f"{self.name}-{self.version}"

    @functools.cached_property
    def jars(self) -> tuple[Jar, ...]:
        """All jars in class path order, as the lock file has them."""
        with (resources.files("pipeline.local") / LOCK_NAME).open(encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if row["set"] == self.key]
        return tuple(Jar(row["path"], int(row["size_bytes"]), row["sha256"]) for row in rows)


_LOGGING = "org.slf4j:slf4j-simple:1.7.36"  # 1.x, as the API beside it: a binding of another generation logs nothing
KAFKA = JarSet("kafka", "4.3.1", ("org.apache.kafka:kafka_2.13:4.3.1", _LOGGING))
FLINK = JarSet("flink", "1.19-beam-2.62.0", ("org.apache.beam:beam-runners-flink-1.19:2.62.0", _LOGGING))
JAR_SETS = (KAFKA, FLINK)


def cache_directory() -> Path:
    """Where jars are kept: `$HUSHWORD_CACHE`, else `hushword` in the user's cache directory."""
    if chosen := os.environ.get("HUSHWORD_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hushword"


def is_complete(directory: Path, jars: tuple[Jar, ...]) -> bool:
    """Whether every jar is there in its full size (its checksum was right when it arrived)."""
    try:
        return all((directory / jar.name).stat().st_size == jar.size_bytes for jar in jars)
    except OSError:
        return False


def ensure(jar_set: JarSet) -> list[Path]:
    """Return the jars of `jar_set` in class path order, fetching first what the cache lacks."""
    directory = cache_directory() / jar_set.key
    if not jar_set.jars:
        raise LocalServiceError(f"{LOCK_NAME} knows no jars of {jar_set.key}: run python -m pipeline.local.lock")
    if not is_complete(directory, jar_set.jars):
        try:
            with _locked(directory):
                if not is_complete(directory, jar_set.jars):  # another process may have fetched them meanwhile
                    _fetch(jar_set, directory)
        except OSError as error:
            raise LocalServiceError(f"{jar_set.key} cannot be fetched into {directory}: {error}") from error
    return [directory / jar.name for jar in jar_set.jars]


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time fetch into `directory`; the lock goes with the process that holds it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jar_set: JarSet, directory: Path) -> None:
    """Fetch into a folder beside `directory` that takes its name when all is there; what is good already is kept."""
    part = directory.with_name(f"{directory.name}.part")
    if directory.exists():  # damaged
        shutil.rmtree(part, ignore_errors=True)
        directory.rename(part)
    part.mkdir(exist_ok=True)
    session, repositories = _session(), _repositories()
    with _progress(jar_set) as advance, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        tasks = [pool.submit(_download, session, repositories, jar, part, advance) for jar in jar_set.jars]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    part.rename(directory)


def _download(
    session: "requests.Session", repositories: list[str], jar: Jar, directory: Path, advance: Callable[[int], None]
) -> None:
    """Fetch one jar from the first repository that has it, unless `directory` holds it already."""
    import requests

    target = directory / jar.name
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == jar.sha256:
        advance(jar.size_bytes)
        return
    for repository in repositories:
        url = f"{repository}/{jar.path}"
        try:
            with session.get(url, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)) as response:
                if response.status_code == requests.codes.not_found:
                    continue
                response.raise_for_status()
                digest = hashlib.sha256()
                arriving = target.with_suffix(".arriving")
                with arriving.open("wb") as file:
                    for block in response.iter_content(1 << 16):
                        file.write(block)
                        digest.update(block)
                        advance(len(block))
        except requests.RequestException as error:
            raise LocalServiceError(f"{url} cannot be fetched (is there a network?): {error}") from error
        if digest.hexdigest() != jar.sha256:
            arriving.unlink()
            raise LocalServiceError(f"{url} is not the file that {LOCK_NAME} names: its checksum differs")
        arriving.replace(target)
        return
    raise LocalServiceError(f"{jar.path} was not found in {' or '.join(repositories)}")


def _session() -> "requests.Session":
    """Return a pooled session that tries again, and trusts the system's own certificates when it names some."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    retry = Retry(total=3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504))
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=DOWNLOADS_AT_ONCE, max_retries=retry))
    # requests reads REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE by itself (they win), but not OpenSSL's own variable.
    session.verify = os.environ.get("SSL_CERT_FILE") or True
    return session


def _repositories() -> list[str]:
    """Return the mirror of the user's Maven settings, or else the repository that jgo knows, and jgo's own settings."""
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError as error:
        raise LocalServiceError(f"local servers need an extra: {INSTALL_HINT}") from error
    found = _mirrors(Path.home() / ".m2" / "settings.xml") or list(MavenContext().remote_repos.values())
    return [str(url).rstrip("/") for url in (*found, *GlobalSettings.load().repositories.values())]


def _mirrors(settings: Path) -> list[str]:
    """Return the addresses that Maven's settings put in place of the central repository."""
    if not settings.exists():
        return []
    try:
        mirrors = ET.parse(settings).iterfind(".//{*}mirror")  # noqa: S314  the user's own file
        of_central = [m for m in mirrors if _CENTRAL & set(m.findtext("{*}mirrorOf", "").split(","))]
    except ET.ParseError as error:
        raise LocalServiceError(f"{settings} cannot be read: {error}") from error
    return [url.strip() for m in of_central if (url := m.findtext("{*}url"))]


@contextmanager
def _progress(jar_set: JarSet) -> Iterator[Callable[[int], None]]:
    """Show on stderr how far it is: a bar on a terminal, else a line for each quarter; yields `advance(bytes)`."""
    console = Console(stderr=True)
    total_bytes = sum(jar.size_bytes for jar in jar_set.jars)
    title = f"fetching {jar_set.key}: {len(jar_set.jars)} jars, {total_bytes / 1e6:.0f} MB"
    if console.is_terminal:
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress("{task.description}", *columns, console=console, transient=True) as progress:
            task = progress.add_task(title, total=total_bytes)
            yield lambda size_bytes: progress.advance(task, size_bytes)
        return
    console.print(title, highlight=False, soft_wrap=True)
    lock, began_s, done_bytes = threading.Lock(), time.monotonic(), 0

    def advance(size_bytes: int) -> None:
        nonlocal done_bytes
        with lock:
            before, done_bytes = done_bytes, done_bytes + size_bytes
            if 4 * before // total_bytes < (quarter := 4 * done_bytes // total_bytes):
                elapsed_s = time.monotonic() - began_s
                console.print(f"  {25 * quarter} % after {elapsed_s:.1f} s", highlight=False)

    yield advance

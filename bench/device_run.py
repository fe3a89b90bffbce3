"""Compiles the matcher for devices, and runs it over requests: for tests and for `python -m bench.device`."""

import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matcher.device import ENTRY_WORDS, LOOKS, RATE_ONE, DeviceBits, Look, Pack, PackEntry
from matcher.grid import SAMPLE_RATE_HZ

SOURCES = Path(__file__).parents[1] / "deploy" / "device"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic")
# One operation an instruction: what wide vectors do at once would count as one.
SCALAR = ("-O2", "-fno-tree-vectorize")
NOT_YET, MATCH, NO_MATCH = range(3)
REFUSED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """A request as a device hears it: int16 (n,) at 16 kHz, the seed of its dither, the device's clock."""

    samples: npt.NDArray[np.int16]
    seed: int
    unix_s: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What the device said: verdict, entry (-1 for none), its digest, seconds that it took, uint32 (n,) words."""

    verdict: int
    entry: int
    digest: int
    taken_s: float
    words: npt.NDArray[np.uint32]


class RefusedError(ValueError):
    """The device refuses the pack: the number of its error."""


def build(folder: Path, *flags: str, compiler: str = "gcc") -> Path:
    """Compile the runner into a folder and give its path; anything to warn of is an error."""
    binary = folder / "hw_run"
    subprocess.run([compiler, *WARNINGS, *flags, str(SOURCES / "hw_run.c"), "-o", str(binary)], check=True)
    return binary


def as_input(requests: Iterable[Heard]) -> bytes:
    """Lay requests out as the runner reads them."""
    return b"".join(
        struct.pack("<QII", r.seed, r.unix_s, len(r.samples)) + r.samples.astype("<i2").tobytes() for r in requests
    )


def run(command: Sequence[str | Path], pack: Path, requests: Iterable[Heard], piece: int = 320) -> list[Said]:
    """Let the device hear requests, so many samples at a time.

    Args:
        command: the runner, perhaps with what runs it.
        pack: the file.
        requests: in order.
        piece: samples pushed at a time.

    Raises:
        RefusedError: the device refuses the pack.
        CalledProcessError: it crashed, or a sanitizer found something.

    """
    code, lines = run_packs(command, [pack], requests, piece)
    if code == REFUSED:
        raise RefusedError(lines[0])
    return [_said(line.split()) for line in lines]


def run_packs(
    command: Sequence[str | Path], packs: Sequence[Path], requests: Iterable[Heard], piece: int
) -> tuple[int, list[str]]:
    """Let the device hear requests with one pack after the other: the last one's exit code, and all lines.

    Raises:
        CalledProcessError: it crashed, or a sanitizer found something.

    """
    with tempfile.TemporaryFile() as file:
        file.write(as_input(requests))
        file.seek(0)
        done = subprocess.run(  # noqa: PLW1510
            [*map(str, command), str(piece), *map(str, packs)], stdin=file, capture_output=True
        )
    if done.returncode not in {0, REFUSED}:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
    return done.returncode, done.stdout.decode().splitlines()


def never_deciding(bits: DeviceBits, entries: int) -> Pack:
    """A pack of noise that listens to the end: for comparing bits, and for what matching costs at most."""
    rng = np.random.default_rng(entries)
    looks = [Look((RATE_ONE - 1,) * 3, -RATE_ONE // 2, (RATE_ONE - 1,) * 3)] * LOOKS
    noise = [PackEntry(n, rng.integers(0, 2**32, ENTRY_WORDS, dtype=np.uint32)) for n in range(entries)]
    return Pack(bits.bits_id, 0, looks, noise)


def _said(parts: list[str]) -> Said:
    verdict, entry, digest, samples, *words = parts
    return Said(
        int(verdict), int(entry), int(digest, 16), int(samples) / SAMPLE_RATE_HZ,
        np.array([int(word, 16) for word in words], np.uint32),
    )  # fmt: skip

"""The matcher for devices, compiled: it computes what Python computes, decides what Python decides, and nothing that is
given to it as a pack makes it read or write where it must not."""

import shutil
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bench.device import BUILDS, count, count_arm
from bench.device_run import (
    MATCH,
    NO_MATCH,
    NOT_YET,
    SOURCES,
    Heard,
    RefusedError,
    build,
    never_deciding,
    run,
    run_packs,
)
from deploy.device.tables import HEADER, tables
from matcher.bits import bits_named
from matcher.device import ENTRY_WORDS, FILTERS, LOOK_STEP, Look, Pack, PackEntry, device_bits, media_digest, pack_bytes
from matcher.device_twin import decide
from matcher.fingerprint import seed_of
from matcher.grid import SAMPLE_RATE_HZ, FilterBank
from pipeline.recordings.recording import Recording
from pipeline.simulate.scene import plan
from pipeline.simulate.settings import settings_from
from pipeline.simulate.write import write_recording

pytestmark = pytest.mark.device

SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SNRS_DB = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("plain"), "-O2")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sanitized"), *SANITIZED)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Requests of every SNR that set nothing that is tested here."""
    folder = tmp_path_factory.mktemp("street") / "street"
    settings = {"minutes": 5, "events": 6, "split": "evaluation", "homes": 60, "seed": 2024}
    write_recording(plan(settings_from(None, settings)), folder)
    return Recording.load(folder)


@pytest.fixture
def pack_file(tmp_path: Path) -> Callable[[Pack], Path]:
    def write(pack: Pack) -> Path:
        path = tmp_path / "list.hwp"
        path.write_bytes(pack_bytes(pack, device_bits().name))
        return path

    return write


def python_words(heard: Heard) -> npt.NDArray[np.uint32]:
    bits = device_bits()
    return bits.words(bits_named(bits.source).words(FilterBank(heard.seed).push(heard.samples)))[:ENTRY_WORDS]


def agreement(binary: Path, pack: Path, requests: list[Heard]) -> list[float]:
    """Share of each request's bits that are as Python's."""
    shares = []
    for request, said in zip(requests, run([binary], pack, requests), strict=True):
        words = python_words(request)
        assert len(words) - LOOK_STEP < len(said.words) <= len(words)  # words wait for the look that they are for
        words = words[: len(said.words)]
        shares.append(1 - int(np.bitwise_count(words ^ said.words).sum()) / (FILTERS * len(words)))
    return shares


def heard_in(recording: Recording) -> list[Heard]:
    return [Heard(recording.audio(request)[0], seed_of(request.request_id)) for request in recording.requests]


def test_tables_are_those_of_the_filters() -> None:
    assert HEADER.read_text(encoding="utf-8") == tables(device_bits()), "make device-tables"


def test_bits_are_pythons_at_every_noise(binary: Path, street: Recording, pack_file: Callable[[Pack], Path]) -> None:
    pack = pack_file(never_deciding(device_bits(), 16))
    shares = np.array(agreement(binary, pack, heard_in(street)))
    snrs_db = np.array([street.truth[request.request_id].snr_db for request in street.requests])
    assert set(snrs_db) == set(SNRS_DB)
    assert shares.mean() > 0.998
    for snr_db in SNRS_DB:
        assert shares[snrs_db == snr_db].mean() > 0.997, snr_db
    assert shares.min() > 0.99


def hard_sounds() -> dict[str, npt.NDArray[np.int16]]:
    rng = np.random.default_rng(3)
    n = 3 * SAMPLE_RATE_HZ
    at = np.arange(n)
    noise = rng.standard_normal(n)
    bursts = np.repeat(rng.random(n // 800 + 1) < 0.5, 800)[:n]
    return {
        "silence": np.zeros(n, np.int16),
        "one step of noise": np.round(noise).astype(np.int16),
        "full-scale noise": np.clip(noise * 20_000, -32_768, 32_767).astype(np.int16),
        "clipped to a square": np.where(noise > 0, 32_767, -32_768).astype(np.int16),
        "bursts of a full-scale square wave": np.where(at % 40 < 20, 32_767, -32_768).astype(np.int16) * bursts,
        "one full-scale step": np.where(at < n // 2, -32_768, 32_767).astype(np.int16),
        "steady full-scale square wave": np.where(at % 50 < 25, 32_767, -32_768).astype(np.int16),
    }


# White noise, which silence is once it is dithered, has as much over 4 kHz as below, and the decimator folds some of
# it; of a steady tone every loudness is one, and what is left to decide a bit is less than the decimator leaves alone.
LEAST_SHARES = {
    "steady full-scale square wave": 0.5,
    "one full-scale step": 0.5,
    "bursts of a full-scale square wave": 0.5,
}


def test_bits_are_pythons_of_hard_sounds(binary: Path, pack_file: Callable[[Pack], Path]) -> None:
    pack = pack_file(never_deciding(device_bits(), 16))
    for name, samples in hard_sounds().items():
        shares = agreement(binary, pack, [Heard(samples, seed) for seed in range(1, 41)])
        print(name, np.mean(shares))
        assert np.mean(shares) > LEAST_SHARES.get(name, 0.996), (name, np.mean(shares))


def test_a_device_decides_as_python_does_of_its_words(
    binary: Path, street: Recording, pack_file: Callable[[Pack], Path]
) -> None:
    """Over packs with other thresholds, lengths and times: verdict, entry, and when."""
    requests = heard_in(street)[:60]
    words = [python_words(request) for request in requests]
    rng = np.random.default_rng(4)
    for budget in (1e-6, 1e-2, 0.9):
        entries = [
            PackEntry(
                media_digest(f"m{number}"),
                np.ascontiguousarray(w[: rng.integers(20, ENTRY_WORDS + 1)]) ^ _noise(rng, rng.random() * 0.4),
                *((0, 0), (1000, 0), (1000, 2000), (3000, 0))[number % 4],
                decides=number % 7 != 3,
            )
            for number, w in enumerate(words[:40])
        ]
        pack = Pack(device_bits().bits_id, 0, device_bits().looks(budget, len(entries)), entries)
        path = pack_file(pack)
        for unix_s in (0, 1500, 2500):
            said = run([binary], path, [replace(request, unix_s=unix_s) for request in requests])
            for one in said:
                verdict = decide(pack, one.words, unix_s)
                assert (one.verdict == NOT_YET) == (verdict is None)
                if verdict is not None:
                    assert one.entry == (-1 if verdict.entry is None else verdict.entry)
                    assert len(one.words) == verdict.words
                    assert one.digest == (0 if verdict.entry is None else entries[verdict.entry].digest)
            assert {one.verdict for one in said} >= {MATCH, NO_MATCH}


def _noise(rng: np.random.Generator, share: float) -> np.uint32:
    flipped = rng.random(32) < share / 3
    return np.uint32((flipped << np.arange(32)).sum())


def test_pieces_of_any_size_come_to_the_same(
    binary: Path, street: Recording, pack_file: Callable[[Pack], Path]
) -> None:
    pack = pack_file(never_deciding(device_bits(), 16))
    requests = heard_in(street)[:3]
    whole = [said.words.tolist() for said in run([binary], pack, requests)]
    for piece in (1, 3, 160, 777, 100_000):
        assert [said.words.tolist() for said in run([binary], pack, requests, piece)] == whole


def test_silence_matches_nothing(binary: Path, pack_file: Callable[[Pack], Path]) -> None:
    silent = [Heard(np.zeros(3 * SAMPLE_RATE_HZ, np.int16), seed) for seed in range(100)]
    entries = [PackEntry(seed, python_words(Heard(silent[0].samples, seed + 1000))) for seed in range(50)]
    pack = pack_file(Pack(device_bits().bits_id, 0, device_bits().looks(1e-6, 50), entries))
    assert all(said.verdict == NO_MATCH for said in run([binary], pack, silent))


def test_nothing_is_read_or_written_out_of_place(
    sanitized: Path, street: Recording, pack_file: Callable[[Pack], Path]
) -> None:
    pack = pack_file(never_deciding(device_bits(), 250))
    hard = [Heard(samples, 2**64 - 1) for samples in hard_sounds().values()]
    assert len(run([sanitized], pack, [*heard_in(street)[:20], *hard])) == 20 + len(hard)


def test_valgrind_finds_nothing(street: Recording, tmp_path: Path, pack_file: Callable[[Pack], Path]) -> None:
    memcheck = ["valgrind", "--error-exitcode=9", "--quiet", "--leak-check=full"]
    binary = build(tmp_path, "-O1", "-g")
    pack = pack_file(never_deciding(device_bits(), 50))
    assert len(run([*memcheck, binary], pack, heard_in(street)[:2])) == 2


def mutated(rng: np.random.Generator, good: bytes) -> bytes:
    """A pack with something wrong; half of them with a checksum that says that nothing is."""
    data = bytearray(good)
    kind = rng.integers(5)
    if kind == 0:
        del data[rng.integers(len(data)) :]
    elif kind == 1:
        data += rng.bytes(int(rng.integers(1, 400)))
    elif kind == 2:
        for at in rng.integers(0, len(data), rng.integers(1, 9)):
            data[at] = rng.integers(256)
    else:  # the header and the looks, and what else stands in numbers
        for at in rng.integers(0, 240, rng.integers(1, 5)):
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
    if rng.random() < 0.5 and len(data) > 16:
        data[8:12] = len(data).to_bytes(4, "little")
        data[12:16] = zlib.crc32(data[16:]).to_bytes(4, "little")
    return bytes(data)


def test_no_broken_pack_does_harm(sanitized: Path, street: Recording, tmp_path: Path) -> None:
    """Thousands of mutations: each is refused, or harmless to whoever uses it."""
    rng = np.random.default_rng(5)
    requests = heard_in(street)[:1]
    entries = [PackEntry(n, python_words(requests[0])) for n in range(20)]
    good = pack_bytes(Pack(device_bits().bits_id, 0, device_bits().looks(1e-6, 20), entries), "device32")
    packs, refused = [], 0
    for number in range(3000):
        packs.append(tmp_path / f"{number}.hwp")
        packs[-1].write_bytes(mutated(rng, good))
    for first in range(0, len(packs), 250):
        _, lines = run_packs([sanitized], packs[first : first + 250], requests, 1600)
        assert len(lines) == 250
        refused += sum(line.startswith("refused") for line in lines)
    assert len(packs) // 2 < refused < len(packs)  # some are whole but for a word or a threshold


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (lambda data: data[:40], 2),
        (lambda data: b"HWPX" + data[4:], 2),
        (lambda data: data[:4] + b"\2\0" + data[6:], 2),
        (lambda data: data[:-1], 3),
        (lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:], 3),
    ],
)
def test_a_refused_pack_says_why(binary: Path, tmp_path: Path, what: Callable[[bytes], bytes], error: int) -> None:
    path = tmp_path / "refused.hwp"
    path.write_bytes(what(pack_bytes(never_deciding(device_bits(), 16), "device32")))
    with pytest.raises(RefusedError, match=f"refused {error}"):
        run([binary], path, [])


def test_a_pack_of_other_filters_and_one_that_matches_anything_are_refused(
    binary: Path, pack_file: Callable[[Pack], Path]
) -> None:
    pack = never_deciding(device_bits(), 16)
    with pytest.raises(RefusedError, match="refused 4"):
        run([binary], pack_file(replace(pack, bits_id=pack.bits_id ^ 1)), [])
    eager = [replace(look, accept=(100, 100, 100)) for look in pack.looks]
    with pytest.raises(RefusedError, match="refused 5"):
        run([binary], pack_file(replace(pack, looks=eager)), [])


@pytest.mark.parametrize("flags", BUILDS.values(), ids=BUILDS)
def test_it_stays_within_its_bounds(street: Recording, tmp_path: Path, flags: tuple[str, ...]) -> None:
    heard = heard_in(street)[:4]
    for size, mips, most_bytes in ((50, 5.0, 40_000), (100, 8.0, 70_000)):
        cost = count(tmp_path, device_bits(), heard, size, flags)
        assert sum(cost.steps.values()) <= mips
        assert cost.code + cost.tables + cost.state + cost.pack <= most_bytes


on_an_arm = pytest.mark.skipif(
    not (shutil.which("arm-linux-gnueabihf-gcc") and shutil.which("qemu-arm")),
    reason="ARM takes Debian's gcc-arm-linux-gnueabihf and qemu-user",
)


@on_an_arm
def test_an_arm_computes_the_same(
    street: Recording, binary: Path, tmp_path: Path, pack_file: Callable[[Pack], Path]
) -> None:
    flags = ("-O2", "-static", "-mthumb", "-march=armv7-a", "-mfpu=neon-vfpv4")
    arm = build(tmp_path, *flags, compiler="arm-linux-gnueabihf-gcc")
    pack = pack_file(never_deciding(device_bits(), 50))
    requests = heard_in(street)[:5]
    for one, other in zip(run(["qemu-arm", arm], pack, requests), run([binary], pack, requests), strict=True):
        assert np.bitwise_count(one.words ^ other.words).sum() <= 2


@on_an_arm
def test_an_arm_stays_within_its_bounds(street: Recording, tmp_path: Path) -> None:
    assert count_arm(tmp_path, device_bits(), heard_in(street)[:2], 50) <= 5.0


def test_the_matcher_needs_no_library(tmp_path: Path) -> None:
    """No malloc, no libm: what it takes of others is what every compiler's own code takes."""
    compiled = tmp_path / "device.o"
    subprocess.run(
        ["gcc", "-O2", "-std=c99", "-c", str(SOURCES / "hushword_device.c"), "-o", str(compiled)], check=True
    )
    symbols = subprocess.run(
        ["nm", "--undefined-only", str(compiled)], capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[-1] for line in symbols.splitlines()} <= {
        "memset",
        "memcpy",
        "memcmp",
        "_GLOBAL_OFFSET_TABLE_",
    }


def test_looks_are_in_words_of_the_entry() -> None:
    assert isinstance(device_bits().looks(1e-6, 50)[0], Look)

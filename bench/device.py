"""What the matcher for devices costs, and what it does on recordings: `python -m bench.device [RECORDING ...]`.

Takes gcc and valgrind. Without recordings it simulates ten minutes of the *evaluation* split. Beside a recording's
clean files lies sources/media.csv; other advertisements of the simulator, and what its people say, mixed as
advertisements are, fill its packs up to 50 and 100 entries. docs/device.md has what came of it.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from bench.calibrate import simulate
from bench.device_run import MATCH, NO_MATCH, SCALAR, SOURCES, WARNINGS, Heard, as_input, build, never_deciding, run
from matcher.bits import LearnedBits, bits_named
from matcher.device import ENTRY_WORDS, FILTERS, DeviceBits, device_bits, pack_bytes
from matcher.fingerprint import seed_of
from matcher.grid import FilterBank
from matcher.known_entry import entry_words
from pipeline.media.device_pack import pack_of
from pipeline.media.entries import media_id_of
from pipeline.media.sources import fingerprint, read_csv
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.recordings.recording import Recording
from pipeline.simulate.broadcast import mix
from pipeline.simulate.clips import choose

SIMULATION = {"minutes": 10, "events": 12, "split": "evaluation", "seed": 1001}
SIZES = (50, 100)
BUDGET = 1e-6
BUILDS = {
    "x86-64": SCALAR,
    "x86-64-v3, scalar": (*SCALAR, "-march=x86-64-v3", "-ffp-contract=fast"),
}
# Functions of the C, by what they are for.
STEPS = {
    "filter bank": (
        "hw_push",
        "halve",
        "frame_energies",
        "windowed_pass",
        "transform_pass",
        "powers",
        "band_energies",
    ),
    "bits": ("words_from", "scales"),
    "matching": ("compare", "look", "grow"),
}
COUNTED_REQUESTS = 8


def main(
    recordings: Annotated[list[Path] | None, typer.Argument(help="Labelled recordings with sources/media.csv.")] = None,
    counting: Annotated[bool, typer.Option(help="Count instructions and bytes, too.")] = True,
) -> None:
    """Count instructions and bytes, and hold packs of the recordings' media against their requests."""
    bits = device_bits()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not recordings:
            recordings = [folder / "evaluation"]
            simulate(recordings[0], SIMULATION)
        loaded = [Recording.load(path) for path in recordings]
        if counting:
            _print_costs(folder, bits, _heard(loaded[0], COUNTED_REQUESTS))
        binary = build(folder, "-O2")
        print()
        print("| recording, entries | bits as Python's | media that never leave | audio, median, 90 % | people lost |"
              " people given up by 1.0 s, 1.5 s |\n|---|---|---|---|---|---|")  # fmt: skip
        for recording in loaded:
            for size in SIZES:
                print(_on(recording, size, bits, binary, folder))


def _heard(recording: Recording, count: int | None = None) -> list[Heard]:
    return [
        Heard(recording.audio(request)[0], seed_of(request.request_id))
        for request in track(recording.requests[:count], "reading", transient=True, console=Console(stderr=True))
    ]


# What it costs.


@dataclass(frozen=True)
class Cost:
    """Millions of instructions a second of audio, by step; and bytes."""

    steps: dict[str, float]
    code: int
    tables: int
    state: int
    pack: int


def _print_costs(folder: Path, bits: DeviceBits, heard: list[Heard]) -> None:
    print(f"| build | entries | {' | '.join(STEPS)} | MIPS | code | tables | state | pack | bytes |")
    print("|---" * (len(STEPS) + 8) + "|")
    for build_name, flags in BUILDS.items():
        for size in SIZES:
            cost = count(folder, bits, heard, size, flags)
            sizes = (cost.code, cost.tables, cost.state, cost.pack)
            steps = " | ".join(f"{value:.2f}" for value in cost.steps.values())
            cells = " | ".join(map(str, (*sizes, sum(sizes))))
            print(f"| {build_name} | {size} | {steps} | {sum(cost.steps.values()):.2f} | {cells} |")
    if shutil.which("arm-linux-gnueabihf-gcc") and shutil.which("qemu-arm"):
        for size in SIZES:
            print(f"ARMv7-A, Thumb-2, VFPv4, scalar, {size} entries: {count_arm(folder, bits, heard, size):.2f} MIPS")
    else:
        print("ARM is not counted: it takes gcc-arm-linux-gnueabihf and qemu-user")


def count(folder: Path, bits: DeviceBits, heard: list[Heard], size: int, flags: tuple[str, ...]) -> Cost:
    """Count with callgrind what a device executes that listens to the end of every request, and weigh what it takes."""
    pack = folder / "cost.hwp"
    pack.write_bytes(pack_bytes(never_deciding(bits, size), bits.name))
    binary = build(folder, "-g", *flags)
    profile = folder / "callgrind.out"
    callgrind = [
        "valgrind", "--tool=callgrind", "--toggle-collect=hw_push", f"--callgrind-out-file={profile}", binary
    ]  # fmt: skip
    seconds = sum(said.taken_s for said in run(callgrind, pack, heard))
    listing = subprocess.run(
        ["callgrind_annotate", "--auto=no", "--threshold=100", str(profile)], capture_output=True, text=True, check=True
    ).stdout
    known = {name: step for step, names in STEPS.items() for name in names}
    steps = dict.fromkeys(STEPS, 0.0)
    for instructions, function in re.findall(r"^ *([\d,]+) \([^)]*\) +\S*?:([\w.]+)", listing, re.MULTILINE):
        copying = "mem" in function  # memcpy and memset, whatever the C library calls them
        step = "filter bank" if copying else known[function.split(".")[0]]
        steps[step] += int(instructions.replace(",", "")) / seconds / 1e6
    code, tables = _sections(folder, flags)
    return Cost(steps, code, tables, _state_bytes(size), pack.stat().st_size)


def _sections(folder: Path, flags: tuple[str, ...]) -> tuple[int, int]:
    """Bytes of code and of constants of the matcher alone."""
    compiled = folder / "hushword_device.o"
    source = str(SOURCES / "hushword_device.c")
    subprocess.run(["gcc", *WARNINGS, *flags, "-c", source, "-o", str(compiled)], check=True)
    lines = subprocess.run(["size", "-A", str(compiled)], capture_output=True, text=True, check=True).stdout.split("\n")
    found = [line.split()[:2] for line in lines if line.startswith((".text", ".rodata", ".data", ".bss"))]
    code = sum(int(size) for section, size in found if section.startswith(".text"))
    return code, sum(int(size) for _, size in found) - code


def _state_bytes(entries: int) -> int:
    header = (SOURCES / "hushword_device.h").read_text(encoding="utf-8")
    found = re.search(r"HW_STATE_WORDS\(entries\) \((\d+)u \+ \((\d+)u \* \(entries\) \+ 1u\) / 2u\)", header)
    assert found
    return 8 * (int(found[1]) + (int(found[2]) * entries + 1) // 2)


def count_arm(folder: Path, bits: DeviceBits, heard: list[Heard], size: int) -> float:
    """Instructions of an emulated ARM, one a line of its trace: of two requests less those of the first one alone."""
    pack = folder / "arm.hwp"
    pack.write_bytes(pack_bytes(never_deciding(bits, size), bits.name))
    flags = (*SCALAR, "-static", "-mthumb", "-march=armv7-a", "-mfpu=neon-vfpv4", "-ffp-contract=fast")
    binary = build(folder, *flags, compiler="arm-linux-gnueabihf-gcc")
    counted = []
    for some in (heard[:1], heard[:2]):
        requests = folder / "requests"
        requests.write_bytes(as_input(some))
        trace = f"qemu-arm -singlestep -d exec,nochain -D /dev/stdout {binary} 320 {pack} < {requests} | grep -c ^Trace"
        counted.append(int(subprocess.run(["sh", "-c", trace], capture_output=True, check=True).stdout))
    seconds = run(["qemu-arm", binary], pack, heard[1:2])[0].taken_s
    return (counted[1] - counted[0]) / seconds / 1e6


# What it does.


def _on(recording: Recording, size: int, bits: DeviceBits, binary: Path, folder: Path) -> str:
    source = bits_named(bits.source)
    assert isinstance(source, LearnedBits)
    own = [fingerprint(mention, source) for mention in read_csv(recording.folder / "sources" / "media.csv")]
    entries = {entry.media_id: entry for entry in own}
    for other in _others(source):
        if len(entries) < size:
            entries.setdefault(other.media_id, other)
    pack = folder / "recording.hwp"
    pack.write_bytes(pack_bytes(pack_of(entries.values(), bits, BUDGET, 0), bits.name))
    heard = _heard(recording)
    said = run([binary], pack, heard)

    quiet = folder / "bits.hwp"
    quiet.write_bytes(pack_bytes(never_deciding(bits, 16), bits.name))
    flipped = compared = 0
    for request, device in zip(heard, run([binary], quiet, heard), strict=True):
        words = bits.words(source.words(FilterBank(request.seed).push(request.samples)))[: len(device.words)]
        assert len(words) == min(len(device.words), ENTRY_WORDS)
        flipped += int(np.bitwise_count(words ^ device.words).sum())
        compared += FILTERS * len(words)

    kinds = [recording.truth[request.request_id].kind for request in recording.requests]
    people = [one for one, kind in zip(said, kinds, strict=True) if kind == "live"]
    media = [one for one, kind in zip(said, kinds, strict=True) if kind != "live"]
    matched = sorted(one.taken_s for one in media if one.verdict == MATCH)
    lost = sum(one.verdict == MATCH for one in people)
    given_up = [sum(p.verdict == NO_MATCH and p.taken_s <= s for p in people) / max(1, len(people)) for s in (1.0, 1.5)]
    audio = f"{np.median(matched):.2f}, {np.quantile(matched, 0.9):.2f} s" if matched else "-"
    return (
        f"| {recording.folder.name}, {len(entries)} ({len(own)} its own) | {1 - flipped / compared:.3%} |"
        f" {len(matched)} of {len(media)} ({len(matched) / max(1, len(media)):.0%}) | {audio} |"
        f" {lost} of {len(people)} | {given_up[0]:.0%}, {given_up[1]:.0%} |"
    )


def _others(source: LearnedBits) -> Iterator[MediaFingerprint]:
    """Entries of whatever the simulator can say, advertisements first."""
    for clip in (*choose("advert", "all", ["alexa"]), *choose("live", "all", ["alexa"])):
        clean = mix(clip)
        samples = np.round(clean.samples * 32768).astype(np.float32)
        words, _ = entry_words(samples, round(clean.wake_word_start_s * 1000), source)
        yield MediaFingerprint(
            media_id=media_id_of(words, "alexa", "en-US"),
            kind=MediaFingerprint.KNOWN,
            words=words.astype("<u8").tobytes(),
        )


if __name__ == "__main__":
    typer.run(main)

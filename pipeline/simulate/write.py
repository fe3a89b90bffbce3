"""A scene becomes a recording on disk: all of it, or nothing."""

import contextlib
import csv
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from pipeline.interrupt import held_back
from pipeline.recordings.recording import check_folder
from pipeline.simulate.clips import SAMPLE_RATE_HZ
from pipeline.simulate.scene import Heard, Scene
from pipeline.simulate.settings import Settings

Progress = Callable[[int, int], None]  # requests done, requests in all

_BYTES_A_SAMPLE = 1.45  # FLAC of a noisy room, measured
_AHEAD = 32  # requests handed to each worker at a time
_TURN_S = 0.2  # so long a signal may have to wait for its turn


def recording_bytes(scene: Scene) -> int:
    """Say about how large the recording will be."""
    seconds = sum(heard.duration_s for heard in scene.heard) + 8 * len(scene.adverts)
    return round(seconds * SAMPLE_RATE_HZ * _BYTES_A_SAMPLE + 600 * len(scene.heard))


def write_recording(
    scene: Scene, folder: Path, workers: int | None = None, progress: Progress = lambda _done, _total: None
) -> None:
    """Render a scene into manifest.jsonl, audio/ and sources/; equal scenes give equal bytes, however many workers.

    The recording grows in a folder beside the wanted one, which appears when it is whole; Ctrl-C and SIGTERM leave
    nothing.

    Args:
        scene: what to render.
        folder: new, or empty.
        workers: processes; None: one a core, 1: this one.
        progress: told how many requests are done.

    Raises:
        InputError: the folder holds something, the disk is too small, or pyroomacoustics is missing.

    """
    check_folder(folder, recording_bytes(scene))
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    growing = folder.absolute().parent / f".{folder.absolute().name}.{os.getpid()}.partial"
    with _terminable():
        try:
            (growing / "audio").mkdir(parents=True)
            (growing / "sources").mkdir()
            _write_sources(scene, growing / "sources")
            _write_audio(scene, growing, workers or _cores(), progress)
            lines = [json.dumps(manifest_entry(heard)) + "\n" for heard in scene.heard]
            (growing / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            growing.rename(folder)
        finally:
            with held_back():
                shutil.rmtree(growing, ignore_errors=True)


def manifest_entry(heard: Heard) -> dict[str, Any]:
    """Give one line of the manifest: what the device sends, then the truth."""
    home = heard.home
    entry: dict[str, Any] = {
        "request_id": heard.request_id,
        "file": f"audio/{heard.request_id}.flac",
        "start_s": heard.start_s,
        "wake_word": heard.clip.wake_word,
        "locale": home.locale,
        "household": home.household,
        "device": home.device(heard.device),
        "kind": heard.kind,
        "event": heard.event,
        "households_in_event": heard.households_in_event,
        "expect": heard.expect,
        "snr_db": heard.snr_db,
        "wake_word_start_s": round(heard.wake_word_start_s, 4),
        "rt60": round(home.room.rt60_s, 3),
        "distance_m": round(heard.distance_m, 2),
        "jitter_ms": heard.jitter_ms,
        "ppm": home.ppm[heard.device],
        "noise": heard.noise,
        "path": home.path if heard.talker is None else None,
        "voice": heard.clip.voice,
        "text": heard.clip.text,
        "source": heard.clip.file if heard.talker is None else None,
        "tempo": heard.tempo,
    }
    if heard.beside is not None:
        entry["beside"] = "television" if heard.beside.talker is None else "person"
    if heard.pitch != 1.0:
        entry["pitch"] = heard.pitch
    return entry


def _write_sources(scene: Scene, folder: Path) -> None:
    """Write the advertisements as their makers have them, and where in them the wake word begins."""
    import soundfile

    from pipeline.simulate.broadcast import mix

    with (folder / "media.csv").open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["file", "title", "wake_word", "locale", "at_s"])
        for clip in scene.adverts:
            clean = mix(clip)
            soundfile.write(folder / clip.file, clean.samples, SAMPLE_RATE_HZ, subtype="PCM_16")
            for locale in sorted({airing.locale for airing in scene.airings if airing.clip_file == clip.file}):
                table.writerow([clip.file, clip.text, clip.wake_word, locale, round(clean.wake_word_start_s, 4)])


def _write_audio(scene: Scene, folder: Path, workers: int, progress: Progress) -> None:
    total = len(scene.heard)
    progress(0, total)
    if workers == 1:
        for done, one in enumerate(scene.heard, start=1):
            _write_request(one, scene.settings, folder)
            progress(done, total)
        return
    # Spawned, not forked: threads of this process (a progress bar, a broker's client) do not survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    done, waiting = 0, iter(scene.heard)
    running: set[Future[None]] = set()
    try:
        while done < total:
            # A handler that raised while the pool holds its locks would leave them taken, and nothing could end it.
            with held_back(), _deaf_children():
                # Handed out bit by bit, so that an interrupt finds little to wait for; the first start the workers.
                for heard in itertools.islice(waiting, _AHEAD * workers - len(running)):
                    running.add(pool.submit(_write_request, heard, scene.settings, folder))
                finished, running = wait(running, _TURN_S, FIRST_COMPLETED)
                for future in finished:
                    future.result()
                done += len(finished)
                progress(done, total)
    finally:
        with held_back():
            pool.shutdown(wait=True, cancel_futures=True)


def _write_request(heard: Heard, settings: Settings, folder: Path) -> None:
    import soundfile

    from pipeline.simulate.render import render

    path = folder / "audio" / f"{heard.request_id}.flac"
    soundfile.write(path, render(heard, settings), SAMPLE_RATE_HZ, subtype="PCM_16")


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes that start here never hear of Ctrl-C: a terminal sends it to all, and it is for the parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM unwind the stack as Ctrl-C does, when this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

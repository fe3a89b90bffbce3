"""The course of a demonstration: set up, play, hold against the truth, put away."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline import decisions as lines
from pipeline.decisions import DecisionLine, TopicFollower
from pipeline.demo.closing import against_the_truth, how_fast, succeeded, verdict, where_next
from pipeline.demo.lifetime import Lifetime, end_descendants
from pipeline.demo.show import Show
from pipeline.demo.stage import Stage, Step
from pipeline.demo.street import Street
from pipeline.evaluate.score import Report, score
from pipeline.kafka.topics import create_topics
from pipeline.local.jars import KAFKA, ensure
from pipeline.local.kafka import LocalKafka
from pipeline.options import Settings as JobSettings
from pipeline.options import load_settings
from pipeline.recordings.recording import Recording, check_folder
from pipeline.simulate.scene import Scene, plan
from pipeline.simulate.settings import Settings
from pipeline.simulate.write import write_recording
from pipeline.trial import Trial, running_trial, trial_settings

if TYPE_CHECKING:
    from pipeline.monitor.server import Monitor

PARTITIONS = 4
_STOPPED_WITHIN_S = 10.0


@dataclass(frozen=True)
class Options:
    """What may be chosen."""

    homes: int
    seconds: int
    seed: int
    keep: Path | None


def scene_settings(options: Options) -> Settings:
    """Give the simulator's settings: advertisements that wake about half of the homes, and people who talk."""
    return Settings(
        minutes=options.seconds / 60,
        homes=options.homes,
        events=max(2, round(options.seconds / 30)),
        event_size=f"{max(4, options.homes * 4 // 10)},{max(4, options.homes * 6 // 10)}",
        reruns=0,
        live_per_minute=min(20.0, options.homes / 2),
        snr_db="5,10,15,20,25",
        seed=options.seed,
    )


def run_demo(options: Options, console: Console, life: Lifetime, page: "Monitor | None" = None) -> int:
    """Run it, and show it on the page too if there is one.

    Returns:
        The exit code: 0 when it showed what it should, else 1.

    Raises:
        InputError: an option cannot be had.
        FailedError: a part failed.
        StoppedError: a signal came.

    """
    if options.keep is not None:
        check_folder(options.keep)
    job_settings = load_settings()
    scene = plan(scene_settings(options))
    stage = Stage(options.homes, options.seconds, Street(scene))
    with ExitStack() as stack:
        sound = _Rendering(scene, life.folder / "recording", stage)
        stack.callback(sound.stop)
        sound.start()
        ensure(KAFKA)  # it shows its own progress, the first time
        show = Show(stage, console)
        stack.callback(show.stop)
        show.start()
        trial = _play(job_settings, stage, sound, show, stack, life, page)
        stage.over = True
        show.stop()
        show.check()
    report = score(sound.recording, trial.decisions)
    if options.keep is not None:
        _keep(sound.recording, trial, options.keep)
    console.print()
    show_end(console, stage.street, report, trial.decisions, options.keep)
    return 0 if succeeded(report) else 1


def show_end(
    console: Console, street: Street, report: Report, decisions: Sequence[DecisionLine], kept: Path | None
) -> None:
    """Print the table, the verdict and where to look next."""
    console.print(against_the_truth(street, report, decisions, console.width))
    console.print()
    console.print(verdict(report))
    console.print(how_fast(report))
    console.print()
    console.print("Where to look next", style="bold")
    for what, command in where_next(kept):
        console.print(f"  {what}", style="grey58")
        console.print(f"    {command}", markup=False, soft_wrap=True)  # whole, to be copied


def _play(
    job_settings: JobSettings,
    stage: Stage,
    sound: "_Rendering",
    show: Show,
    stack: ExitStack,
    life: Lifetime,
    page: "Monitor | None",
) -> Trial:
    def alive(phase: str = "", done: int = 0, total: int = 0) -> None:  # noqa: ARG001
        life.check()
        show.check()

    def begin(step: Step) -> None:
        step.begin()
        if page is not None:
            page.model.set_status(note=f"{step.text} …")

    begin(stage.broker)
    # Here in the main thread: only what that starts dies with this process, whatever ends it.
    kafka = stack.enter_context(LocalKafka())
    stack.callback(kafka.kill)  # its data goes with it: no need to close in order
    settings = trial_settings(job_settings, kafka.bootstrap_servers)
    create_topics(settings, PARTITIONS)
    stage.broker.finish()
    sound.check()
    begin(stage.job)
    running = stack.enter_context(running_trial(settings, PARTITIONS))
    stage.job.finish()
    if page is not None:
        page.follow(settings)
        stack.callback(page.unfollow, "the demonstration is over; this is how it ended")  # before the broker goes
    while sound.is_alive():
        alive()
        running.job.check()
        sound.join(0.1)
    sound.check()
    show.follow(TopicFollower(settings))
    recording = sound.recording = Recording.load(sound.folder)
    stage.epoch_s = time.time()
    replayed = running.play(recording, speed=1.0, epoch_s=stage.epoch_s, progress=alive)
    return running.collect(replayed)


class _Rendering(threading.Thread):
    """Renders the scene beside the start of the servers."""

    recording: Recording

    def __init__(self, scene: Scene, folder: Path, stage: Stage) -> None:
        super().__init__(name="rendering", daemon=True)
        self.folder = folder
        self._scene, self._stage = scene, stage
        self._stopped = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Render until done or told to stop."""
        self._stage.sound.begin()
        if sys.platform == "linux":  # there, a thread's niceness is its own, and its children's: servers come first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        try:
            write_recording(self._scene, self.folder, progress=self._advance)
            self._stage.sound.finish()
        except Exception as error:  # noqa: BLE001  for the main thread to raise
            self._failure = error

    def stop(self) -> None:
        """Stop it; after everything else has ended, as all descendants of this process go with its workers."""
        self._stopped.set()
        deadline_s = time.monotonic() + _STOPPED_WITHIN_S
        while self.is_alive() and time.monotonic() < deadline_s:
            end_descendants()  # again, because it may just be starting them
            self.join(0.2)

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _advance(self, done: int, total: int) -> None:
        self._stage.sound.advance(done, total)
        if self._stopped.is_set():
            raise InterruptedError


def _keep(recording: Recording, trial: Trial, folder: Path) -> None:
    """Copy the recording and the decisions beside the wanted folder, which appears when all is there."""
    growing = folder.absolute().parent / f".{folder.absolute().name}.{os.getpid()}.partial"
    try:
        shutil.copytree(recording.folder, growing)
        lines.write_file(growing / "decisions.jsonl", trial.decisions)
        if folder.exists():
            folder.rmdir()
        growing.rename(folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)

"""The demonstration: what it shows, and that it leaves nothing behind however it ends."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from pipeline.decisions import DecisionLine, read_file
from pipeline.demo.closing import against_the_truth, succeeded, verdict
from pipeline.demo.console import can_be_drawn_on, demo_console, plain_letters
from pipeline.demo.lines import happened
from pipeline.demo.picture import GLYPHS, picture
from pipeline.demo.run import Options, scene_settings, show_end
from pipeline.demo.stage import Stage
from pipeline.demo.street import Doing, Street, ends_s, wakes_s
from pipeline.evaluate.score import score
from pipeline.recordings.recording import Recording, Request, Truth
from pipeline.simulate.scene import plan

SMALL = ("--homes", "12", "--seconds", "30", "--seed", "3")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Demo:
    """The command in a process of its own, whose descendants and files can be told from all others."""

    temporary: Path
    arguments: tuple[str, ...] = SMALL
    program: tuple[str, ...] = ("-m", "pipeline.cli")
    terminal: int | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex
        environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
        environment |= {"TMPDIR": str(self.temporary), "DEMO_MARK": self.mark}
        self.process = subprocess.Popen(
            [sys.executable, *self.program, "demo", *self.arguments],
            env={**environment, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.terminal is None else self.terminal,
            stderr=subprocess.PIPE if self.terminal is None else self.terminal,
            start_new_session=True,  # a group of its own, to which Ctrl-C can be sent as a terminal does
        )

    def left_behind(self) -> list[str]:
        """Name the processes that still run and the files that are still there, after a moment to end by themselves."""
        deadline_s = time.monotonic() + 3.0
        while (found := [*self.running(), *self.temporary.iterdir()]) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return [str(one) for one in found]

    def running(self) -> list[psutil.Process]:
        """Give it and its descendants, also those that are nobody's children any more."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.Error):
                if process.environ().get("DEMO_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def said(self, within_s: float) -> tuple[str, str]:
        """Give both outputs when it has ended; what does not end is ended here."""
        try:
            out, err = self.process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            for process in self.running():
                process.kill()
            self.process.communicate()
            raise
        return out.decode(), err.decode()


@pytest.fixture(scope="module")
def street() -> Street:
    return Street(plan(scene_settings(Options(homes=48, seconds=60, seed=3, keep=None))))


def _decision(request_id: str, **other: object) -> DecisionLine:
    decided = {"verdict": "IGNORE", "reason": "CONCURRENT", "media_id": "m", "households": 3, "audio_used_ms": 900}
    return DecisionLine.model_validate({"request_id": request_id, "decided_at_s": 1.0, **decided, **other})


def _played(street: Street, *, wrong: bool = False) -> tuple[Street, list[DecisionLine]]:
    """Decide as it should be, or on the first person too."""
    played, decisions = Street(street.scene), []
    for heard in street.scene.heard:
        if heard.kind != "live" or (wrong and not any(d.request_id.startswith("w") for d in decisions)):
            line = _decision(heard.request_id, bit_error_rate=0.38)
            played.hear(line, wakes_s(heard) + 0.5)
            decisions.append(line)
            wrong = wrong and heard.kind != "live"
    return played, decisions


def _recording(street: Street) -> Recording:
    heard = street.scene.heard
    requests = [Request(h.request_id, "", h.start_s, "alexa", "en-US", h.home.household, "d") for h in heard]
    truth = {h.request_id: Truth(h.request_id, h.kind, h.event, h.expect, h.snr_db, 0.5, 9) for h in heard}
    return Recording(Path(), tuple(requests), truth)


def _drawn(renderable: object, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=True, color_system="truecolor")
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return CONTROL.sub("", console.file.getvalue())


def test_a_home_wakes_is_told_to_sleep_and_sleeps(street: Street) -> None:
    """And one that nobody told anything answers the television."""
    heard = next(h for h in street.scene.heard if h.kind == "media")
    home = street.home_number(heard)
    told = Street(street.scene)
    told.hear(_decision(heard.request_id), wakes_s(heard) + 0.4)
    moments = [wakes_s(heard) - 0.1, wakes_s(heard) + 0.1, wakes_s(heard) + 0.5]
    assert [told.homes_doing(s)[home] for s in moments] == [Doing.ASLEEP, Doing.WOKEN, Doing.QUIET]
    assert street.homes_doing(ends_s(heard) + 2.0)[home] == Doing.ANSWERED_TV


def test_a_person_is_served_unless_ignored(street: Street) -> None:
    """A mistake stays to be seen."""
    heard = next(h for h in street.scene.heard if h.kind == "live")
    home, after_s = street.home_number(heard), ends_s(heard) + 0.1
    assert street.homes_doing(wakes_s(heard) + 0.1)[home] == Doing.TALKING
    assert street.homes_doing(after_s)[home] == Doing.SERVED
    wronged = Street(street.scene)
    wronged.hear(_decision(heard.request_id), wakes_s(heard) + 0.4)
    assert wronged.homes_doing(60.0)[home] == Doing.WRONGED
    assert wronged.counts(60.0).wronged == 1


def test_words_appear_as_they_are_said(street: Street) -> None:
    """The wake word is next when the first home hears it, and all is said in the end."""
    for airing in street.airings:
        assert airing.spoken(airing.begins_s) == ""
        assert airing.clip.text[len(airing.spoken(airing.at_s)) :].strip().startswith("Alexa")
        assert airing.spoken(airing.ends_s) == airing.clip.text


def test_counts_agree_with_the_table(street: Street) -> None:
    """What was counted live is what evaluation finds."""
    played, decisions = _played(street)
    counts, report = played.counts(90.0), score(_recording(street), decisions)
    assert (counts.quiet, counts.woken) == (report.recall.ignored, report.recall.expected)
    assert (counts.served, counts.answered_tv, counts.wronged) == (counts.talked, 0, 0)
    assert succeeded(report)
    assert str(counts.woken) in str(verdict(report))
    assert "100%" in _drawn(against_the_truth(played, report, decisions, 80), 80)


def test_one_ignored_person_is_a_failure(street: Street) -> None:
    """Whatever else was right; so is too much television answered."""
    played, decisions = _played(street, wrong=True)
    report = score(_recording(street), decisions)
    assert not succeeded(report)
    assert "IGNORED" in str(verdict(report))
    assert any("WRONG" in line for line in happened(played, -1.0, 90.0))
    assert not succeeded(score(_recording(street), decisions[len(decisions) // 2 :]))


@pytest.mark.parametrize("width", [58, 60, 80, 200])
@pytest.mark.parametrize("homes", [8, 48, 300])
def test_the_picture_fits(width: int, homes: int) -> None:
    """Every home has its window, no line is too long, and nothing jumps while it plays."""
    played, decisions = _played(Street(plan(scene_settings(Options(homes, seconds=60, seed=3, keep=None)))))
    stage = Stage(homes, 60, played)
    heights = set()
    for now_s in (None, *(1.5 * n for n in range(47))):
        lines = _drawn(picture(stage, now_s, width, height=24), width).splitlines()
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines if "“" not in line)
        windows = "".join(lines[1 : next(n for n, line in enumerate(lines) if "woken" in line)])
        assert sum(windows.count(glyph) for glyph in GLYPHS.values()) == homes
        heights.add((now_s is None, len(lines)))
    assert len(heights) == 2
    report = score(_recording(played), decisions)
    console = Console(file=io.StringIO(), width=width, height=24)
    show_end(console, played, report, decisions, None)
    assert isinstance(console.file, io.StringIO)
    assert max(map(len, console.file.getvalue().splitlines())) <= width


@pytest.mark.parametrize(
    ("environment", "width", "drawn"),
    [({}, 80, True), ({}, 40, False), ({"TERM": "dumb"}, 80, False), ({"NO_COLOR": "1"}, 80, False)],
)
def test_a_picture_is_drawn_where_it_can_be(environment: dict[str, str], width: int, drawn: bool) -> None:
    """Elsewhere there are lines."""

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    console = demo_console(Terminal(), {"TERM": "xterm-256color", "COLUMNS": str(width), "LINES": "30", **environment})
    assert can_be_drawn_on(console) == drawn


def test_letters_that_an_encoding_lacks_are_replaced() -> None:
    """A log in ASCII is better than none."""
    assert plain_letters("“Alexa” ✓", "ascii") == '"Alexa" ?'
    assert plain_letters("“Alexa” ✓", "utf-8") == "“Alexa” ✓"


def test_the_whole_of_it_as_lines(tmp_path: Path) -> None:
    """To a pipe: text with times, the table, exit code 0, what was asked to be kept, and nothing else."""
    demo = Demo(tmp_path / "tmp", (*SMALL, "--keep", str(tmp_path / "kept")))
    out, err = demo.said(240)
    assert demo.process.returncode == 0, out + err
    assert not re.search(r"[^\n -~“”✓─…]", out), "a control character"
    for says in ("12 simulated homes", "done in", " s  television", " s  hushword", "people"):
        assert says in out
    assert re.match(r"Watch it at http://127\.0\.0\.1:\d+/\n\n", out)
    assert "none of" in out
    assert "Where to look next" in out
    assert err == ""
    assert demo.left_behind() == []
    recording, decisions = Recording.load(tmp_path / "kept"), read_file(tmp_path / "kept" / "decisions.jsonl")
    assert succeeded(score(recording, decisions))


@pytest.mark.parametrize(
    ("number", "after_s"),
    [(signal.SIGINT, 0.9), (signal.SIGTERM, 1.5), (signal.SIGINT, 3.0), (signal.SIGTERM, 6.0), (signal.SIGINT, 10.0)],
)
def test_a_signal_at_any_moment_leaves_nothing(tmp_path: Path, number: signal.Signals, after_s: float) -> None:
    """Sent to the whole group, as a terminal does."""
    demo = Demo(tmp_path / "tmp", (*SMALL, "--keep", str(tmp_path / "kept")))
    time.sleep(after_s)
    os.killpg(demo.process.pid, number)
    out, err = demo.said(30)
    assert demo.process.returncode == 128 + number, out + err
    assert err == "\nhushword: stopped; nothing is left running\n"
    assert demo.left_behind() == []
    assert not (tmp_path / "kept").exists()


def test_a_job_that_fails_leaves_its_log_and_nothing_else(tmp_path: Path) -> None:
    """The end of it is in the message."""
    program = tmp_path / "failing.py"
    program.write_text(
        "import sys\n"
        "if __name__ == '__main__':\n"
        "    from pipeline import cli, trial\n"
        "    trial.JOB_COMMAND = (sys.executable, '-c', 'raise SystemExit(\"no way\")')\n"
        "    cli.main(sys.argv[1:])\n",
        encoding="utf-8",
    )
    demo = Demo(tmp_path / "tmp", program=(str(program),))
    out, err = demo.said(120)
    assert demo.process.returncode == 1, out + err
    assert "the job ended by itself with exit code 1" in err
    assert "no way" in err
    assert demo.running() == []
    assert [path.suffix for path in tmp_path.glob("tmp/**/*") if path.is_file()] == [".log"]


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [n / 2 for n in range(1, 40, 4)])
def test_ctrl_c_all_the_way(tmp_path: Path, after_s: float) -> None:
    """From the first import to the middle of the play; before the command has begun, Python answers by itself."""
    demo = Demo(tmp_path / "tmp")
    time.sleep(after_s)
    os.killpg(demo.process.pid, signal.SIGINT)
    demo.said(30)
    assert demo.process.returncode in {130, -signal.SIGINT}
    assert demo.left_behind() == []


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"TERM": "xterm-256color"}, {"NO_COLOR": "1"}], ids=str)
def test_a_terminal_of_60_columns(tmp_path: Path, environment: dict[str, str]) -> None:
    """No line is longer; without colours there is nothing but text."""
    controller, terminal = pty.openpty()
    try:
        import termios

        termios.tcsetwinsize(terminal, (30, 60))
        demo = Demo(tmp_path / "tmp", terminal=terminal, environment={"TERM": "xterm-256color", **environment})
        os.close(terminal)
        shown = _everything(controller, demo.process)
    finally:
        os.close(controller)
    assert demo.process.returncode == 0, shown
    assert ("\x1b" in shown) == (environment == {"TERM": "xterm-256color"})
    assert max(len(line) for line in CONTROL.sub("", shown).replace("\r", "\n").splitlines()) <= 60
    assert "Where to look next" in shown
    assert demo.left_behind() == []


def _everything(controller: int, process: "subprocess.Popen[bytes]") -> str:
    """Read a terminal until nobody writes to it any more."""
    shown, deadline_s = b"", time.monotonic() + 240
    while time.monotonic() < deadline_s:
        if select.select([controller], [], [], 0.2)[0]:
            try:
                shown += os.read(controller, 65_536)
            except OSError:  # Linux says so at the end
                break
    process.wait(timeout=10)
    return shown.decode()

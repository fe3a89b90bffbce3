import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.cli import main
from pipeline.recordings.recording import Request, Truth, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A labelled recording: one person, and an airing in three homes."""
    requests = [Request(f"r{n}", "a.flac", n / 2, "alexa", "en-US", f"h{n}", f"d{n}") for n in range(4)]
    truth = [Truth("r0", "live", None, "accept", 10.0, 0.5, 0)]
    truth += [Truth(f"r{n}", "media", "e", "ignore", 10.0, 0.5, 3) for n in (1, 2, 3)]
    folder = tmp_path / "recording"
    write_manifest(folder, requests, truth)
    soundfile.write(folder / "a.flac", np.zeros(16_000, np.int16), 16_000)
    return folder


def _run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in argv])
    shown = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), shown.out, shown.err


def test_help_is_light() -> None:
    """Beam, Numba and audio are not loaded before a command needs them."""
    program = (
        "import sys, pipeline.cli; heavy = {'apache_beam', 'numba', 'scipy', 'soundfile', 'numpy', 'kafka'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    "command",
    [
        *((), ("run",), ("record",), ("replay",), ("evaluate",), ("simulate",), ("demo",)),
        *(("config", "check"), ("topics", "create")),
        *(
            ("shadow",),
            ("shadow", "on"),
            ("shadow", "off"),
            ("shadow", "status"),
            ("media", "list"),
            ("media", "block"),
            ("media", "add"),
            ("media", "import"),
        ),
    ],
)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    """With the flags of the settings that matter to it."""
    code, out, _ = _run(capsys, *command, "--help")
    assert code == 0
    assert "Usage: hushword" in out
    having = {("run",), ("evaluate",), ("config", "check"), ("explain",)}
    assert ("--false-ignore-budget" in out) == (command in having)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """It says which hushword this is."""
    code, out, _ = _run(capsys, "--version")
    assert code == 0
    assert out.startswith("hushword")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("run", "--reorder-ms", "-1"), "reorder_ms = '-1' (from --reorder-ms)"),
        (("run", "--bootstrap-servers", "here"), "'here' is not host:port"),
        (("run", "--config", "/nowhere/x.toml"), "cannot read the settings file /nowhere/x.toml"),
        (("run", "stray"), "'stray' is not an option"),
        (("run", "--no-such-flag"), "No such option"),
        (("config", "check", "--start-at", "now"), "start_at"),
        (("replay", "/nowhere"), "/nowhere/manifest.jsonl cannot be read"),
        (("replay", "/nowhere", "--speed", "fast"), "--speed fast is neither a number over 0 nor 'full'"),
        (("replay", "/nowhere", "--loops", "some"), "--loops some is neither a number from 1 on nor 'forever'"),
        (("replay", "/nowhere", "--resume", "--seed", "1"), "leave --seed out"),
        (("evaluate", "/nowhere", "--run"), "/nowhere/manifest.jsonl cannot be read"),
    ],
)
def test_a_bad_input_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], says: str
) -> None:
    """On standard error, nothing on standard output, no traceback."""
    code, out, err = _run(capsys, *argv)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_a_missing_broker_is_a_bad_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Found within seconds, before anything starts."""
    code, _, err = _run(capsys, "run", "--bootstrap-servers", "127.0.0.1:1")
    assert code == 2
    assert err == "hushword: no Kafka broker answered at 127.0.0.1:1 within 5 s (setting bootstrap_servers)\n"


def test_topics_are_checked_and_created(capsys: pytest.CaptureFixture[str], kafka: str) -> None:
    """A missing topic is named with the command that makes it; then the check passes."""
    flags = ["--bootstrap-servers", kafka]
    for role in ("control", "audio", "decisions", "media"):
        flags += [f"--{role}-topic", f"test-cli-{role}"]
    code, _, err = _run(capsys, "run", *flags)
    assert code == 2
    assert "topic 'test-cli-audio' (setting audio_topic) does not exist" in err
    assert "hushword topics create" in err
    code, out, _ = _run(capsys, "topics", "create", *flags)
    assert code == 0
    assert out.count("created") == 5
    code, out, _ = _run(capsys, "topics", "create", *flags)
    assert out.count("exists") == 5
    code, out, _ = _run(capsys, "config", "check", *flags)
    assert code == 0
    code, _, err = _run(
        capsys, "config", "check", *flags[:-1], "test-cli-audio.dlq", "--dead-letter-topic", "test-cli-media"
    )
    assert code == 2
    assert "cleanup.policy=delete but needs compact" in err


def test_a_replay_says_what_it_published(capsys: pytest.CaptureFixture[str], folder: Path, kafka: str) -> None:
    """Progress goes to standard error, the summary to standard output."""
    flags = ["--bootstrap-servers", kafka, "--audio-topic", "test-cli-replay"]
    _run(capsys, "topics", "create", *flags)
    code, out, err = _run(capsys, "replay", folder, "--speed", "full", "--epoch", "1700000000", *flags)
    assert code == 0
    assert out.startswith("4 requests in ")
    assert "the recording's zero is 1700000000.000000" in out
    assert "replaying: 4 of 4" in err


def test_evaluate_reads_a_decisions_file(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    """JSON alone on standard output, or a table."""
    decided = {"verdict": "IGNORE", "reason": "CONCURRENT", "media_id": "m", "households": 3, "audio_used_ms": 900}
    lines = [json.dumps({"request_id": name, "decided_at_s": 1.0, **decided}) for name in ("r1", "r2")]
    file = tmp_path / "decisions.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    code, out, err = _run(capsys, "evaluate", folder, "--decisions", file, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["recall"]["ignored"] == 2
    code, out, _ = _run(capsys, "evaluate", folder, "--decisions", file)
    assert code == 0
    assert "66.7%" in out
    file.write_text("{}", encoding="utf-8")
    code, _, err = _run(capsys, "evaluate", folder, "--decisions", file)
    assert code == 2
    assert "line 1: request_id: Field required" in err


def test_evaluate_reads_the_topic(capsys: pytest.CaptureFixture[str], folder: Path, kafka: str) -> None:
    """An empty topic is a report without ignores."""
    flags = ["--bootstrap-servers", kafka, "--decisions-topic", "test-cli-evaluate"]
    code, _, err = _run(capsys, "evaluate", folder, *flags)
    assert code == 2
    assert "topic 'test-cli-evaluate' (setting decisions_topic) does not exist" in err
    _run(capsys, "topics", "create", *flags)
    code, out, _ = _run(capsys, "evaluate", folder, *flags, "--json")
    assert code == 0
    assert json.loads(out)["ignored"] == 0


def test_evaluate_of_an_unlabelled_recording_is_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """It would take minutes to find out otherwise."""
    write_manifest(folder, [Request("r", "a.flac", 0.0, "alexa", "en-US", "h", "d")])
    code, _, err = _run(capsys, "evaluate", folder, "--run")
    assert code == 2
    assert "is not labelled" in err


def test_ctrl_c_is_exit_code_130(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was under way."""
    from pipeline.recordings import recording

    def interrupt(_folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recording.Recording, "load", interrupt)
    code, _, _ = _run(capsys, "evaluate", folder)
    assert code == 130


def test_a_failed_run_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, kafka: str
) -> None:
    """The job's own words are in the message."""
    from pipeline import trial

    monkeypatch.setattr(trial, "JOB_COMMAND", (sys.executable, "-c", "raise SystemExit('no way')"))
    code, out, err = _run(capsys, "evaluate", folder, "--run", "--bootstrap-servers", kafka)
    assert (code, out) == (1, "")
    assert "the job ended by itself with exit code 1" in err
    assert "no way" in err
    Path(re.findall(r"the end of its log (\S+):", err)[0]).unlink()

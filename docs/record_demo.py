"""Records what `hushword demo` shows, as SVG: python docs/record_demo.py [docs/demo.svg].

The demonstration runs for real and keeps its recording and decisions; from these the picture of one moment is drawn
again, above the table that ends it.
"""

# ruff: noqa: INP001  a script beside the documents, not a package

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from pipeline.decisions import read_file
from pipeline.demo.command import HOMES, SECONDS, SEED, about
from pipeline.demo.console import say
from pipeline.demo.picture import picture
from pipeline.demo.run import Options, scene_settings, show_end
from pipeline.demo.stage import Stage
from pipeline.demo.street import Street
from pipeline.evaluate.score import score
from pipeline.recordings.recording import Recording
from pipeline.simulate.scene import plan

WIDTH = 88
AFTER_WAKE_WORD_S = 1.15  # some homes are quiet by then, some just woken, some yet to hear it
NIGHT = TerminalTheme(
    (21, 23, 30),
    (214, 218, 228),
    [(21, 23, 30), (192, 38, 61), (123, 216, 143), (255, 207, 92), (157, 180, 255), (199, 146, 234), (137, 221, 255),
     (214, 218, 228)],
)  # fmt: skip


def main() -> None:
    """Run the demonstration and draw it."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/demo.svg")
    with tempfile.TemporaryDirectory() as temporary:
        kept = Path(temporary) / "street"
        subprocess.run([sys.executable, "-m", "pipeline.cli", "demo", "--keep", str(kept)], check=True)
        draw(kept, target)


def draw(kept: Path, target: Path) -> None:
    """Draw what was kept of a demonstration with the default options."""
    street = Street(plan(scene_settings(Options(HOMES, SECONDS, SEED, None))))
    decisions = read_file(kept / "decisions.jsonl")
    for line in decisions:
        # Read from the topic when it was written: the audio it rests on, and the pipeline's latency after that.
        street.hear(line, line.decided_at_s + (line.latency_ms or 0.0) / 1000)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor",
                      highlight=False, legacy_windows=False)  # fmt: skip
    console.print("[bold #7bd88f]$[/] hushword demo\n")
    for line in about(HOMES, SECONDS):
        say(console, line, 3)
    console.print()
    stage = Stage(HOMES, SECONDS, street, epoch_s=0.0)
    console.print(picture(stage, street.airings[0].at_s + AFTER_WAKE_WORD_S, WIDTH, height=40))
    console.print("[grey42]⋯ a minute later[/]\n")
    show_end(console, street, score(Recording.load(kept), decisions), decisions, None)
    svg = console.export_svg(title="hushword demo", theme=NIGHT, unique_id="hushword")
    # Not all that draw SVG take the hard spaces that rich indents with for what they are.
    target.write_text(svg.replace("<svg ", '<svg xml:space="preserve" ', 1), encoding="utf-8")
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

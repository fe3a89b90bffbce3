"""Makes a table of docs/overload.md: what a request costs at each effort, and what is found.

`python -m bench.effort` hears prepared traffic in one process, without a broker; half a minute on a quiet core.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from bench.load import Load
from matcher.route import Route
from pipeline.assembly import Assembler
from pipeline.matching import limits_of, load_bits, load_calibration, policy_of
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.options import Settings
from pipeline.overload import EFFORTS, Effort

EPOCH_S = 1_800_000_000
CHUNKS_A_POLL = 100
PARTITIONS = 4


@dataclass
class Heard:
    """What came of a load at one effort."""

    effort: Effort
    requests: int
    media: int
    cpu_s: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    ignored: set[str] = field(default_factory=set)

    def row(self) -> str:
        """Give a line of the table."""
        media = sum(_number(request_id) < self.media for request_id in self.ignored)
        ms = {part: 1000 * cpu_s / self.requests for part, cpu_s in self.cpu_s.items()}
        cells = [
            f"{self.effort.share:g}",
            f"{self.effort.unmatched:g}",
            *(f"{ms[part]:.2f} ms" for part in ("read", "grow", "match")),
            f"{sum(ms.values()):.2f} ms",
            f"{self.counts['looks'] / self.requests:.1f}",
            f"{self.counts['comparisons'] / self.requests:,.0f}",
            f"{media} of {self.media} ({media / self.media:.0%})",
            f"{len(self.ignored) - media} of {self.requests - self.media}",
        ]
        return f"| {' | '.join(cells)} |\n"


HEAD = (
    "| comparisons spent | homes unmatched | reading | fingerprints | matching | CPU a request | looks | comparisons "
    "| media ignored | live people ignored |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def main(
    rate: Annotated[float, typer.Option(min=10, help="Requests a second.")] = 150.0,
    seconds: Annotated[float, typer.Option(min=5, help="Length of the traffic, s.")] = 20.0,
    out: Annotated[Path, typer.Option(help="The page whose table is made anew.")] = Path("docs/overload.md"),
) -> None:
    """Hear the same traffic at every effort, and write what that costs."""
    hear(EFFORTS[0], rate, 2.0)  # kernels are loaded
    heard = [hear(effort, rate, seconds) for effort in EFFORTS]
    table = f"{rate:g} requests/s for {seconds:g} s, all on one core.\n\n{HEAD}{''.join(each.row() for each in heard)}"
    print(table)
    replace_part(out, "bench.effort", table)


def hear(effort: Effort, rate: float, seconds: float) -> Heard:
    """Let one process hear a load at one effort from its beginning to its end."""
    settings = Settings()
    load = Load(rate, seconds, PARTITIONS, seed=1)
    records = load.records()
    assembler = Assembler(limits_of(settings), load_bits(settings), dict.fromkeys(range(PARTITIONS), 0))
    assembler.effort = effort
    policy, calibration = policy_of(settings), load_calibration(settings)
    routes: dict[str, Route] = {}
    heard = Heard(effort, load.requests, load.media_requests)
    for first in range(0, len(records), CHUNKS_A_POLL):
        began_s = time.process_time()
        for offset, record in enumerate(records[first : first + CHUNKS_A_POLL], first):
            start = AudioChunk(capture_time_us=int((EPOCH_S + record.capture_s) * 1e6)).SerializeToString()
            assembler.take(record.partition, offset, int((EPOCH_S + record.at_s) * 1e6), record.head + start)
        read_s = time.process_time()
        growths = assembler.release()
        grown_s = time.process_time()
        for name, together in growths.items():
            route = routes.setdefault(name, Route(name, policy, calibration))
            outcome = route.hear(together, assembler.low_mark_us, effort.halvings)
            heard.counts.update(outcome.counts)
            heard.ignored.update(ignore.request_id for ignore in outcome.ignores)
        heard.cpu_s.update(read=read_s - began_s, grow=grown_s - read_s, match=time.process_time() - grown_s)
    return heard


def replace_part(page: Path, command: str, text: str) -> None:
    """Put a text in the place of the one that the command wrote there before."""
    begin, end = f"<!-- made by python -m {command} -->\n", "<!-- until here -->\n"
    above, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, below = rest.partition(end)
    page.write_text(f"{above}{begin}{text}{end}{below}", encoding="utf-8")


def _number(request_id: str) -> int:
    """Give the number of a load's request: the first ones are the media's."""
    return int(request_id.rsplit("-", 1)[1])


if __name__ == "__main__":
    typer.run(main)

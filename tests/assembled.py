"""An assembler fed from the logs of partitions, and the growths that come of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from records import EPOCH_US, Piece, pieces

from matcher.bits import GRADIENT
from matcher.fingerprint import FIRST_LOOK_MS
from matcher.growth import Growth
from pipeline.assembly import Assembler, AssemblyLimits
from pipeline.chunks import BadRecordError
from pipeline.messages.hushword_pb2 import AudioChunk

REORDER_US = 300_000
LIMITS = AssemblyLimits(reorder_us=REORDER_US)
ROUTE = "alexa/en-US/0"
# What tells two growths apart; when the broker got the chunk is not the data's.
Told = tuple[str, int, int, bytes, int]


def told(growth: Growth) -> Told:
    words = growth.words.astype("<u8").tobytes()
    return growth.request_id, growth.start_us, growth.end_us, words, growth.audio_ms


def mark(us: int, *, lags: bool = False) -> bytes:
    return AudioChunk(low_mark_us=us, lags=lags).SerializeToString()


def spoke(device: str, end_us: int) -> bytes:
    """Give a record of a request of its own that ends at this time."""
    (piece,) = pieces(f"{device} at {end_us}", end_us - 1000 * FIRST_LOOK_MS, [FIRST_LOOK_MS], device_id=device)
    return piece.value


@dataclass(frozen=True)
class Sent:
    """A piece with the time it left its device, and the partition it went to."""

    piece: Piece
    leaves_us: int
    partition: int


Log = dict[int, list[bytes]]


def logs(sent: Iterable[Sent], partitions: int) -> Log:
    """Give what each partition holds: in the order in which the pieces left."""
    held: Log = {partition: [] for partition in range(partitions)}
    for entry in sorted(sent, key=lambda s: (s.leaves_us, s.piece.request_id, s.piece.seq)):
        held[entry.partition].append(entry.piece.value)
    return held


class Feed:
    """An assembler and the logs that it reads; growths are collected by route."""

    def __init__(self, assembler: Assembler, log: Log, offsets: Mapping[int, int] | None = None) -> None:
        self.assembler, self.log = assembler, log
        self.next = dict(offsets or dict.fromkeys(log, 0))
        self.growths: dict[str, list[Growth]] = {}
        self.refused: list[str] = []

    @property
    def unread(self) -> list[int]:
        return [partition for partition, values in self.log.items() if self.next[partition] < len(values)]

    def read(self, partition: int, count: int = 1) -> None:
        for value in self.log[partition][self.next[partition] : self.next[partition] + count]:
            try:
                self.assembler.take(partition, self.next[partition], EPOCH_US, value)
            except BadRecordError as error:
                self.refused.append(error.stage)
            self.next[partition] += 1

    def release(self) -> None:
        for route, growths in self.assembler.release().items():
            self.growths.setdefault(route, []).extend(growths)

    def read_all(self) -> "Feed":
        """Read what is left, one record of each partition after the other, and end every partition."""
        while self.unread:
            for partition in self.unread:
                self.read(partition)
            self.release()
        for partition in self.log:
            self.assembler.take(partition, len(self.log[partition]), EPOCH_US, mark(EPOCH_US + 3_600_000_000))
        self.release()
        return self

    def told(self) -> dict[str, list[Told]]:
        return {route: [told(growth) for growth in growths] for route, growths in self.growths.items()}


def assembled(log: Log, limits: AssemblyLimits = LIMITS) -> Feed:
    return Feed(Assembler(limits, GRADIENT, dict.fromkeys(log, 0)), log).read_all()


def in_order(cut: Iterable[Piece]) -> Log:
    """Give one partition with everything in the order of its capture: what all else is held against."""
    return logs([Sent(piece, piece.end_us, 0) for piece in cut], 1)

"""Cells of Beam's state, for steps that are called without a runner."""

import dataclasses


@dataclasses.dataclass
class Value:
    """One cell of Beam's state."""

    data: bytes | None = None

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data

    def clear(self) -> None:
        self.data = None


@dataclasses.dataclass
class Bag:
    """One bag of Beam's state."""

    blocks: list[bytes] = dataclasses.field(default_factory=list)

    def read(self) -> list[bytes]:
        return list(self.blocks)

    def add(self, block: bytes) -> None:
        self.blocks.append(block)

    def clear(self) -> None:
        self.blocks = []

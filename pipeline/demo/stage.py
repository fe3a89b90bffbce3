"""What the demonstration's course tells those who show it: its steps, and then the street."""

import time
from dataclasses import dataclass, field

from pipeline.demo.street import Street


@dataclass
class Step:
    """Something to be set up before the street wakes."""

    text: str
    done: int = 0
    total: int = 0  # 0: no measure
    began_s: float | None = None  # time.monotonic()
    took_s: float | None = None

    def begin(self) -> None:
        """It is under way."""
        self.began_s = time.monotonic()

    def advance(self, done: int, total: int) -> None:
        """So much of it is done."""
        self.done, self.total = done, total

    def finish(self) -> None:
        """It is done."""
        self.took_s = time.monotonic() - (self.began_s or time.monotonic())


@dataclass
class Stage:
    """The course of a demonstration. One thread sets, another one looks: each field is replaced as a whole."""

    homes: int
    seconds: float
    street: Street
    broker: Step = field(default_factory=lambda: Step("starting a Kafka broker"))
    job: Step = field(default_factory=lambda: Step("starting the job on Beam's local runner"))
    sound: Step = field(default_factory=lambda: Step("simulating what the homes hear"))
    epoch_s: float | None = None  # Unix time of the scene's zero, once it plays
    over: bool = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """In the order in which they are shown."""
        return self.broker, self.job, self.sound

    def now_s(self) -> float | None:
        """Give the scene's time; None before it plays."""
        return None if self.epoch_s is None else time.time() - self.epoch_s

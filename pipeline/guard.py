"""The guard of one route: when most of what is asked is ignored for minutes, something is wrong. Pure, event time.

An airing makes nearly all requests of some seconds ignored, hundreds of them at once, and that is right; so a window is
cut into slots, each slot counts the same however much was asked in it, and the bound is on their mean.
"""

from collections import deque
from dataclasses import dataclass, field

from pipeline.messages.internal_pb2 import RouteGuard
from pipeline.options import Settings

SLOTS = 60
# A window in fewer of whose slots anything was asked says nothing: at night an airing may be all that there is.
LEAST_SLOTS = SLOTS // 2


@dataclass
class Guard:
    """Counts requests and ignored ones by slots of event time, and trips when too many of them are.

    Attributes:
        bound: trips when the mean share over slots is more.
        slot_us: length of a slot; SLOTS of them are a window.
        least_requests: in the whole window, for it to say anything.
        tripped_us: event time at which it did, 0 while it has not; only `release` sets it back.
        slots: [number of the slot, requests, ignored], rising, at most SLOTS.

    """

    bound: float
    slot_us: int
    least_requests: int
    tripped_us: int = 0
    slots: deque[list[int]] = field(default_factory=deque)

    @classmethod
    def of(cls, settings: Settings) -> "Guard":
        """Make one as the settings say."""
        return cls(
            settings.ignore_rate_bound,
            round(settings.ignore_rate_window_s * 1e6 / SLOTS),
            settings.ignore_rate_requests,
        )

    def slot(self, us: int) -> int:
        """Number of the slot of an event time."""
        return us // self.slot_us

    def count(self, slot: int, requests: int, ignored: int) -> bool:
        """Count what happened in a slot; tells whether it trips, which it does once.

        What comes for a slot that is past goes to the newest one.
        """
        if not requests and not ignored:
            return False
        if not self.slots or slot > self.slots[-1][0]:
            self.slots.append([slot, 0, 0])
        newest = self.slots[-1]
        newest[1] += requests
        newest[2] += ignored
        while self.slots[0][0] <= newest[0] - SLOTS:
            self.slots.popleft()
        if self.tripped_us or self.rate() <= self.bound:
            return False
        self.tripped_us = newest[0] * self.slot_us
        return True

    def rate(self) -> float:
        """Mean of the slots' shares of ignored requests; 0 while there is too little to say."""
        if len(self.slots) < LEAST_SLOTS or sum(requests for _, requests, _ in self.slots) < self.least_requests:
            return 0.0
        # Some of a slot's ignored ones began in the slot before.
        return sum(min(1.0, ignored / max(1, requests)) for _, requests, ignored in self.slots) / len(self.slots)

    def release(self) -> None:
        """Begin anew: somebody has looked."""
        self.tripped_us = 0
        self.slots.clear()

    def to_message(self) -> RouteGuard:
        """Give its state."""
        message = RouteGuard(tripped_us=self.tripped_us)
        for slot, requests, ignored in self.slots:
            message.slots.add(slot=slot, requests=requests, ignored=ignored)
        return message

    def restore(self, message: RouteGuard) -> None:
        """Take over a state."""
        self.tripped_us = message.tripped_us
        self.slots = deque([entry.slot, entry.requests, entry.ignored] for entry in message.slots)

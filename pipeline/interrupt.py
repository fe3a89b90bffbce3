"""Ctrl-C and SIGTERM as a wish to stop, so that work ends where it can go on later."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stop(threading.Event):
    """Set when somebody wants the work to stop."""

    signal_number: int = 0

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal has ended."""
        return 128 + self.signal_number


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Give what the first SIGINT or SIGTERM sets; the second one interrupts as ever. For the main thread."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def wish(number: int, _frame: object) -> None:
        stop.signal_number = number
        stop.set()
        for other, handler in before.items():
            signal.signal(other, handler)

    try:
        for number in before:
            signal.signal(number, wish)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

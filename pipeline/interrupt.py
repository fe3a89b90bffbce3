"""Ctrl-C and SIGTERM where they do no harm: as a wish to stop, or held back until a piece of work is done."""

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


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait until the block is done, where a handler that raises would leave somebody's locks taken.

    By handlers and not by a mask: a mask is one thread's, and whichever thread gets a signal, Python calls its handler
    in the main one. In other threads there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in found.items() if callable(handler)}
    try:
        for number in before:
            signal.signal(number, lambda number, _frame: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)

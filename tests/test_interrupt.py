"""Signals that are held back: they are heard when the block is done, by whoever heard them before."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pipeline.interrupt import held_back


class _HeardError(Exception):
    pass


def _raise(_number: int, _frame: object) -> None:
    raise _HeardError


@pytest.fixture(autouse=True)
def _raising() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _raise)
    yield
    signal.signal(signal.SIGTERM, before)


def _signalled_by_itself() -> None:
    signal.raise_signal(signal.SIGTERM)


def _signalled_in_another_thread() -> None:
    other = threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGTERM))
    other.start()
    other.join()
    time.sleep(0.05)


@pytest.mark.parametrize("signalled", [_signalled_by_itself, _signalled_in_another_thread])
def test_a_signal_waits_for_the_end_of_the_block(signalled: Callable[[], None]) -> None:
    """Whichever thread gets it: it may be one of a library's own, whose mask nobody has set."""
    done = []

    def work() -> None:
        with held_back():
            signalled()
            done.append(1)

    with pytest.raises(_HeardError):
        work()
    assert done == [1]
    assert signal.getsignal(signal.SIGTERM) is _raise


def test_nothing_changes_without_a_signal_or_in_another_thread() -> None:
    found = []

    def look() -> None:
        with held_back():
            found.append(signal.getsignal(signal.SIGTERM))

    with held_back():
        pass
    assert signal.getsignal(signal.SIGTERM) is _raise
    other = threading.Thread(target=look)
    other.start()
    other.join()
    assert found == [_raise]


def test_what_is_ignored_stays_ignored() -> None:
    """A shell starts what it runs in the background deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_of_the_block_comes_first() -> None:
    with pytest.raises(ValueError, match="own"), held_back():
        raise ValueError("own")

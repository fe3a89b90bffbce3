"""Replay: publish a recording as its devices would have sent it, at its own speed, a multiple, or as fast as can be."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.kafka.sender import Sender
from pipeline.messages import hushword_pb2 as pb
from pipeline.options import Settings
from pipeline.recordings.departures import WHOLE, Departure, Key, Programme, departures
from pipeline.recordings.recording import Recording

END_MARK_AFTER_S = 120.0  # beyond every window and timeout, so that a job can finish with everything it holds
KEPT_EVERY_S = 1.0
# A replay whose capture times are further behind the clock than this says that it lags.
_LAG_S = 0.05
_MARK_EVERY_S = 0.1
_RENEWED_EVERY_S = 1.0
_ROUNDING_US = 1000  # a mark stays so far before the next chunk's end, which is rounded

Keeper = Callable[[Key, int], None]


@dataclass(frozen=True)
class ReplaySummary:
    """What was published."""

    requests: int
    chunks: int
    audio_bytes: int
    epoch_s: float  # Unix time that the recording's zero was given
    end_offsets: dict[int, int]  # by partition, just after its end mark; none when it was stopped
    wall_s: float
    at_s: float  # time of the recording, from its zero, of the last departure


def replay(
    recording: Recording,
    settings: Settings,
    topic: str,
    speed: float | None = 1.0,
    *,
    epoch_s: float | None = None,
    programme: Programme = WHOLE,
    after: Key | None = None,
    progress: Callable[[int], None] | None = None,
    keep: Keeper | None = None,
    stop: threading.Event | None = None,
) -> ReplaySummary:
    """Publish a recording and end every partition with an end mark, unless it is stopped.

    Args:
        recording: its requests are published, its truth is not looked at.
        settings: say how to reach the brokers.
        topic: an existing topic; chunks are keyed by their request id.
        speed: times real time, None for as fast as the broker takes it.
        epoch_s: Unix time for the recording's zero; None: such that it begins now.
        programme: how much of it, how often.
        after: go on behind this departure, with the epoch and the programme of before.
        progress: called after each chunk with the number of requests whose audio has gone out.
        keep: called about once a second, and in the end, with the last departure before which all are acknowledged
            and the number of requests whose last chunk is.
        stop: set to stop early, with everything that was sent acknowledged.

    Raises:
        RecordingError: a request's audio cannot be read, or nothing is to be played.
        ReplayError: the broker did not take a record.

    """
    began_s = time.monotonic()
    stop = stop or threading.Event()
    first_us = round(programme.from_s * 1e6) if after is None else after[0]
    epoch_us = round((time.time() - first_us / 1e6 if epoch_s is None else epoch_s) * 1e6)
    done = chunks = audio_bytes = 0
    end_us = first_us
    lags = time.time() - (epoch_us + first_us) / 1e6 > _LAG_S or (speed is not None and speed < 1)
    runs_ahead = speed is not None and speed > 1
    with Sender(settings, topic) as sender:
        marks = _Marks(
            sender if lags or runs_ahead else None, epoch_us, first_us - programme.shuffle_ms * 1000, lags=lags
        )
        kept = _Kept(keep)
        for departure in departures(recording, epoch_us, programme, after):
            marks.before(departure.at_us - programme.shuffle_ms * 1000)
            if speed is not None:
                due_s = began_s + (departure.at_us - first_us) / 1e6 / speed
                while (wait_s := due_s - time.monotonic()) > 0 and not stop.wait(min(wait_s, _MARK_EVERY_S)):
                    marks.renew()
                    kept.settle()
            if stop.is_set():
                break
            message = departure.message
            kept.sent(departure, sender.send(message.SerializeToString(), key=message.request_id.encode()))
            chunks += 1
            audio_bytes += len(message.audio)
            end_us = max(end_us, departure.at_us)
            done += message.final
            if progress is not None:
                progress(done)
        end_offsets = {}
        if stop.is_set():
            sender.flush()
        else:
            beyond_us = epoch_us + end_us + round(END_MARK_AFTER_S * 1e6)
            end_offsets = sender.end_partitions(pb.AudioChunk(low_mark_us=beyond_us).SerializeToString())
        kept.close()
    wall_s = time.monotonic() - began_s
    return ReplaySummary(done, chunks, audio_bytes, epoch_us / 1e6, end_offsets, wall_s, end_us / 1e6)


class _Marks:
    """Low marks while the replay and the clock part: append times say nothing of its capture times then.

    One that lags behind the clock says so, or the job would follow them. In one that runs ahead, a chunk would wait for
    the next one in each partition. Where neither is the case (no sender), the job has its order from capture times.
    """

    def __init__(self, sender: Sender | None, epoch_us: int, at_us: int, *, lags: bool) -> None:
        self._sender, self._epoch_us, self._at_us, self._lags = sender, epoch_us, at_us, lags
        self._said_s, self._said_us = float("-inf"), at_us
        self.before(at_us)
        if sender is not None:
            sender.flush()  # every partition has its mark before any has a chunk

    def before(self, at_us: int) -> None:
        """Promise, now and then, that all to come was captured to its end at `at_us` of the recording or later."""
        self._at_us = max(self._at_us, at_us)
        self._say(_MARK_EVERY_S)

    def renew(self) -> None:
        """Say what was not said yet; and the last mark again, lest its time runs out."""
        self._say(_MARK_EVERY_S if self._said_us < self._at_us else _RENEWED_EVERY_S)

    def _say(self, every_s: float) -> None:
        if self._sender is not None and time.monotonic() >= self._said_s + every_s:
            low_mark_us = self._epoch_us + self._at_us - _ROUNDING_US
            self._sender.mark(pb.AudioChunk(low_mark_us=low_mark_us, lags=self._lags).SerializeToString())
            self._said_s, self._said_us = time.monotonic(), self._at_us


class _Kept:
    """Tells how far everything is acknowledged; memory is bounded by the sender's records in flight."""

    def __init__(self, keep: Keeper | None) -> None:
        self._keep = keep
        self._waiting: deque[tuple[Key, bool, Any]] = deque()
        self._key: Key | None = None
        self._requests = 0
        self._kept_s = time.monotonic()

    def sent(self, departure: Departure, future: Any) -> None:
        if self._keep is not None:
            self._waiting.append((departure.key, departure.message.final, future))
            self.settle()

    def settle(self) -> None:
        """Forget what is acknowledged, and tell how far that is now and then."""
        while self._waiting and self._waiting[0][2].succeeded():
            self._key, final, _ = self._waiting.popleft()
            self._requests += final
        if time.monotonic() >= self._kept_s + KEPT_EVERY_S:
            self._tell()

    def close(self) -> None:
        """Tell the end."""
        self.settle()
        self._tell()

    def _tell(self) -> None:
        if self._keep is not None and self._key is not None:
            self._keep(self._key, self._requests)
        self._kept_s = time.monotonic()

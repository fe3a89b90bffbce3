"""Low marks: the capture time before which a partition brings nothing more, from what it brought and promised."""

from dataclasses import dataclass

from pipeline.chunks import Chunk, LowMark

NEVER_US = -(2**62)
# A clock that runs ahead must not take its partition's mark with it: a leap like this takes two devices.
LEAP_US = 2_000_000
# A replay that lags behind the clock and dies must not hold up live traffic for longer than this, in append time.
LAG_HOLDS_US = 10_000_000
# Traffic whose newest capture and append are further apart is a replay.
LIVE_US = 10_000_000


@dataclass(slots=True)
class PartitionMark:
    """What is known of one partition's capture times.

    Attributes:
        newest_us: newest end of a chunk, but for the leap of a lone device.
        promised_us: the newest low mark among its records.
        idle: it has been read to its end.
        ahead: end and device of a leap that no other device has confirmed yet.
        lags_until_us: append time until which it does not follow append times.

    """

    newest_us: int = NEVER_US
    promised_us: int = NEVER_US
    idle: bool = False
    ahead: tuple[int, str] | None = None
    lags_until_us: int = NEVER_US

    def advance(self, chunk: Chunk) -> None:
        """Move the newest time; the leap of a lone device waits until another one confirms it."""
        if chunk.end_us <= self.newest_us + LEAP_US:
            self.newest_us = max(self.newest_us, chunk.end_us)
        elif self.ahead is None or self.ahead[1] == chunk.device:
            self.ahead = chunk.end_us, chunk.device
        else:
            confirmed_us = min(self.ahead[0], chunk.end_us)
            self.ahead = max(self.ahead, (chunk.end_us, chunk.device))
            self.newest_us = max(self.newest_us, confirmed_us)

    def promise(self, mark: LowMark, appended_us: int) -> None:
        """Take a low mark record that was appended at `appended_us`."""
        self.promised_us = max(self.promised_us, mark.us)
        self.lags_until_us = appended_us + LAG_HOLDS_US if mark.lags else NEVER_US

    def lags(self, newest_append_us: int) -> bool:
        """Tell whether it lags, when the newest record of any partition was appended at `newest_append_us`."""
        return newest_append_us <= self.lags_until_us

    def lag_us(self, appended_us: int, now_us: int) -> int:
        """Give how far behind live traffic it is, when the newest record read was appended then.

        A replay at another speed or of another time is no live traffic: it is in nobody's way, and is heard as ever.
        """
        live = abs(self.newest_us - appended_us) <= LIVE_US and not self.lags(appended_us)
        return max(0, now_us - max(appended_us, self.newest_us)) if live and not self.idle else 0

    def low_us(self, newest_append_us: int, reorder_us: int) -> int:
        """Give the mark, when the newest record of any partition was appended at `newest_append_us`."""
        low_us = self.newest_us
        if self.idle and not self.lags(newest_append_us):
            # Nothing was appended here while the others were: in live traffic, nothing captured before is on its way.
            low_us = max(low_us, newest_append_us)
        return max(self.promised_us, low_us - reorder_us)

"""Where a recording says its wake word: an open spotter (openWakeWord) listens to it."""

import numpy as np
import numpy.typing as npt

from matcher.grid import SAMPLE_RATE_HZ
from pipeline.errors import InputError

# The spotter becomes sure so long after the wake word has begun, on average over simulated advertisements.
DELAY_S = {"alexa": 0.59, "hey_jarvis": 0.86}
_SURE = 0.3
# While it is as sure as that within so much time, it is still about the same mention.
_ONE_MENTION_S = 2.0
_CHUNK = 1280
# It looks back over two seconds; so much silence makes it forget what it heard before.
_SILENCE = 32 * _CHUNK
# It looks every 80 ms; listening again, shifted by parts of that, finds the moment more closely.
_SHIFTS = tuple(range(0, _CHUNK, _CHUNK // 4))
_AROUND_S = 3.0


class Spotter:
    """Finds one wake word in recordings."""

    def __init__(self, wake_word: str) -> None:
        """Load the models.

        Raises:
            InputError: there is none for this wake word, or the extra is not installed.

        """
        name = wake_word.replace(" ", "_")
        if name not in DELAY_S:
            raise InputError(f"--find knows the wake words {', '.join(DELAY_S)}, and not {wake_word!r}: give --at")
        try:
            from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures
        except ImportError as error:
            raise InputError("--find takes the extra hushword[find]: pip install 'hushword[find]'") from error
        self._delay_s = DELAY_S[name]
        self._features = OpenWakeWordFeatures.from_builtin()
        self._word = OpenWakeWord.from_builtin(Model(name))

    def find(self, samples: npt.NDArray[np.float32]) -> list[float]:
        """Give where the wake word begins, for each time that it is said; seconds, rising.

        Args:
            samples: float32 (n,) at SAMPLE_RATE_HZ, on the int16 scale.

        """
        found: list[float] = []
        last_s = -np.inf
        for at_s in self._sure_at(samples, 0):
            if at_s > last_s + _ONE_MENTION_S:
                found.append(at_s)
            last_s = at_s
        return [max(0.0, round(self._closely(samples, at_s) - self._delay_s, 3)) for at_s in found]

    def _closely(self, samples: npt.NDArray[np.float32], sure_s: float) -> float:
        """Give the first moment at which it is sure, from which it was found to be."""
        start = max(0, round((sure_s - _AROUND_S) * SAMPLE_RATE_HZ))
        around = samples[start : round((sure_s + 0.2) * SAMPLE_RATE_HZ)]
        again = [self._sure_at(around, shift)[:1] for shift in _SHIFTS[1:]]
        return min(sure_s, *(start / SAMPLE_RATE_HZ + at_s for found in again for at_s in found))

    def _sure_at(self, samples: npt.NDArray[np.float32], shift: int) -> list[float]:
        """Give the ends of all chunks at which it is sure; the recording begins `shift` samples into the first."""
        padded = np.concatenate((np.zeros(_SILENCE + shift), samples, np.zeros(SAMPLE_RATE_HZ // 2)))
        pcm = np.clip(np.rint(padded), -32768, 32767).astype("<i2")
        sure: list[float] = []
        for start in range(0, len(pcm) - _CHUNK + 1, _CHUNK):
            chunk = pcm[start : start + _CHUNK].tobytes()
            chances = [
                p for heard in self._features.process_streaming(chunk) for p in self._word.process_streaming(heard)
            ]
            if start >= _SILENCE and max(chances, default=0.0) > _SURE:
                sure.append((start + _CHUNK - _SILENCE - shift) / SAMPLE_RATE_HZ)
        return sure

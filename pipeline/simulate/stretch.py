"""Speech made slower or faster at its own pitch (WSOLA: Verhelst & Roelands 1993)."""

import numpy as np
import scipy.signal

from pipeline.simulate.clips import SAMPLE_RATE_HZ, Samples

_FRAME = SAMPLE_RATE_HZ // 25
_HOP = _FRAME // 2
_SEARCH = SAMPLE_RATE_HZ // 100  # how far a frame is moved to go on where the last one ended


def stretch(samples: Samples, factor: float) -> Samples:
    """Make speech `factor` times as long, pitch and formants as they were.

    Args:
        samples: float64 (n,).
        factor: over 0; times are right to within 10 ms.

    Returns:
        Float64 (about n * factor,).

    """
    frames = round(len(samples) * factor / _HOP)
    padded = np.pad(samples, (_SEARCH, 2 * _FRAME + 2 * _SEARCH))
    window = scipy.signal.windows.hann(_FRAME, sym=False)
    out = np.zeros((frames + 1) * _HOP)
    at = _SEARCH
    for number in range(frames):
        ideal = min(round(number * _HOP / factor), len(samples)) + _SEARCH
        if number:
            near = padded[ideal - _SEARCH : ideal + _SEARCH + _FRAME]
            at = ideal - _SEARCH + int(np.argmax(np.correlate(near, padded[at + _HOP : at + _HOP + _FRAME], "valid")))
        out[number * _HOP : number * _HOP + _FRAME] += window * padded[at : at + _FRAME]
    return out

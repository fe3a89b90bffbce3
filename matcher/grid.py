"""Samples to log filter-bank energies, chunk by chunk.

A 64 ms window is long enough that room echoes of one home do not decide over a frame's energies, and 33 bands
between 200 and 4000 Hz carry what a television, a room and a telephone-band microphone all let through.
"""

import functools
import math

import numba as nb
import numpy as np
import numpy.typing as npt
import scipy.fft

SAMPLE_RATE_HZ = 16_000
WINDOW_MS = 64
HOP_MS = 10
BANDS = 33
LOW_HZ = 200.0
HIGH_HZ = 4000.0

WINDOW = SAMPLE_RATE_HZ * WINDOW_MS // 1000
HOP = SAMPLE_RATE_HZ * HOP_MS // 1000

_HANN: npt.NDArray[np.float32] = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
# Below the dither's own energy, so it never shows; it only keeps the logarithm finite.
_FLOOR = np.float32(1e-6)


@functools.cache
def band_weights() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Triangular filters whose centres are spaced evenly in log frequency, each reaching to its neighbours' centres.

    Returns:
        The first FFT bin of each band, int32 (BANDS,); one past its last, int32 (BANDS,); and the weights of these
        bins, float32 (BANDS, widest band).

    """
    bins_hz = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE_HZ / WINDOW
    edges_hz = np.geomspace(LOW_HZ, HIGH_HZ, BANDS + 2)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    triangles = np.clip(np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)), 0, None)
    first = np.argmax(triangles > 0, axis=1).astype(np.int32)
    end = first + np.sum(triangles > 0, axis=1, dtype=np.int32)
    weights = np.zeros((BANDS, int(np.max(end - first))), np.float32)
    for band in range(BANDS):
        weights[band, : end[band] - first[band]] = triangles[band, first[band] : end[band]]
    return first, end, weights


@nb.njit(nb.void(nb.float32[::1], nb.uint64, nb.int64), cache=True, nogil=True)
def add_dither(samples: npt.NDArray[np.float32], seed: int, start: int) -> None:
    """Add triangular noise of one quantisation step, a function of (seed, sample index) alone, in place.

    Digital silence has no gradient, so two muted microphones would agree in every bit; with a seed of its own per
    request they agree in half of them. The noise is SplitMix64 (Steele, Lea & Flood 2014) used as a counter.

    Args:
        samples: float32 (n,), in units of the 16 bit quantisation step.
        seed: of the request.
        start: index in the request of the first sample given.

    """
    for i in range(len(samples)):
        x = seed + np.uint64(start + i) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
        high, low = x >> np.uint64(40), x & np.uint64(0xFFFFFF)
        samples[i] += np.float32((np.float64(high) - np.float64(low)) * (1.0 / 16777216.0))


@nb.njit(
    nb.void(
        nb.types.Array(nb.complex64, 2, "C", readonly=True),
        nb.int32[::1], nb.int32[::1], nb.float32[:, ::1], nb.float32[:, ::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def band_energies(
    spectra: npt.NDArray[np.complex64],
    first_bin: npt.NDArray[np.int32],
    end_bin: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Sum each band's power, frame by frame in one fixed order, so that a frame's energies never depend on its batch.

    Args:
        spectra: complex64 (frames, WINDOW // 2 + 1).
        first_bin: int32 (BANDS,), as `band_weights` gives it.
        end_bin: int32 (BANDS,), likewise.
        weights: float32 (BANDS, width), likewise.
        out: float32 (frames, BANDS), overwritten.

    """
    power = np.empty(end_bin[-1], np.float32)
    for frame in range(spectra.shape[0]):
        for k in range(len(power)):
            value = spectra[frame, k]
            power[k] = value.real * value.real + value.imag * value.imag
        for band in range(weights.shape[0]):
            total = np.float32(0.0)
            first = first_bin[band]
            for k in range(end_bin[band] - first):
                total += weights[band, k] * power[first + k]
            out[frame, band] = total


@nb.njit(nb.void(nb.float32[::1], nb.float32[::1], nb.float32[:, ::1]), cache=True, nogil=True)
def windowed_frames(
    samples: npt.NDArray[np.float32], window: npt.NDArray[np.float32], out: npt.NDArray[np.float32]
) -> None:
    """Cut overlapping frames, one a HOP, and weigh them with the window.

    Args:
        samples: float32 (n,), n >= (frames - 1) * HOP + WINDOW.
        window: float32 (WINDOW,).
        out: float32 (frames, WINDOW), overwritten.

    """
    for frame in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[frame, k] = samples[frame * HOP + k] * window[k]


def log_energies(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log filter-bank energies of every whole frame in `samples`.

    Args:
        samples: float32 (n,) at SAMPLE_RATE_HZ.

    Returns:
        float32 (frames, BANDS) natural logarithms; frame f covers samples f * HOP to f * HOP + WINDOW.

    """
    if len(samples) < WINDOW:
        return np.empty((0, BANDS), np.float32)
    frames = np.empty((1 + (len(samples) - WINDOW) // HOP, WINDOW), np.float32)
    windowed_frames(samples, _HANN, frames)
    spectra = scipy.fft.rfft(frames, axis=1)
    out = np.empty((len(frames), BANDS), np.float32)
    band_energies(spectra, *band_weights(), out)
    logarithms: npt.NDArray[np.float32] = np.log(out + _FLOOR)
    return logarithms


@nb.njit(nb.void(nb.types.Array(nb.float32, 2, "C", readonly=True), nb.float32[::1]), cache=True, nogil=True)
def frame_levels(energies: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    """Levels of frames: the power of all bands together.

    Args:
        energies: float32 (frames, BANDS), natural logarithms, as `log_energies` gives them.
        out: float32 (frames,), overwritten, in dB.

    """
    for frame in range(energies.shape[0]):
        power = 0.0
        for band in range(energies.shape[1]):
            power += math.exp(energies[frame, band])
        out[frame] = 10 * math.log10(power)


class FilterBank:
    """Log energies of one growing signal: what a chunk leaves over is carried to the next."""

    def __init__(self, seed: int) -> None:
        """`seed` tells this request's dither from every other's (an unsigned 64 bit number)."""
        self._seed = np.uint64(seed)
        self._carry = np.empty(0, np.float32)
        self._heard = 0

    def push(self, samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take the next samples and give the frames that they complete.

        Args:
            samples: (n,) at SAMPLE_RATE_HZ, int16 or float32 on the int16 scale.

        Returns:
            float32 (new frames, BANDS), bit for bit what `log_energies` gives for the whole signal at once.

        """
        signal = np.empty(len(self._carry) + len(samples), np.float32)
        signal[: len(self._carry)] = self._carry
        new = signal[len(self._carry) :]
        new[:] = samples
        add_dither(new, self._seed, self._heard)
        self._heard += len(new)
        energies = log_energies(signal)
        self._carry = signal[len(energies) * HOP :].copy()
        return energies

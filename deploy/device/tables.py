"""Makes hushword_tables.h from matcher/filters/device32.npz: `python deploy/device/tables.py`."""

import math
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matcher.bits import LearnedBits, bits_named
from matcher.device import LEAST_ACCEPT, LEAST_ENTRIES, DeviceBits, device_bits
from matcher.device_fit import gain
from matcher.grid import BANDS, HIGH_HZ, LOW_HZ, SAMPLE_RATE_HZ, WINDOW

HEADER = Path(__file__).parent / "hushword_tables.h"
# What 1 is in the loudness: 33 bands * 127 * 36^.8 times as much stays below 2^31.
_LOUDNESS_ONE = 16384
# Offsets are kept in so many steps of a response.
_OFFSET_ONE = 65536
# Of the powers of two of an energy; that of five is a power of two again.
_EXPONENTS = range(5)
# The floor of matcher.grid, in the device's units: samples in 32,768ths, half as many of them, the window and the
# transform twice as high, and half of the power.
_FLOOR = 1e-6 * 32_768**2 / 4 * 4 * 4 / 2
# A power that the decimator leaves alone but for so much is not made up for.
_LEAST_GAIN = 0.004


def tables(bits: DeviceBits) -> str:
    """Give the header's text."""
    source = bits_named(bits.source)
    assert isinstance(source, LearnedBits)
    bins, ramps, first = _ramps()
    gains = _gains(bits.half_band.astype(np.float64))
    scale_one = bits.scales.max() / (2**16 - 1)
    power = _polynomial(source.exponent)
    assert math.isclose(source.exponent, 4 / 5)
    exponents = [2.0 ** (source.exponent * e) for e in _EXPONENTS]
    numbers = {
        "BITS_ID": f"0x{bits.bits_id:08x}u",
        "LEAST_ENTRIES": LEAST_ENTRIES,
        "LEAST_ACCEPT": LEAST_ACCEPT,
        "BANDS": BANDS,
        "TAPS": bits.weights.shape[1],
        "TAP_FRAMES": source.tap_frames,
        "MEAN_FRAMES": source.mean_frames,
        "FILTERS": len(bits.weights),
        "PAIRS": len(bits.half_band),
        "FIRST_BIN": first,
        "GAINS": len(gains),
        "FLOOR": f"{_FLOOR:.6e}f",
        "LOUDNESS_ONE": f"{_LOUDNESS_ONE}.0f",
        "OFFSET_ONE": _OFFSET_ONE,
        "RAMP_STEP": _number(ramps[0, 1]),
        "RAMP_RATIO": _number(ramps[1, 1] / ramps[0, 1]),
        **{f"POWER_{i}": f"({_number(c)})" for i, c in enumerate(power)},
    }
    angle = 2 * np.pi * np.arange(WINDOW // 4 + 1) / (WINDOW // 2)
    arrays = [
        _array("float", "ramps", map(_number, ramps[:, 0])),
        _array("float", "half_band", map(_number, bits.half_band)),
        _array("float", "cosine", map(_number, np.cos(angle))),
        _array("uint8_t", "bins", map(str, bins)),
        _array("float", "gains", map(_number, gains)),
        _array("float", "exponents", map(_number, exponents)),
        _array("int8_t", "filters", map(str, bits.weights.ravel())),
        _array("uint16_t", "tap_scales", (str(round(scale)) for scale in bits.scales.ravel() / scale_one)),
        _array("int32_t", "offsets", (str(round(o)) for o in bits.offsets / scale_one * _LOUDNESS_ONE / _OFFSET_ONE)),
    ]
    defines = "".join(f"#define HW_{name} {value}\n" for name, value in numbers.items())
    return (
        f"/* Made by deploy/device/tables.py from {bits.name}, chosen from {bits.source}: not to be edited. */\n"
        f"#ifndef HUSHWORD_TABLES_H\n#define HUSHWORD_TABLES_H\n\n#include <stdint.h>\n\n{defines}\n{''.join(arrays)}\n"
        "#endif\n"
    )


def _ramps() -> tuple[list[int], npt.NDArray[np.float64], int]:
    """How many bins lie from each edge of the bands to the next, and how their rising weights come of two sums.

    Of n bins' powers p_i, i from 0 on, the device has S = sum(p_i) and T = sum((n - i) p_i). Their weights rise from w
    by d each: sum((w + d i) p_i) is (w + d n) S - d T. The edges lie evenly in log frequency, so d falls by one ratio
    from stretch to stretch. The first and the last have one side only.

    Returns:
        Bins, (BANDS + 1); w + d n and d, float64 (BANDS + 1, 2); and the first bin.

    """
    edges = np.geomspace(LOW_HZ, HIGH_HZ, BANDS + 2)
    bin_hz = SAMPLE_RATE_HZ / WINDOW
    bins, ramps = [], []
    for low, high in pairwise(edges):
        inside = np.arange(math.ceil(low / bin_hz), math.ceil(high / bin_hz))
        step = bin_hz / (high - low)
        bins.append(len(inside))
        ramps.append(((inside[0] * bin_hz - low) / (high - low) + step * len(inside), step))
    return bins, np.array(ramps), math.ceil(LOW_HZ / bin_hz)


def _gains(half_band: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What makes up for what the decimator leaves of the upper bins' power, up to 4 kHz."""
    hz = np.arange(WINDOW // 4) * SAMPLE_RATE_HZ / WINDOW
    gains = 1 / gain(half_band, hz) ** 2
    return (
        gains[np.flatnonzero(np.abs(gains - 1) > _LEAST_GAIN)[0] :]
        if (np.abs(gains - 1) > _LEAST_GAIN).any()
        else gains[:0]
    )


def _polynomial(exponent: float) -> npt.NDArray[np.float64]:
    """Of x^exponent for 1 <= x < 2: five coefficients, the constant one first; at most 5e-6 off."""
    chebyshev = np.polynomial.Chebyshev.interpolate(lambda x: x**exponent, 4, [1, 2])
    polynomial: npt.NDArray[np.float64] = chebyshev.convert(kind=np.polynomial.Polynomial).coef
    return polynomial


def _number(value: float) -> str:
    return f"{np.float32(value):.9e}f"


def _array(kind: str, name: str, values: Iterable[str]) -> str:
    rows = list(values)
    lines = [", ".join(rows[at : at + 11]) for at in range(0, len(rows), 11)]
    return f"static const {kind} hw_{name}[{len(rows)}] = {{\n    " + ",\n    ".join(lines) + "};\n"


if __name__ == "__main__":
    HEADER.write_text(tables(device_bits()), encoding="utf-8")
    print(f"{HEADER}: {HEADER.stat().st_size} bytes", file=sys.stderr)

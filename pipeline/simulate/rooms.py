"""Living rooms: their size and echo, and what a microphone in them hears of a source.

Early reflections are image sources (Allen & Berkley 1979, by pyroomacoustics); after some 60 ms the echo is noise that
decays at the room's rate in each octave, which is what image sources become there, at a fiftieth of the cost.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.simulate.clips import SAMPLE_RATE_HZ, Samples
from pipeline.simulate.spectra import OCTAVES_HZ, octaves

Point = tuple[float, float, float]  # metres

SPEED_OF_SOUND_M_S = 343.0
RT60_S = (0.2, 0.8)
DISTANCE_M = (0.8, 4.0)
LEAD = 8  # samples kept before the direct sound: its fractional delay rings a little ahead

_IMAGE_ORDER = 12
_TAIL_FROM_S, _TAIL_FULL_S = 0.040, 0.065  # order 12 is complete to 80 ms in the lowest room
_DELAY_FILTER = 40  # samples: half of pyroomacoustics' fractional delay filter


@dataclass(frozen=True)
class Source:
    """A mouth or a loudspeaker: louder in front than behind, alike at all frequencies (from the cardioid's family)."""

    place_m: Point
    facing_deg: float  # azimuth
    omni: float  # its even part: 1 radiates evenly, 0.5 nothing backwards


@dataclass(frozen=True)
class Room:
    """One room: a box with a television, devices and an echo of its own."""

    size_m: Point
    rt60_s: float  # of the octaves at 500 and 1000 Hz
    rt60_of_octave_s: tuple[float, ...]  # by OCTAVES_HZ
    television: tuple[Source, Source]  # its two loudspeakers
    devices_m: tuple[Point, ...]
    seed: int  # of the late echo


def draw_room(rng: np.random.Generator, devices: int) -> Room:
    """Draw a room in which each device is 0.8 to 4 m from the television."""
    size_m = (rng.uniform(3.0, 7.0), rng.uniform(2.8, 5.5), rng.uniform(2.3, 3.0))
    rt60_s = float(rng.uniform(*RT60_S))
    # Carpets and curtains take the treble, thin walls some of the bass (typical of furnished rooms).
    tilt = rng.uniform(0.05, 0.14)
    by_octave = tuple(float(rt60_s * (1 - tilt * (np.log2(f / 707) if f > 1000 else min(0.0, np.log2(f / 500)))))
                      for f in OCTAVES_HZ)  # fmt: skip
    side = rng.uniform(0.8, size_m[0] - 0.8)
    height, half_width = rng.uniform(0.5, 1.2), rng.uniform(0.2, 0.45)
    omni = rng.uniform(0.5, 0.75)
    television = (
        Source((side - half_width, 0.3, height), 90.0, omni),
        Source((side + half_width, 0.3, height), 90.0, omni),
    )
    centre = (side, 0.3, height)
    places = tuple(_place(rng, size_m, centre, rng.uniform(0.5, 1.3)) for _ in range(devices))
    return Room(size_m, rt60_s, by_octave, television, places, int(rng.integers(2**31)))


def draw_talker(rng: np.random.Generator, room: Room, device: int) -> Source:
    """Draw where somebody stands or sits, 0.8 to 4 m from a device and turned to it more or less."""
    x, y, _ = room.devices_m[device]
    place = _place(rng, room.size_m, room.devices_m[device], rng.uniform(1.1, 1.7))
    towards_deg = np.degrees(np.arctan2(y - place[1], x - place[0]))
    return Source(place, float(towards_deg + rng.normal(0, 45)), 0.7)


def distance_m(a: Point, b: Point) -> float:
    """Straight from one point to the other."""
    return float(np.linalg.norm(np.subtract(a, b)))


@functools.lru_cache(maxsize=64)
def impulse_response(room: Room, sources: tuple[Source, ...], microphone: Point) -> Samples:
    """Give what the microphone hears of one click played by all sources at once.

    Returns:
        Float64 (n,) at SAMPLE_RATE_HZ, 0 dB at 1 m in front in the open; the nearest direct sound is at sample LEAD.
        Shared, so not writable.

    Raises:
        InputError: pyroomacoustics is not installed.

    """
    early = _image_sources(room, sources, microphone)
    length = int((room.rt60_s * 1.3 + 0.1) * SAMPLE_RATE_HZ)
    time_s = np.maximum(np.arange(length) - LEAD, 0) / SAMPLE_RATE_HZ
    decay = np.exp(-6.91 * time_s / room.rt60_s)
    early = np.pad(early, (0, max(0, length - len(early))))[:length]
    points = (*(source.place_m for source in sources), microphone)
    rng = np.random.default_rng([room.seed, *(int(1000 * x) for point in points for x in point)])
    matched = slice(round(0.02 * SAMPLE_RATE_HZ), round(_TAIL_FULL_S * SAMPLE_RATE_HZ))
    level = np.sqrt(np.sum(early[matched] ** 2) / np.sum(decay[matched] ** 2))
    tail = level * rng.standard_normal(length) * decay
    blend = np.clip((time_s - _TAIL_FROM_S) / (_TAIL_FULL_S - _TAIL_FROM_S), 0, 1)
    # Powers of two unrelated sounds add, hence the square roots.
    flat = _with_decay(early * np.sqrt(1 - blend) + tail * np.sqrt(blend), room.rt60_s)
    extra = np.array([1 / t for t in room.rt60_of_octave_s])[:, None] - 1 / room.rt60_s
    response = np.sum(octaves(flat) * np.exp(-6.91 * time_s * extra), axis=0)
    response.setflags(write=False)
    return np.asarray(response)


def rt60_s(response: Samples) -> float:
    """Reverberation time from the decay between -5 and -25 dB (Schroeder 1965; ISO 3382-2's T20), in seconds."""
    left = np.cumsum(response[::-1] ** 2)[::-1]
    level_db = 10 * np.log10(np.maximum(left / left[0], 1e-12))
    part = np.flatnonzero((level_db <= -5) & (level_db >= -25))
    slope_db_s = np.polyfit(part / SAMPLE_RATE_HZ, level_db[part], 1)[0]
    return float(-60 / slope_db_s)


def diffuse_response(room: Room, rng: np.random.Generator) -> Samples:
    """Give an echo without a direct sound, for noises that come from everywhere: float64 (n,), unit energy."""
    n = int(room.rt60_s * SAMPLE_RATE_HZ)
    echo = rng.standard_normal(n) * np.exp(-6.91 * np.arange(n) / SAMPLE_RATE_HZ / room.rt60_s)
    return np.asarray(echo / np.linalg.norm(echo))


def _with_decay(response: Samples, wanted_s: float) -> Samples:
    """Bend the decay to the wanted time: strong single reflections move it by some percent."""
    time_s = np.maximum(np.arange(len(response)) - LEAD, 0) / SAMPLE_RATE_HZ
    for _ in range(3):
        measured_s = min(max(rt60_s(response), wanted_s / 2), wanted_s * 2)
        response = response * np.exp(-6.91 * time_s * (1 / wanted_s - 1 / measured_s))
    return response


def _image_sources(room: Room, sources: tuple[Source, ...], microphone: Point) -> Samples:
    pra = _pyroomacoustics()
    absorption, _ = pra.inverse_sabine(room.rt60_s, room.size_m)
    box = pra.ShoeBox(
        room.size_m, fs=SAMPLE_RATE_HZ, materials=pra.Material(absorption), max_order=_IMAGE_ORDER, air_absorption=False
    )
    for source in sources:
        facing = pra.directivities.DirectionVector(azimuth=source.facing_deg, colatitude=90, degrees=True)
        box.add_source(source.place_m, directivity=pra.directivities.CardioidFamily(facing, source.omni))
    box.add_microphone(microphone)
    box.compute_rir()
    responses = box.rir[0]
    total = np.zeros(max(len(r) for r in responses))
    for response in responses:
        total[: len(response)] += response
    nearest_m = min(distance_m(source.place_m, microphone) for source in sources)
    first = _DELAY_FILTER + round(nearest_m / SPEED_OF_SOUND_M_S * SAMPLE_RATE_HZ) - LEAD
    return np.asarray(total[max(first, 0) :])


@functools.cache
def _pyroomacoustics() -> Any:
    try:
        import pyroomacoustics as pra
    except ImportError as error:
        raise InputError("rooms need pyroomacoustics: pip install 'hushword[simulate]'") from error
    pra.constants.set("num_threads", 1)  # the order of its sums, and so the bytes, would depend on the threads
    pra.constants.set("c", SPEED_OF_SOUND_M_S)
    return pra


def _place(rng: np.random.Generator, size_m: Point, other: Point, height: float) -> Point:
    """Draw a place half a metre from the walls and 0.8 to 4 m from another, at about the given height."""
    while True:
        x, y = rng.uniform(0.5, size_m[0] - 0.5), rng.uniform(0.5, size_m[1] - 0.5)
        place = (float(x), float(y), float(height))
        if DISTANCE_M[0] <= distance_m(place, other) <= DISTANCE_M[1]:
            return place

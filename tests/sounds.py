"""Small sounds of the tests' own: people who speak, homes that hear them, and recordings of both.

Nothing in here is speech, but what the library looks at is there: voiced sounds of gliding pitch under moving formants,
hissed consonants, syllables and pauses. One seed is one utterance, always the same; another seed is another one.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.signal

from matcher.bits import BITS_PER_WORD, GRADIENT, Bits, frame_count, word_count
from matcher.evidence import Calibration, Tail
from matcher.fingerprint import FULL_MS, look_due_ms, whole_fingerprint
from matcher.growth import Growth
from matcher.looks import look_words
from matcher.null import pair_matrix

SAMPLE_RATE_HZ = 16_000
REQUEST_S = 3.0
PRE_ROLL_S = 0.5
# What an advertisement has before its wake word and after the request: a home may cut its request early or late.
LEAD_S = 1.0
# Words of a whole request, of the bits that the tests' own calibration is for.
FULL_WORDS = look_words(GRADIENT)[-1]

_F8 = npt.NDArray[np.float64]


def rng_for(*names: object) -> np.random.Generator:
    """Give a generator that depends on these names alone."""
    digest = hashlib.blake2b("/".join(str(name) for name in names).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


# ---- sound -----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def speech(seed: int, seconds: float = 2.5) -> _F8:
    """Make an utterance, float64 (n,) with a root mean square of 1."""
    rng = rng_for("speech", seed)
    n = int(seconds * SAMPLE_RATE_HZ)
    steps = int(seconds * 100) + 2  # control points, one every 10 ms
    loudness, hiss = np.zeros(steps), np.zeros(steps)
    formants, gains = np.ones((5, steps)), np.zeros((5, steps))
    pitch_hz = np.full(steps, 150.0)
    middle_hz = rng.uniform(100, 220)
    at = 0
    while at < steps:
        length = int(rng.integers(8, 20))
        end = min(steps, at + length)
        loudness[at:end] = rng.uniform(0.4, 1.0) * np.hanning(length + 2)[1:-1][: end - at]
        hiss[at : min(end, at + 5)] = rng.uniform(0.0, 0.5)
        # Anywhere in the band: vowels that people really share would be the same in every utterance of so few.
        formants[:, at:end] = np.geomspace(*rng.uniform(200, 4000, (2, 5)), length).T[:, : end - at]
        pitch_hz[at:end] = np.geomspace(*rng.uniform(0.6, 1.6, 2) * middle_hz, length)[: end - at]
        gains[:, at:end] = rng.uniform(0.1, 1.0, (5, 1))
        at = end + (int(rng.integers(3, 10)) if rng.random() < 0.25 else 0)
    at_s, grid_s = np.arange(n) / SAMPLE_RATE_HZ, np.arange(steps) / 100
    phase = 2 * np.pi * np.cumsum(np.interp(at_s, grid_s, pitch_hz)) / SAMPLE_RATE_HZ
    voiced = np.zeros(n)
    for harmonic in range(1, int(4200 / middle_hz) + 1):
        hz = harmonic * pitch_hz
        resonance = np.sum(gains / (1 + ((hz - formants) / (30 + 0.06 * formants)) ** 2), axis=0)
        voiced += np.interp(at_s, grid_s, resonance * loudness) * np.sin(harmonic * phase)
    # White like the rooms' noise: a colour in common would make every onset look alike.
    noise = rng.standard_normal(n) * np.interp(at_s, grid_s, hiss) * 0.15
    sound = voiced + noise
    return sound / np.sqrt(np.mean(sound**2))


@functools.lru_cache(maxsize=64)
def advertisement(seed: int) -> _F8:
    """Make what is broadcast: speech that goes on before the wake word and after the request, float64 (n,).

    The wake word begins at LEAD_S.
    """
    return speech(seed, 2 * LEAD_S + REQUEST_S)


def person(seed: int) -> _F8:
    """Make what a person says to a device, float64 (n,), REQUEST_S long: someone far away, then an utterance."""
    sound = 0.05 * speech(-1 - seed, REQUEST_S)
    start = int(rng_for("trigger", seed).uniform(PRE_ROLL_S - 0.08, PRE_ROLL_S + 0.08) * SAMPLE_RATE_HZ)
    sound[start:] += speech(seed, REQUEST_S)[: len(sound) - start]
    return sound


def in_room(sound: _F8, seed: int, snr_db: float) -> npt.NDArray[np.int16]:
    """Let a home's microphone hear a sound: reverberation, level and noise of its own, int16 (n,)."""
    rng = rng_for("room", seed)
    tail = rng.standard_normal(int(0.25 * SAMPLE_RATE_HZ))
    tail *= np.exp(-6.9 * np.arange(len(tail)) / (rng.uniform(0.15, 0.35) * SAMPLE_RATE_HZ))
    tail *= rng.uniform(0.2, 0.5) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    heard = scipy.signal.fftconvolve(sound, tail)[: len(sound)]
    noise = rng.standard_normal(len(sound))
    noise *= np.sqrt(np.mean(heard**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    level = rng.uniform(600, 2500)
    return np.clip(np.round(level * (heard + noise)), -32768, 32767).astype(np.int16)


def hear(ad_seed: int, home_seed: int, snr_db: float = 20.0, jitter_ms: float = 0.0) -> npt.NDArray[np.int16]:
    """Give one home's request for an advertisement; with jitter its trigger comes so much later."""
    start = int((LEAD_S - PRE_ROLL_S + jitter_ms / 1000) * SAMPLE_RATE_HZ)
    sound = advertisement(ad_seed)[start : start + int(REQUEST_S * SAMPLE_RATE_HZ)]
    return in_room(sound, home_seed, snr_db)


def say(person_seed: int, home_seed: int, snr_db: float = 20.0) -> npt.NDArray[np.int16]:
    """Give the request of a person at home."""
    return in_room(person(person_seed), home_seed, snr_db)


# ---- recordings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    request_id: str
    file: str
    start_s: float
    wake_word: str
    locale: str
    household: str
    device: str
    kind: str
    event: str | None
    expect: str
    snr_db: float
    wake_word_start_s: float


def write_recording(
    folder: Path,
    seed: int,
    *,
    events: int = 2,
    live: int = 6,
    minutes: float = 0.5,
    homes: int = 4,
    reruns: int = 0,
    pairs: int = 0,
    snr_db: Sequence[float] = (25.0, 20.0, 15.0),
    wake_word: str = "computer",
    locale: str = "en-US",
) -> Path:
    """Write a small labelled recording: manifest.jsonl and audio/*.flac, 16 kHz, REQUEST_S each.

    Everything that is to be ignored is heard well, and everybody says something else: a route of the default policy
    ignores all that the labels say, and nothing more (seeds 1 to 20 were tried; these sounds are fewer and more alike
    than speech is, so one person in some hundreds comes near).

    Args:
        folder: is made when it is not there.
        seed: of everything.
        events: airings, spread evenly over the time; each is heard in `homes` households.
        live: people who speak to their devices meanwhile: expect "accept".
        minutes: how long it lasts.
        homes: households of each event; three are needed to find it.
        reruns: the first so many events air once more, at the end and in one household: expect "ignore_by_cache". A
            minute after its last home an event is over; before that a re-run joins it.
        pairs: airings that only two households hear, one of them with two devices: expect "accept".
        snr_db: what homes have, one after the other.
        wake_word: of all requests.
        locale: of all requests.

    Returns:
        The folder.

    """
    import soundfile

    rng = rng_for("recording", seed)
    lines: list[tuple[_Line, npt.NDArray[np.int16]]] = []
    last_s = minutes * 60 - REQUEST_S - 1

    def add(
        kind: str, event: str | None, expect: str, start_s: float, home: str, device: int, ad_seed: int | None
    ) -> None:
        number = len(lines)
        request_id = f"{seed}-{number:04d}"
        snr = snr_db[number % len(snr_db)]
        room = int(rng.integers(2**31))
        jitter_s = 0.0 if ad_seed is None else float(rng.uniform(-0.08, 0.08))
        if ad_seed is None:
            samples = say(1_000_000 + 1000 * seed + number, room, snr)
        else:
            samples = hear(ad_seed, room, snr, 1000 * jitter_s)
        line = _Line(
            request_id, f"audio/{request_id}.flac", round(start_s + jitter_s, 4), wake_word, locale, home,
            f"{home}-d{device}", kind, event, expect, snr, round(PRE_ROLL_S - jitter_s, 4),
        )  # fmt: skip
        lines.append((line, samples))

    slots = events + pairs
    for number in range(slots):
        name, ad_seed = f"e{number}", 1000 * seed + number
        air_s = 1 + last_s * (0.7 if reruns else 1.0) * number / max(1, slots)
        households = [f"h{number}-{home}" for home in range(homes if number < events else 2)]
        expect = "ignore" if number < events else "accept"
        for household in households:
            add("media", name, expect, air_s, household, 0, ad_seed)
        if number >= events:
            add("media", name, expect, air_s, households[0], 1, ad_seed)
    for number in range(reruns):
        start_s = last_s - 0.1 + 0.1 * number / max(1, reruns)
        add("rerun", f"e{number}", "ignore_by_cache", start_s, f"r{number}", 0, 1000 * seed + number)
    for number in range(live):
        add("live", None, "accept", float(rng.uniform(0, last_s)), f"l{number}", 0, None)

    (folder / "audio").mkdir(parents=True, exist_ok=True)
    for line, samples in lines:
        soundfile.write(folder / line.file, samples, SAMPLE_RATE_HZ)
    ordered = sorted((line for line, _ in lines), key=lambda line: (line.start_s, line.request_id))
    manifest = "".join(json.dumps(vars(line)) + "\n" for line in ordered)
    (folder / "manifest.jsonl").write_text(manifest, encoding="utf-8")
    return folder


# ---- growths ---------------------------------------------------------------------------------------------------------


def fingerprint_of(request_id: str, samples: npt.NDArray[np.int16], bits: Bits = GRADIENT) -> npt.NDArray[np.uint64]:
    """Words of a whole request, uint64 (n,)."""
    return whole_fingerprint(samples, request_id, bits)


def growths(
    request_id: str,
    household: str,
    words: npt.NDArray[np.uint64],
    start_us: int = 0,
    *,
    device: str = "",
    chunk_ms: int = 80,
    total_ms: int = 2400,
    bits: Bits = GRADIENT,
    level_range_db: float = 20.0,
) -> list[Growth]:
    """Cut a request's words into what it has at each of its looks, when its audio comes in chunks of this size."""
    out = []
    looked_ms = 0
    for arrived_ms in range(chunk_ms, total_ms + 1, chunk_ms):
        due_ms = look_due_ms(arrived_ms)
        if due_ms > looked_ms:
            looked_ms = due_ms
            ready = word_count(frame_count(min(arrived_ms, FULL_MS)), bits)
            end_us = start_us + 1000 * arrived_ms
            out.append(
                Growth(
                    request_id, household, device or household + "-d", start_us, end_us, words[:ready],
                    level_range_db, arrived_ms, end_us + 50_000,
                )
            )  # fmt: skip
    return out


def in_order(*requests: Sequence[Growth]) -> list[Growth]:
    """Give the growths of several requests as they are captured."""
    flat = [growth for request in requests for growth in request]
    return sorted(flat, key=lambda growth: (growth.end_us, growth.request_id))


# ---- fingerprints without a sound ------------------------------------------------------------------------------------


def random_words(*names: object) -> npt.NDArray[np.uint64]:
    """Give a full fingerprint of something that nobody else hears, uint64 (FULL_WORDS,)."""
    return rng_for("words", *names).integers(0, 2**64, FULL_WORDS, dtype=np.uint64)


def heard_words(medium: object, home: object, error_rate: float = 0.2, late_words: int = 0) -> npt.NDArray[np.uint64]:
    """Give a home's full fingerprint of a medium: `error_rate` of the bits turned; it starts `late_words` into it."""
    whole = np.concatenate((random_words(medium, "before")[:20], random_words(medium), random_words(medium, "after")))
    clean = whole[20 + late_words : 20 + late_words + FULL_WORDS]
    turned = rng_for("errors", medium, home).random((FULL_WORDS, BITS_PER_WORD)) < error_rate
    return clean ^ np.packbits(turned, axis=1, bitorder="little").view("<u8")[:, 0]


@functools.cache
def plain_calibration() -> Calibration:
    """Give a calibration measured on random words: whatever ships, these numbers are the tests' own."""
    words = np.array([random_words("cohort", i) for i in range(60)])
    cohort, others = words[:20], words[20:]
    lengths, mean, deviation = look_words(GRADIENT), [], []
    for n in lengths:
        mean.append(float(pair_matrix(others, cohort, n, FULL_WORDS)[0].mean()))
        pairs = pair_matrix(others, others, n, n)[0][~np.eye(len(others), dtype=bool)]
        deviation.append(float(pairs.std()))
    return Calibration(
        "plain", GRADIENT.name, cohort, np.array(lengths, np.int32), np.array(mean), np.array(deviation),
        typical_db=np.full(len(lengths), 20.0), least_db=np.zeros(len(lengths)), widening=np.zeros(len(lengths)),
        triple=Tail(0.0, 1.0, 0.4), beside=Tail(0.0, 0.4, 0.4), template=Tail(1.0, 0.4, 0.4), provenance={},
    )  # fmt: skip


@functools.cache
def ranged_calibration() -> Calibration:
    """Give the plain one, but that nulls get wider by a fiftieth with each dB of levels over 20, from 6 on."""
    plain = plain_calibration()
    alike = np.ones(len(plain.words))
    return dataclasses.replace(plain, typical_db=20 * alike, least_db=6 * alike, widening=np.log(1.02) * alike)

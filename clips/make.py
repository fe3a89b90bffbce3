# ruff: noqa: INP001 - a recipe, not a package
"""Speak the clips that the simulator ships with. See README.md beside this file.

    python clips/make.py --kokoro-voices FOLDER

writes pipeline/simulate/clips/*.flac and index.csv.
"""

import argparse
import csv
import zlib
from pathlib import Path

import numpy as np
import soundfile
import soxr
from synthesisers import Samples, speak
from texts import ADVERTS, REQUESTS, WAKE_WORDS
from voices import LICENCES, Voice, voices

RATE_HZ = 16_000
LEAD_S = 0.05  # silence kept before the first sound of a clip
TAIL_S = 0.12
PAUSE_S = 0.35  # between the parts of a script
BITS = 11  # quantisation noise some 48 dB under the speech, 23 dB under the faintest noise the simulator adds
OTHER_WAKE_WORD_VOICES = 10  # live voices of each split that also say the other wake words
REQUESTS_A_VOICE = {"calibration": 5, "evaluation": 4}
FIELDS = (
    *("file", "role", "split", "voice", "synthesiser"),
    *("text", "wake_word", "locale", "wake_word_start_s", "licence"),
)


def rng_for(name: str) -> np.random.Generator:
    """Give a generator that depends on the name alone, so that one clip more changes no other."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def sounding(samples: Samples) -> slice:
    """Where there is sound: from the first to the last 5 ms frame within 40 dB of the loudest."""
    frame = RATE_HZ // 200
    power = np.square(samples[: len(samples) // frame * frame]).reshape(-1, frame).mean(axis=1)
    loud = np.flatnonzero(power > 1e-4 * power.max())
    return slice(int(loud[0]) * frame, (int(loud[-1]) + 1) * frame)


def spoken(voice: Voice, text: str, speed: float, kokoro_voices: Path) -> Samples:
    """One sentence at 16 kHz, silence cut from both its ends."""
    samples, rate_hz = speak(voice, text, speed, kokoro_voices)
    samples = soxr.resample(samples, rate_hz, RATE_HZ, quality="VHQ")
    return samples[sounding(samples)]


def join(parts: list[Samples]) -> tuple[Samples, list[float]]:
    """Parts with pauses between them, with the second at which each begins; faded over 5 ms at their cuts."""
    fade = np.linspace(0, 1, RATE_HZ // 200)
    pieces, starts_s, at = [np.zeros(round(LEAD_S * RATE_HZ))], [], round(LEAD_S * RATE_HZ)
    for i, part in enumerate(parts):
        faded = part.copy()
        faded[: len(fade)] *= fade
        faded[-len(fade) :] *= fade[::-1]
        starts_s.append(at / RATE_HZ)
        pieces += [faded, np.zeros(round((PAUSE_S if i < len(parts) - 1 else TAIL_S) * RATE_HZ))]
        at += len(pieces[-2]) + len(pieces[-1])
    return np.concatenate(pieces), starts_s


def write(path: Path, samples: Samples) -> None:
    """Peak at -1 dB, 11 bits with dither of one step, as FLAC (which stores no bits that are always zero)."""
    step = 2.0 ** (16 - BITS)
    rng = rng_for(path.name)
    scaled = samples / np.abs(samples).max() * 10 ** (-1 / 20) * 32767
    dithered = np.round(scaled / step + rng.uniform(-0.5, 0.5, len(samples)))
    pcm = np.clip(dithered, -(2 ** (BITS - 1)), 2 ** (BITS - 1) - 1) * step
    soundfile.write(path, pcm.astype(np.int16), RATE_HZ, subtype="PCM_16", compression_level=1.0)


def live_lines(voice: Voice, place: int) -> list[tuple[str, str]]:
    """Give a voice what it says as a live person: (wake word, text); the requests rotate over the voices."""
    count = REQUESTS_A_VOICE[voice.split]
    lines = [("alexa", REQUESTS[(place * count + i) % len(REQUESTS)]) for i in range(count)]
    if place % 3 == 0 and place // 3 < OTHER_WAKE_WORD_VOICES:
        for i, word in enumerate(w for w in WAKE_WORDS if w != "alexa"):
            lines.append((word, REQUESTS[(place + 11 * i) % len(REQUESTS)]))
    return lines


def jobs() -> list[tuple[str, Voice, str, str]]:
    """Every clip to make: name, voice, wake word, text with `|` between its parts."""
    found = []
    for split in ("calibration", "evaluation"):
        live = [v for v in voices() if (v.role, v.split) == ("live", split)]
        for place, voice in enumerate(live):
            for i, (word, text) in enumerate(live_lines(voice, place)):
                found.append((f"live_{voice.name}_{i}", voice, word, f"{WAKE_WORDS[word]}, {text}"))
        actors = [v for v in voices() if (v.role, v.split) == ("advert", split)]
        scripts = [(word, text) for word, texts in ADVERTS[split].items() for text in texts]
        for i, (word, text) in enumerate(scripts):
            # The two adverts of one voice are the i-th and the (i + 9)-th script.
            name = f"advert_{split}_{i:02d}"
            found.append((name, actors[i % len(actors)], word, text.format(w=WAKE_WORDS[word])))
    return found


def main() -> None:
    """Make every clip, then the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kokoro-voices", type=Path, required=True, help="folder with the .bin files of kokoro-js")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "pipeline" / "simulate" / "clips")
    parser.add_argument("--only", default="", help="make only clips whose name contains this")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, voice, word, text in jobs():
        if options.only not in name:
            continue
        speed = float(rng_for(name).uniform(0.92, 1.15) if voice.role == "live" else rng_for(name).uniform(1.02, 1.15))
        parts = [spoken(voice, part.strip(), speed, options.kokoro_voices) for part in text.split("|")]
        samples, starts_s = join(parts)
        file = name.replace("+", "-") + ".flac"
        write(options.out / file, samples)
        rows.append({
            "file": file, "role": voice.role, "split": voice.split, "voice": voice.name,
            "synthesiser": voice.synthesiser, "text": " ".join(p.strip() for p in text.split("|")), "wake_word": word,
            "locale": "en-US", "wake_word_start_s": f"{starts_s[1 if voice.role == 'advert' else 0]:.4f}",
            "licence": LICENCES[voice.synthesiser],
        })  # fmt: skip
        print(f"{file}: {len(samples) / RATE_HZ:.2f} s", flush=True)
    with (options.out / "index.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

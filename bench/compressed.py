"""What a compressor in a device does to the width of a null: it levels out speech, which the width is told by.

`python -m bench.compressed RECORDING` prints how often pairs of people, of a simulated recording, pass the score that
one in 10,000 and one in 100,000 of them pass as they are: with the width that is theirs, and with one for all.
"""

from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track
from scipy.ndimage import uniform_filter1d

from bench.calibrate import truth_of, voice_parts
from matcher.bits import bits_named
from matcher.evidence import shipped_calibration
from matcher.fingerprint import FULL_MS
from matcher.grid import SAMPLE_RATE_HZ
from matcher.looks import Looks, every_look
from matcher.null import pair_matrix
from pipeline.recordings.recording import Recording

PEOPLE, SHARES = 1400, (1e-4, 1e-5)
# Over how long its level is measured, in ms, and by how much less it rises than the sound does.
COMPRESSORS = {"as they are": None, "1 s, 4:1": (1000, 4), "200 ms, 2:1": (200, 2), "200 ms, 4:1": (200, 4)}
MOST_GAIN_DB = 30.0
BITS = bits_named("learned64")
Floats = npt.NDArray[np.float32]


def compressed(samples: Floats, over_ms: int, ratio: float) -> Floats:
    """Raise what is quiet: float32 (n,), at most by MOST_GAIN_DB, and nothing that is as loud as the loudest tenth."""
    power = uniform_filter1d(samples.astype(np.float64) ** 2, over_ms * SAMPLE_RATE_HZ // 1000)
    level_db = 10 * np.log10(power + 1)
    gain_db = (np.quantile(level_db, 0.9) - level_db) * (1 - 1 / ratio)
    return (samples * 10 ** (np.clip(gain_db, 0, MOST_GAIN_DB) / 20)).astype(np.float32)


def scores(heard: Looks) -> tuple[Floats, Floats]:
    """Scores of all pairs of whole requests with one width for all, and with theirs: float32 (R, R)."""
    calibration, full = shipped_calibration(BITS.name), heard.full
    own = np.array(
        [calibration.own_null(words, float(db)) for words, db in zip(full, heard.ranges_db[-1], strict=True)]
    )
    rates = pair_matrix(full, full, full.shape[1], full.shape[1])[0]
    margins = calibration.null_mean(full.shape[1]) + own[:, :1] + own[:, 0] - rates
    return margins, margins / (own[:, 1:] * own[:, 1])


def main(recording: Path) -> None:
    """Print the table of docs/calibration.md."""
    loaded, rng = Recording.load(recording), np.random.default_rng(0)
    people = [r for r in loaded.requests if loaded.truth[r.request_id].kind == "live"]
    people = [people[i] for i in rng.permutation(len(people))[:PEOPLE]]
    sounds = {r.request_id: loaded.audio(r)[0].astype(np.float32) for r in people}
    people = [r for r in people if len(sounds[r.request_id]) >= FULL_MS * SAMPLE_RATE_HZ // 1000]
    snr_db = np.array([loaded.truth[r.request_id].snr_db for r in people], float)
    voices = truth_of(loaded, "voice")
    parts = [voice_parts(voices[r.request_id]) for r in people]
    apart = np.triu([[one.isdisjoint(other) for other in parts] for one in parts], 1)
    who = {"all": snr_db > -np.inf, "20 dB and more": snr_db > 19, "5 dB and less": snr_db < 6}
    limits: dict[tuple[float, int], float] = {}
    for name, compressor in COMPRESSORS.items():
        looks = []
        for request in track(people, name, transient=True):
            samples = sounds[request.request_id]
            samples = samples if compressor is None else compressed(samples, *compressor)
            looks.append(every_look(samples, request.request_id, BITS))
        heard = Looks.of_all(looks)
        row = [name, f"{np.median(heard.ranges_db[-1]):.0f} dB"]
        for (kind, of_pairs), share in product(enumerate(scores(heard)), SHARES):
            limit = limits.setdefault((share, kind), float(np.quantile(of_pairs[apart], 1 - share)))
            passing = [np.mean(of_pairs[apart & group[:, None] & group] > limit) / share for group in who.values()]
            row.append(", ".join(f"{times:.1f}" for times in passing))
        print(" | ".join(row), flush=True)


if __name__ == "__main__":
    typer.run(main)

"""Makes matcher/filters/device32.npz: the bits that a device computes, and the thresholds that it decides by.

`python -m bench.device_fit` simulates the traffic of `bench.calibrate` (the *calibration* split), chooses and quantises
the filters on it, and measures people against entries made from the split's advertisements, and from what its people
say, mixed as advertisements are: who says "Alexa" and a command is nearest to whoever else does. docs/device.md has
what it comes to. Some four minutes on two cores.
"""

import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from bench.calibrate import SIMULATION, simulate, truth_of, voice_parts
from matcher.bits import LearnedBits, bits_named
from matcher.device import ENTRY_WORDS, DeviceBits
from matcher.device_fit import (
    HEARD,
    design_half_band,
    halved_energies,
    measure_thresholds,
    most_faithful,
    quantise,
    rates_by_look,
    stretches,
)  # fmt: skip
from matcher.fingerprint import seed_of
from matcher.grid import FilterBank, add_dither
from matcher.known_entry import entry_words
from matcher.known_null import LEAD_WORDS
from pipeline.recordings.recording import Recording
from pipeline.simulate.broadcast import mix
from pipeline.simulate.clips import Clip, choose

SOURCE = "learned64"
# So many of the requests for the covariances, and for what the decimator flips.
SEEN, HALVED = 600, 200


def main(
    recording: Annotated[Path | None, typer.Option(help="Simulated traffic; made anew when not given.")] = None,
    out: Annotated[Path, typer.Option(help="The file.")] = Path("matcher/filters/device32.npz"),
    seed: Annotated[int, typer.Option(help="Of the requests chosen, and of the own means.")] = 0,
) -> None:
    """Choose and quantise the filters, measure the thresholds, and write both with their provenance."""
    with ExitStack() as stack:
        if recording is None:
            recording = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "calibration"
            simulate(recording, SIMULATION)
        fitted = fit(Recording.load(recording), seed)
    out.write_bytes(fitted.to_bytes())
    print(f"{out}: {fitted.provenance}")
    print(f"filters {fitted.columns.tolist()}")
    for heard, look in zip(HEARD, fitted.looks(1e-6, 100), strict=True):
        print(f"{heard} words: {look}")
    for tail in (fitted.whole, fitted.parts):
        print(tail, {n: round(tail.threshold(5e-7, n), 2) for n in (1, 50, 100)})


def fit(recording: Recording, seed: int) -> DeviceBits:
    """Fit everything on a labelled recording of the simulator."""
    bits = bits_named(SOURCE)
    assert isinstance(bits, LearnedBits)
    rng = np.random.default_rng(seed)
    drawn = [recording.requests[i] for i in rng.permutation(len(recording.requests))[:SEEN]]
    half_band = design_half_band()
    seen, after = [], []
    for number, request in enumerate(track(drawn, "stretches", transient=True, console=Console(stderr=True))):
        samples, own = recording.audio(request)[0].astype(np.float32), seed_of(request.request_id)
        seen.append(stretches(FilterBank(own).push(samples), bits))
        if number < HALVED:
            add_dither(samples, np.uint64(own), 0)
            after.append(stretches(halved_energies(samples, half_band), bits))
    quantised = quantise(bits, np.concatenate(seen))
    filters = bits.filters.reshape(-1, bits.filters.shape[2])
    exact = np.concatenate([w[: len(h)] @ filters > bits.offsets for w, h in zip(seen, after, strict=False)])
    flips = (quantised.bits(np.concatenate(after)) != exact).mean(axis=0)
    columns = most_faithful(flips)
    chosen = quantised.chosen(columns)
    empty = np.empty(0)
    draft = DeviceBits("device32", SOURCE, columns, chosen.weights, chosen.scales, chosen.offsets, half_band,
                       empty, empty, empty, None, None, {})  # type: ignore[arg-type]  # fmt: skip

    voices = truth_of(recording, "voice")
    full = {}
    for request in track(recording.requests, "requests", transient=True, console=Console(stderr=True)):
        words = draft.words(bits.words(FilterBank(seed_of(request.request_id)).push(recording.audio(request)[0])))
        if len(words) >= ENTRY_WORDS:
            full[request.request_id] = words[:ENTRY_WORDS]
    people = [request_id for request_id in full if recording.truth[request_id].kind == "live"]
    adverts, sayings = (choose(role, "calibration", ["alexa"]) for role in ("advert", "live"))
    entries = [(clip, draft.words(_clean_words(clip, bits))) for clip in [*adverts, *sayings]]
    entries = [(clip, words[:ENTRY_WORDS]) for clip, words in entries if len(words) >= ENTRY_WORDS]
    table = np.stack([words for _, words in entries])
    texts = truth_of(recording, "text")
    synthesiser = {clip.voice: clip.synthesiser for clip in sayings}
    strangers = np.array(
        [[_strangers(clip, voices[p], texts[p], synthesiser[voices[p]]) for clip, _ in entries] for p in people]
    )

    sources = {c.file: i for i, (c, _) in enumerate(entries)}
    heard = [(request_id, sources[source]) for request_id, source in _sources(recording).items()
             if request_id in full and source in sources]  # fmt: skip
    of_people = rates_by_look([full[p] for p in people], table)
    # An advertisement among advertisements: a pack has nothing else.
    of_media = rates_by_look([full[m] for m, _ in heard], table[: len(adverts)])
    thresholds = measure_thresholds(of_people, strangers, of_media, np.array([own for _, own in heard]), seed)
    return DeviceBits(
        "device32", SOURCE, columns, chosen.weights, chosen.scales, chosen.offsets, half_band,
        thresholds.caps, thresholds.deviations, thresholds.floor, thresholds.whole, thresholds.parts,
        {
            "measured": datetime.now(UTC).date().isoformat(), "simulated": SIMULATION, "seed": seed,
            "people": len(people), "voices": len({voices[p] for p in people}), "entries": len(entries),
            "pairs": int(strangers.sum()), "media": len(heard), "flips": round(float(flips[columns].mean()), 6),
        },
    )  # fmt: skip


def _strangers(clip: Clip, voice: str, text: str, synthesiser: str) -> bool:
    """Whether two are different people: voices of one synthesiser say the same words at the same millisecond."""
    apart = voice_parts(clip.voice).isdisjoint(voice_parts(voice))
    return apart and (clip.text != text or clip.synthesiser != synthesiser)


def _clean_words(clip: Clip, bits: LearnedBits) -> "np.typing.NDArray[np.uint64]":
    """Words of a clip as an advertisement's maker delivers it."""
    clean = mix(clip)
    words, _ = entry_words(np.round(clean.samples * 32768).astype(np.float32), clean.wake_word_start_s * 1000, bits)
    return words[LEAD_WORDS:]


def _sources(recording: Recording) -> dict[str, str]:
    """Which advertisement each request of media heard: the simulator's truth."""
    return {request_id: Path(source).name for request_id, source in truth_of(recording, "source").items() if source}


if __name__ == "__main__":
    typer.run(main)

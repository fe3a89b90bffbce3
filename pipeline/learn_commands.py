"""`hushword calibrate` and `hushword train-filters`: what the library decides by, from one's own recordings."""

import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.errors import InputError
from pipeline.options import load_settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from matcher.budget import Budget
    from matcher.evidence import Calibration
    from matcher.learn import View
    from matcher.traffic import Heard
    from pipeline.recordings.recording import Recording, Request


def calibrate(
    recording: Annotated[Path, typer.Argument(help="Folder with manifest.jsonl and audio/.", metavar="RECORDING")],
    out: Annotated[Path, typer.Option(help="The calibration file.", metavar="FILE")],
    version: Annotated[
        str | None, typer.Option(help="Stamped on every decision [default: the bits and the date].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choices where there is more than is needed.")] = 0,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", metavar="FILE")] = None,
    **flags: Any,
) -> None:
    """Measure the null, its tails and the thresholds on a recording of anybody's traffic: no labels are needed."""
    settings = load_settings(config, flags)
    if out.exists():
        raise InputError(f"{out} is there already: calibrations are kept, because decisions name them")
    from matcher.budget import Budget
    from matcher.looks import every_look
    from matcher.null import NullError
    from matcher.traffic import Heard
    from matcher.traffic import calibrate as measure
    from pipeline.matching import load_bits, policy_of
    from pipeline.progress import PhaseProgress
    from pipeline.recordings.recording import Recording

    loaded, bits = Recording.load(recording), load_bits(settings)
    version = version or f"{bits.name}-{datetime.now(UTC):%Y.%m.%d}"
    heard, short = [], 0
    with PhaseProgress(Console(stderr=True, highlight=False)) as progress:
        for number, request in enumerate(loaded.requests):
            samples, rate_hz = loaded.audio(request)
            looks = every_look(at_16_khz(samples, rate_hz), request.request_id, bits)
            if looks is None:
                short += 1
            else:
                route = f"{request.wake_word}/{request.locale}"
                heard.append(Heard(route, request.household, int(request.start_s * 1e6), looks))
            progress("fingerprints", number + 1, len(loaded.requests))
        progress("the null", 0, 0)
        provenance: dict[str, object] = {"measured": datetime.now(UTC).date().isoformat(), "seed": seed, "short": short}
        try:
            calibration, census = measure(heard, bits, version, provenance, seed=seed)
        except NullError as error:
            raise InputError(f"{recording}: {error}") from error
    out.write_bytes(calibration.to_bytes())
    budget = Budget.of(calibration, policy_of(settings))
    table = Table(title=f"{calibration.version}: thresholds at a budget of {budget.false_ignores:g}")
    for column in ("what must not happen", "among", "score", "give or take", "extrapolated by"):
        table.add_column(column)
    for chance in budget.chances():
        give_or_take = 1.96 * chance.tail.uncertainty(chance.probability, chance.among)
        beyond = chance.tail.extrapolated(chance.probability, chance.among)
        table.add_row(
            chance.what, f"{chance.among:.0f}", f"{chance.threshold:.2f}", f"{give_or_take:.2f}",
            f"10^{beyond / 2.302585:.1f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(_by_route(heard, budget))
    console.print(
        f"{census.people} people measured; {census.near_duplicates} requests set aside as near-duplicates of others, in"
        f" {census.airings} airings and re-runs; {census.left_out} more people than needed; {short} requests too short."
        f" Who matches one stranger matches a second {census.match_correlation:.1f} times as often as by chance."
    )
    console.print(_widths(calibration))
    console.print(f"wrote {out}: use it with --calibration {out}")


def _widths(calibration: "Calibration") -> str:
    """How the null widens with the range of levels, at the last look."""
    from matcher.null import WIDENING_PEOPLE

    typical_db, widening = float(calibration.typical_db[-1]), float(calibration.widening[-1])
    if widening == 0:
        return f"All nulls count as equally wide: of these people no more can be told, it takes {WIDENING_PEOPLE}."
    return (
        f"Half of the people stand more than {typical_db:.0f} dB above their rooms; who stands 10 dB higher has a null"
        f" that is {100 * (math.exp(10 * widening) - 1):.0f} % wider."
    )


def _by_route(heard: "list[Heard]", budget: "Budget") -> Table:
    """Scores that a triple needs in each route, at the concurrency that 95 % of its requests come in at the most."""
    from matcher.budget import TIERS
    from matcher.traffic import concurrency

    table = Table(title=f"score of a triple, by route; among {budget.concurrency} at least")
    within = [f"within {tier.within_us / 1e6:g} s" for tier in TIERS[:-1]]
    for column in ("route", "requests", "concurrent", *within, "any"):
        table.add_column(column)
    for route, (requests, concurrent) in sorted(concurrency(heard, budget.window_us).items()):
        scores = [f"{budget.triple(tier, concurrent, 0, 1):.2f}" for tier in TIERS]
        table.add_row(route, str(requests), str(concurrent), *scores)
    return table


def at_16_khz(samples: "npt.NDArray[np.int16]", rate_hz: int) -> "npt.NDArray[Any]":
    """Give a whole request's samples at the fingerprint's rate."""
    import soxr

    from matcher.grid import SAMPLE_RATE_HZ

    if rate_hz == SAMPLE_RATE_HZ:
        return samples
    resampled: npt.NDArray[Any] = soxr.resample(samples.astype("float32"), rate_hz, SAMPLE_RATE_HZ)
    return resampled


def _view(recording: "Recording", request: "Request") -> "View":
    """What a request's home heard, to the end of its last look."""
    from matcher.bits import frame_count
    from matcher.fingerprint import FULL_MS, seed_of
    from matcher.grid import HOP_MS, FilterBank
    from matcher.learn import View

    onset_s = recording.truth[request.request_id].wake_word_start_s or 0.0
    samples = at_16_khz(*recording.audio(request))
    energies = FilterBank(seed_of(request.request_id)).push(samples)[: frame_count(FULL_MS)]
    return View(energies, round(onset_s * 1000 / HOP_MS))


def train_filters(
    recordings: Annotated[list[Path], typer.Argument(help="Labelled recordings with events.", metavar="RECORDING...")],
    out: Annotated[Path, typer.Option(help="The file of filters.", metavar="FILE")],
    name: Annotated[
        str | None, typer.Option(help="Of the bits [default: learned64- and a digest of the weights].")
    ] = None,
    homes: Annotated[int, typer.Option(min=2, help="Most homes of one event, drawn at random.")] = 8,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
) -> None:
    """Learn filters whose signs agree between homes that heard the same; the same recordings give the same filters."""
    import dataclasses

    import numpy as np

    from matcher.learn import LearnError, View, learn_filters
    from pipeline.progress import PhaseProgress
    from pipeline.recordings.recording import Recording

    rng = np.random.default_rng(seed)
    views: list[list[View]] = []
    with PhaseProgress(Console(stderr=True, highlight=False)) as progress:
        for folder in recordings:
            loaded = Recording.load(folder)
            events: dict[str, dict[str, str]] = {}
            for request in loaded.requests:
                truth = loaded.truth.get(request.request_id)
                if truth is not None and truth.event is not None and truth.wake_word_start_s is not None:
                    events.setdefault(truth.event, {}).setdefault(request.household, request.request_id)
            by_id = {request.request_id: request for request in loaded.requests}
            for number, heard in enumerate(events.values()):
                chosen = rng.permutation(sorted(heard.values()))[:homes]
                views.append([_view(loaded, by_id[request_id]) for request_id in chosen])
                progress(f"homes of {folder.name}", number + 1, len(events))
        progress("filters", 0, 0)
        provenance: dict[str, object] = {
            "learned": datetime.now(UTC).date().isoformat(),
            "recordings": [folder.name for folder in recordings],
            "events": sum(len(homes) > 1 for homes in views),
            "requests": sum(map(len, views)),
            "seed": seed,
        }
        try:
            bits = learn_filters(views, name or "learned64", provenance)
        except LearnError as error:
            raise InputError(f"{', '.join(map(str, recordings))}: {error}") from error
    if name is None:
        digest = hashlib.blake2b(bits.filters.tobytes() + bits.offsets.tobytes(), digest_size=4).hexdigest()
        bits = dataclasses.replace(bits, name=f"learned64-{digest}")
    out.write_bytes(bits.to_bytes())
    print(f"wrote {out}: bits {bits.name} from {provenance['events']} events; calibrate them before they are used")

"""Single requests of a report: what was missed and why in words, with pictures of fingerprints and sound."""

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from matcher.bits import BITS_PER_WORD, WORD_MS
from matcher.fingerprint import FIRST_LOOK_MS
from matcher.grid import SAMPLE_RATE_HZ
from pipeline.decisions import DecisionLine
from pipeline.evaluate.near import Near, Watch
from pipeline.recordings.recording import Recording, Request, Truth

# Pictures and sound make the page large: every miss is listed, but only so many of each list have them.
ILLUSTRATED = 12
SOUND_S = 8
# Colours that stand on white and on black: set bits, bits that agree, bits that differ.
NOTHING = np.zeros(4, np.uint8)
SET = np.array((110, 118, 132, 255), np.uint8)
AGREE = np.array((42, 157, 143, 90), np.uint8)
DIFFER = np.array((230, 97, 1, 255), np.uint8)
# A pair of strangers scores higher once in a thousand times or less: who does, sounds alike.
ALIKE_SCORE = 3.0


@dataclass(frozen=True)
class Sound:
    """A request's audio as a data: URI."""

    label: str
    uri: str


@dataclass(frozen=True)
class Picture:
    """A fingerprint as a data: URI of a PNG: bits from top to bottom, time from left to right."""

    label: str
    uri: str


@dataclass(frozen=True)
class Case:
    """One request, told."""

    request_id: str
    heading: str
    why: str
    margin: float | None
    near: Near | None = None
    pictures: tuple[Picture, ...] = ()
    sounds: tuple[Sound, ...] = ()


@dataclass
class Teller:
    """Tells cases of one recording; `watch` watched a run of one process over it."""

    recording: Recording
    watch: Watch
    alone: Sequence[DecisionLine]  # of that run
    requests: dict[str, Request] = field(init=False)
    airings: dict[str, str] = field(init=False)  # by media id

    def __post_init__(self) -> None:
        """Index the requests, and tell which airing each average is of."""
        self.requests = {request.request_id: request for request in self.recording.requests}
        self.ignored_alone = {decision.request_id for decision in self.alone}
        heard: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for decision in self.alone:
            label = self.recording.truth.get(decision.request_id)
            if label is not None and label.event is not None:
                heard[decision.media_id][label.event] += 1
        self.airings = {media_id: events.most_common(1)[0][0] for media_id, events in heard.items()}

    def missed(self, decisions: Iterable[DecisionLine]) -> list[Case]:
        """Tell every request that should have been ignored and was not; the nearest first, re-runs last."""
        ignored = {decision.request_id for decision in decisions}
        labels = [
            label
            for label in self.recording.truth.values()
            if label.expect != "accept" and label.request_id not in ignored
        ]
        cases = [(label.expect != "ignore", self._case(label, self._why_missed(label))) for label in labels]
        cases.sort(key=lambda item: (item[0], -_or_far(item[1].margin), item[1].request_id))
        return self._illustrated([case for _, case in cases])

    def wrong(self, decisions: Iterable[DecisionLine]) -> list[Case]:
        """Tell every request that had to be accepted and was ignored."""
        first = {decision.request_id: decision for decision in reversed(list(decisions))}
        cases = []
        for label in self.recording.truth.values():
            decision = first.get(label.request_id)
            if label.expect == "accept" and decision is not None:
                rate = "" if decision.bit_error_rate is None else f", {decision.bit_error_rate:.0%} of the bits differ"
                found = (
                    f"Ignored as {decision.media_id} of {decision.households} households ({decision.reason.lower()})"
                    f" after {decision.audio_used_ms} ms of its audio{rate}."
                )
                cases.append(self._case(label, f"{found} {self._nearest(label)}".strip()))
        return self._illustrated(cases)

    def closest(self, decisions: Iterable[DecisionLine], count: int = ILLUSTRATED) -> list[Case]:
        """Tell the people who were accepted but came nearest to being ignored."""
        ignored = {decision.request_id for decision in decisions}
        live = [
            label
            for label in self.recording.truth.values()
            if label.expect == "accept" and label.event is None and label.request_id not in ignored
        ]
        near = [label for label in live if self.watch.best(label.request_id) is not None]
        cases = [self._case(label, self._nearest(label)) for label in near]
        cases.sort(key=lambda case: (-_or_far(case.margin), case.request_id))
        return self._illustrated(cases[:count])

    # ---- words ---------------------------------------------------------------------------------------------------

    def _case(self, label: Truth, why: str) -> Case:
        near = self.watch.best(label.request_id)
        return Case(label.request_id, _heading(label), why, None if near is None else near.margin, near)

    def _why_missed(self, label: Truth) -> str:
        if label.request_id in self.ignored_alone:
            return (
                "One process with these settings ignores it: the run that is reported on was set otherwise, was in"
                " overload, or had its records in another order."
            )
        said = []
        if label.expect == "ignore_by_cache":
            first = {o.request_id for o in self._of_event(label) if o.expect == "ignore"} & self.ignored_alone
            said.append(
                "The first airing had been discovered, but its average is not near enough."
                if first
                else "The first airing was not discovered, so there is no average to know it by."
            )
        else:
            said.append(self._who_agreed(label))
        said.append(self._nearest(label))
        return " ".join(said)

    def _of_event(self, label: Truth) -> list[Truth]:
        others = self.recording.truth.values()
        return [other for other in others if other.event == label.event and other.request_id != label.request_id]

    def _who_agreed(self, label: Truth) -> str:
        own = self.requests[label.request_id].household
        homes = {self.requests[o.request_id].household for o in self._of_event(label) if o.expect == "ignore"} - {own}
        pairs = self.watch.pairs.get(label.request_id, {})
        alike = {self.requests[i].household for i, score in pairs.items() if score > ALIKE_SCORE} & homes
        if not homes:
            return "No other home heard its airing."
        if len(alike) == len(homes):
            return f"All {len(homes)} other homes that heard its airing sound like it."
        count, verb = f"Only {len(alike)}" if alike else "None", "sounds" if len(alike) == 1 else "sound"
        return f"{count} of the {len(homes)} other homes that heard its airing {verb} like it."

    def _nearest(self, label: Truth) -> str:
        near = self.watch.best(label.request_id)
        if near is None:
            samples, sample_rate_hz = self.recording.audio(self.requests[label.request_id])
            audio_ms = 1000 * len(samples) // sample_rate_hz
            if audio_ms < FIRST_LOOK_MS:
                return f"It has {audio_ms} ms of audio, and the first look takes {FIRST_LOOK_MS} ms."
            return "No two others were near enough to make three of it, and no average was there to hold against it."
        if near.kind == "average":
            airing = self.airings.get(near.nearest)
            own = airing is not None and airing == label.event
            what = "The average of its own airing scores" if own else f"The average of airing {airing} scores"
        else:
            what = f"Its best three (the nearest is {self._name(near.nearest)}) score"
        return f"{what} {near.score:.1f} where {near.threshold:.1f} is needed, after {near.audio_ms} ms of audio."

    def _name(self, request_id: str) -> str:
        label = self.recording.truth.get(request_id)
        if label is None:
            return request_id
        return f"{request_id}, {'a person' if label.event is None else f'of airing {label.event}'}"

    # ---- pictures and sound --------------------------------------------------------------------------------------

    def _illustrated(self, cases: Sequence[Case]) -> list[Case]:
        return [
            replace(case, pictures=pictures(case.near, self._label(case.near)), sounds=self._sounds(case))
            if number < ILLUSTRATED
            else case
            for number, case in enumerate(cases)
        ]

    def _label(self, near: Near | None) -> str:
        if near is None or near.kind == "triple":
            return "" if near is None else near.nearest
        return f"average of airing {self.airings.get(near.nearest, near.nearest)}"

    def _sounds(self, case: Case) -> tuple[Sound, ...]:
        found = [Sound("this request", self._flac(self.requests[case.request_id]))]
        if case.near is not None and case.near.nearest in self.requests:
            found.append(Sound(f"the nearest, {case.near.nearest}", self._flac(self.requests[case.near.nearest])))
        return tuple(found)

    def _flac(self, request: Request) -> str:
        import soundfile
        import soxr

        samples, sample_rate_hz = self.recording.audio(request)
        if sample_rate_hz != SAMPLE_RATE_HZ:
            samples = soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ)
        file = io.BytesIO()
        soundfile.write(file, samples[: SOUND_S * SAMPLE_RATE_HZ], SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        return _data_uri("audio/flac", file.getvalue())


def pictures(near: Near | None, label: str) -> tuple[Picture, ...]:
    """Draw a request's fingerprint, that of the nearest (so labelled) in its time, and where they agree and differ."""
    if near is None:
        return ()
    own = bits_of(near.words)
    other, both = aligned(near)
    nearest = np.zeros_like(own)
    nearest[both] = other[both]
    differs = np.zeros((*own.shape, 4), np.uint8)
    differs[both] = np.where((own != nearest)[both][:, :, None], DIFFER, AGREE)
    shown = f"{np.count_nonzero((own != nearest)[both])} of {int(both.sum()) * BITS_PER_WORD} bits differ"
    offset_ms = near.alignment * WORD_MS
    return (
        Picture("this request", _png(np.where(own[:, :, None] > 0, SET, NOTHING))),
        Picture(
            f"{label}, moved by {-offset_ms:+d} ms" if offset_ms else label,
            _png(np.where(nearest[:, :, None] > 0, SET, NOTHING)),
        ),
        Picture(f"{shown} ({near.rate:.0%})", _png(differs)),
    )


def bits_of(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Bits of words: uint64 (n,) to uint8 (n, BITS_PER_WORD) of 0 and 1."""
    little = np.ascontiguousarray(words, "<u8").view(np.uint8).reshape(len(words), -1)
    return np.unpackbits(little, axis=1, bitorder="little")


def aligned(near: Near) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Give the bits of the nearest in the request's time, uint8 (n, BITS_PER_WORD), and which of its n words it has."""
    out = np.zeros((len(near.words), BITS_PER_WORD), np.uint8)
    theirs = np.arange(len(near.words)) + near.alignment
    both = (theirs >= 0) & (theirs < len(near.nearest_words))
    out[both] = bits_of(near.nearest_words)[theirs[both]]
    return out, both


def _heading(label: Truth) -> str:
    if label.expect == "ignore_by_cache":
        what = f"airing {label.event}, once more"
    elif label.event is not None:
        homes = label.households_in_event
        what = f"airing {label.event} in {homes} home{'' if homes == 1 else 's'}"
    else:
        what = "a person"
    if label.snr_db is not None:
        what += f", at {label.snr_db:g} dB"
    return f"{what} (noise: {label.noise})" if label.noise else what


def _or_far(margin: float | None) -> float:
    return -np.inf if margin is None else margin


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    """RGBA pixels, uint8 (time, bits, 4)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.swapaxes(0, 1))).save(file, "PNG", optimize=True)
    return _data_uri("image/png", file.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"

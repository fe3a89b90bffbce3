"""The small list that a device carries: its bits, its thresholds, and its pack of entries.

A device recognises at most some hundred advertisements by itself, in whole numbers and few of them: 32 of the filters
of `learned64` in 8 bits, a word every 40 ms. docs/device.md has the layout and the figures; deploy/device has the C.
"""

import functools
import hashlib
import importlib.resources
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matcher.bits import BITS_PER_WORD
from matcher.evidence import Tail
from matcher.packed import packed, unpacked

FILTERS = 32
# Every second word of the cloud's: twice as many would cost twice the work, and find hardly more.
STRIDE = 2
# Requests begin within 100 ms of the entry's beginning.
SIDE = 3
ENTRY_WORDS = 49
# Words of an entry before this one are of what precedes the wake word and of the wake word itself, which whoever says
# it shares; those from here on are of what follows.
CUT = 27
FIRST_LOOK, LOOK_STEP = 16, 3
LOOKS = (ENTRY_WORDS - FIRST_LOOK) // LOOK_STEP + 1
# With fewer entries nobody's own mean is known; strangers' fingerprints make up for those that are missing.
LEAST_ENTRIES, MOST_ENTRIES = 16, 250
# Rates are in 65,536ths; no pack may match by less than this.
RATE_ONE = 65_536
LEAST_ACCEPT = 2_000

_HEADER = struct.Struct("<4sHHIII28sHHBBBBIBxxx")
_LOOK = struct.Struct("<7H")
_ENTRY = struct.Struct("<QIIHH")
_MAGIC, _VERSION, _CRC_FROM, _DECIDES = b"HWPK", 1, 16, 1


class PackError(ValueError):
    """Bytes that are no pack, or a pack that cannot be made: in one sentence why."""


@dataclass(frozen=True, eq=False)
class DeviceBits:
    """What a device computes of a kind of bits, and from when on it decides by them.

    Attributes:
        name: of this set.
        source: the kind of bits that the filters were chosen from.
        columns: int64 (FILTERS,), which filters of it: bit b of a device's word is bit columns[b] of the cloud's.
        weights: int8 (FILTERS, taps, BANDS).
        scales: float32 (FILTERS, taps), what a tap's weights are to be multiplied with.
        offsets: float32 (FILTERS,), what a response must exceed for a 1.
        half_band: float32 (pairs,), coefficients of the decimator beside its middle one.
        caps: float64 (LOOKS, 3), rates over which no own mean is believed: of all words, of those before CUT, and of
            those from there on.
        deviations: float64 (LOOKS, 3), of strangers' margins (own mean less lowest rate) over the same words.
        floor: float64 (LOOKS,), margins that what an entry's own broadcast brings does not fall below.
        whole: tail of the best score (margin over deviation) over all words, of a request over its looks.
        parts: tail of the lower one of the two parts' scores, likewise.
        provenance: what all this was measured on.

    """

    name: str
    source: str
    columns: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.float32]
    half_band: npt.NDArray[np.float32]
    caps: npt.NDArray[np.float64]
    deviations: npt.NDArray[np.float64]
    floor: npt.NDArray[np.float64]
    whole: Tail
    parts: Tail
    provenance: Mapping[str, object]

    _ARRAYS = ("columns", "weights", "scales", "offsets", "half_band", "caps", "deviations", "floor")

    @functools.cached_property
    def bits_id(self) -> int:
        """Tells filters from others: a pack for others is refused by the device."""
        return zlib.crc32(b"".join(getattr(self, name).tobytes() for name in ("columns", "weights", "scales")))

    def words(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        """What a device computes where the cloud computes these: uint64 (n,) to uint32 (ceil(n / STRIDE),)."""
        bits = (words[::STRIDE, None] >> self.columns.astype(np.uint64)) & np.uint64(1)
        device: npt.NDArray[np.uint32] = (bits.astype(np.uint32) << np.arange(FILTERS, dtype=np.uint32)).sum(
            axis=1, dtype=np.uint32
        )
        return device

    def looks(self, budget: float, entries: int) -> "list[Look]":
        """Thresholds of every look: chance passes one of them with this probability a request, among so many.

        Half of the budget is for margins over all words; half for margins over both parts, which is the rarer thing to
        happen to a stranger: who says the wake word alike goes on otherwise.
        """
        whole, parts = (tail.threshold(budget / 2, entries) for tail in (self.whole, self.parts))
        return [
            Look(
                accept=tuple(
                    min(RATE_ONE - 1, max(LEAST_ACCEPT, math.ceil(min(1.0, score * deviation) * RATE_ONE)))
                    for score, deviation in zip((whole, parts, parts), deviations.tolist(), strict=True)
                ),
                reject=round(floor * RATE_ONE),
                caps=tuple(round(cap * RATE_ONE) for cap in caps),
            )
            for caps, deviations, floor in zip(self.caps.tolist(), self.deviations, self.floor.tolist(), strict=True)
        ]

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` gives it back."""
        header = {
            "name": self.name,
            "source": self.source,
            "whole": vars(self.whole),
            "parts": vars(self.parts),
            "provenance": dict(self.provenance),
        }
        return packed(header, **{name: getattr(self, name) for name in self._ARRAYS})

    @classmethod
    def from_bytes(cls, data: bytes) -> "DeviceBits":
        """Read what `to_bytes` wrote."""
        header, arrays = unpacked(data)
        return cls(
            name=header["name"],
            source=header["source"],
            whole=Tail(**header["whole"]),
            parts=Tail(**header["parts"]),
            provenance=header["provenance"],
            **{name: arrays[name] for name in cls._ARRAYS},
        )


@functools.cache
def device_bits() -> DeviceBits:
    """Read the bits for devices that ship with the package."""
    return DeviceBits.from_bytes((importlib.resources.files("matcher") / "filters" / "device32.npz").read_bytes())


@dataclass(frozen=True, slots=True)
class Look:
    """Margins in 65,536ths, over all words, those before CUT, and those from there on.

    It is a match from accept[0] on over all words, or from accept[1] and accept[2] on over the two parts; over all
    words below `reject` it will be none. `caps` are of the own means.
    """

    accept: tuple[int, ...]
    reject: int
    caps: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PackEntry:
    """One fingerprint of a pack: uint32 (n,) words, bounds in seconds of Unix time, 0 for none.

    One that does not decide is there for the own mean alone.
    """

    digest: int
    words: npt.NDArray[np.uint32]
    valid_from_s: int = 0
    valid_until_s: int = 0
    decides: bool = True


@dataclass(frozen=True, slots=True)
class Pack:
    """What a device carries: the thresholds of its looks, and its entries."""

    bits_id: int
    made_s: int
    looks: Sequence[Look]
    entries: Sequence[PackEntry]


def media_digest(media_id: str) -> int:
    """Give what stands for a media id in a pack: 64 bits of its BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(media_id.encode(), digest_size=8).digest(), "little")


def pack_bytes(pack: Pack, name: str) -> bytes:
    """Lay a pack out; `parse_pack` gives it back.

    Args:
        pack: with LEAST_ENTRIES to MOST_ENTRIES entries.
        name: of the bits, for those who look at the file.

    Raises:
        PackError: too few entries, or too many.

    """
    if not LEAST_ENTRIES <= len(pack.entries) <= MOST_ENTRIES:
        raise PackError(f"a pack has {LEAST_ENTRIES} to {MOST_ENTRIES} entries, not {len(pack.entries)}")
    table = b"".join(_LOOK.pack(*look.accept, look.reject + RATE_ONE // 2, *look.caps) for look in pack.looks)
    table += bytes(-len(table) % 4)
    body = bytearray()
    for entry in pack.entries:
        words = np.zeros(ENTRY_WORDS, "<u4")
        length = min(len(entry.words), ENTRY_WORDS)
        words[:length] = entry.words[:length]
        body += _ENTRY.pack(entry.digest, entry.valid_from_s, entry.valid_until_s, length, _DECIDES * entry.decides)
        body += words.tobytes()
    header_bytes = _HEADER.size + len(table)
    head = _HEADER.pack(
        _MAGIC, _VERSION, header_bytes, header_bytes + len(body), 0, pack.bits_id, name.encode(), len(pack.entries),
        ENTRY_WORDS, FIRST_LOOK, LOOK_STEP, len(pack.looks), SIDE, pack.made_s, CUT,
    )  # fmt: skip
    whole = bytearray(head + table + body)
    whole[12:16] = struct.pack("<I", zlib.crc32(whole[_CRC_FROM:]))
    return bytes(whole)


def parse_pack(data: bytes) -> Pack:
    """Read a pack.

    Raises:
        PackError: it is none, or damaged.

    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise PackError("this is no pack: it does not begin as one")
    (_, version, header_bytes, size, crc, bits_id, _, entries, width, _, _, looks, _, made_s, _) = _HEADER.unpack_from(
        data
    )
    if version != _VERSION:
        raise PackError(f"a pack of version {version}: this reads version {_VERSION}")
    if size != len(data) or crc != zlib.crc32(data[_CRC_FROM:]):
        raise PackError("the pack is damaged: its length or its checksum is not what it says")
    step = _ENTRY.size + 4 * width
    if header_bytes < _HEADER.size + looks * _LOOK.size or header_bytes + entries * step != size:
        raise PackError("the pack is damaged: its parts do not add up")
    table = [_LOOK.unpack_from(data, _HEADER.size + i * _LOOK.size) for i in range(looks)]
    found = []
    for at in range(header_bytes, size, step):
        digest, valid_from_s, valid_until_s, length, flags = _ENTRY.unpack_from(data, at)
        words = np.frombuffer(data, "<u4", min(length, width), at + _ENTRY.size).astype(np.uint32)
        found.append(PackEntry(digest, words, valid_from_s, valid_until_s, bool(flags & _DECIDES)))
    return Pack(bits_id, made_s, [Look(row[:3], row[3] - RATE_ONE // 2, row[4:]) for row in table], found)


assert FILTERS <= BITS_PER_WORD

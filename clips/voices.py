# ruff: noqa: INP001 - a recipe, not a package
"""Who speaks what: the voices of the clips, and their places.

A voice has one place only: a split (thresholds are set on *calibration*, figures come from *evaluation*) and a role
(live or advert). Kokoro's voices were grouped by the cosine of their style vectors (middle row, mean of all voices
taken away), and voices above 0.5 or so share a place; of three pairs above 0.94 (ef_dora and pf_dora, em_alex and
pm_alex, em_santa and pm_santa) only the first is used. `a+b` is a new voice, the mean of two of the same place.
"""

from dataclasses import dataclass

KOKORO = {
    ("live", "calibration"): (
        "af_jessica af_river bf_alice bf_lily bm_daniel bm_george am_liam am_eric jf_alpha jf_gongitsune jf_nezumi "
        "jf_tebukuro jm_kumo im_nicola af_sarah am_michael bf_emma bf_isabella zm_yunjian zm_yunyang zm_yunxi "
        "af_sarah+am_liam bf_emma+bm_george af_river+im_nicola am_eric+jm_kumo am_michael+zm_yunjian"
    ),
    ("live", "evaluation"): (
        "af_kore am_fenrir am_puck af_aoede hf_alpha hf_beta hm_omega hm_psi af_nicole am_adam bm_lewis if_sara af_sky "
        "zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunxia "
        "am_adam+bm_lewis af_sky+am_puck if_sara+af_kore am_fenrir+hm_psi"
    ),
    ("advert", "calibration"): (
        "af_alloy am_echo af_nova am_onyx bm_fable ff_siwis af_nova+bm_fable am_echo+ff_siwis af_alloy+am_onyx"
    ),
    ("advert", "evaluation"): (
        "af_bella af_heart ef_dora em_alex em_santa am_santa af_heart+am_santa af_bella+em_alex ef_dora+af_bella"
    ),
}

# espeak-ng: accent, variant (throat), pitch 0-99, words a minute.
ESPEAK = {
    ("live", "calibration"): (
        ("en-us", "m3", 45, 160), ("en-gb", "f2", 55, 165), ("en-gb-scotland", "m7", 40, 155),
        ("en-us", "f5", 60, 175), ("en-gb-x-rp", "m1", 35, 150), ("en-029", "f4", 50, 160),
    ),
    ("live", "evaluation"): (
        ("en-us", "f1", 50, 160), ("en-gb", "m4", 42, 150), ("en-gb-x-gbclan", "f3", 58, 165),
        ("en-029", "m6", 48, 170), ("en-gb-x-gbcwmd", "m8", 38, 155),
    ),
}  # fmt: skip

# slt is one speaker in two synthesisers, so both are in one place.
FLITE = {("live", "calibration"): ("rms", "kal16"), ("live", "evaluation"): ("slt", "awb")}
FESTIVAL = {("live", "evaluation"): ("cmu_us_slt_arctic_hts",)}

LICENCES = {
    "kokoro": "Apache-2.0 (model and voices: hexgrad, Kokoro-82M)",
    "espeak-ng": "output is free of the program's GPL-3.0",
    "flite": "CMU's own BSD-like licence",
    "festival": "CMU's own BSD-like licence (EST-2003)",
}


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker, and where it is used."""

    name: str
    synthesiser: str
    role: str
    split: str
    settings: tuple[str, ...] = ()


def voices() -> list[Voice]:
    """Every voice, in a fixed order."""
    found = [Voice(name, "kokoro", role, split) for (role, split), names in KOKORO.items() for name in names.split()]
    found += [
        Voice(f"{accent}+{throat}", "espeak-ng", role, split, (f"{accent}+{throat}", str(pitch), str(words)))
        for (role, split), rows in ESPEAK.items()
        for accent, throat, pitch, words in rows
    ]
    for synthesiser, table in (("flite", FLITE), ("festival", FESTIVAL)):
        found += [
            Voice(f"{synthesiser}_{n}", synthesiser, r, s, (n,)) for (r, s), names in table.items() for n in names
        ]
    return found

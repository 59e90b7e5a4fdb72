"""Models that speak, as small as they go and never trained: what they say is noise, of known length."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("sentencex")

from esdcodec import ESDCodec, load
from esdcodec.model_tts.acoustic import AcousticModel
from esdcodec.model_tts.acoustic_folder import save_acoustic
from esdcodec.model_tts.autoregressive import make_language_model
from esdcodec.model_tts.text import ByteText
from esdcodec.model_tts.text_to_codes import SpeechTokens, TextToCodes
from esdcodec.tts import Voice, bundle_tts
from tests.model_tts.tiny import SIZES


def save_parts(folder: Path, codec: ESDCodec) -> dict[str, Path]:
    """Exports of the two trainings of a model for `codec`, as `bundle_tts` takes them."""
    torch.manual_seed(0)
    tokens = SpeechTokens(
        codec=codec.name, fingerprint=codec.fingerprint.hex(), frame_rate=codec.frame_rate, n_text=ByteText.n_tokens,
        codebook_size=codec.codebook_sizes[0], text=ByteText().config, codes_per_text=8.0, codes_per_text_token=0.3,
    )  # fmt: skip
    language_model = make_language_model({**SIZES, "max_position_embeddings": 2048}, tokens.vocabulary)
    TextToCodes(language_model, tokens).save(folder / "text")
    sizes = {"dim": 32, "hidden": 48, "blocks": 2, "heads": 2, "chunk_frames": 8}
    acoustic = AcousticModel(codebook_sizes=codec.codebook_sizes, **sizes)
    for parameter in acoustic.parameters():  # a new one hears no prompt
        torch.nn.init.normal_(parameter, std=0.3)
    save_acoustic(
        folder / "acoustic", acoustic.config, acoustic.state_dict(), codec=codec.name, fingerprint=codec.fingerprint
    )
    return {"text_to_codes": folder / "text", "acoustic": folder / "acoustic"}


def bundle(folder: Path, codec: str) -> Path:
    """The whole folder, with two voices."""
    from tests.conftest import write_speech

    loaded = load(codec, device="cpu")
    voices = []
    for seed, name in enumerate(("he", "she")):
        file = write_speech(folder / f"{name}.wav", 1.2, seed=seed)
        voices.append(Voice.from_audio(file, f"What {name} says.", codec=loaded, name=name, consent="agreed"))
    parts = save_parts(folder, loaded)
    return bundle_tts(folder / "tts", **parts, codec=loaded, voices=voices, default_voice="she")

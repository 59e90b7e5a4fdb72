"""A model that speaks, as small as it goes and never trained: what it says is noise, of known length."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("sentencex")

from esdcodec import ESDCodec
from esdcodec.model_tts.acoustic import AcousticModel
from esdcodec.model_tts.acoustic_folder import save_acoustic
from esdcodec.model_tts.autoregressive import make_language_model
from esdcodec.model_tts.text import ByteText
from esdcodec.model_tts.text_to_codes import SpeechTokens, TextToCodes
from esdcodec.tts import TextToSpeech, Voice, bundle_tts, load_tts
from tests.conftest import write_speech
from tests.model_tts.tiny import SIZES


def save_parts(folder: Path, codec: ESDCodec) -> dict[str, Path]:
    """Exports of the two trainings of a model for `codec`, as `bundle_tts` takes them."""
    torch.manual_seed(0)
    tokens = SpeechTokens(
        codec=codec.name, fingerprint=codec.fingerprint.hex(), frame_rate=codec.frame_rate, n_text=ByteText.n_tokens,
        codebook_size=codec.codebook_sizes[0], text=ByteText().config, codes_per_text=10.0, codes_per_text_token=1.0,
    )  # fmt: skip
    language_model = make_language_model({**SIZES, "max_position_embeddings": 2048}, tokens.vocabulary)
    TextToCodes(language_model, tokens).save(folder / "text")
    sizes = {"dim": 32, "hidden": 48, "blocks": 2, "heads": 2, "chunk_frames": 4}
    acoustic = AcousticModel(codebook_sizes=codec.codebook_sizes, **sizes)
    for parameter in acoustic.parameters():  # a new one hears no prompt
        torch.nn.init.normal_(parameter, std=0.3)
    save_acoustic(
        folder / "acoustic", acoustic.config, acoustic.state_dict(), codec=codec.name, fingerprint=codec.fingerprint
    )
    return {"text_to_codes": folder / "text", "acoustic": folder / "acoustic"}


@pytest.fixture(scope="session")
def parts(codec: ESDCodec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_parts(tmp_path_factory.mktemp("parts"), codec)


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 1.5 s."""
    return write_speech(tmp_path_factory.mktemp("talk") / "talk.wav", 1.5)


@pytest.fixture(scope="session")
def voice(codec: ESDCodec, talk: Path) -> Voice:
    return Voice.from_audio(talk, "What she says.", codec=codec, name="she", consent="agreed", origin="made by rule")


@pytest.fixture(scope="session")
def tts_folder(model: str, parts: dict[str, Path], voice: Voice, talk: Path) -> Path:
    """The folder of a model with the voices `he` and `she`, of which `she` is the default one."""
    he = Voice.from_audio(write_speech(talk.with_name("he.wav"), 1.2, seed=5), "What he says.", codec=model)
    return bundle_tts(talk.with_name("tts"), **parts, codec=model, voices=[he, voice], default_voice="she")


@pytest.fixture(scope="session")
def tts(tts_folder: Path) -> TextToSpeech:
    return load_tts(tts_folder, device="cpu")

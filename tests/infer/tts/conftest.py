"""Parts of the model that all tests share."""

from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("sentencex")

from esdcodec import ESDCodec
from esdcodec.tts import Voice
from tests.conftest import write_speech
from tests.speech_models import save_parts


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

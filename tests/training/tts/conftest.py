"""A tokenised corpus of the small codec."""

from pathlib import Path

import pytest

from esdcodec import ESDCodec
from tests.training.tts.corpus import write_corpus


@pytest.fixture(scope="session")
def tokens(codec: ESDCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tokens"), codec.fingerprint.hex())

"""A tokenised corpus of the small codec, and runs on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from esdcodec import ESDCodec
from esdcodec.training.tasks import make_trainer
from esdcodec.training.trainer import Trainer
from tests.training.runs import composed, on_one_thread
from tests.training.tts.corpus import SMOKE, write_corpus


@pytest.fixture(scope="session")
def tokens(codec: ESDCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tokens"), codec.fingerprint.hex())


@pytest.fixture
def train(request: pytest.FixtureRequest, model: str, tokens: Path, tmp_path: Path) -> Callable[..., Trainer]:
    """Train by the configuration `SMOKE`, of the module where it has its own, in this process; returns the trainer."""

    def trained(*overrides: str, folder: Path = tmp_path / "run") -> Trainer:
        base = (f"machine.tokens={tokens}", f"model.codec={model}", f"trainer.output_dir={folder}")
        with on_one_thread():
            trainer = make_trainer(composed(getattr(request.module, "SMOKE", SMOKE), *base, *overrides))
            trainer.train()
        return trainer

    return trained

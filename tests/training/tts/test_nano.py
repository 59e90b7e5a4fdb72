"""The configurations of the small voice."""

import pytest
from omegaconf import OmegaConf

pytest.importorskip("transformers")

from esdcodec.model_tts.acoustic import AcousticModel
from esdcodec.model_tts.autoregressive import make_language_model
from esdcodec.model_tts.sequence import SpeechVocabulary
from esdcodec.model_tts.text import SYMBOLS
from esdcodec.training.tts import acoustic_setup, setup
from tests.training.runs import composed

BUNDLED = 12.5e6  # parameters of both, which in half precision are 25 MB
CODEBOOKS = [16384, *[1024] * 11]


def test_both_halves_are_small_enough_to_be_bundled():
    values = [
        OmegaConf.to_container(composed(f"esdcodec_tts_{half}_nano_train", "trainer.output_dir=runs"), resolve=True)
        for half in ("ar", "nar")
    ]
    text, acoustic = setup.check(values[0]), acoustic_setup.check(values[1])
    assert acoustic.model.n_quantizers == len(CODEBOOKS)
    vocabulary = SpeechVocabulary(len(SYMBOLS), CODEBOOKS[0])
    networks = [
        make_language_model(text.model.language_model, vocabulary),
        AcousticModel(**acoustic.model.network, codebook_sizes=CODEBOOKS),
    ]
    assert sum(parameter.numel() for network in networks for parameter in network.parameters()) < BUNDLED

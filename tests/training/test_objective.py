"""The objective as a whole: which terms there are, and what they weigh."""

import pytest
import torch
from conftest import speech

from esdcodec.training.objective import reconstruction_losses, weighted_sum


def test_semantic_only_steps_add_the_low_band_term(tiny_codec):
    audio = speech(0.5)
    output = tiny_codec(audio, 1)
    plain = reconstruction_losses(output, audio, 24000, 12000)
    semantic_only = reconstruction_losses(output, audio, 24000, 12000, semantic_only=True)
    assert set(semantic_only) - set(plain) == {"low_band_mel"}
    assert plain["acoustic_commitment"] == plain["acoustic_codebook"] == 0


def test_a_loss_without_a_weight_is_an_error():
    losses = {"mel": torch.tensor(2.0), "new": torch.tensor(1.0)}
    with pytest.raises(KeyError, match=r"no weight for new in trainer\.loss_weights"):
        weighted_sum(losses, {"mel": 15.0})
    assert weighted_sum(losses, {"mel": 15.0, "new": 0.0, "unused": 3.0}) == 30

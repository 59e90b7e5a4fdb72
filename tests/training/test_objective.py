"""The objective as a whole: which terms there are, and what they weigh."""

import pytest
import torch
from accelerate import Accelerator

from esdcodec.model_codec.discriminator import Discriminator
from esdcodec.training.objective import AdversarialPass, reconstruction_losses, weighted_sum
from esdcodec.training.optimizer import Learner
from esdcodec.training.settings import OptimizerSettings
from tests.conftest import speech


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


def test_several_signals_may_have_discriminators_of_their_own():
    accelerator = Accelerator(cpu=True)
    settings = OptimizerSettings(
        lr=1e-3, muon_lr=None, betas=(0.8, 0.9), weight_decay=0.0, warmup_steps=0, decay_steps=1, final_lr=1e-3
    )
    small = Discriminator(periods=[2], period_channels=[4], windows=[])
    log = Discriminator(periods=[], windows=[], spectrograms={64: 16}, spectrogram_channels=[2, 2, 2, 2])
    passes = [
        AdversarialPass(accelerator, Learner.make(accelerator, name, network, settings))
        for name, network in (("whole", small), ("below", log))
    ]
    decoded = speech(0.2, seed=1).requires_grad_()
    scalars: dict[str, torch.Tensor] = {}
    for adversarial, factor in zip(passes, (1, 4)):
        terms, more = adversarial(speech(0.2)[..., ::factor], decoded[..., ::factor])
        scalars |= more
        assert set(terms) == {"adversarial", "feature_matching"}
        (gradient,) = torch.autograd.grad(sum(terms.values()), decoded)
        assert gradient.abs().sum() > 0
    assert set(scalars) == {f"{name}/{what}" for name in ("whole", "below") for what in ("loss", "real", "fake")}
    assert all(p.grad is not None for network in (small, log) for p in network.parameters())

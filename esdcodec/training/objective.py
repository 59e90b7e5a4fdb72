"""The objective: what a step of training minimises, term by term.

The codec's loss is Σ weight · term, with the weights of `trainer.loss_weights` under the names below. A "semantic-only"
step reconstructs from the first codebook alone. Formulas are in `model_codec.losses`.

| term | what it compares |
| --- | --- |
| `mel` | decoded audio with the input: mel spectrograms of four windows |
| `condition_mel`, `condition_magnitude` | the condition network's subband with the input, decimated: mel, magnitudes |
| `low_band_mel` | as `mel`, squared, of the lowest tenth: on semantic-only steps |
| `semantic_commitment` | latent with codebook 0: 0.25 · ‖latent − sg(entry)‖² + ‖sg(latent) − entry‖² |
| `acoustic_commitment` | residuals with the entries of the other codebooks, gradient to the encoder |
| `acoustic_codebook` | the same, gradient to the codebooks |
| `distillation` | semantic latent with the teacher's states: with `model.teacher` |
| `adversarial`, `feature_matching` | discriminators' scores and feature maps: with `model.discriminator` |

The discriminators' loss is `discriminator/loss`, unweighted.
"""

import random
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

from ..dataset.batch import Batch
from ..model_codec.losses import (
    LOW_BAND_WINDOWS,
    SUBBAND_WINDOWS,
    WINDOWS,
    FeatureMaps,
    adversarial_loss,
    discriminator_loss,
    distillation_loss,
    feature_matching_loss,
    magnitude_loss,
    mel_loss,
)
from ..model_codec.network import Reconstruction
from ..model_codec.spectral import decimate, frame_spectrum
from .optimizer import Learner
from .settings import ConfigurationError, TrainerSettings

COMMITMENT = 0.25  # what the encoder's share of `semantic_commitment` counts beside the codebook's
QUANTIZER_TERMS = ("semantic_commitment", "acoustic_commitment", "acoustic_codebook")
RECONSTRUCTION_TERMS = ("mel", "condition_mel", "condition_magnitude")
ADVERSARIAL_TERMS = ("adversarial", "feature_matching")
TERMS = (*RECONSTRUCTION_TERMS, "low_band_mel", *QUANTIZER_TERMS, "distillation", *ADVERSARIAL_TERMS)


def check_weights(settings: TrainerSettings, *, teacher: bool, discriminator: bool) -> None:
    """Check that every term of the objective has a weight, and every weight a term.

    Raises:
        ConfigurationError: one is missing.
    """
    weights = settings.loss_weights
    for name in weights:
        if name not in TERMS:
            raise ConfigurationError(f"trainer.loss_weights.{name} is no term of the objective: {', '.join(TERMS)}")
    optional = {
        "distillation": teacher,
        "low_band_mel": settings.semantic_only_probability > 0,
        **dict.fromkeys(ADVERSARIAL_TERMS, discriminator),
    }
    for name in TERMS:
        if name not in weights and optional.get(name, True):
            raise ConfigurationError(f"trainer.loss_weights.{name} is missing: give it a weight (0 leaves it out)")


class Objective:
    """All losses of a step, and their gradients.

    Args:
        codec: learns from the weighted sum above.
        discriminator: learns to distinguish its audio from recordings; None: there is none.
        teacher: gives the states that the semantic latent is compared with; None: there is none.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        accelerator: Accelerator,
        codec: Learner,
        discriminator: Learner | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        self.settings, self.accelerator = settings, accelerator
        self.codec, self.teacher = codec, teacher
        self.adversarial = AdversarialPass(accelerator, discriminator) if discriminator is not None else None
        # 0, 1, … K on the device: what is drawn is put together there, and no batch waits for a copy of numbers
        self._numbers = torch.arange(codec.unwrapped.n_codebooks + 1, device=accelerator.device)

    def adversarial_at(self, step: int) -> bool:
        """Whether there are discriminators at this step."""
        return self.adversarial is not None and step >= self.settings.discriminator_start

    def backward(self, batch: Batch, step: int, position: int) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of both networks' losses on a batch whose first item is at `position`.

        Returns:
            Scalars by name: `loss/TERM`, `weighted/TERM`, `loss/total`, `discriminator/…`. Codes ``[B, K, L]``.
        """
        n_quantizers, semantic_only = self.draw_quantizers(step, position, len(batch.audio))
        continuous = step < self.settings.continuous_steps
        with self.accelerator.autocast():
            output = self.codec.network(batch.audio, n_quantizers, continuous=continuous)
        terms = reconstruction_losses(
            output,
            batch.audio,
            self.codec.unwrapped.sample_rate,
            self.codec.unwrapped.subband_sample_rate,
            semantic_only=semantic_only and not continuous,
        )
        if self.teacher is not None:
            target, mask = self.teacher(**batch.features)
            n_frames = min(output.semantic_latent.shape[-1], mask.shape[-1])
            # a mean over the frames of all ranks, whose gradients are averaged: a rank with few frames weighs less
            frames = self.accelerator.reduce(mask[..., :n_frames].sum().float(), "mean")
            terms["distillation"] = distillation_loss(output.semantic_latent, target, mask, frames)
        scalars: dict[str, Tensor] = {}
        if self.adversarial is not None and self.adversarial_at(step):
            more, scalars = self.adversarial(batch.audio, output.audio)
            terms |= more
        weights = dict(self.settings.loss_weights)
        if continuous:  # past the quantizers, which are fitted to the latents later
            weights |= dict.fromkeys(QUANTIZER_TERMS, 0.0)
        total = weighted_sum(terms, weights)
        self.accelerator.backward(total)
        return {
            **{f"loss/{name}": value.detach() for name, value in terms.items()},
            **{f"weighted/{name}": weights[name] * value.detach() for name, value in terms.items()},
            "loss/total": total.detach(),
            **scalars,
        }, output.codes

    def draw_quantizers(self, step: int, position: int, batch_size: int) -> tuple[Tensor, bool]:
        """Codebook dropout: how many codebooks each item keeps ``[B]``, and whether this step is a semantic-only one.

        Drawn from the seed, the step and the item's position: a resumed run draws what it would have drawn, and so do
        other numbers of processes.
        """
        settings, n_codebooks = self.settings, self.codec.unwrapped.n_codebooks
        semantic_only = random.Random(f"{settings.seed}/{step}").random() < settings.semantic_only_probability
        numbers = [
            1 if semantic_only else random.Random(f"{settings.seed}/{item}").randint(2, n_codebooks)
            for item in range(position, position + batch_size)
        ]
        return torch.stack([self._numbers[n] for n in numbers]), semantic_only


class AdversarialPass:
    """Both passes of discriminators over a batch: one for their own gradients, one for those of the network that made
    the audio.

    A step may have several, each with its own discriminators and signal.
    """

    def __init__(self, accelerator: Accelerator, discriminator: Learner) -> None:
        self.accelerator, self.discriminator = accelerator, discriminator

    def __call__(self, real: Tensor, fake: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gradients of the discriminators' loss on ``[B, 1, T]`` each.

        Both networks see the discriminators as they were before this step, so D(real) is needed once.

        Returns:
            The terms `adversarial` and `feature_matching`, whose gradients reach `fake`; scalars to log, under the
            name of these discriminators.
        """
        real_maps, fake_maps = self.discriminate(real, fake.detach())
        loss = discriminator_loss(real_maps, fake_maps)
        self.accelerator.backward(loss)
        maps = self.feature_maps(fake)
        terms = {
            "adversarial": adversarial_loss(maps),
            "feature_matching": feature_matching_loss(real_maps, maps),
        }
        name = self.discriminator.name
        scalars = {
            f"{name}/loss": loss.detach(),
            f"{name}/real": _mean_score(real_maps),
            f"{name}/fake": _mean_score(fake_maps),
        }
        return terms, scalars

    def discriminate(self, real: Tensor, fake: Tensor) -> tuple[FeatureMaps, FeatureMaps]:
        """Feature maps of both, whose gradients reach the discriminators."""
        n = len(real)
        with self.accelerator.autocast():
            maps = self.discriminator.network(torch.cat([real, fake]))
        return (
            [[m[:n].float() for m in maps_of] for maps_of in maps],
            [[m[n:].float() for m in maps_of] for maps_of in maps],
        )

    def feature_maps(self, audio: Tensor) -> FeatureMaps:
        """Feature maps whose gradients reach the audio, but not the discriminators."""
        network = self.discriminator.unwrapped
        parameters = {name: p.detach() for name, p in network.named_parameters()}
        with self.accelerator.autocast():
            maps = functional_call(network, parameters, (audio,))
        return [[m.float() for m in maps_of] for maps_of in maps]


def _mean_score(maps: FeatureMaps) -> Tensor:
    return torch.stack([maps_of[-1].detach().mean() for maps_of in maps]).mean()


def reconstruction_losses(
    output: Reconstruction,
    audio: Tensor,
    sample_rate: int,
    subband_sample_rate: int,
    *,
    semantic_only: bool = False,
) -> dict[str, Tensor]:
    """The terms that need neither teacher nor discriminator, unweighted.

    Args:
        output: what the codec made of `audio`.
        audio: ``[B, 1, T]`` at `sample_rate`.
        subband_sample_rate: of `output.subband`.
        semantic_only: whether this step left out all acoustic codes, which adds the term `low_band_mel`.
    """
    n_bins = output.subband_magnitude.shape[1]
    hop_length = (n_bins - 1) // 2
    subband = decimate(audio[:, 0], sample_rate // subband_sample_rate)
    n_samples = min(subband.shape[-1], output.subband.shape[-1])
    quantizers = output.losses
    losses = {
        "semantic_commitment": COMMITMENT * quantizers["semantic_commitment"] + quantizers["semantic_codebook"],
        "acoustic_commitment": quantizers["acoustic_commitment"],
        "acoustic_codebook": quantizers["acoustic_codebook"],
        "mel": mel_loss(output.audio, audio, sample_rate, WINDOWS),
        "condition_mel": mel_loss(
            output.subband[..., :n_samples], subband[:, None, :n_samples], subband_sample_rate, SUBBAND_WINDOWS
        ),
        "condition_magnitude": magnitude_loss(
            output.subband_magnitude, frame_spectrum(subband, 4 * hop_length, hop_length).abs()
        ),
    }
    if semantic_only:
        losses["low_band_mel"] = mel_loss(output.audio, audio, sample_rate, LOW_BAND_WINDOWS, low_band=0.1)
    return losses


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, Any]) -> Tensor:
    """Σ weight · loss.

    Raises:
        KeyError: a loss has no weight; give it one in `trainer.loss_weights`, 0 if it is not wanted.
    """
    missing = sorted(set(losses) - set(weights))
    if missing:
        raise KeyError(f"no weight for {', '.join(missing)} in trainer.loss_weights; give it one (0 leaves it out)")
    return torch.stack([weights[name] * value for name, value in losses.items()]).sum()

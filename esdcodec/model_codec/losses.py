"""Formulas of the losses: distances of audio, spectra and latents, and the adversarial terms."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .spectral import centred_magnitude, mel_filters

FeatureMaps = Sequence[Sequence[Tensor]]  # of each sub-discriminator, the score last

WINDOWS = {256: 40, 512: 80, 1024: 160, 2048: 320}  # samples -> mel bins
SUBBAND_WINDOWS = {128: 20, 256: 40, 512: 80}
LOW_BAND_WINDOWS = {512: 80, 1024: 160, 2048: 320}


def mel_loss(
    estimate: Tensor, reference: Tensor, sample_rate: int, windows: Mapping[int, int], *, low_band: float | None = None
) -> Tensor:
    """Multi-scale mel distance of ``[B, 1, T]`` signals: of the magnitudes, plus of their log10 power.

    The distance is L1 over all mel bins, or, with `low_band`, the squared one over that share of them from below.
    """
    distance = F.l1_loss if low_band is None else F.mse_loss
    total = estimate.new_zeros(())
    for window, n_mels in windows.items():
        filters = mel_filters(sample_rate, window, n_mels, device=estimate.device)
        filters = filters if low_band is None else filters[: int(low_band * n_mels)]
        mels = [filters @ centred_magnitude(x[:, 0], window, window // 4) for x in (estimate, reference)]
        logs = [mel.clamp(min=1e-5).square().log10() for mel in mels]
        total = total + distance(logs[0], logs[1]) + distance(mels[0], mels[1])
    return total


def magnitude_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """Spectral convergence plus L1 of the log magnitudes ``[B, N, L]``, over the frames that both have."""
    n_frames = min(estimate.shape[-1], reference.shape[-1])
    estimate, reference = estimate[..., :n_frames], reference[..., :n_frames]
    convergence = torch.linalg.vector_norm(reference - estimate) / torch.linalg.vector_norm(reference).clamp(min=1e-6)
    return convergence + F.l1_loss(estimate.clamp(min=1e-6).log(), reference.clamp(min=1e-6).log())


def distillation_loss(
    semantic_latent: Tensor, target: Tensor, mask: Tensor | None = None, frames: Tensor | None = None
) -> Tensor:
    """Mean squared distance of the semantic latent ``[B, D, L]`` to the teacher's, over the frames that both have.

    Where a `mask` ``[B, L]`` of the target is given, the mean is over the frames that it keeps; `frames` is their
    number where it isn't that of this mask, as in a batch that several processes share.
    """
    n_frames = min(semantic_latent.shape[-1], target.shape[-1])
    distance = F.mse_loss(semantic_latent[..., :n_frames], target[..., :n_frames], reduction="none").mean(1)
    if mask is None:
        return distance.mean()
    frames = mask[..., :n_frames].sum() if frames is None else frames
    return (distance * mask[..., :n_frames]).sum() / frames.clamp(min=1)


def discriminator_loss(real: FeatureMaps, fake: FeatureMaps) -> Tensor:
    """Least-squares loss of the discriminators (Mao et al. 2016, arXiv:1611.04076)."""
    return sum(((1 - x[-1]).square().mean() + y[-1].square().mean() for x, y in zip(real, fake)), start=_zero(real))


def adversarial_loss(fake: FeatureMaps) -> Tensor:
    """Least-squares loss of the codec against the discriminators."""
    return sum(((1 - maps[-1]).square().mean() for maps in fake), start=_zero(fake))


def feature_matching_loss(real: FeatureMaps, fake: FeatureMaps) -> Tensor:
    """L1 of the discriminators' feature maps, the scores left out (Larsen et al. 2015, arXiv:1512.09300)."""
    return sum(
        (F.l1_loss(y, x.detach()) for xs, ys in zip(real, fake) for x, y in zip(xs[:-1], ys[:-1])), start=_zero(real)
    )


def _zero(maps: FeatureMaps) -> Tensor:
    return maps[0][-1].new_zeros(())

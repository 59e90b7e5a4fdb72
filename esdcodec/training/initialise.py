"""Fits the quantizers of a codec to its latents, before they are trained.

The latents of an untrained encoder hardly vary, and drift together while the decoder learns. The codebooks do not
follow: all frames get the same code, the decoder learns to ignore it, and the commitment losses flatten the latents.
A distillation teacher prevents that. Without one, the codec is first trained past the quantizers, which are then
fitted to its latents.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..codec import ESDCodec
from ..model_codec.quantizer import ResidualVectorQuantizer, SimVQ, VectorQuantizer

FRAMES = 2**16  # of all ranks together that the codebooks are fitted to, at most
SCALE = 0.1  # of the latents: small enough that a commitment weight of 1,000 does not rule the objective


@torch.no_grad()
def fit_to_latents(codec: ESDCodec, audio: Tensor, gather: Callable[[Tensor], Tensor] = lambda latent: latent) -> None:
    """Scale the latents that `codec` makes of `audio` ``[B, 1, T]``, and fit all its codebooks to them.

    The decoder is scaled the other way, so that the reconstruction past the quantizers stays what it is. Items go
    through the network one at a time, and of `B` as many as have `FRAMES` frames on all ranks together.

    Args:
        gather: gives the latents ``[B, D, L]`` of all ranks; the audio stays where it is.
    """
    n_ranks = len(gather(audio.new_zeros(1)))
    audio = audio[: max(1, FRAMES // (n_ranks * codec.num_frames(audio.shape[-1])))]
    latent = gather(torch.cat([codec.encode_latent(item) for item in audio.split(1)]))
    scale = SCALE / latent.std((0, 2)).square().mean().sqrt()
    conv_out: Any = codec.encoder[-1]
    conv_out.weight_g.mul_(scale)
    conv_out.bias.mul_(scale)
    codec.decoder.conv_in.weight_g.div_(scale)
    codec.condition_network.conv_in.weight.div_(scale)

    latent = latent * scale
    fit_simvq(codec.semantic_quantizer, points_of(latent))
    semantic = _in_pieces(lambda item: codec.semantic_quantizer(item).latent, latent)
    conv_out = codec.semantic_decoder[-1]
    _standardise(conv_out, _in_pieces(codec.decode_semantic, semantic))
    residual = latent - _in_pieces(codec.decode_semantic, semantic)
    fit_residual_quantizer(codec.acoustic_quantizer, residual)


def _in_pieces(function: Callable[[Tensor], Tensor], latent: Tensor) -> Tensor:
    """A function of ``[B, D, L]``, item by item: in bounded memory."""
    return torch.cat([function(item) for item in latent.split(1)])


def points_of(latent: Tensor) -> Tensor:
    """``[B, D, L] -> [B · L, D]``."""
    return rearrange(latent, "b d l -> (b l) d")


def _standardise(conv: Any, output: Tensor) -> None:
    """Make `output` ``[B, D, L]`` of `conv` have mean 0 and standard deviation `SCALE` in every channel."""
    ratio = SCALE / output.std((0, 2)).clamp(min=1e-6)
    conv.weight_g.mul_(ratio[:, None, None])
    conv.bias.sub_(output.mean((0, 2))).mul_(ratio)


@torch.no_grad()
def fit_simvq(quantizer: SimVQ, points: Tensor) -> None:
    """Project the frozen codebook to where a random codebook for `points` ``[M, D]`` is best.

    That is not where the points are: a random codebook of 2^b entries costs least if its principal components have the
    variances max(0, λ - θ), λ those of the points and θ such that the components above it take b bits, Σ ½ log2(λ / θ)
    (reverse water-filling, Cover & Thomas 2006, section 10.3). Spread as widely as the points, only the entries
    near the middle would ever be nearest to any. A codebook of fewer dimensions than D takes the largest components.
    """
    points = points.double()
    values, vectors = torch.linalg.eigh(points.T.cov())  # ascending
    values = (values - water_level(values, math.log2(len(quantizer.codebook)))).clamp(min=0)
    spread = (vectors * values.sqrt())[:, -quantizer.codebook.shape[1] :]
    quantizer.projection.weight.copy_(spread / quantizer.codebook.double().std())
    quantizer.projection.bias.copy_(points.mean(0))


def water_level(variances: Tensor, bits: float) -> float:
    """The θ at which Σ ½ log2(variance / θ), over the variances above θ, is `bits`."""
    descending = variances.clamp(min=0).sort(descending=True).values
    logs = descending.clamp(min=1e-30).log2()
    # with the k largest above it, log2 θ is their mean less 2 · bits / k; right is the largest k with θ below them all
    number = torch.arange(1, len(logs) + 1, device=logs.device)
    levels = (logs.cumsum(0) - 2 * bits) / number
    k = int((levels < logs).nonzero()[-1])
    return float(2 ** levels[k])


@torch.no_grad()
def fit_residual_quantizer(quantizer: ResidualVectorQuantizer, residual: Tensor) -> None:
    """Fit each codebook to what those before it leave over of `residual` ``[B, D, L]``."""
    each: Any
    for each in quantizer.quantizers:
        fit_vector_quantizer(each, points_of(residual))
        residual = residual - _in_pieces(lambda item, each=each: each(item).latent, residual)  # type: ignore[misc]


@torch.no_grad()
def fit_vector_quantizer(quantizer: VectorQuantizer, points: Tensor, iterations: int = 10) -> None:
    """Principal components of `points` ``[M, D]`` as projections, and k-means by cosine as codebook."""
    mean = points.mean(0)
    dim = quantizer.codebook.embedding_dim
    components = torch.linalg.eigh(points.T.double().cov()).eigenvectors[:, -dim:].to(points)  # [D, C]
    _set(quantizer.in_proj, components.T, -components.T @ mean)
    _set(quantizer.out_proj, components, mean)

    projected = (points - mean) @ components
    size = quantizer.codebook.num_embeddings
    chosen = torch.randint(len(projected), (size,), generator=torch.Generator().manual_seed(0))  # alike on all ranks
    entries = projected[chosen.to(points.device)]
    for _ in range(iterations):
        quantizer.codebook.weight.copy_(entries)
        codes = quantizer.search(projected.T[None])[0]
        counts = F.one_hot(codes, size).sum(0)
        sums = torch.zeros_like(entries).index_add_(0, codes, projected)
        entries = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], entries)
    quantizer.codebook.weight.copy_(entries)


def _set(conv: Any, weight: Tensor, bias: Tensor) -> None:
    norm = weight.norm(dim=1, keepdim=True)
    conv.weight_v.copy_(weight.where(norm > 0, 1.0)[..., None])  # of a channel that is constant only the gain is 0
    conv.weight_g.copy_(norm[..., None])
    conv.bias.copy_(bias)

"""The quantizers: one large semantic codebook, then small acoustic ones on the residual."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .layers import Conv1d, Float32, full_precision


class Quantized(NamedTuple):
    """Output of a quantizer."""

    latent: Tensor  # [B, D, L], straight-through gradient
    codes: Tensor  # [B, K, L] int64
    commitment_loss: Tensor  # scalar: pulls the latent to the codebook
    codebook_loss: Tensor  # scalar: pulls the codebook to the latent


def straight_through(latent: Tensor, quantized: Tensor) -> Tensor:
    """`quantized`, with the gradient going to `latent`."""
    return latent + (quantized - latent).detach() if torch.is_grad_enabled() else quantized


def nearest(points: Tensor, codebook: Tensor, squares: Tensor | None = None) -> Tensor:
    """Index of the entry of `codebook` ``[N, C]`` nearest to each of `points` ``[..., C]``, by Euclidean distance.

    In float32, under autocast too: eight bits of mantissa find another one.

    `squares`: the squared lengths of the entries ``[N]``, where they are known.
    """
    points, codebook = points.detach().float(), codebook.detach().float()
    with full_precision(points.device):
        squares = codebook.square().sum(1) if squares is None else squares
        distances = torch.addmm(squares, points.flatten(0, -2), codebook.t(), alpha=-2)  # less the points' own squares
    return distances.argmin(1).view(points.shape[:-1])


class SimVQ(Float32):
    """Vector quantizer whose codebook is a frozen random matrix seen through a learned projection.

    Only the projection learns, so all entries move together and none dies (Zhu et al. 2024, arXiv:2411.02038). The
    matrix may have fewer columns than the latent: entries for 14 bits spread over few of its dimensions anyway.

    Shape:
        latent ``[B, D, L]`` -> latent ``[B, D, L]``, codes ``[B, 1, L]``.
    """

    def __init__(self, codebook_size: int, dim: int, codebook_dim: int | None = None) -> None:
        super().__init__()
        codebook_dim = codebook_dim or dim
        self.codebook = nn.Parameter(torch.randn(codebook_size, codebook_dim) * codebook_dim**-0.5, requires_grad=False)
        self.projection = nn.Linear(codebook_dim, dim)

    def effective_codebook(self) -> Tensor:
        """The projected codebook ``[N, D]``; a constant at inference, since it does not depend on the input."""
        projected: Tensor = self.projection(self.codebook)
        return projected

    def forward(self, latent: Tensor) -> Quantized:
        codebook = self.effective_codebook()
        codes = nearest(rearrange(latent, "b d l -> b l d"), codebook)
        quantized = F.embedding(codes, codebook).transpose(1, 2)
        return Quantized(
            straight_through(latent, quantized),
            codes[:, None],
            F.mse_loss(latent, quantized.detach()),
            F.mse_loss(quantized, latent.detach()),
        )

    def encode(self, latent: Tensor) -> Tensor:
        """Codes ``[B, 1, L]`` of a latent ``[B, D, L]``."""
        return nearest(rearrange(latent, "b d l -> b l d"), self.effective_codebook())[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        """Latent ``[B, D, L]`` of codes ``[B, 1, L]``."""
        return F.embedding(codes[:, 0], self.effective_codebook()).transpose(1, 2)


class VectorQuantizer(nn.Module):
    """Vector quantizer in a small space, searched by cosine similarity (Yu et al. 2021, arXiv:2110.04627; DAC).

    Shape:
        latent ``[B, D, L]`` -> latent ``[B, D, L]``, codes ``[B, L]``, losses ``[B]``.
    """

    def __init__(self, latent_dim: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.in_proj = Conv1d(latent_dim, codebook_dim, 1)
        self.out_proj = Conv1d(codebook_dim, latent_dim, 1)
        self.codebook = nn.Embedding(codebook_size, codebook_dim)

    def forward(self, latent: Tensor) -> Quantized:
        projected = self.in_proj(latent)
        codes = self.search(projected)
        entries = self.codebook(codes).transpose(1, 2)
        return Quantized(
            self.out_proj(straight_through(projected, entries)),
            codes,
            F.mse_loss(projected, entries.detach(), reduction="none").mean((1, 2)),
            F.mse_loss(entries, projected.detach(), reduction="none").mean((1, 2)),
        )

    def search(self, projected: Tensor) -> Tensor:
        return nearest(F.normalize(projected.transpose(1, 2), dim=-1), F.normalize(self.codebook.weight, dim=-1))

    def decode(self, codes: Tensor) -> Tensor:
        return self.out_proj(self.codebook(codes).transpose(1, 2))


class ResidualVectorQuantizer(Float32):
    """Vector quantizers in sequence, each on the residual of those before it, as in DAC.

    Shape:
        latent ``[B, D, L]`` -> latent ``[B, D, L]``, codes ``[B, K, L]``.
    """

    def __init__(self, latent_dim: int, n_codebooks: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.quantizers: Sequence[VectorQuantizer] = nn.ModuleList(  # type: ignore[assignment]
            VectorQuantizer(latent_dim, codebook_size, codebook_dim) for _ in range(n_codebooks)
        )

    def forward(self, latent: Tensor, n_quantizers: Tensor) -> Quantized:
        """Quantize each item with as many codebooks as `n_quantizers` ``[B]`` says, 0 to K.

        Codebooks beyond an item's number add neither signal nor loss to it; losses are means over all items, summed
        over codebooks. Codes come from all K codebooks.
        """
        residual, total = latent, torch.zeros_like(latent)
        codes, losses = [], latent.new_zeros(2)
        for i, quantizer in enumerate(self.quantizers):
            quantized = quantizer(residual)
            in_use = (i < n_quantizers).to(latent.dtype)
            total = total + quantized.latent * in_use[:, None, None]
            residual = residual - quantized.latent
            codes.append(quantized.codes)
            both = torch.stack([quantized.commitment_loss, quantized.codebook_loss])
            losses = losses + (both * in_use).mean(1)
        return Quantized(total, torch.stack(codes, dim=1), losses[0], losses[1])

    def encode(self, latent: Tensor, n_quantizers: int) -> Tensor:
        """Codes ``[B, n_quantizers, L]`` of the first `n_quantizers` codebooks."""
        codes = latent.new_empty(latent.shape[0], n_quantizers, latent.shape[2], dtype=torch.int64)
        for i, quantizer in enumerate(self.quantizers[:n_quantizers]):
            codes[:, i] = quantizer.search(quantizer.in_proj(latent))
            latent = latent - quantizer.decode(codes[:, i])
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Latent ``[B, D, L]`` of codes ``[B, n, L]``, n from 0 to K."""
        shape = codes.shape[0], self.latent_dim, codes.shape[2]
        latent = torch.zeros(shape, dtype=torch.float32, device=codes.device)
        for quantizer, layer in zip(self.quantizers, codes.unbind(1)):
            latent = latent + quantizer.decode(layer)
        return latent

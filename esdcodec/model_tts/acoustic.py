"""The non-autoregressive network: acoustic codes of semantic ones, codebook by codebook, in a prompt's voice."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class KeysValues(NamedTuple):
    """What an attention has read."""

    keys: Tensor  # [B, H, S, C]
    values: Tensor  # [B, H, S, C]


class CodebookNorm(nn.Module):
    """RMS norm with a scale and a shift for each codebook that may be predicted."""

    def __init__(self, dim: int, n_codebooks: int) -> None:
        super().__init__()
        self.modulation = nn.Embedding(n_codebooks, 2 * dim)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, x: Tensor, codebook: Tensor) -> Tensor:
        """`x` ``[B, S, D]``, on the way to the `codebook` ``[B]``."""
        scale, shift = self.modulation(codebook)[:, None].chunk(2, dim=-1)
        return F.rms_norm(x, x.shape[-1:]) * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention with rotary positions (Su et al. 2021, arXiv:2104.09864)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        """`x` ``[B, S, D]`` at `positions` ``[S]``, after the `past`; and all that has been read then."""
        query, key, value = rearrange(self.project(x), "b s (n h c) -> n b h s c", n=3, h=self.heads)
        query, key = rotated(query, positions), rotated(key, positions)
        if past is not None:
            key, value = torch.cat([past.keys, key], dim=2), torch.cat([past.values, value], dim=2)
        attended = F.scaled_dot_product_attention(query, key, value, mask)
        return self.out(rearrange(attended, "b h s c -> b s (h c)")), KeysValues(key, value)


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """Pairs of the channels of `x` ``[..., S, C]``, turned by angles that grow with the position."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = positions.to(x.device)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


class AcousticBlock(nn.Module):
    """Attention and a gated MLP."""

    def __init__(self, dim: int, hidden: int, heads: int, n_codebooks: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(CodebookNorm(dim, n_codebooks) for _ in range(2))
        self.attention = Attention(dim, heads)
        self.gate_and_value = nn.Linear(dim, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, dim, bias=False)

    def forward(
        self, x: Tensor, codebook: Tensor, positions: Tensor, mask: Tensor | None, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        attended, read = self.attention(self.norms[0](x, codebook), positions, mask, past)
        x = x + attended
        gate, value = self.gate_and_value(self.norms[1](x, codebook)).chunk(2, dim=-1)
        return x + self.out(F.silu(gate) * value), read


class AcousticModel(nn.Module):
    """Predicts the codes of one acoustic codebook from those of all lower ones, for any of them.

    It sees the frame's own chunk and all before it, so that speech can be made chunk by chunk, and a prompt: codes of
    all codebooks from another utterance of the speaker.

    Codes are ``[B, K, L]``; -1 fills up: codes at the end, prompts at the beginning.

    Args:
        codebook_sizes: of the codec, the semantic one first; the acoustic ones are equally large.
        dim, hidden, blocks, heads: width, width of the MLPs, depth, attention heads.
        chunk_frames: frames that see each other.
    """

    checkpointed = False  # compute activations again in the backward pass instead of keeping them

    def __init__(
        self,
        *,
        codebook_sizes: Sequence[int],
        dim: int = 512,
        hidden: int = 1408,
        blocks: int = 8,
        heads: int = 8,
        chunk_frames: int = 10,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "codebook_sizes": list(codebook_sizes), "dim": dim, "hidden": hidden, "blocks": blocks, "heads": heads,
            "chunk_frames": chunk_frames,
        }  # fmt: skip
        if len(codebook_sizes) < 2 or len(set(codebook_sizes[1:])) > 1:
            raise ValueError(f"codebook_sizes={list(codebook_sizes)} must be a semantic one and equal acoustic ones")
        if dim % (2 * heads):
            raise ValueError(f"dim={dim} must be a multiple of 2 · heads={2 * heads}")
        self.codebook_sizes, self.chunk_frames = tuple(codebook_sizes), chunk_frames
        n_codebooks = len(codebook_sizes)
        self.embeddings = nn.ModuleList(nn.Embedding(size, dim) for size in codebook_sizes)
        self.of_prompt = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(AcousticBlock(dim, hidden, heads, n_codebooks) for _ in range(blocks))
        self.norm = CodebookNorm(dim, n_codebooks)
        self.codebook_heads = nn.Parameter(torch.randn(n_codebooks - 1, codebook_sizes[1], dim) * dim**-0.5)

    @property
    def n_codebooks(self) -> int:
        return len(self.codebook_sizes)

    def check_n_quantizers(self, n: int | None) -> int:
        """A number of codebooks; None: all.

        Raises:
            ValueError: the model has not so many.
        """
        if n is not None and not 1 <= n <= self.n_codebooks:
            raise ValueError(f"n_quantizers={n} but this model has 1 to {self.n_codebooks}")
        return n or self.n_codebooks

    def forward(self, codes: Tensor, codebook: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Logits ``[B, L, N]`` of the codes of a codebook.

        Args:
            codes: ``[B, k, L]``, of at least all codebooks below.
            codebook: which one to predict, ``[B]``, 1 to K - 1.
            prompt: ``[B, K, P]``; all -1: none.
        """
        n_frames = codes.shape[-1]
        x = self.embed(codes, codebook)
        present = codes[:, 0] >= 0
        chunks = torch.arange(n_frames, device=codes.device) // self.chunk_frames
        positions = torch.arange(n_frames, device=codes.device)
        if prompt is not None:  # also where it is empty: all weights then have gradients, on every process
            n = prompt.shape[-1]
            x = torch.cat([self.embed_prompt(prompt), x], dim=1)
            present = torch.cat([prompt[:, 0] >= 0, present], dim=1)
            chunks = torch.cat([chunks.new_full((n,), -1), chunks])
            positions = torch.arange(-n, n_frames, device=codes.device)
        seen = (chunks[None, :] <= chunks[:, None]) & present[:, None, :]
        seen = seen | torch.eye(len(chunks), dtype=torch.bool, device=codes.device)  # what fills up sees itself
        x, _ = self.run(x, codebook, positions, seen[:, None])
        return self.rate(x[:, -n_frames:], codebook)

    def loss(self, codes: Tensor, codebook: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of the codes of a codebook; arguments as `forward` takes them."""
        targets = codes[torch.arange(len(codes), device=codes.device), codebook]
        return F.cross_entropy(self(codes, codebook, prompt).transpose(1, 2).float(), targets, ignore_index=-1)

    # ---- its steps --------------------------------------------------------------------------------------------------

    def embed(self, codes: Tensor, codebook: Tensor) -> Tensor:
        """Frames ``[B, L, D]``: sums over the codebooks below."""
        frames = self.embeddings[0](codes[:, 0].clamp(min=0))
        for k in range(1, min(codes.shape[1], self.n_codebooks - 1)):
            below = (k < codebook).to(frames.dtype)[:, None, None]
            frames = frames + self.embeddings[k](codes[:, k].clamp(min=0)) * below
        return frames

    def embed_prompt(self, prompt: Tensor) -> Tensor:
        """Frames ``[B, P, D]`` of a prompt: sums over its codebooks."""
        embedded = [table(row.clamp(min=0)) for table, row in zip(self.embeddings, prompt.unbind(1))]
        return torch.stack(embedded).sum(0) + self.of_prompt

    def run(
        self,
        x: Tensor,
        codebook: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        past: Sequence[KeysValues | None] | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """All blocks, after what each has read in the `past`; and all that each has read then."""
        read = []
        for block, before in zip(self.blocks, past or [None] * len(self.blocks)):
            if self.checkpointed and torch.is_grad_enabled():
                x, now = checkpoint(block, x, codebook, positions, mask, before, use_reentrant=False)
            else:
                x, now = block(x, codebook, positions, mask, before)
            read.append(now)
        return x, read

    def rate(self, x: Tensor, codebook: Tensor) -> Tensor:
        """Logits ``[B, L, N]`` of frames ``[B, L, D]``."""
        return torch.einsum("bld,bnd->bln", self.norm(x, codebook), self.codebook_heads[codebook - 1])

"""How the codes of an utterance become the tokens of a language model, and back: pure functions with exact inverses.

Codes are ``[..., K, L]`` integers, K codebooks of L frames; any number of leading axes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def flatten(codes: Tensor) -> Tensor:
    """Frame after frame: ``[..., K, L] -> [..., L · K]``, in a frame codebook after codebook."""
    return rearrange(codes, "... k l -> ... (l k)")


def unflatten(tokens: Tensor, n_codebooks: int) -> Tensor:
    """The inverse of `flatten`: ``[..., L · K] -> [..., K, L]``.

    Raises:
        ValueError: the tokens are no whole number of frames.
    """
    _check_whole(tokens.shape[-1], n_codebooks)
    return rearrange(tokens, "... (l k) -> ... k l", k=n_codebooks)


def semantic_first(codes: Tensor) -> Tensor:
    """All semantic codes, then the acoustic ones frame after frame: ``[..., K, L] -> [..., K · L]``."""
    return torch.cat([codes[..., 0, :], flatten(codes[..., 1:, :])], dim=-1)


def from_semantic_first(tokens: Tensor, n_codebooks: int) -> Tensor:
    """The inverse of `semantic_first`: ``[..., K · L] -> [..., K, L]``.

    Raises:
        ValueError: the tokens are no whole number of frames.
    """
    _check_whole(tokens.shape[-1], n_codebooks)
    n_frames = tokens.shape[-1] // n_codebooks
    semantic, acoustic = tokens[..., :n_frames], tokens[..., n_frames:]
    if n_codebooks == 1:
        return semantic.unsqueeze(-2)
    return torch.cat([semantic.unsqueeze(-2), unflatten(acoustic, n_codebooks - 1)], dim=-2)


def delay(codes: Tensor, fill: int, delays: Sequence[int] | None = None) -> Tensor:
    """Codebook k shifted to the right by `delays[k]` frames: ``[..., K, L] -> [..., K, L + max(delays)]``.

    So a model that predicts all codebooks of a step at once sees the lower codebooks of a frame before the higher ones
    (Copet et al. 2023, arXiv:2306.05284).

    Args:
        fill: what stands where no code is; take one that is no code, such as -1 or a special token.
        delays: frames for each codebook. Default: 0, 1, 2, …
    """
    shifts = _check_delays(delays, codes.shape[-2])
    longest = max(shifts)
    return torch.stack(
        [F.pad(row, (shift, longest - shift), value=fill) for row, shift in zip(codes.unbind(-2), shifts)], dim=-2
    )


def undelay(tokens: Tensor, delays: Sequence[int] | None = None) -> Tensor:
    """The inverse of `delay`: ``[..., K, L + max(delays)] -> [..., K, L]``.

    Raises:
        ValueError: there are fewer steps than the longest delay.
    """
    shifts = _check_delays(delays, tokens.shape[-2])
    n_frames = tokens.shape[-1] - max(shifts)
    if n_frames < 0:
        raise ValueError(f"{tokens.shape[-1]} steps are fewer than the longest delay, {max(shifts)} frames")
    return torch.stack([row[..., s : s + n_frames] for row, s in zip(tokens.unbind(-2), shifts)], dim=-2)


@dataclass(frozen=True)
class Vocabulary:
    """One vocabulary for text, special tokens and the codes of all codebooks, in this order.

    Args:
        codebook_sizes: entries of each codebook in use, as `ESDCodec.codebook_sizes[:n]`.
        n_text: tokens of the text tokenizer, which keep their numbers.
        special: names of further tokens, such as ``("start", "end", "padding")``.
    """

    codebook_sizes: Sequence[int]
    n_text: int = 0
    special: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if not self.codebook_sizes or min(self.codebook_sizes) < 1 or self.n_text < 0:
            raise ValueError(f"codebook_sizes={self.codebook_sizes} and n_text={self.n_text} make no vocabulary")
        if len(set(self.special)) != len(self.special):
            raise ValueError(f"special tokens {list(self.special)} must have different names")

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.n_text + len(self.special) + sum(self.codebook_sizes)

    @cached_property
    def special_ids(self) -> Mapping[str, int]:
        """Token of each special name."""
        return {name: self.n_text + i for i, name in enumerate(self.special)}

    @cached_property
    def offsets(self) -> Tensor:
        """First token of each codebook ``[K]``."""
        first = self.n_text + len(self.special)
        return torch.tensor(list(accumulate(self.codebook_sizes, initial=first))[:-1])

    def tokens(self, codes: Tensor) -> Tensor:
        """Tokens ``[..., K, L]`` of codes ``[..., K, L]``, of the first codebooks.

        Raises:
            ValueError: a code is not of its codebook, such as the -1 of padding.
        """
        offsets, sizes = self._columns(codes)
        if codes.numel() and bool(((codes < 0) | (codes >= sizes)).any()):
            raise ValueError("a code is outside of its codebook: cut off padding (-1) before")
        return codes.long() + offsets

    def codes(self, tokens: Tensor) -> Tensor:
        """The inverse of `tokens`; what is no code of its codebook, such as text or a special token, becomes -1."""
        offsets, sizes = self._columns(tokens)
        codes = tokens.long() - offsets
        return codes.masked_fill((codes < 0) | (codes >= sizes), -1)

    def _columns(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Offset and size of each codebook ``[K, 1]``, as many as `codes` ``[..., K, L]`` has."""
        n = codes.shape[-2]
        if n > len(self.codebook_sizes):
            raise ValueError(f"codes of {n} codebooks, but this vocabulary has {len(self.codebook_sizes)}")
        sizes = torch.tensor(self.codebook_sizes[:n], device=codes.device)
        return self.offsets[:n, None].to(codes.device), sizes[:, None]


def _check_whole(n_tokens: int, n_codebooks: int) -> None:
    if n_codebooks < 1 or n_tokens % n_codebooks:
        raise ValueError(f"{n_tokens} tokens are no whole frames of {n_codebooks} codebooks")


def _check_delays(delays: Sequence[int] | None, n_codebooks: int) -> Sequence[int]:
    shifts = range(n_codebooks) if delays is None else delays
    if len(shifts) != n_codebooks or min(shifts) < 0:
        raise ValueError(f"delays={list(shifts)} must be {n_codebooks} numbers of frames, one for each codebook")
    return shifts

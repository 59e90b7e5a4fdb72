"""How much of each codebook is in use."""

from collections.abc import Sequence

import torch
from torch import Tensor


class CodebookUsage:
    """Counts codes; from the counts: share of entries used, perplexity, entropy.

    Args:
        sizes: entries of each codebook.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.sizes = list(sizes)
        starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        self.starts = torch.tensor(starts, device=device)[:, None]
        self.counts = torch.zeros(sum(self.sizes), dtype=torch.int64, device=device)

    def add(self, codes: Tensor) -> None:
        """Count codes ``[B, K, L]`` of all codebooks."""
        indices = (codes.to(self.counts.device) + self.starts).flatten()
        self.counts.scatter_add_(0, indices, torch.ones_like(indices))

    def clear(self) -> None:
        self.counts.zero_()

    @property
    def frames(self) -> int:
        """Frames counted."""
        return int(self.counts.sum()) // len(self.sizes)

    def used(self) -> list[float]:
        """Share of the entries of each codebook that occurred."""
        return [(counts > 0).double().mean().item() for counts in self._each()]

    def entropy(self) -> list[float]:
        """Of each codebook's distribution, in bits."""
        bits = []
        for counts in self._each():
            p = counts[counts > 0].double() / max(1, self.frames)
            bits.append(-(p * p.log2()).sum().item())
        return bits

    def perplexity(self) -> list[float]:
        """2 to the entropy: how many equally likely entries would say as much."""
        return [2**bits for bits in self.entropy()]

    def _each(self) -> tuple[Tensor, ...]:
        return self.counts.cpu().split(self.sizes)

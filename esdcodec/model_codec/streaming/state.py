"""What is kept of a stream.

It lies here and not in the layers: one form serves any number of streams. The states of streams that are at the same
point can be joined, pushed as a batch, and split again. Tensors are never written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class Kept(NamedTuple):
    """Positions of a signal that are needed again."""

    values: Tensor  # [B, n, C], n >= 1
    start: int  # position of the first


@dataclass
class State:
    """Signals and positions, by the keys of the layers. Positions count from the first frame that is not given yet."""

    kept: dict[int, Kept] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)

    @property
    def point(self) -> tuple[object, ...]:
        """Where the stream is: states can be joined where it is the same."""
        kept = ((key, each.start, each.values.shape[1:]) for key, each in sorted(self.kept.items()))
        return tuple(kept), tuple(sorted(self.positions.items()))

    @staticmethod
    def join(states: Sequence[State]) -> State:
        """The state of a batch of streams."""
        first = states[0]
        kept = {k: Kept(torch.cat([s.kept[k].values for s in states]), each.start) for k, each in first.kept.items()}
        return State(kept, dict(first.positions))

    def split(self, sizes: Sequence[int]) -> list[State]:
        """The states of the streams of a batch, of `sizes` items each."""
        parts = {key: each.values.split(list(sizes)) for key, each in self.kept.items()}
        return [
            # copies: a view would keep what the others have
            State({k: Kept(parts[k][i].clone(), each.start) for k, each in self.kept.items()}, dict(self.positions))
            for i in range(len(sizes))
        ]

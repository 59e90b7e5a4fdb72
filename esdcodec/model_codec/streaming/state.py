"""What is kept of a stream.

It lies in a `State`, not in the layers: one form, made once from the inference form, serves any number of streams. Its
tensors are never written to, so a copy of the dictionary is a copy of the stream. The states of streams that are at
the same point can be joined, pushed as a batch, and split again.

Pieces are ``[B, n, C]`` here: channels last, as a CPU's convolutions want them. None stands for no positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Piece = Tensor | None  # [B, n, C], n >= 1


class Kept(NamedTuple):
    """What one layer keeps."""

    values: Tensor  # [B, n, C]
    begun: bool  # whether it has given outputs


class State(dict[int, Kept]):
    """What the layers keep of one stream's past, by their keys."""

    def fork(self) -> State:
        """Another stream with the same past."""
        return State(self)

    @property
    def point(self) -> tuple[object, ...]:
        """Where the stream is: states can be joined where it is the same (and so is whether they are empty)."""
        return tuple((key, kept.values.shape[1:], kept.begun) for key, kept in sorted(self.items()))

    @staticmethod
    def join(states: Sequence[State]) -> State:
        """The state of a batch of streams."""
        first = states[0]
        return State({k: Kept(torch.cat([s[k].values for s in states]), first[k].begun) for k in first})

    def split(self, sizes: Sequence[int]) -> list[State]:
        """The states of the streams of a batch, of `sizes` items each."""
        parts = {key: kept.values.split(list(sizes)) for key, kept in self.items()}
        return [State({k: Kept(parts[k][i].clone(), self[k].begun) for k in self}) for i in range(len(sizes))]


def joined(*pieces: Piece) -> Piece:
    """Pieces one after another."""
    there = [piece for piece in pieces if piece is not None and piece.shape[1]]
    return torch.cat(there, dim=1) if len(there) > 1 else there[0] if there else None


def flat(frames: Piece) -> Piece:
    """``[B, L, n] -> [B, n · L, 1]``."""
    return None if frames is None else frames.flatten(1)[..., None]

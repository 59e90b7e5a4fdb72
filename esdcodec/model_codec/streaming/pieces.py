"""Pieces of a signal, and which of their positions a call asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .state import Kept, State


class Need(NamedTuple):
    """Positions that are needed around those of the frames that are asked for."""

    left: int
    right: int

    def union(self, other: Need) -> Need:
        return Need(max(self.left, other.left), max(self.right, other.right))


class Span(NamedTuple):
    """Frames of a call, counted from the first that is not given yet."""

    begin: int  # where the signal begins, 0 or less; beyond all that is needed it need not be exact
    until: int  # the frames up to here are asked for; with 0 or less none are
    end: int  # the frames up to here are known

    @property
    def given(self) -> int:
        """Frames that this call gives."""
        return max(self.until, 0)


class Piece(NamedTuple):
    """Positions `start` to `end` of a signal. Those before `final` do not change any more.

    Values are ``[B, n, C]``: channels last, as a CPU's convolutions want them.
    """

    values: Tensor | None  # None: there are none
    start: int
    end: int
    final: int

    def map(self, function: Callable[[Tensor], Tensor]) -> Piece:
        """What becomes of it position by position."""
        return self if self.values is None else Piece(function(self.values), self.start, self.end, self.final)

    def between(self, start: int, end: int) -> Tensor:
        """The values of these positions, which must be there."""
        assert self.values is not None
        assert self.start <= start <= end <= self.end
        return self.values[:, start - self.start : end - self.start]


class Past:
    """What one layer keeps of one of its inputs."""

    def __init__(self, key: int) -> None:
        self.key = key

    def before(self, x: Piece, state: State) -> Piece:
        """`x` with what was kept in front of it."""
        kept = state.kept.get(self.key)
        if kept is None:
            return x
        end = kept.start + kept.values.shape[1]
        if x.values is None:
            return Piece(kept.values, kept.start, end, end)
        if end < x.start:  # what lies between is not needed, and neither is what was kept
            return x
        return Piece(torch.cat([kept.values, x.values], dim=1), kept.start, x.end, x.final)

    def keep(self, x: Piece, start: int, state: State, shift: int) -> None:
        """Keep what is final from `start` on. Positions count from `shift` afterwards."""
        start = max(start, x.start)
        if x.values is None or x.final <= start:
            state.kept.pop(self.key, None)
        else:  # a copy: a view would keep all that has gone through
            state.kept[self.key] = Kept(x.between(start, x.final).clone(), start - shift)


class Schedule:
    """Which outputs of a layer are computed, call by call."""

    def __init__(self, key: int) -> None:
        self.key, self.per_frame = key, 1
        self.need = Need(0, 0)

    def advance(self, final: int, state: State, span: Span) -> tuple[int, int, int, int]:
        """The outputs of this call, of which those before `final` could be final.

        Returns:
            Their first position and their end, the end of the final ones among them, and the first position that a
            later call can ask for.
        """
        n, (left, right) = self.per_frame, self.need
        start = max(state.positions.get(self.key, span.begin * n), -left)
        end = min(span.end * n, span.until * n + right)
        if span.until <= 0:  # nothing is asked for: what is not final would be of no use
            end = min(end, final)
        end = max(start, end)
        final = min(max(final, start), end)
        shift = span.given * n
        state.positions[self.key] = final - shift
        return start, end, final, max(final, shift - left)

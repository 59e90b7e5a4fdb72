"""How a layer works on a signal that comes in pieces, whatever it computes.

A network is asked for frames: those from the first that is not given yet up to some frame. Which positions of which
layer these need is known beforehand, by a walk back from the frames through the layers (`require`). A layer computes
what is needed and no more.

A value is *final* when all is known that it depends on. Each is computed once, as layers keep those of their input that
they need again. Where frames are asked for before they are final, the signal is taken to end with what is known: what
these frames need beyond the final values is computed for them, provisionally, and forgotten. The true end is no other
case: all frames are asked for. Padding, of zeros or by reflection, and the normalisation of the inverse STFT belong to
the ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor

from .pieces import Need, Past, Piece, Schedule, Span
from .state import State


class Layer:
    """A layer on pieces. `bind` and `require` are called once, when it becomes part of a network."""

    def bind(self, per_frame: int) -> int:
        """Take note of the positions of the input that make a frame; those of the output are returned."""
        return per_frame

    def require(self, need: Need) -> Need:
        """Take note of what is needed of the output; what that needs of the input is returned."""
        return need

    def __call__(self, x: Piece, state: State, span: Span) -> Piece:
        """The outputs that are needed and not computed yet."""
        raise NotImplementedError


class Pointwise(Layer):
    """A layer that looks at one position at a time."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, x: Piece, state: State, span: Span) -> Piece:
        return x.map(self.function)


class Chain(Layer):
    """Layers in a row."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def bind(self, per_frame: int) -> int:
        for layer in self.layers:
            per_frame = layer.bind(per_frame)
        return per_frame

    def require(self, need: Need) -> Need:
        for layer in reversed(self.layers):
            need = layer.require(need)
        return need

    def __call__(self, x: Piece, state: State, span: Span) -> Piece:
        for layer in self.layers:
            x = layer(x, state, span)
        return x


class Window(Layer):
    """A layer that looks at `width` positions for each output and moves on by `stride`: a convolution and its kin.

    Args:
        function: ``[B, (n - 1) · stride + width, C] -> [B, n · per_window, C']``, without padding of its own. It is
            told whether the first window is the first of the signal, and the last its last.
        padding: zeros at either end of the signal.
    """

    def __init__(
        self,
        keys: count[int],
        function: Callable[[Tensor, bool, bool], Tensor],
        *,
        width: int,
        stride: int = 1,
        padding: int = 0,
        per_window: int = 1,
    ) -> None:
        self.past, self.windows = Past(next(keys)), Schedule(next(keys))
        self.function, self.width, self.stride, self.padding = function, width, stride, padding
        self.per_window = per_window

    def bind(self, per_frame: int) -> int:
        self.windows.per_frame, rest = divmod(per_frame, self.stride)
        assert not rest
        return self.windows.per_frame * self.per_window

    def require(self, need: Need) -> Need:
        left, right = (-(-each // self.per_window) for each in need)
        self.windows.need = Need(left, right)
        return Need(left * self.stride + self.padding, (right - 1) * self.stride - self.padding + self.width)

    def __call__(self, x: Piece, state: State, span: Span) -> Piece:
        x = self.past.before(x, state)
        final = (x.final + self.padding - self.width) // self.stride + 1
        start, end, final, later = self.windows.advance(final, state, span)
        y = self._compute(x, start, end, span) if end > start else None
        shift = span.given * self.windows.per_frame * self.stride
        self.past.keep(x, later * self.stride - self.padding, state, shift)
        return Piece(y, start * self.per_window, end * self.per_window, final * self.per_window)

    def _compute(self, x: Piece, start: int, end: int, span: Span) -> Tensor:
        """The outputs of the windows `start` to `end`."""
        n = self.windows.per_frame
        first, last = start * self.stride - self.padding, (end - 1) * self.stride - self.padding + self.width
        before, after = max(0, span.begin * n * self.stride - first), max(0, last - span.end * n * self.stride)
        inputs = x.between(first + before, last - after)
        if before or after:
            inputs = F.pad(inputs, (0, 0, before, after))
        return self.function(inputs, start == span.begin * n, end == span.end * n)


class Together:
    """Signals of the same rate, merged position by position: one that is ahead of the others waits for them."""

    def __init__(self, keys: count[int], n_signals: int, merge: Callable[..., Tensor]) -> None:
        self.pasts, self.schedule = [Past(next(keys)) for _ in range(n_signals)], Schedule(next(keys))
        self.merge = merge

    def bind(self, per_frame: int) -> int:
        self.schedule.per_frame = per_frame
        return per_frame

    def require(self, need: Need) -> Need:
        self.schedule.need = need
        return need

    def __call__(self, pieces: Sequence[Piece], state: State, span: Span) -> Piece:
        pieces = [past.before(piece, state) for past, piece in zip(self.pasts, pieces)]
        final = min(piece.final for piece in pieces)
        start, end, final, later = self.schedule.advance(final, state, span)
        merged = self.merge(*(piece.between(start, end) for piece in pieces)) if end > start else None
        for past, piece in zip(self.pasts, pieces):
            past.keep(piece, later, state, span.given * self.schedule.per_frame)
        return Piece(merged, start, end, final)


class Residual(Layer):
    """The input plus what `body` makes of it."""

    def __init__(self, keys: count[int], body: Layer) -> None:
        self.body, self.together = body, Together(keys, 2, torch.add)

    def bind(self, per_frame: int) -> int:
        return self.together.bind(self.body.bind(per_frame))

    def require(self, need: Need) -> Need:
        return self.together.require(need).union(self.body.require(need))

    def __call__(self, x: Piece, state: State, span: Span) -> Piece:
        return self.together((x, self.body(x, state, span)), state, span)

"""How a layer works on pieces, whatever it computes.

Every layer gives the outputs whose inputs are all there, and keeps the inputs that later outputs need as well. It thus
runs behind its input by its right context, and nothing is computed twice. Padding, of zeros or by reflection, and the
normalisation of the inverse STFT belong to the true ends: the first piece finds the padding of the left, the last one
brings that of the right, and everything comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from torch import Tensor

from .state import Kept, Piece, State, joined


class Layer:
    """One step of a network, piece by piece."""

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        """The outputs that are known after the next piece; with `last`, nothing follows and all are."""
        raise NotImplementedError

    def known(self, n: int) -> int:
        """Outputs that are known after `n` inputs of a stream that goes on."""
        raise NotImplementedError


class Pointwise(Layer):
    """A step that looks at one position at a time."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        self.step = step

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        return None if x is None else self.step(x)

    def known(self, n: int) -> int:
        return n


class Window(Layer):
    """A step that looks at `width` positions for each output and moves on by `stride`: a convolution and its kin.

    Args:
        step: ``[B, (n - 1) · stride + width, C] -> [B, n · per_window, C']``, without padding of its own. It is told
            whether the window lies at the true start and at the true end.
        padding: zeros at either end of the whole.
    """

    def __init__(
        self,
        key: int,
        step: Callable[[Tensor, bool, bool], Tensor],
        *,
        width: int,
        stride: int = 1,
        padding: int = 0,
        per_window: int = 1,
    ) -> None:
        self.key, self.step = key, step
        self.width, self.stride, self.padding, self.per_window = width, stride, padding, per_window

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        kept = state.get(self.key)
        before = None if kept is None else kept.values
        some = x if x is not None else before
        if some is None:
            return None
        padding = some.new_zeros(some.shape[0], self.padding, some.shape[2])
        x = joined(padding if kept is None else before, x, padding if last else None)
        assert x is not None
        n = max(0, (x.shape[1] - self.width) // self.stride + 1)
        begun = kept is not None and kept.begun
        state[self.key] = Kept(x[:, n * self.stride :].clone() if n else x, begun or n > 0)
        return self.step(x[:, : (n - 1) * self.stride + self.width], not begun, last) if n else None

    def known(self, n: int) -> int:
        return max(0, (n + self.padding - self.width) // self.stride + 1) * self.per_window


class Chain(Layer):
    """Layers in a row."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        for layer in self.layers:
            x = layer(x, state, last)
        return x

    def known(self, n: int) -> int:
        for layer in self.layers:
            n = layer.known(n)
        return n


class Together:
    """Streams of the same rate side by side: what one is ahead of the others waits for them."""

    def __init__(self, keys: Sequence[int]) -> None:
        self.keys = keys

    def __call__(self, *pieces: Piece, state: State) -> tuple[Tensor, ...] | None:
        waiting = [joined(state[key].values if key in state else None, piece) for key, piece in zip(self.keys, pieces)]
        n = min(0 if each is None else each.shape[1] for each in waiting)
        for key, each in zip(self.keys, waiting):
            if each is not None:
                state[key] = Kept(each[:, n:].clone() if n else each, False)
        return tuple(each[:, :n] for each in waiting if each is not None) if n else None


class Residual(Layer):
    """The input plus what `body` makes of it."""

    def __init__(self, keys: count[int], body: Layer) -> None:
        self.body, self.together = body, Together([next(keys), next(keys)])

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        both = self.together(x, self.body(x, state, last), state=state)
        return None if both is None else both[0] + both[1]

    def known(self, n: int) -> int:
        return self.body.known(n)

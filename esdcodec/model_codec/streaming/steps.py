"""How a part of the network gives frames: those that are final, or each some frames after its end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

from .decoder import GuidedDecoder
from .layers import Layer
from .pieces import Need, Piece, Span
from .state import Kept, State

Frames = Tensor | None  # [B, L · per_frame, C]; None: there are none


class StreamingStep:
    """A part of the network that gives each frame `look_ahead` frames after its end, and does not change it any more.

    With less look-ahead than a frame depends on it is given as if the signal ended there. The frames of a piece are
    then gone through one by one, so that the values do not depend on how the pieces are cut.

    Args:
        look_ahead: in frames. Default: all that a frame depends on.
        per_frame: positions of each input that make a frame.
    """

    def __init__(
        self,
        keys: count[int],
        part: Layer | GuidedDecoder,
        look_ahead: int | None = None,
        per_frame: Sequence[int] = (1,),
    ) -> None:
        self.part, self.per_frame_in = part, per_frame
        self.per_frame = part.bind(*per_frame)
        need = part.require(Need(0, 0))
        needs = [need] if isinstance(need, Need) else need
        self.exact = max(-(-right // n) for (_, right), n in zip(needs, per_frame))
        self.context = max(-(-left // n) for (left, _), n in zip(needs, per_frame)) + 1
        self.look_ahead = self.exact if look_ahead is None else min(look_ahead, self.exact)
        self.waiting = [next(keys) for _ in per_frame]
        self.begin, self.known = next(keys), next(keys)

    def __call__(self, *signals: Frames, state: State, last: bool) -> Frames:
        """The frames that can be given after more frames of each input; with `last`, nothing follows and all are."""
        even = self._even(signals, state) if len(signals) > 1 else signals
        if self.look_ahead == self.exact:
            return self._advance(even, state, last)
        frames = [signal.split(n, dim=1) for signal, n in zip(even, self.per_frame_in) if signal is not None]
        given = [self._advance(each, state, last=False) for each in zip(*frames)]
        if last:
            given.append(self._advance([None] * len(signals), state, last=True))
        return joined(*given)

    def _advance(self, signals: Sequence[Frames], state: State, last: bool) -> Frames:
        begin, known = state.positions.get(self.begin, 0), state.positions.get(self.known, 0)
        end = known if signals[0] is None else known + signals[0].shape[1] // self.per_frame_in[0]
        span = Span(begin, end if last else end - self.look_ahead, end)
        pieces = [Piece(x, known * n, end * n, end * n) for x, n in zip(signals, self.per_frame_in)]
        output = self.part(*pieces, state, span)  # type: ignore[call-arg,arg-type]
        state.positions[self.begin] = max(begin - span.given, -self.context)
        state.positions[self.known] = end - span.given
        return output.between(0, span.given * self.per_frame) if span.given else None

    def _even(self, signals: Sequence[Frames], state: State) -> list[Frames]:
        """As many frames of all signals: one that is ahead of the others waits for them."""
        kept = [state.kept.pop(key, None) for key in self.waiting]
        there = [joined(each and each.values, signal) for each, signal in zip(kept, signals)]
        frames = min(0 if x is None else x.shape[1] // n for x, n in zip(there, self.per_frame_in))
        even: list[Frames] = []
        for key, x, n in zip(self.waiting, there, self.per_frame_in):
            even.append(x[:, : frames * n] if x is not None and frames else None)
            if x is not None and x.shape[1] > frames * n:
                state.kept[key] = Kept(x[:, frames * n :].clone(), 0)
        return even


def joined(*parts: Frames) -> Frames:
    """One after another."""
    there = [part for part in parts if part is not None]
    return torch.cat(there, dim=1) if len(there) > 1 else there[0] if there else None

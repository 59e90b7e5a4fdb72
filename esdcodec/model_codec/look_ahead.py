"""Frames that are given before all is known that they depend on.

A step with a look-ahead of n frames gives a frame when n more are known, as if the signal ended there. That is what its
exact form gives for a copy of its state that is told that nothing follows: the past is kept, and only the provisional
tail is computed for every frame again. What a step has given stays, and the steps after it build on it. The values do
not depend on the sizes of the pieces.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from torch import Tensor

from .streaming import Kept, Piece, State, StreamingNetwork, Together, flat, joined

_FIRST_KEY = 1_000_000  # beyond those of a streaming network
# as measured with the bundled model on real speech; that of the encoder is a first choice
ENCODER_WEIGHTS = (2, 1)  # encoder, semantic decoder
DECODER_WEIGHTS = (3, 4, 2)  # semantic decoder, condition network, decoder


class Early:
    """A step that gives every frame `look_ahead` frames after its end.

    Args:
        step: called with a piece for each input, the state and whether it is the last.
        per_frame: positions of the output that make a frame.
    """

    def __init__(self, keys: "count[int]", step: Callable[..., Piece], look_ahead: int, per_frame: int = 1) -> None:
        self.waiting, self.known = next(keys), next(keys)
        self.step, self.look_ahead, self.per_frame = step, look_ahead, per_frame

    def __call__(self, *inputs: Piece, state: State, last: bool) -> Piece:
        """Frames ``[B, L · per_frame, C]`` of which enough is known, after more frames ``[B, L, C]`` of each input."""
        given: list[Piece] = []
        for frame in zip(*(piece.split(1, dim=1) for piece in inputs if piece is not None)):
            given.append(self._frame(frame, state))
        if last:
            n_waiting = state[self.waiting].values.shape[1] * self.per_frame
            rest = joined(self._known(state), self.step(*[None] * len(inputs), state, True))
            given.append(rest[:, rest.shape[1] - n_waiting :] if rest is not None else None)
        return joined(*given)

    def _frame(self, frame: Sequence[Tensor], state: State) -> Piece:
        """What can be given when one more frame is known."""
        mark = frame[0].new_empty(frame[0].shape[0], 1, 0)
        before = state[self.waiting].values if self.waiting in state else None
        waiting = mark if before is None else mark.new_empty(mark.shape[0], before.shape[1] + 1, 0)
        known = joined(self._known(state), self.step(*frame, state, False))
        given = None
        if waiting.shape[1] > self.look_ahead:
            tail = self.step(*[None] * len(frame), state.fork(), True)
            everything = joined(known, tail)
            assert everything is not None
            later = self.look_ahead * self.per_frame
            end = everything.shape[1] - later
            given = everything[:, end - self.per_frame : end]
            n_tail = 0 if tail is None else tail.shape[1]
            known = None if known is None else known[:, known.shape[1] - max(0, later - n_tail) :].clone()
            waiting = waiting[:, 1:]
        state[self.waiting] = Kept(waiting, False)
        if known is not None:
            state[self.known] = Kept(known, False)
        return given

    def _known(self, state: State) -> Piece:
        return state[self.known].values if self.known in state else None


class EarlyEncoder:
    """Encoding whose steps wait for `look_aheads` frames: the encoder, the semantic decoder."""

    def __init__(self, network: StreamingNetwork, n_quantizers: int, look_aheads: Sequence[int]) -> None:
        keys = count(_FIRST_KEY)
        of_encoder, of_semantic_decoder = look_aheads
        quantize = partial(network.quantize, n_quantizers=n_quantizers)
        self.encode_latent = Early(
            keys, lambda frames, state, last: network.encode_latent(flat(frames), state, last), of_encoder
        )
        self.quantize = Early(keys, quantize, of_semantic_decoder if n_quantizers > 1 else 0)

    def __call__(self, frames: Piece, state: State, last: bool) -> Piece:
        """Codes ``[B, L, n_quantizers]`` of audio as frames ``[B, L, hop_length]``."""
        return self.quantize(self.encode_latent(frames, state=state, last=last), state=state, last=last)


class EarlyDecoder:
    """Decoding whose steps wait for `look_aheads` frames: the semantic decoder, the condition network, the decoder."""

    def __init__(self, network: StreamingNetwork, look_aheads: Sequence[int]) -> None:
        keys = count(_FIRST_KEY)
        hop, self.subband_hop = network.network.hop_length, network.network.subband_hop_length
        of_semantic_decoder, of_condition_network, of_decoder = look_aheads
        self.dequantize = Early(keys, network.dequantize, of_semantic_decoder)
        self.condition = Early(keys, network.condition, of_condition_network, self.subband_hop)
        self.together = Together([next(keys), next(keys)])
        self.synthesise = Early(
            keys,
            lambda latent, subband, state, last: network.synthesise(latent, flat(subband), state, last),
            of_decoder,
            hop,
        )

    def __call__(self, codes: Piece, state: State, last: bool) -> Piece:
        """Audio ``[B, hop_length · L, 1]`` of codes ``[B, L, n]``."""
        latent = self.dequantize(codes, state=state, last=last)
        subband = self.condition(latent, state=state, last=last)
        frames = None if subband is None else subband.unflatten(1, (-1, self.subband_hop)).flatten(2)
        both = self.together(latent, frames, state=state)
        return self.synthesise(*(both or (None, None)), state=state, last=last)


def spread(n_frames: int, weights: Sequence[int], most: Sequence[int]) -> tuple[int, ...]:
    """`n_frames` for steps in proportion to `weights`, no step more than its `most` (Sainte-Laguë's way to round)."""
    given = [0] * len(weights)
    for _ in range(min(n_frames, sum(most))):
        open_steps = [i for i in range(len(given)) if given[i] < most[i]]
        given[max(open_steps, key=lambda i: weights[i] / (2 * given[i] + 1))] += 1
    return tuple(given)

"""The decoder for pieces."""

from __future__ import annotations

from itertools import count

import torch

from ..decoder import Decoder, DecoderBlock, SubbandEncoder
from ..inference import InPlaceDecoderBlock
from .forms import check_streamable, streaming
from .layers import Chain, Pointwise, Together
from .pieces import Need, Piece, Span
from .state import State


class GuidedDecoder:
    """`decoder.Decoder` for pieces of the latent and of the subband.

    Raises:
        TypeError: a part is of another type, compiled or has hooks.
    """

    def __init__(self, decoder: Decoder, keys: count[int]) -> None:
        for part in (decoder, decoder.subband_encoder, *decoder.stages):
            check_streamable(part, Decoder, SubbandEncoder, DecoderBlock, InPlaceDecoderBlock)
        self.guides = [streaming(conv, keys) for conv in decoder.subband_encoder.convs]  # fastest first
        blocks = [Chain(streaming(block.snake, keys), streaming(block.upsample, keys)) for block in decoder.stages]
        units = [streaming(block.residual_units, keys) for block in decoder.stages]
        # what lies between the points where a guide is added
        self.parts = [
            Chain(streaming(decoder.conv_in, keys), blocks[0]),
            *(Chain(*each) for each in zip(units, blocks[1:])),
        ]
        self.additions = [Together(keys, 2, torch.add) for _ in self.guides]
        self.out = Chain(
            units[-1],
            streaming(decoder.snake_out, keys),
            streaming(decoder.conv_out, keys),
            Pointwise(lambda x: torch.tanh(x).float()),
        )

    def bind(self, per_frame: int, per_frame_of_subband: int) -> int:
        """As that of a layer, for the latent and the subband."""
        guides: list[int] = []
        for conv in self.guides:
            per_frame_of_subband = conv.bind(per_frame_of_subband)
            guides.insert(0, per_frame_of_subband)
        for part, addition, guide in zip(self.parts, self.additions, guides):
            per_frame = addition.bind(part.bind(per_frame))
            assert per_frame == guide
        return self.out.bind(self.parts[-1].bind(per_frame))

    def require(self, need: Need) -> tuple[Need, Need]:
        """What is needed of the latent, and of the subband."""
        guides: list[Need] = []
        need = self.parts[-1].require(self.out.require(need))
        for part, addition in zip(reversed(self.parts[:-1]), reversed(self.additions)):
            need = addition.require(need)
            guides.append(need)
            need = part.require(need)
        subband = Need(0, 0)
        for conv, guide in zip(reversed(self.guides), reversed(guides)):
            subband = conv.require(subband.union(guide))
        return need, subband

    def __call__(self, latent: Piece, subband: Piece, state: State, span: Span) -> Piece:
        guides: list[Piece] = []
        for conv in self.guides:
            subband = conv(subband, state, span)
            guides.insert(0, subband)
        x = latent
        for part, addition, guide in zip(self.parts, self.additions, guides):
            x = addition((part(x, state, span), guide), state, span)
        return self.out(self.parts[-1](x, state, span), state, span)

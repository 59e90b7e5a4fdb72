"""The decoder for pieces."""

from __future__ import annotations

from itertools import count

import torch

from ..decoder import Decoder, DecoderBlock, SubbandEncoder
from ..inference import InPlaceDecoderBlock
from .forms import check_streamable, streaming
from .layers import Chain, Pointwise, Together
from .state import Piece, State


class StreamingDecoder:
    """`decoder.Decoder` for pieces of the latent and of the subband."""

    def __init__(self, decoder: Decoder, keys: count[int]) -> None:
        for part in (decoder, decoder.subband_encoder, *decoder.stages):
            check_streamable(part, Decoder, SubbandEncoder, DecoderBlock, InPlaceDecoderBlock)
        self.conv_in = streaming(decoder.conv_in, keys)
        self.guides = [streaming(conv, keys) for conv in decoder.subband_encoder.convs]
        self.stages = [
            (
                Chain(streaming(block.snake, keys), streaming(block.upsample, keys)),
                Together([next(keys), next(keys)]),
                streaming(block.residual_units, keys),
            )
            for block in decoder.stages
        ]
        self.out = Chain(streaming(decoder.snake_out, keys), streaming(decoder.conv_out, keys), Pointwise(torch.tanh))

    def __call__(self, latent: Piece, subband: Piece, state: State, last: bool) -> Piece:
        guides: list[Piece] = []
        for conv in self.guides:
            subband = conv(subband, state, last)
            guides.insert(0, subband)
        x = self.conv_in(latent, state, last)
        for i, (upsample, together, units) in enumerate(self.stages):
            x = upsample(x, state, last)
            if i < len(guides):
                both = together(x, guides[i], state=state)
                x = None if both is None else both[0] + both[1]
            x = units(x, state, last)
        return self.out(x, state, last)

    def known(self, n_latent: int, n_subband: int) -> int:
        """Samples that are known after so many positions of the latent and of the subband."""
        guides: list[int] = []
        for conv in self.guides:
            n_subband = conv.known(n_subband)
            guides.insert(0, n_subband)
        n = self.conv_in.known(n_latent)
        for i, (upsample, _, units) in enumerate(self.stages):
            n = upsample.known(n)
            n = units.known(min(n, guides[i]) if i < len(guides) else n)
        return self.out.known(n)

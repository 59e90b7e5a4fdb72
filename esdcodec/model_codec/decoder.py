"""The decoder: latent to audio, guided by the subband signal."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .encoder import DILATIONS
from .layers import Conv1d, ConvTranspose1d, ResidualUnit, Snake


class Decoder(nn.Module):
    """Upsampling decoder of DAC, with the subband signal added after every stage but the last.

    Shape:
        latent ``[B, D, L]``, subband ``[B, 1, L · prod(rates[:-1])]`` -> audio ``[B, 1, L · prod(rates)]`` in [-1, 1].
    """

    def __init__(self, latent_dim: int, dim: int, rates: Sequence[int]) -> None:
        super().__init__()
        channels = [dim // 2**i for i in range(len(rates) + 1)]
        self.conv_in = Conv1d(latent_dim, dim, 7)
        self.stages: Sequence[DecoderBlock] = nn.ModuleList(  # type: ignore[assignment]
            DecoderBlock(c, d, rate) for (c, d), rate in zip(pairwise(channels), rates)
        )
        self.subband_encoder = SubbandEncoder(channels[1:-1], rates[1:-1])
        self.snake_out = Snake(channels[-1])
        self.conv_out = Conv1d(channels[-1], 1, 7)

    def forward(self, latent: Tensor, subband: Tensor) -> Tensor:
        x = self.conv_in(latent)
        guides = self.subband_encoder(subband)
        for stage, guide in zip(self.stages, [*guides, None]):
            x = stage(x, guide)
        return torch.tanh(self.conv_out(self.snake_out(x)))


class DecoderBlock(nn.Module):
    """Upsampling, the guide, three residual units: ``[B, C, L] -> [B, C', L · rate]``."""

    def __init__(self, in_channels: int, out_channels: int, rate: int) -> None:
        super().__init__()
        self.snake = Snake(in_channels)
        self.upsample = ConvTranspose1d(in_channels, out_channels, rate)
        self.residual_units = nn.Sequential(*(ResidualUnit(out_channels, dilation) for dilation in DILATIONS))

    def forward(self, x: Tensor, guide: Tensor | None) -> Tensor:
        x = self.upsample(self.snake(x))
        return self.residual_units(x if guide is None else x + guide)


class SubbandEncoder(nn.Module):
    """Brings the subband signal to the rate and width of each decoder stage, first stage first.

    The convolutions run in series from the fastest stage to the slowest, with nothing between them. `channels` and
    `rates` are the decoder's, in its order: the widths of the guided stages and the upsampling between them.
    """

    def __init__(self, channels: Sequence[int], rates: Sequence[int]) -> None:
        super().__init__()
        widths = [1, *reversed(channels)]
        strides = [1, *reversed(rates)]
        self.convs = nn.ModuleList(
            Conv1d(c, d, 2 * stride + stride % 2, stride=stride, padding=(stride + 1) // 2)
            for (c, d), stride in zip(pairwise(widths), strides)
        )

    def forward(self, subband: Tensor) -> list[Tensor]:
        guides: list[Tensor] = []
        for conv in self.convs:
            subband = conv(subband)
            guides.insert(0, subband)
        return guides

"""The encoder (audio to latent) and the semantic decoder (semantic codes to semantic latent)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import Conv1d, ConvNeXtBlock, Float32, ResidualUnit, Snake, full_precision, variance_preserving_init

DILATIONS = (1, 3, 9)


class Encoder(nn.Sequential):
    """Strided convolutional encoder of DAC (Kumar et al. 2023, arXiv:2306.06546).

    Channels double at every stride, from `dim` to dim · 2^len(rates).

    Shape:
        audio ``[B, 1, T]``, T a multiple of prod(rates) -> latent ``[B, D, T / prod(rates)]``.
    """

    def __init__(self, dim: int, rates: Sequence[int], latent_dim: int) -> None:
        layers: list[nn.Module] = [InputConv1d(1, dim, 7)]
        for i, rate in enumerate(rates):
            layers.append((EncoderBlock if i else InputBlock)(dim, rate))
            dim *= 2
        super().__init__(*layers, Snake(dim), Conv1d(dim, latent_dim, 3))
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Keep the signal at a scale where Snake is not linear.

        Speech has a standard deviation of about 0.07, and layers with torch's initial gain shrink it further. The
        encoder would then be linear, which cannot measure the level of a band, and its biases larger than the signal.
        """
        variance_preserving_init(self)
        self[0].weight_g.fill_(15.0)  # type: ignore[union-attr,operator]


class InputConv1d(Float32, Conv1d):
    """The first convolution stays in float32, as samples have more than the eight bits of bfloat16.

    It is a hundredth of the encoder's arithmetic, and half of what bfloat16 changes in the codes.
    """

    def forward(self, audio: Tensor) -> Tensor:
        with full_precision(audio.device):
            return super().forward(audio.float())


class EncoderBlock(nn.Sequential):
    """Three residual units, then a strided convolution: ``[B, C, L] -> [B, 2C, L / rate]``."""

    def __init__(self, channels: int, rate: int) -> None:
        super().__init__(
            *(ResidualUnit(channels, dilation) for dilation in DILATIONS),
            Snake(channels),
            Conv1d(channels, 2 * channels, 2 * rate, stride=rate, padding=(rate + 1) // 2),
        )


class InputBlock(EncoderBlock):
    """The first block. Its input has more than the eight bits of bfloat16, so its residual units add in float32."""

    def forward(self, x: Tensor) -> Tensor:
        *units, snake, downsample = self
        dtype = downsample.bias.dtype
        for unit in units:
            x = unit(x, dtype)
        return downsample(snake(x, dtype))


class SemanticDecoder(nn.Sequential):
    """ConvNeXt network from the semantic codes' latent to the semantic latent: ``[B, D, L] -> [B, D, L]``.

    In training its output is compared with the distillation teacher; the acoustic codes describe the residual.
    """

    def __init__(self, latent_dim: int, dim: int, hidden: int, n_blocks: int) -> None:
        super().__init__(
            Conv1d(latent_dim, dim, 1),
            *(ConvNeXtBlock(dim, hidden) for _ in range(n_blocks)),
            Conv1d(dim, latent_dim, 1),
        )

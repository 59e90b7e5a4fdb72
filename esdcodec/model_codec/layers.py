"""Layers of the encoder, the condition network and the decoder, as in the papers.

Convolutions see zero padding at both ends ("same"), so that L frames in are L frames out. `kernels` computes them;
`inference` has their forms with fixed weights.
"""

from collections.abc import Callable
from contextlib import nullcontext
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernels import conv1d, conv_transpose1d, snake, weight_norm


class Float32(nn.Module):
    """Base of modules that stay in float32 when the model is converted to another dtype.

    `.half()`, `.to(torch.bfloat16)` and the like move them between devices only: nearest neighbours over many
    dimensions and exponentials do not survive eight bits of mantissa.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Float32":
        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)


def full_precision(device: torch.device) -> torch.autocast | nullcontext:
    """Context in which autocast does nothing."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class WeightNorm(nn.Module):
    """Replaces a convolution's `weight` by `weight_g` (magnitude) and `weight_v` (direction)."""

    weight: Tensor
    weight_g: nn.Parameter
    weight_v: nn.Parameter

    def _split_weight(self) -> None:
        weight = self.weight.detach()
        del self.weight
        self.weight_g = nn.Parameter(weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1)))
        self.weight_v = nn.Parameter(weight)

    def normalised_weight(self) -> Tensor:
        return weight_norm(self.weight_v, self.weight_g)


class Conv1d(WeightNorm, nn.Conv1d):
    """Weight-normalised 1-D convolution; at stride 1 it is "same" unless a padding is given."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        bias: bool = True,
    ) -> None:
        same = dilation * (kernel_size - 1) // 2
        padding = same if padding is None else padding
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)
        self._split_weight()

    @property
    def steps(self) -> dict[str, int]:
        """Stride, padding and dilation, by these names."""
        return {"stride": self.stride[0], "padding": int(self.padding[0]), "dilation": self.dilation[0]}

    def forward(self, x: Tensor) -> Tensor:
        return conv1d(x, self.normalised_weight(), self.bias, **self.steps)


class ConvTranspose1d(WeightNorm, nn.ConvTranspose1d):
    """Weight-normalised upsampling by `stride`: ``[B, C, L] -> [B, C', L · stride]``.

    The kernel is 2 · stride, the padding ⌈stride / 2⌉. An odd stride then comes out one sample short, which is
    filled by reflection on the left.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 2 * stride, stride, padding=ceil(stride / 2))
        self._split_weight()

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        stride = self.stride[0]
        x = conv_transpose1d(x, self.normalised_weight(), self.bias, stride=stride, padding=int(self.padding[0]))
        return F.pad(x, (1, 0), mode="reflect") if stride % 2 else x


class Conv2d(WeightNorm, nn.Conv2d):
    """Weight-normalised 2-D convolution with zero padding ⌊kernel / 2⌋ on each axis."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: tuple[int, int] = (1, 1)
    ) -> None:
        height, width = kernel_size
        super().__init__(in_channels, out_channels, kernel_size, stride, (height // 2, width // 2))
        self._split_weight()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normalised_weight(), self.bias, self.stride, self.padding)


class Snake(nn.Module):
    """x + sin²(αx) / α, with one learned α a channel (Ziyin et al. 2020, arXiv:2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`dtype`: of the output, if not that of `x`."""
        return snake(x, self.alpha.to(x.dtype)).to(dtype or x.dtype)


class ResidualUnit(nn.Sequential):
    """x + conv1(snake(conv7(snake(x)))), as in DAC (Kumar et al. 2023, arXiv:2306.06546)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(
            Snake(channels),
            Conv1d(channels, channels, 7, dilation=dilation),
            Snake(channels),
            Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`dtype`: of the convolutions, where `x` has more bits than they."""
        snake_in, conv, snake_out, pointwise = self
        return x + pointwise(snake_out(conv(snake_in(x, dtype))))


@torch.no_grad()
def to_unit_length(direction: Tensor) -> None:
    """Bring each output channel of weights ``[C_out, C_in, …]`` to length 1, in place.

    For the v of weight normalisation, whose length says nothing but how far a step of AdamW turns it: at the scale of
    a normal deviate for each weight, some thirty times less than unnormalised weights of the same learning rate.
    """
    direction.div_(direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.dim() - 1)))


@torch.no_grad()
def variance_preserving_init(network: nn.Module) -> None:
    """Start the convolutions of a network so that unit variance in is unit variance out, and none adds a constant.

    The last convolution of a residual unit starts small.
    """
    for layer in network.modules():
        if isinstance(layer, Conv1d):
            to_unit_length(layer.weight_v.normal_())
            layer.weight_g.fill_(1.0)
        elif isinstance(layer, ConvTranspose1d):
            layer.weight_v.normal_(0, (2 * layer.in_channels) ** -0.5)  # two of its inputs meet in each output
            layer.weight_g.copy_(layer.weight_v.flatten(1).norm(dim=1)[:, None, None])
        if isinstance(layer, Conv1d | ConvTranspose1d) and layer.bias is not None:
            layer.bias.zero_()
    for layer in network.modules():
        if isinstance(layer, ResidualUnit):
            layer[-1].weight_g.fill_(0.3)  # type: ignore[union-attr,operator]


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of ``[B, C, L]``, eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise conv k7, LayerNorm, MLP, layer scale, residual: ConvNeXt (Liu et al. 2022, arXiv:2201.03545) in 1-D."""

    def __init__(self, channels: int, hidden: int, layer_scale: float | None = None) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, hidden)
        self.pwconv2 = nn.Linear(hidden, channels)
        self.gamma = None if layer_scale is None else nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.dwconv(x).transpose(1, 2))
        h = self.pwconv2(F.gelu(self.pwconv1(h)))
        if self.gamma is not None:
            h = self.gamma * h
        return x + h.transpose(1, 2)

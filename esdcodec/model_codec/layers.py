"""Layers that the encoder, the condition network and the decoder are made of.

Convolutions see zero padding at both ends ("same"), so that L frames in are L frames out.
"""

from collections.abc import Callable
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Derived(nn.Module):
    """Base of layers that use a tensor computed from their parameters, such as a normalised weight.

    While a module is trained, or gradients are on, the tensor is computed at every call. In evaluation without
    gradients it is computed once and kept until a parameter changes: in place (seen by torch's version counter),
    by `train()`, by loading a state dict, or by a change of device or dtype. What cannot be seen is writing to
    `parameter.data` of a module in evaluation mode: call `train()` and `eval()` after that.
    """

    _kept: tuple[Any, Tensor] | None = None

    def derived(self, compute: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return compute(*parameters)
        if any(p.is_inference() for p in parameters):  # they have no version counter
            return compute(*parameters)
        state = compute, [(p.data_ptr(), p._version) for p in parameters]
        if self._kept is None or self._kept[0] != state:
            self._kept = state, compute(*parameters)
        return self._kept[1]

    def train(self, mode: bool = True) -> "Derived":
        self._kept = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Derived":
        self._kept = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:  # copies and pickles recompute
        return {k: v for k, v in self.__dict__.items() if k != "_kept"}


class Float32(nn.Module):
    """Base of modules that stay in float32 when the model is converted to another dtype.

    `.half()`, `.to(torch.bfloat16)` and the like move them between devices only: nearest neighbours over many
    dimensions and exponentials do not survive eight bits of mantissa.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Float32":
        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.is_floating_point() else moved

        return super()._apply(keep_dtype, recurse)


def full_precision(device: torch.device) -> torch.autocast:
    """Context in which autocast does nothing."""
    return torch.autocast(device.type, enabled=False)


def weight_norm(direction: Tensor, magnitude: Tensor) -> Tensor:
    """w = g · v / ‖v‖, the norm taken over all axes but the first (Salimans & Kingma 2016, arXiv:1602.07868)."""
    return torch._weight_norm(direction, magnitude, 0)


def channels_last(x: Tensor) -> Tensor:
    """`x` ``[B, C, L]`` as it is on a GPU; on a CPU the same values, with those of one position together in memory.

    There convolutions run as 2-D ones of height 1: 1-D ones have no such layout, and with few channels and many
    positions, where a codec spends its time, it is the faster one, most of all in bfloat16 and backwards.
    """
    return x.transpose(1, 2).contiguous().transpose(1, 2) if x.device.type == "cpu" else x


def free_to_choose(x: Tensor) -> bool:
    """Whether the layers that get `x` may compute in place, and by other operators than those they are named after."""
    eager = not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
    return eager and x.device.type == "cpu"


def planar_weight(direction: Tensor, magnitude: Tensor) -> Tensor:
    """The normalised weight ``[D, C, k]`` as that of a 2-D convolution of height 1, laid out like its input."""
    weight = weight_norm(direction, magnitude).unsqueeze(2)
    return weight.contiguous(memory_format=torch.channels_last) if weight.device.type == "cpu" else weight


class _WeightNorm(Derived):
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
        return self.derived(weight_norm, self.weight_v, self.weight_g)

    def planar_weight(self) -> Tensor:
        return self.derived(planar_weight, self.weight_v, self.weight_g)


class Conv1d(_WeightNorm, nn.Conv1d):
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

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x)
        if self.kernel_size == (1,) and x.device.type == "cpu":  # the 2-D one loses the layout where k = 1
            return F.linear(x.transpose(1, 2), self.planar_weight().flatten(1), self.bias).transpose(1, 2)
        return F.conv2d(
            x.unsqueeze(2),
            self.planar_weight(),
            self.bias,
            (1, *self.stride),
            (0, *self.padding),
            (1, *self.dilation),
        ).squeeze(2)

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """`residual` + self(`x`), for a kernel of 1 and a bias; in place of `residual` where there are no gradients.

        Fresh memory costs a CPU more than the sum.
        """
        if not free_to_choose(x):
            return self(x).add_(residual)
        assert self.bias is not None
        y, x = (channels_last(each).transpose(1, 2) for each in (residual, x))  # [B, L, C]
        y.add_(self.bias).flatten(0, 1).addmm_(x.flatten(0, 1), self.planar_weight().flatten(1).T)
        return y.transpose(1, 2)


class ConvTranspose1d(_WeightNorm, nn.ConvTranspose1d):
    """Weight-normalised upsampling by `stride`: ``[B, C, L] -> [B, C', L · stride]``.

    The kernel is 2 · stride, the padding ⌈stride / 2⌉. An odd stride then comes out one sample short, which is
    filled by reflection on the left.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 2 * stride, stride, padding=ceil(stride / 2))
        self._split_weight()

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if free_to_choose(x):
            return self._by_products(x)
        x = F.conv_transpose2d(
            channels_last(x).unsqueeze(2),
            self.planar_weight(),
            self.bias,
            (1, *self.stride),
            (0, *self.padding),
        ).squeeze(2)
        return F.pad(x, (1, 0), mode="reflect") if self.stride[0] % 2 else x

    def _by_products(self, x: Tensor) -> Tensor:
        """The same by two matrix products: a stride's worth of outputs sees one input and the one before it.

        On a CPU it is up to five times as fast, and filling in a sample moves nothing.
        """
        stride, padding = self.stride[0], ceil(self.stride[0] / 2)
        x = channels_last(x).transpose(1, 2)  # [B, L, C]
        batch, length, _ = x.shape
        now, later = self.derived(_halves, self.weight_v, self.weight_g)
        assert self.bias is not None
        y = self.bias.repeat(stride).expand(batch, length + 1, -1).contiguous()
        y[:, :-1].baddbmm_(x, now.expand(batch, -1, -1))
        y[:, 1:].baddbmm_(x, later.expand(batch, -1, -1))
        y = y.view(batch, -1, self.out_channels)
        end = y.shape[1] - padding
        if stride % 2:
            y[:, padding - 1] = y[:, padding + 1]
            padding -= 1
        return y[:, padding:end].transpose(1, 2)


def _halves(direction: Tensor, magnitude: Tensor) -> Tensor:
    """Both strides' worth of taps of a transposed convolution, as matrices ``[2, C, stride · C']``."""
    taps = weight_norm(direction, magnitude).transpose(1, 2)  # [C, 2 · stride, C']
    return torch.stack([half.flatten(1) for half in taps.chunk(2, dim=1)])


@torch.no_grad()
def keep_variance(network: nn.Module) -> None:
    """Start the convolutions of a network so that unit variance in is unit variance out, and none adds a constant.

    What a residual unit adds begins small.
    """
    for layer in network.modules():
        if isinstance(layer, Conv1d):
            layer.weight_v.normal_()
            layer.weight_g.fill_(1.0)
        elif isinstance(layer, ConvTranspose1d):
            layer.weight_v.normal_(0, (2 * layer.in_channels) ** -0.5)  # two of its inputs meet in each output
            layer.weight_g.copy_(layer.weight_v.flatten(1).norm(dim=1)[:, None, None])
        if isinstance(layer, Conv1d | ConvTranspose1d) and layer.bias is not None:
            layer.bias.zero_()
    for layer in network.modules():
        if isinstance(layer, ResidualUnit):
            layer[-1].weight_g.fill_(0.3)  # type: ignore[union-attr]


class Conv2d(_WeightNorm, nn.Conv2d):
    """Weight-normalised 2-D convolution with zero padding ⌊kernel / 2⌋ on each axis."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: tuple[int, int] = (1, 1)
    ) -> None:
        height, width = kernel_size
        super().__init__(in_channels, out_channels, kernel_size, stride, (height // 2, width // 2))
        self._split_weight()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normalised_weight(), self.bias, self.stride, self.padding)


_SNAKE_EPS = 1e-9  # outside of the class, where torch.compile sees it


class _SnakeFunction(torch.autograd.Function):
    """y = x + sin²(αx) / (α + ε), with dy/dx = 1 + sin(2αx) · α / (α + ε) written out.

    Left to autograd, the element-wise steps and what they save take a third of a training step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        y = snake(x, alpha)
        ctx.save_for_backward(x, alpha, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, alpha, y = ctx.saved_tensors
        inverse = 1 / (alpha + _SNAKE_EPS)
        sin2 = (x * (2 * alpha)).sin_()
        grad_x = torch.addcmul(grad, grad, sin2 * (alpha * inverse))
        # d/dα = (x · sin(2αx) − sin²(αx) / (α + ε)) / (α + ε), and sin²(αx) / (α + ε) = y − x
        grad_alpha = (sin2.mul_(x).sub_(y).add_(x).mul_(grad)).sum((0, 2), keepdim=True) * inverse
        return grad_x, grad_alpha


def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """x + sin²(αx) / (α + 1e-9)."""
    return torch.addcmul(x, (x * alpha).sin_().square_(), 1 / (alpha + _SNAKE_EPS))


_CACHE_ELEMENTS = 2**17  # of a piece that stays in a core's cache from one step to the next


def snake_in_pieces(x: Tensor, alpha: Tensor, y: Tensor) -> Tensor:
    """`snake` without gradients, into `y`, which may be `x`: memory is read and written once, whatever lies between.

    That is computed in float32, also where `x` or `y` has fewer bits.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    length = min(x.shape[2], max(1, _CACHE_ELEMENTS * torch.get_num_threads() // x.shape[1]))
    # written out for each position: steps without broadcasting run several times as fast
    alphas = torch.empty_like(x[:1, :, :length], dtype=wide).copy_(alpha)
    inverses = 1 / (alphas + _SNAKE_EPS)
    scratch, widened = torch.empty_like(alphas), torch.empty_like(alphas)
    for item, result in zip(x.split(1), y.split(1)):
        for piece, out in zip(item.split(length, dim=2), result.split(length, dim=2)):
            n = piece.shape[2]
            value = piece if x.dtype == wide else widened[..., :n].copy_(piece)
            part = torch.mul(value, alphas[..., :n], out=scratch[..., :n]).sin_().square_()
            if y.dtype == wide:
                torch.addcmul(value, part, inverses[..., :n], out=out)
            else:
                out.copy_(torch.addcmul(value, part, inverses[..., :n], out=part))
    return y


class Snake(nn.Module):
    """Periodic activation with one learned frequency a channel (Ziyin et al. 2020, arXiv:2006.08195).

    Args:
        in_place: overwrite the input where there are no gradients. Fresh memory costs a CPU more than the sine.
    """

    def __init__(self, channels: int, *, in_place: bool = False) -> None:
        super().__init__()
        self.in_place = in_place
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`dtype`: of the output, if not that of `x`."""
        dtype = dtype or x.dtype
        alpha = self.alpha.to(x.dtype)
        if torch.is_grad_enabled():
            return _SnakeFunction.apply(x, alpha).to(dtype)
        if x.device.type != "cpu":
            return snake(x, alpha).to(dtype)
        return snake_in_pieces(x, alpha, x if self.in_place and dtype == x.dtype else torch.empty_like(x, dtype=dtype))


class ResidualUnit(nn.Sequential):
    """x + conv1(snake(conv7(snake(x)))), as in DAC (Kumar et al. 2023, arXiv:2306.06546).

    Without gradients, a CPU puts it in place of x.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(
            Snake(channels),
            Conv1d(channels, channels, 7, dilation=dilation),
            Snake(channels, in_place=True),
            Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        *others, last = self
        h = x
        for layer in others:
            h = layer(h)
        return last.add_to(x, h)


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

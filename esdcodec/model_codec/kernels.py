"""Fast implementations of the layers' operators, most of them for CPUs.

`layers` defines what is computed. `conv1d` and `snake` are its operators, with gradients. The others are for inference
alone: they write over their inputs, and are called by the layers of `inference`.
"""

from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def weight_norm(direction: Tensor, magnitude: Tensor) -> Tensor:
    """w = g · v / ‖v‖, the norm taken over all axes but the first (Salimans & Kingma 2016, arXiv:1602.07868)."""
    return torch._weight_norm(direction, magnitude, 0)


# ---- convolutions ----------------------------------------------------------------------------------------------------


def channels_last(x: Tensor) -> Tensor:
    """`x` ``[B, C, L]``, with the values of one position together in memory.

    On a CPU convolutions run as 2-D ones of height 1: 1-D ones have no such layout, and with few channels and many
    positions, where a codec spends its time, it is the faster one, most of all in bfloat16 and backwards.
    """
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def planar(weight: Tensor) -> Tensor:
    """The weight ``[D, C, k]`` of a 1-D convolution as that of a 2-D one of height 1, laid out like its input."""
    return weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int, dilation: int) -> Tensor:
    """`torch.nn.functional.conv1d`, on a CPU in the layout of `channels_last`."""
    if x.device.type != "cpu" or torch.jit.is_tracing():  # traced for runtimes that choose their own layouts
        return F.conv1d(x, weight, bias, stride, padding, dilation)
    return planar_conv1d(x, planar(weight), bias, stride=stride, padding=padding, dilation=dilation)


def planar_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int, dilation: int
) -> Tensor:
    """A 1-D convolution by a `planar` weight ``[D, C, 1, k]``."""
    x = channels_last(x)
    if weight.shape[3] == 1 and stride == 1:  # the 2-D one loses the layout where k = 1
        return F.linear(x.transpose(1, 2), weight.flatten(1), bias).transpose(1, 2)
    return F.conv2d(x.unsqueeze(2), weight, bias, (1, stride), (0, padding), (1, dilation)).squeeze(2)


def conv_transpose1d(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int) -> Tensor:
    """`torch.nn.functional.conv_transpose1d`, on a CPU in the layout of `channels_last`."""
    if x.device.type != "cpu" or torch.jit.is_tracing():
        return F.conv_transpose1d(x, weight, bias, stride, padding)
    return F.conv_transpose2d(channels_last(x).unsqueeze(2), planar(weight), bias, (1, stride), (0, padding)).squeeze(2)


def add_pointwise_(residual: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`residual` + the convolution of `x` by `weight` ``[D, C]``, of one tap, in place of `residual`.

    Fresh memory costs a CPU more than the sum.
    """
    y, x = (channels_last(each).transpose(1, 2) for each in (residual, x))  # [B, L, C]
    y.add_(bias).flatten(0, 1).addmm_(x.flatten(0, 1), weight.T)
    return y.transpose(1, 2)


def upsampling_matrices(weight: Tensor) -> Tensor:
    """The two strides' worth of taps of a transposed convolution of 2 · stride taps, ``[2, C, stride · C']``."""
    taps = weight.transpose(1, 2)  # [C, 2 · stride, C']
    return torch.stack([half.flatten(1) for half in taps.chunk(2, dim=1)])


def upsample_as_matmuls(x: Tensor, matrices: Tensor, bias: Tensor, *, stride: int) -> Tensor:
    """`layers.ConvTranspose1d` by two matrix products: a stride's worth of outputs sees one input and the one before.

    On a CPU it is up to five times as fast, and filling in a sample moves nothing.
    """
    padding = ceil(stride / 2)
    x = channels_last(x).transpose(1, 2)  # [B, L, C]
    batch, length, _ = x.shape
    now, later = matrices
    y = bias.repeat(stride).expand(batch, length + 1, -1).contiguous()
    y[:, :-1].baddbmm_(x, now.expand(batch, -1, -1))
    y[:, 1:].baddbmm_(x, later.expand(batch, -1, -1))
    y = y.view(batch, -1, len(bias))
    end = y.shape[1] - padding
    if stride % 2:
        y[:, padding - 1] = y[:, padding + 1]
        padding -= 1
    return y[:, padding:end].transpose(1, 2)


# ---- Snake -----------------------------------------------------------------------------------------------------------

_SNAKE_EPS = 1e-9


def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """x + sin²(αx) / (α + 1e-9)."""
    return _SnakeFunction.apply(x, alpha) if torch.is_grad_enabled() else _snake(x, alpha)


def _snake(x: Tensor, alpha: Tensor) -> Tensor:
    return snake_by(x, *snake_factors(alpha))


def snake_factors(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """α and 1 / (α + 1e-9)."""
    return alpha, 1 / (alpha + _SNAKE_EPS)


def snake_by(x: Tensor, alpha: Tensor, inverse: Tensor) -> Tensor:
    """`snake` by its `snake_factors`, without gradients."""
    return torch.addcmul(x, (x * alpha).sin_().square_(), inverse)


class _SnakeFunction(torch.autograd.Function):
    """y = x + sin²(αx) / (α + ε), with dy/dx = 1 + sin(2αx) · α / (α + ε) written out.

    Left to autograd, the element-wise steps and what they save take a third of a training step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        y = _snake(x, alpha)
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


_CACHE_ELEMENTS = 2**17  # of a piece that stays in a core's cache from one step to the next


def snake_in_pieces(x: Tensor, alpha: Tensor, y: Tensor) -> Tensor:
    """`snake` of `x` into `y`, which may be `x`: memory is read and written once.

    All steps are computed in float32, also where `x` or `y` has fewer bits.
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

"""What becomes of the layers of an inference form."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoder import Encoder, EncoderBlock, InputBlock, SemanticDecoder
from ..inference import (
    FoldedConv1d,
    FoldedConvTranspose1d,
    InPlaceResidualUnit,
    InPlaceSnake,
    MatmulConvTranspose1d,
    PlanarConv1d,
)
from ..kernels import snake, upsampling_matrices
from ..layers import ConvNeXtBlock, ResidualUnit, Snake
from ..snapshot import is_customised
from .layers import Chain, Layer, Pointwise, Residual, Window


def streaming(layer: nn.Module, keys: count[int]) -> Layer:
    """The form of `layer`, a part of an inference form, for pieces.

    Raises:
        TypeError: nothing is known of such a layer.
    """
    check_streamable(layer, *_FORMS)
    return _FORMS[type(layer)](layer, keys)


def check_streamable(layer: nn.Module, *types: type[nn.Module]) -> None:
    """Raises TypeError where `layer` is of none of these types, compiled or has hooks."""
    if is_customised(layer) or type(layer) not in types:
        raise TypeError(f"{type(layer).__name__} cannot be streamed: what it needs of its past is not known")


def chain(layers: nn.Sequential, keys: count[int]) -> Layer:
    return Chain(*(streaming(layer, keys) for layer in layers))


def _convolution(layer: FoldedConv1d | nn.Conv1d, keys: count[int]) -> Layer:
    kernel, stride, padding, dilation = sizes(layer)

    def step(x: Tensor, first: bool, last: bool) -> Tensor:
        return unpadded(layer, x)

    if kernel == stride == 1:
        return Pointwise(lambda x: unpadded(layer, x))
    return Window(next(keys), step, width=dilation * (kernel - 1) + 1, stride=stride, padding=padding)


def sizes(layer: FoldedConv1d | nn.Conv1d) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation."""
    if isinstance(layer, FoldedConv1d):
        return layer.weight.shape[-1], layer.steps["stride"], layer.steps["padding"], layer.steps["dilation"]
    return layer.kernel_size[0], layer.stride[0], int(layer.padding[0]), layer.dilation[0]


def unpadded(layer: FoldedConv1d | nn.Conv1d, x: Tensor) -> Tensor:
    x = x.to(layer.weight.dtype).transpose(1, 2)
    if isinstance(layer, FoldedConv1d):
        return layer.unpadded(x).transpose(1, 2)
    return F.conv1d(x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups).transpose(1, 2)


def _upsampling(layer: FoldedConvTranspose1d | MatmulConvTranspose1d, keys: count[int]) -> Layer:
    """An output sees one input and the one before, and lies half a stride behind: three inputs for a stride."""
    matrices = layer.matrices if isinstance(layer, MatmulConvTranspose1d) else upsampling_matrices(layer.weight)
    stride, bias = layer.stride, layer.bias
    assert bias is not None
    padding = math.ceil(stride / 2) - stride % 2  # an odd stride is filled by one position on the left

    def step(x: Tensor, first: bool, last: bool) -> Tensor:
        x = x.to(matrices.dtype)
        y = x[:, 1:] @ matrices[0] + x[:, :-1] @ matrices[1]
        y = y.view(x.shape[0], -1, bias.shape[0])[:, padding : padding + (x.shape[1] - 2) * stride] + bias
        if first and stride % 2:
            y[:, 0] = y[:, 2]  # by reflection
        return y

    return Window(next(keys), step, width=3, padding=1, per_window=stride)


def _snake(layer: Snake | InPlaceSnake, keys: count[int]) -> Layer:
    alpha = layer.alpha.transpose(1, 2)

    def step(x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return snake(wide, alpha.to(wide.dtype)).to(x.dtype)

    return Pointwise(step)


def _residual_unit(unit: ResidualUnit, keys: count[int]) -> Layer:
    return Residual(keys, chain(unit, keys))


def _convnext(block: ConvNeXtBlock, keys: count[int]) -> Layer:
    def mlp(x: Tensor) -> Tensor:
        h = block.pwconv2(F.gelu(block.pwconv1(block.norm(x))))
        return h if block.gamma is None else block.gamma * h

    return Residual(keys, Chain(streaming(block.dwconv, keys), Pointwise(mlp)))


def normalised(norm: nn.LayerNorm) -> Layer:
    return Pointwise(lambda x: F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps))


_FORMS: dict[type[nn.Module], Callable[..., Layer]] = {
    **dict.fromkeys((nn.Sequential, Encoder, InputBlock, EncoderBlock, SemanticDecoder), chain),
    **dict.fromkeys((FoldedConv1d, PlanarConv1d, nn.Conv1d), _convolution),
    **dict.fromkeys((FoldedConvTranspose1d, MatmulConvTranspose1d), _upsampling),
    **dict.fromkeys((Snake, InPlaceSnake), _snake),
    **dict.fromkeys((ResidualUnit, InPlaceResidualUnit), _residual_unit),
    ConvNeXtBlock: _convnext,
}

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
from ..kernels import snake_by, snake_factors, upsampling_matrices
from ..layers import ConvNeXtBlock, ResidualUnit, Snake
from ..snapshot import is_customised
from .convolution import Unpadded
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
    convolve = Unpadded(layer)
    if convolve.width == convolve.stride == 1:
        return Pointwise(convolve)
    return Window(
        keys,
        lambda x, first, last: convolve(x),
        width=convolve.width,
        stride=convolve.stride,
        padding=convolve.padding,
    )


def _upsampling(layer: FoldedConvTranspose1d | MatmulConvTranspose1d, keys: count[int]) -> Layer:
    """An output sees one input and the one before, and lies half a stride behind: three inputs for a stride."""
    matrices = layer.matrices if isinstance(layer, MatmulConvTranspose1d) else upsampling_matrices(layer.weight)
    now, later = matrices
    stride, bias = layer.stride, layer.bias
    assert bias is not None
    biases, n_channels = bias.repeat(stride), bias.shape[0]
    padding = math.ceil(stride / 2) - stride % 2  # an odd stride is filled by one position on the left

    def upsample(x: Tensor, first: bool, last: bool) -> Tensor:
        x = x.to(now.dtype)
        y = F.linear(x[:, 1:], now.T, biases) + x[:, :-1] @ later
        y = y.view(x.shape[0], -1, n_channels)[:, padding : padding + (x.shape[1] - 2) * stride]
        if first and stride % 2:
            y[:, 0] = y[:, 2]  # by reflection
        return y

    return Window(keys, upsample, width=3, padding=1, per_window=stride)


def _snake(layer: Snake | InPlaceSnake, keys: count[int]) -> Layer:
    alpha = layer.alpha.transpose(1, 2).to(torch.promote_types(layer.alpha.dtype, torch.float32))
    factors = snake_factors(alpha)

    def function(x: Tensor) -> Tensor:
        return snake_by(x.to(torch.promote_types(x.dtype, torch.float32)), *factors).to(x.dtype)

    return Pointwise(function)


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

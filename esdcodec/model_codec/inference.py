"""The form of a network for inference: the same steps, of layers whose weights are fixed.

`inference_form` makes it from the plain network. The copy shares all parts that it does not replace:

- weight-normalised convolutions hold their folded weight, on a CPU in the layout that their input has there,
- the semantic quantizer holds its projected codebook,
- on a CPU, Snake goes through memory once and writes over its input, residual units and guides are added in place, and
  transposed convolutions are matrix products (`kernels`).

A part of another type, a compiled one, or one with hooks is used as it is. The form is for calls without gradients and
without autocast; training, `torch.compile`, `torch.export` and tracing use the plain network. Code that keeps a form
checks with `snapshot.Snapshot` whether the network has changed since.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .decoder import DecoderBlock
from .encoder import InputConv1d
from .kernels import add_pointwise_, planar, planar_conv1d, snake_in_pieces, upsample_as_matmuls, upsampling_matrices
from .layers import Conv1d, ConvTranspose1d, ResidualUnit, Snake, full_precision
from .quantizer import SimVQ, nearest
from .snapshot import is_customised

Module = TypeVar("Module", bound=nn.Module)
Rules = Mapping[type[nn.Module], Callable[[Any], nn.Module]]


def inference_form(network: Module) -> Module:
    """A copy of `network` as described above. It may be used by several threads at once."""
    device = next(network.parameters()).device
    with torch.inference_mode(False), torch.no_grad(), full_precision(device):
        return rewritten(network, ON_CPU if device.type == "cpu" else FOLDED)


def rewritten(module: Module, rules: Rules) -> Module:
    """A copy of `module` that shares its parameters, with every layer whose type is in `rules` made by its rule.

    A rule gets a copy of the layer whose own parts are rewritten already.
    """
    twin = module.__new__(type(module))
    twin.__dict__ = dict(vars(module))
    twin._modules = {
        name: child if child is None or is_customised(child) else rewritten(child, rules)
        for name, child in module._modules.items()
    }
    return rules[type(module)](twin) if type(module) in rules else twin  # type: ignore[return-value]


# ---- layers ----------------------------------------------------------------------------------------------------------


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


class FoldedConv1d(nn.Module):
    """`layers.Conv1d` with its normalised weight."""

    def __init__(self, layer: Conv1d) -> None:
        super().__init__()
        self.weight, self.bias = _frozen(layer.normalised_weight()), layer.bias
        self.steps = layer.steps

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x.to(self.weight.dtype), self.weight, self.bias, **self.steps)

    def unpadded(self, x: Tensor) -> Tensor:
        """The outputs that see no padding."""
        return F.conv1d(x.to(self.weight.dtype), self.weight, self.bias, **{**self.steps, "padding": 0})


class PlanarConv1d(FoldedConv1d):
    """The same in the layout of a CPU."""

    def __init__(self, layer: Conv1d) -> None:
        super().__init__(layer)
        self.weight = _frozen(planar(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        return planar_conv1d(x.to(self.weight.dtype), self.weight, self.bias, **self.steps)

    def unpadded(self, x: Tensor) -> Tensor:
        return planar_conv1d(x.to(self.weight.dtype), self.weight, self.bias, **{**self.steps, "padding": 0})


class FoldedConvTranspose1d(nn.Module):
    """`layers.ConvTranspose1d` with its normalised weight."""

    def __init__(self, layer: ConvTranspose1d) -> None:
        super().__init__()
        self.weight, self.bias = _frozen(layer.normalised_weight()), layer.bias
        self.stride, self.padding = layer.stride[0], int(layer.padding[0])

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv_transpose1d(x, self.weight, self.bias, self.stride, self.padding)
        return F.pad(x, (1, 0), mode="reflect") if self.stride % 2 else x


class MatmulConvTranspose1d(nn.Module):
    """The same as matrix products."""

    def __init__(self, layer: ConvTranspose1d) -> None:
        super().__init__()
        assert layer.bias is not None
        self.matrices, self.bias = _frozen(upsampling_matrices(layer.normalised_weight())), layer.bias
        self.stride = layer.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        return upsample_as_matmuls(x, self.matrices, self.bias, stride=self.stride)


class InPlaceSnake(nn.Module):
    """`layers.Snake`, written over its input where that has the same dtype."""

    def __init__(self, layer: Snake) -> None:
        super().__init__()
        self.alpha, self.in_place = layer.alpha, True

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or x.dtype
        y = x if self.in_place and dtype == x.dtype else torch.empty_like(x, dtype=dtype)
        return snake_in_pieces(x, self.alpha.to(x.dtype), y)


class InPlaceResidualUnit(ResidualUnit):
    """`layers.ResidualUnit`, added to its input in place."""

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        snake_in, conv, snake_out, pointwise = self
        h = snake_out(conv(snake_in(x, dtype)))
        if isinstance(pointwise, PlanarConv1d) and pointwise.bias is not None and h.dtype == x.dtype:
            return add_pointwise_(x, h, pointwise.weight.flatten(1), pointwise.bias)
        return x + pointwise(h)


class InPlaceDecoderBlock(DecoderBlock):
    """`decoder.DecoderBlock`, with the guide added in place."""

    def forward(self, x: Tensor, guide: Tensor | None) -> Tensor:
        x = self.upsample(self.snake(x))
        return self.residual_units(x if guide is None else x.add_(guide))


class FixedSimVQ(SimVQ):
    """`quantizer.SimVQ` with its projected codebook."""

    entries: Tensor
    squares: Tensor

    def effective_codebook(self) -> Tensor:
        return self.entries

    def encode(self, latent: Tensor) -> Tensor:
        return nearest(rearrange(latent, "b d l -> b l d"), self.entries, self.squares)[:, None]


# ---- rules -----------------------------------------------------------------------------------------------------------


def _in_place_unit(unit: ResidualUnit) -> ResidualUnit:
    unit.__class__ = InPlaceResidualUnit
    if isinstance(unit[0], InPlaceSnake):
        unit[0].in_place = False  # its input is what the unit adds to
    return unit


def _in_place_block(block: DecoderBlock) -> DecoderBlock:
    block.__class__ = InPlaceDecoderBlock
    return block


def _fixed(quantizer: SimVQ) -> FixedSimVQ:
    entries = quantizer.effective_codebook().detach()
    quantizer.__class__ = FixedSimVQ
    quantizer.__dict__.update(entries=entries, squares=entries.square().sum(1))
    assert isinstance(quantizer, FixedSimVQ)
    return quantizer


FOLDED: Rules = {
    Conv1d: FoldedConv1d,
    InputConv1d: FoldedConv1d,
    ConvTranspose1d: FoldedConvTranspose1d,
    SimVQ: _fixed,
}
ON_CPU: Rules = {
    Conv1d: PlanarConv1d,
    InputConv1d: PlanarConv1d,
    ConvTranspose1d: MatmulConvTranspose1d,
    Snake: InPlaceSnake,
    ResidualUnit: _in_place_unit,
    DecoderBlock: _in_place_block,
    SimVQ: _fixed,
}

"""How much context a network needs: which positions of its input an output depends on, computed from its layers.

Intervals are walked backwards, from an output to the input. A frame is the longest step of a network: the context of
frames is the same wherever they are, as long as the input has no ends.
"""

from functools import singledispatch
from typing import NamedTuple

from torch import nn

from .condition import ConditionNetwork, InverseSTFT, SpectrumHead
from .decoder import Decoder, DecoderBlock
from .layers import ConvNeXtBlock, ConvTranspose1d, Snake

Interval = tuple[int, int]  # first and last position


class Context(NamedTuple):
    """Frames of the input before and after those that are asked for."""

    left: int
    right: int


@singledispatch
def receptive_field(layer: nn.Module, outputs: Interval) -> Interval:
    """Positions of the input that positions `outputs` of the output depend on.

    Raises:
        TypeError: nothing is known of such a layer; register it here.
    """
    compiled = layer._modules.get("_orig_mod")  # by `torch.compile`
    if compiled is not None:
        return receptive_field(compiled, outputs)
    raise TypeError(f"the receptive field of {type(layer).__name__} is not known: register it in {__name__}")


@receptive_field.register
def _(layer: nn.Sequential, outputs: Interval) -> Interval:
    """A chain; what a residual connection adds lies within the chain's."""
    for each in reversed(layer):
        outputs = receptive_field(each, outputs)
    return outputs


@receptive_field.register(Snake)
@receptive_field.register(nn.LayerNorm)
def _(layer: nn.Module, outputs: Interval) -> Interval:
    return outputs


@receptive_field.register
def _(layer: nn.Conv1d, outputs: Interval) -> Interval:
    kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
    first, last = (output * stride - padding for output in outputs)
    return first, last + layer.dilation[0] * (kernel - 1)


@receptive_field.register
def _(layer: ConvTranspose1d, outputs: Interval) -> Interval:
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    shift = int(layer.padding[0]) - stride % 2  # an odd stride is filled by one position on the left
    return -((kernel - 1 - outputs[0] - shift) // stride), (outputs[1] + shift) // stride


@receptive_field.register
def _(layer: ConvNeXtBlock, outputs: Interval) -> Interval:
    return receptive_field(layer.dwconv, outputs)


@receptive_field.register
def _(layer: SpectrumHead, outputs: Interval) -> Interval:
    return outputs[0] - 1, outputs[1] + 1  # kernels of 3, padded by reflection


@receptive_field.register
def _(layer: InverseSTFT, outputs: Interval) -> Interval:
    trim = (layer.n_fft - layer.hop_length) // 2
    return -((layer.n_fft - 1 - outputs[0] - trim) // layer.hop_length), (outputs[1] + trim) // layer.hop_length


@receptive_field.register
def _(layer: ConditionNetwork, outputs: Interval) -> Interval:
    for part in (layer.istft, layer.head, layer.blocks, layer.conv_in):
        outputs = receptive_field(part, outputs)
    return outputs


@receptive_field.register
def _(layer: DecoderBlock, outputs: Interval) -> Interval:
    return receptive_field(layer.upsample, receptive_field(layer.residual_units, outputs))


def union(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def receptive_field_of_decoder(decoder: Decoder, outputs: Interval) -> tuple[Interval, Interval]:
    """Positions of the latent and of the subband that samples `outputs` depend on."""
    x = receptive_field(decoder.conv_out, outputs)
    subband: Interval | None = None
    blocks, convs = list(decoder.stages), list(decoder.subband_encoder.convs)
    for i, block in reversed(list(enumerate(blocks))):
        upsampled = receptive_field(block.residual_units, x)
        if i < len(convs):
            guide = upsampled
            for conv in reversed(convs[: len(convs) - i]):
                guide = receptive_field(conv, guide)
            subband = guide if subband is None else union(subband, guide)
        x = receptive_field(block.upsample, upsampled)
    assert subband is not None
    return receptive_field(decoder.conv_in, x), subband


def context(inputs: Interval, per_frame: int = 1) -> Context:
    """Whole frames of `per_frame` positions around frame 0 that `inputs`, the receptive field of frame 0, take up."""
    return Context(left=-(inputs[0] // per_frame), right=inputs[1] // per_frame)

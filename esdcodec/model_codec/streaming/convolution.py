"""Convolutions of pieces, which are short."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..inference import FoldedConv1d, PlanarConv1d

# of the input: torch convolves so few step by step, and one matrix product is up to four times as fast
_FEW_ELEMENTS = 2**14


class Unpadded:
    """A convolution of ``[B, n, C]`` that sees no padding."""

    def __init__(self, layer: FoldedConv1d | nn.Conv1d) -> None:
        self.layer, self.weight, self.bias = layer, layer.weight, layer.bias
        if isinstance(layer, FoldedConv1d):
            self.stride, self.padding, self.dilation = (layer.steps[s] for s in ("stride", "padding", "dilation"))
            self.groups = 1
        else:
            self.stride, self.padding, self.dilation = layer.stride[0], int(layer.padding[0]), layer.dilation[0]
            self.groups = layer.groups
        self.kernel = layer.weight.shape[-1]
        self.width = self.dilation * (self.kernel - 1) + 1
        on_cpu = layer.weight.device.type == "cpu"
        self.matrix = self._matrix() if on_cpu and self.groups == 1 else None
        self.taps = layer.weight[:, 0].T.contiguous() if on_cpu and self.groups == layer.weight.shape[0] > 1 else None

    def _matrix(self) -> Tensor:
        """The weight as ``[C', k · C]``; of a `PlanarConv1d` it is the same memory."""
        weight = self.weight.squeeze(2) if isinstance(self.layer, PlanarConv1d) else self.weight
        return weight.transpose(1, 2).flatten(1)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        if self.taps is not None:
            y = (self._windows(x) * self.taps).sum(2)
            return y if self.bias is None else y + self.bias
        if self.matrix is not None and (self.width == self.stride == 1 or x.numel() <= _FEW_ELEMENTS):
            return F.linear(self._windows(x).flatten(2), self.matrix, self.bias)
        y = x.transpose(1, 2)
        if isinstance(self.layer, FoldedConv1d):
            return self.layer.unpadded(y).transpose(1, 2)
        return F.conv1d(y, self.weight, self.bias, self.stride, 0, self.dilation, self.groups).transpose(1, 2)

    def _windows(self, x: Tensor) -> Tensor:
        """``[B, n, C] -> [B, windows, k, C]``, a view."""
        of_item, of_position, of_channel = x.stride()
        n = (x.shape[1] - self.width) // self.stride + 1
        return x.as_strided(
            (x.shape[0], n, self.kernel, x.shape[2]),
            (of_item, self.stride * of_position, self.dilation * of_position, of_channel),
        )

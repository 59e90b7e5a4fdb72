"""The condition network for pieces."""

from __future__ import annotations

import math
from itertools import count

import torch
from torch import Tensor

from ..condition import ConditionNetwork
from ..layers import full_precision
from .convolution import Unpadded
from .forms import chain, check_streamable, normalised, streaming
from .layers import Chain, Layer, Window


def condition_network(network: ConditionNetwork, keys: count[int]) -> Layer:
    """Latent ``[B, n, D]`` to subband ``[B, n · hop_length, 1]``.

    Raises:
        TypeError: it is of another type, compiled or has hooks.
    """
    check_streamable(network, ConditionNetwork)
    head, istft = network.head, network.istft
    hop = istft.hop_length
    log_magnitude, phase = Unpadded(head.log_magnitude), Unpadded(head.phase)
    window = istft.window(network.conv_in.weight.device)
    squares = window.square()

    def spectrum(x: Tensor, first: bool, last: bool) -> Tensor:
        """Windowed frames of the inverse transform, and below them the squared windows that they are divided by."""
        x, one_frame = x.float(), first and last and x.shape[1] == 3
        x = x.clone() if first or last else x
        if first:  # by reflection; one frame has nothing to reflect
            x[:, 0] = x[:, 1 if one_frame else 2]
        if last:
            x[:, -1] = x[:, -2 if one_frame else -3]
        with full_precision(x.device):
            magnitude = log_magnitude(x).clamp(max=math.log(head.max_magnitude)).exp()
            frames = torch.fft.irfft(torch.polar(magnitude, phase(x)), istft.n_fft, dim=2)
        return torch.cat([frames * window, squares.expand_as(frames)], dim=2)

    def overlap_add(x: Tensor, first: bool, last: bool) -> Tensor:
        """Frames beyond the ends are zeros, squared windows included."""
        n = x.shape[1] - 4
        parts = x.unflatten(2, (2, 4, hop))
        sums = torch.stack([parts[:, 3 - j : n + 4 - j, :, j] for j in range(4)]).sum(0)  # [B, n + 1, 2, hop]
        signal, weight = sums.transpose(1, 2).flatten(2)[..., hop // 2 : hop // 2 + n * hop].unbind(1)
        return (signal / weight)[..., None]

    return Chain(
        streaming(network.conv_in, keys),
        normalised(network.norm_in),
        chain(network.blocks, keys),
        normalised(network.norm_out),
        Window(keys, spectrum, width=3, padding=1),
        Window(keys, overlap_add, width=5, padding=2, per_window=hop),
    )

"""The parts of the figure, for pieces."""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor

from ..layers import full_precision
from ..network import Network
from .condition import condition_network
from .decoder import GuidedDecoder
from .forms import streaming
from .layers import Chain, Layer, Pointwise, Together
from .pieces import Need, Piece, Span
from .state import State


def encode_latent(network: Network, keys: count[int]) -> Layer:
    """Audio to latent."""
    return Chain(streaming(network.encoder, keys), Pointwise(Tensor.float))


def quantize(network: Network, keys: count[int], n_quantizers: int) -> Layer:
    """Latent to codes ``[B, L, n_quantizers]``."""
    if n_quantizers > 1:
        return Quantize(network, keys, n_quantizers)
    return Pointwise(lambda latent: semantic_codes(network, latent))


def semantic_codes(network: Network, latent: Tensor) -> Tensor:
    """Of codebook 0, ``[B, L, 1]``."""
    with full_precision(latent.device):
        return network.semantic_quantizer.encode(latent.transpose(1, 2)).transpose(1, 2)


def semantic_latent(network: Network, codes: Tensor) -> Tensor:
    """The entries of the first of the codes ``[B, L, n]``."""
    with full_precision(codes.device):
        return network.semantic_quantizer.decode(codes[..., :1].transpose(1, 2)).transpose(1, 2)


class Quantize(Layer):
    """Latent to codes of more than one codebook."""

    def __init__(self, network: Network, keys: count[int], n_quantizers: int) -> None:
        self.network, self.n_acoustic = network, n_quantizers - 1
        self.semantic_decoder = streaming(network.semantic_decoder, keys)
        self.together = Together(keys, 3, self._acoustic)

    def bind(self, per_frame: int) -> int:
        return self.together.bind(self.semantic_decoder.bind(per_frame))

    def require(self, need: Need) -> Need:
        need = self.together.require(need)
        return need.union(self.semantic_decoder.require(need))

    def __call__(self, latent: Piece, state: State, span: Span) -> Piece:
        semantic = latent.map(lambda x: semantic_codes(self.network, x))
        entries = semantic.map(lambda x: semantic_latent(self.network, x))
        described = self.semantic_decoder(entries, state, span)
        return self.together((latent, semantic, described), state, span)

    def _acoustic(self, latent: Tensor, semantic: Tensor, described: Tensor) -> Tensor:
        """The semantic codes, and the acoustic ones of what they do not describe."""
        with full_precision(latent.device):
            residual = (latent - described.float()).transpose(1, 2)
            acoustic = self.network.acoustic_quantizer.encode(residual, self.n_acoustic)
        return torch.cat([semantic, acoustic.transpose(1, 2)], dim=2)


class Dequantize(Layer):
    """Codes ``[B, L, n]`` to latent."""

    def __init__(self, network: Network, keys: count[int]) -> None:
        self.network = network
        self.semantic_decoder = streaming(network.semantic_decoder, keys)
        self.together = Together(keys, 2, lambda described, acoustic: described.float() + acoustic)

    def bind(self, per_frame: int) -> int:
        return self.together.bind(self.semantic_decoder.bind(per_frame))

    def require(self, need: Need) -> Need:
        need = self.together.require(need)
        return need.union(self.semantic_decoder.require(need))

    def __call__(self, codes: Piece, state: State, span: Span) -> Piece:
        entries = codes.map(lambda x: semantic_latent(self.network, x))
        described = self.semantic_decoder(entries, state, span)
        return self.together((described, codes.map(self._acoustic)), state, span)

    def _acoustic(self, codes: Tensor) -> Tensor:
        with full_precision(codes.device):
            return self.network.acoustic_quantizer.decode(codes[..., 1:].transpose(1, 2)).transpose(1, 2)


def condition(network: Network, keys: count[int]) -> Layer:
    """Latent to subband."""
    return condition_network(network.condition_network, keys)


def synthesise(network: Network, keys: count[int]) -> GuidedDecoder:
    """Latent and subband to audio."""
    return GuidedDecoder(network.decoder, keys)


class DecodeLatent(Layer):
    """Latent to audio."""

    def __init__(self, network: Network, keys: count[int]) -> None:
        self.condition, self.synthesise = condition(network, keys), synthesise(network, keys)

    def bind(self, per_frame: int) -> int:
        return self.synthesise.bind(per_frame, self.condition.bind(per_frame))

    def require(self, need: Need) -> Need:
        of_latent, of_subband = self.synthesise.require(need)
        return of_latent.union(self.condition.require(of_subband))

    def __call__(self, latent: Piece, state: State, span: Span) -> Piece:
        subband = self.condition(latent, state, span)
        return self.synthesise(latent, subband, state, span)

"""The figure, for pieces."""

from __future__ import annotations

from itertools import count

import torch

from ..layers import full_precision
from ..network import Network
from .condition import condition_network
from .decoder import StreamingDecoder
from .forms import streaming
from .layers import Together
from .state import Piece, State, flat


class StreamingNetwork:
    """The figure for pieces: the steps of `network.Network`, of layers that keep their past in a state.

    Args:
        network: an inference form.

    Raises:
        TypeError: it has a part that cannot be streamed: of a type that is not known here, compiled or with hooks.
    """

    def __init__(self, network: Network) -> None:
        keys = count()
        self.network = network
        self.encoder = streaming(network.encoder, keys)
        self.semantic_decoder = streaming(network.semantic_decoder, keys)
        self.condition_network = condition_network(network.condition_network, keys)
        self.decoder = StreamingDecoder(network.decoder, keys)
        self.residual_together = Together([next(keys), next(keys), next(keys)])
        self.latent_together = Together([next(keys), next(keys)])

    def encode_latent(self, audio: Piece, state: State, last: bool) -> Piece:
        """Latent ``[B, L, D]`` of audio ``[B, n, 1]``, whole frames in all."""
        latent = self.encoder(audio, state, last)
        return None if latent is None else latent.float()

    def quantize(self, latent: Piece, state: State, last: bool, *, n_quantizers: int) -> Piece:
        """Codes ``[B, L, n_quantizers]`` of a latent ``[B, L, D]``."""
        semantic, quantized = None, None
        if latent is not None:
            with full_precision(latent.device):
                semantic = self.network.semantic_quantizer.encode(latent.transpose(1, 2))
                if n_quantizers > 1:
                    quantized = self.network.semantic_quantizer.decode(semantic).transpose(1, 2)
                semantic = semantic.transpose(1, 2)
        if n_quantizers == 1:
            return semantic
        known = self.residual_together(latent, semantic, self.semantic_decoder(quantized, state, last), state=state)
        if known is None:
            return None
        latent, semantic, described = known
        with full_precision(latent.device):
            residual = (latent - described.float()).transpose(1, 2)
            acoustic = self.network.acoustic_quantizer.encode(residual, n_quantizers - 1)
        return torch.cat([semantic, acoustic.transpose(1, 2)], dim=2)

    def dequantize(self, codes: Piece, state: State, last: bool) -> Piece:
        """Latent ``[B, L, D]`` of codes ``[B, L, n]``."""
        semantic, acoustic = None, None
        if codes is not None:
            layers = codes.transpose(1, 2)
            with full_precision(codes.device):
                semantic = self.network.semantic_quantizer.decode(layers[:, :1]).transpose(1, 2)
                acoustic = self.network.acoustic_quantizer.decode(layers[:, 1:]).transpose(1, 2)
        known = self.latent_together(self.semantic_decoder(semantic, state, last), acoustic, state=state)
        return None if known is None else known[0].float() + known[1]

    def condition(self, latent: Piece, state: State, last: bool) -> Piece:
        """Subband ``[B, subband_hop_length · L, 1]`` of a latent ``[B, L, D]``."""
        return self.condition_network(latent, state, last)

    def synthesise(self, latent: Piece, subband: Piece, state: State, last: bool) -> Piece:
        """Audio ``[B, hop_length · L, 1]`` of a latent ``[B, L, D]`` and its subband."""
        audio = self.decoder(latent, subband, state, last)
        return None if audio is None else audio.float()

    def encode(self, audio: Piece, state: State, last: bool, *, n_quantizers: int) -> Piece:
        """Codes ``[B, L, n_quantizers]`` of audio as frames ``[B, L, hop_length]``."""
        latent = self.encode_latent(flat(audio), state, last)
        return self.quantize(latent, state, last, n_quantizers=n_quantizers)

    def decode(self, codes: Piece, state: State, last: bool) -> Piece:
        """Audio ``[B, hop_length · L, 1]`` of codes ``[B, L, n]``."""
        latent = self.dequantize(codes, state, last)
        return self.synthesise(latent, self.condition(latent, state, last), state, last)

    # ---- look-ahead: frames that must follow a frame before its values are known -----------------------------------

    def encoder_look_aheads(self, n_quantizers: int) -> tuple[int, int]:
        """Of the encoder and of the semantic decoder, which matters with acoustic codes; they add up."""
        of_encoder = _FAR - self.encoder.known(_FAR * self.network.hop_length)
        return of_encoder, _FAR - self.semantic_decoder.known(_FAR) if n_quantizers > 1 else 0

    def decoder_look_aheads(self) -> tuple[int, int, int]:
        """Of the semantic decoder, the condition network and the decoder."""
        hop, subband_hop = self.network.hop_length, self.network.subband_hop_length
        return (
            _FAR - self.semantic_decoder.known(_FAR),
            _FAR - self.condition_network.known(_FAR) // subband_hop,
            _FAR - self.decoder.known(_FAR, _FAR * subband_hop) // hop,
        )

    def decoder_look_ahead(self) -> int:
        """Of decoding as a whole: less than the sum, as the decoder looks further ahead in the latent than below it."""
        latent = self.semantic_decoder.known(_FAR)
        return _FAR - self.decoder.known(latent, self.condition_network.known(latent)) // self.network.hop_length


_FAR = 10_000  # frames: no network needs so many

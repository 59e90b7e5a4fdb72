"""The network: audio to latent, latent to codes, and back, with gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_config, check_n_quantizers
from .condition import ConditionNetwork
from .decoder import Decoder
from .encoder import Encoder, SemanticDecoder
from .layers import full_precision
from .quantizer import ResidualVectorQuantizer, SimVQ


@dataclass(frozen=True)
class Reconstruction:
    """Output of `Network.forward`: the audio, and what the losses need."""

    audio: Tensor  # [B, 1, T]
    codes: Tensor  # [B, K, L] int64, of all codebooks
    semantic_latent: Tensor  # [B, D, L], which distillation compares with the teacher
    subband: Tensor  # [B, 1, subband_hop_length · L]
    subband_magnitude: Tensor  # [B, N, L], as predicted
    losses: dict[str, Tensor]  # scalars: the quantizers' terms of the objective


torch.export.register_dataclass(Reconstruction, serialized_type_name="esdcodec.Reconstruction")


class Network(nn.Module):
    """Encoder, quantizers and decoder of ESDCodec, trained as one.

    ```
    audio [B,1,T] -> encoder -> latent [B,D,L] -> semantic quantizer -> codes [B,1,L]
                                   |                    |
                                   |              semantic decoder -> s [B,D,L]
                                   +--- latent - s -> acoustic quantizer -> codes [B,n-1,L], a [B,D,L]

    s + a -> condition network -> subband [B,1,T/4] -+
    s + a -----------------------------------------> decoder -> audio [B,1,T]
    ```

    The defaults are the sizes of the published model `25hz_v1`.

    Args:
        sample_rate: of the audio, in Hz.
        encoder_dim: channels of the first encoder block; they double with every block.
        encoder_rates: strides of the encoder; their product is the hop length in samples.
        latent_dim: width D of the latent.
        semantic_codebook_size: entries of codebook 0, a power of two.
        semantic_codebook_dim: dimensions of its frozen entries (default: `latent_dim`).
        semantic_dim, semantic_hidden, semantic_blocks: width, MLP width and depth of the semantic decoder.
        acoustic_codebooks: number of codebooks after the first.
        acoustic_codebook_size: entries of each of them, a power of two.
        acoustic_codebook_dim: dimensions in which they are searched.
        condition_dim, condition_hidden, condition_blocks: width, MLP width and depth of the condition network.
        decoder_dim: channels of the first decoder stage; they halve with every stage.
        decoder_rates: upsampling factors of the decoder; their product must be that of `encoder_rates`.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 24000,
        encoder_dim: int = 64,
        encoder_rates: Sequence[int] = (4, 5, 6, 8),
        latent_dim: int = 1024,
        semantic_codebook_size: int = 16384,
        semantic_codebook_dim: int | None = None,
        semantic_dim: int = 512,
        semantic_hidden: int = 1536,
        semantic_blocks: int = 4,
        acoustic_codebooks: int = 11,
        acoustic_codebook_size: int = 1024,
        acoustic_codebook_dim: int = 8,
        condition_dim: int = 256,
        condition_hidden: int = 1024,
        condition_blocks: int = 6,
        decoder_dim: int = 1536,
        decoder_rates: Sequence[int] = (8, 6, 5, 4),
    ) -> None:
        self.config: dict[str, Any] = {
            name: list(value) if isinstance(value, Sequence) else value
            for name, value in locals().items()
            if name not in ("self", "__class__")
        }
        super().__init__()
        check_config(self.config)
        if math.prod(encoder_rates) != math.prod(decoder_rates):
            raise ValueError(
                f"encoder_rates {list(encoder_rates)} and decoder_rates {list(decoder_rates)} must have the same "
                f"product, but {math.prod(encoder_rates)} != {math.prod(decoder_rates)}"
            )
        self.sample_rate = sample_rate
        self.hop_length = math.prod(encoder_rates)
        self.subband_hop_length = math.prod(decoder_rates[:-1])
        self.codebook_sizes = (semantic_codebook_size, *[acoustic_codebook_size] * acoustic_codebooks)

        self.encoder = Encoder(encoder_dim, encoder_rates, latent_dim)
        self.semantic_quantizer = SimVQ(semantic_codebook_size, latent_dim, semantic_codebook_dim)
        self.semantic_decoder = SemanticDecoder(latent_dim, semantic_dim, semantic_hidden, semantic_blocks)
        self.acoustic_quantizer = ResidualVectorQuantizer(
            latent_dim, acoustic_codebooks, acoustic_codebook_size, acoustic_codebook_dim
        )
        self.condition_network = ConditionNetwork(
            latent_dim, condition_dim, condition_hidden, condition_blocks, self.subband_hop_length
        )
        self.decoder = Decoder(latent_dim, decoder_dim, decoder_rates)

    # ---- rates and sizes --------------------------------------------------------------------------------------------

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def n_codebooks(self) -> int:
        """Number of codebooks K, the semantic one included."""
        return len(self.codebook_sizes)

    @property
    def subband_sample_rate(self) -> int:
        """Rate of the condition network's signal, in Hz."""
        return self.sample_rate * self.subband_hop_length // self.hop_length

    def bits_per_frame(self, n_quantizers: int | None = None) -> int:
        """Bits of one frame of the first `n_quantizers` codebooks (default: all)."""
        n = check_n_quantizers(n_quantizers, self.n_codebooks)
        return sum(math.ceil(math.log2(size)) for size in self.codebook_sizes[:n])

    def bitrate(self, n_quantizers: int | None = None) -> float:
        """Bits per second with the first `n_quantizers` codebooks (default: all)."""
        return self.frame_rate * self.bits_per_frame(n_quantizers)

    def num_frames(self, num_samples: int) -> int:
        """Frames L that `num_samples` samples at the model's rate become; the last one may be partly filled."""
        return -(-num_samples // self.hop_length)

    @property
    def device(self) -> torch.device:
        return self.condition_network.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that the convolutions run in; the quantizers stay in float32."""
        return self.condition_network.conv_in.weight.dtype

    # ---- the figure -------------------------------------------------------------------------------------------------

    def forward(
        self, audio: Tensor, n_quantizers: Tensor | int | None = None, *, continuous: bool = False
    ) -> Reconstruction:
        """Encode and decode, with gradients.

        Args:
            audio: ``[B, 1, T]`` at the model's rate, on its device.
            n_quantizers: codebooks to reconstruct from, the semantic one included: one number, or one for each item
                ``[B]`` as training draws them. Default: all.
            continuous: reconstruct from the encoder's latent itself, past the quantizers.
        """
        if not isinstance(n_quantizers, Tensor):
            n = check_n_quantizers(n_quantizers, self.n_codebooks)
            n_quantizers = torch.full((audio.shape[0],), n, device=audio.device)
        latent = self.encode_latent(audio)
        with full_precision(latent.device):
            semantic = self.semantic_quantizer(latent)
        semantic_latent = self.decode_semantic(semantic.latent)
        with full_precision(latent.device):
            acoustic = self.acoustic_quantizer(latent - semantic_latent, n_quantizers - 1)
        quantized = semantic_latent + acoustic.latent
        if continuous:
            quantized = latent + 0 * quantized  # every parameter stays in the graph, as data-parallel training needs
        decoded, subband, magnitude = self.decode_latent(quantized)
        return Reconstruction(
            audio=decoded[..., : audio.shape[-1]],
            codes=torch.cat([semantic.codes, acoustic.codes], dim=1),
            semantic_latent=semantic_latent,
            subband=subband,
            subband_magnitude=magnitude,
            losses={
                "semantic_commitment": semantic.commitment_loss,
                "semantic_codebook": semantic.codebook_loss,
                "acoustic_commitment": acoustic.commitment_loss,
                "acoustic_codebook": acoustic.codebook_loss,
            },
        )

    def encode_latent(self, audio: Tensor) -> Tensor:
        """Latent ``[B, D, L]`` float32 of audio ``[B, 1, T]``; zeros complete the last frame."""
        audio = F.pad(audio, (0, -audio.shape[-1] % self.hop_length))
        return self.encoder(audio).float()

    def decode_semantic(self, quantized: Tensor) -> Tensor:
        """Semantic latent s ``[B, D, L]`` float32 of the semantic quantizer's latent."""
        return self.semantic_decoder(quantized.to(self.dtype)).float()

    def quantize(self, latent: Tensor, n_quantizers: int) -> Tensor:
        """Codes ``[B, n, L]`` of a latent ``[B, D, L]``."""
        with full_precision(latent.device):
            semantic = self.semantic_quantizer.encode(latent)
            if n_quantizers == 1:
                return semantic
            quantized = self.semantic_quantizer.decode(semantic)
        residual = latent - self.decode_semantic(quantized)
        with full_precision(latent.device):
            return torch.cat([semantic, self.acoustic_quantizer.encode(residual, n_quantizers - 1)], dim=1)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Latent s + a ``[B, D, L]`` of codes ``[B, n, L]``."""
        with full_precision(codes.device):
            semantic = self.semantic_quantizer.decode(codes[:, :1])
            acoustic = self.acoustic_quantizer.decode(codes[:, 1:])
        return self.decode_semantic(semantic) + acoustic

    def decode_latent(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Audio ``[B, 1, hop_length · L]``, subband and its magnitude, of a latent ``[B, D, L]``."""
        subband, magnitude = self.condition(latent)
        return self.synthesise(latent, subband), subband, magnitude

    def condition(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Subband ``[B, 1, subband_hop_length · L]`` and its magnitude of a latent ``[B, D, L]``."""
        subband, magnitude = self.condition_network(latent.to(self.dtype))
        return subband, magnitude

    def synthesise(self, latent: Tensor, subband: Tensor) -> Tensor:
        """Audio ``[B, 1, hop_length · L]`` of a latent ``[B, D, L]``, guided by its subband."""
        audio: Tensor = self.decoder(latent.to(self.dtype), subband.to(self.dtype))
        return audio.float()

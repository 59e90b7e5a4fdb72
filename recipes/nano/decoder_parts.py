"""The decoder in parts: without its last stage, with the weights of another one, and started layer by layer."""

import copy

import torch
from torch import Tensor, nn

from esdcodec import ESDCodec
from esdcodec.model_codec.decoder import Decoder
from esdcodec.model_codec.layers import Conv1d, ConvTranspose1d, ResidualUnit, Snake, variance_preserving_init


class LowerDecoder(nn.Module):
    """A decoder without its last stage: ``[B, D, L] -> [B, C, L · 240]``; `audio` is an output of its own, 6 kHz."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        width = decoder.stages[-1].snake.alpha.shape[1]
        self.head = nn.Sequential(Snake(width), Conv1d(width, 1, 7))

    def forward(self, latent: Tensor, subband: Tensor) -> Tensor:
        x = self.decoder.conv_in(latent)
        for stage, guide in zip(self.decoder.stages, self.decoder.subband_encoder(subband)):  # one guide less
            x = stage(x, guide)
        return x

    def audio(self, latent: Tensor, subband: Tensor) -> Tensor:
        """``[B, 1, L · 240]``."""
        return self.head(self.forward(latent, subband))


def with_decoder(codec: ESDCodec, decoder: nn.Module) -> ESDCodec:
    """A copy of `codec` with the weights of another decoder."""
    copied = copy.deepcopy(codec)
    copied.decoder.load_state_dict(decoder.state_dict())
    return copied


@torch.no_grad()
def start_decoder(codec: ESDCodec, latent: Tensor) -> None:
    """Start the decoder's convolutions so that each gives unit variance, and the audio is as loud as speech.

    Measured layer by layer, on the way: where activations grow, Snake no longer bends them, and the last gain becomes
    so small that every step of an optimizer throws it about.
    """
    decoder = codec.decoder
    variance_preserving_init(decoder)
    deviation = dict.fromkeys([unit[-1] for unit in decoder.modules() if isinstance(unit, ResidualUnit)], 0.3)
    deviation[decoder.conv_out] = 0.1

    def scale(layer: Conv1d | ConvTranspose1d, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        factor = deviation.get(layer, 1.0) / output.std()
        layer.weight_g.mul_(factor)
        return output * factor

    hooks = [
        layer.register_forward_hook(scale) for layer in decoder.modules() if isinstance(layer, Conv1d | ConvTranspose1d)
    ]
    codec.decode_latent(latent)
    for hook in hooks:
        hook.remove()

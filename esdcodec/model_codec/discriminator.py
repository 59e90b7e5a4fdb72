"""The discriminators of DAC, of the waveform and the complex spectrum, and small ones of the log spectrogram."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .layers import Conv2d, to_unit_length
from .spectral import centred_magnitude, frame_spectrum


def conv_block(
    in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> nn.Sequential:
    return nn.Sequential(Conv2d(in_channels, out_channels, kernel_size, stride), nn.LeakyReLU(0.1))


class PeriodDiscriminator(nn.Module):
    """Looks at the waveform folded at one period (HiFi-GAN, Kong et al. 2020, arXiv:2010.05646).

    Shape:
        audio ``[B, 1, T]`` -> feature maps, the score last.
    """

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        self.convs = nn.ModuleList(conv_block(c, d, (5, 1), (3, 1)) for c, d in pairwise([1, *channels]))
        self.convs.append(conv_block(channels[-1], channels[-1], (5, 1)))
        self.conv_post = Conv2d(channels[-1], 1, (3, 1))

    def forward(self, audio: Tensor) -> list[Tensor]:
        x = F.pad(audio, (0, self.period - audio.shape[-1] % self.period), mode="reflect")
        x = rearrange(x, "b c (t p) -> b c t p", p=self.period)
        maps = []
        for conv in self.convs:
            x = conv(x)
            maps.append(x)
        return [*maps, self.conv_post(x)]


class ResolutionDiscriminator(nn.Module):
    """Looks at the complex spectrogram of one window, in bands (DAC; UnivNet, Jang et al. 2021, arXiv:2106.07889).

    Shape:
        audio ``[B, 1, T]`` -> feature maps, the score last.
    """

    def __init__(self, window: int, channels: int, bands: Sequence[float]) -> None:
        super().__init__()
        self.window = window
        n_bins = window // 2 + 1
        self.bands = [(int(low * n_bins), int(high * n_bins)) for low, high in pairwise(bands)]
        self.band_convs: Sequence[nn.ModuleList] = nn.ModuleList(  # type: ignore[assignment]
            nn.ModuleList(
                [
                    conv_block(2, channels, (3, 9)),
                    *(conv_block(channels, channels, (3, 9), (1, 2)) for _ in range(3)),
                    conv_block(channels, channels, (3, 3)),
                ]
            )
            for _ in self.bands
        )
        self.conv_post = Conv2d(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> list[Tensor]:
        spectrum = frame_spectrum(audio[:, 0], self.window, self.window // 4)  # [B, N, frames], complex
        x = rearrange(torch.view_as_real(spectrum), "b n t c -> b c t n")
        maps, outputs = [], []
        for (low, high), convs in zip(self.bands, self.band_convs):
            band = x[..., low:high]
            for conv in convs:
                band = conv(band)
                maps.append(band)
            outputs.append(band)
        return [*maps, self.conv_post(torch.cat(outputs, dim=-1))]


class SpectrogramDiscriminator(nn.Module):
    """Looks at the logarithm of the magnitudes: harmonics, formants and noise, at any loudness.

    It ignores phases. A small codec cannot code them, so no gradient is spent on them.

    Shape:
        audio ``[B, 1, T]`` -> feature maps, the score last.
    """

    LAYERS = (((7, 5), (2, 2)), ((5, 5), (2, 2)), ((5, 3), (2, 1)), ((3, 3), (1, 1)))  # kernels and strides

    def __init__(self, window: int, hop: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        self.convs = nn.ModuleList(
            conv_block(c, d, kernel, stride)
            for (c, d), (kernel, stride) in zip(pairwise([1, *channels]), self.LAYERS, strict=True)
        )
        self.conv_post = Conv2d(channels[-1], 1, (3, 3))

    def forward(self, audio: Tensor) -> list[Tensor]:
        magnitude = centred_magnitude(audio[:, 0].float(), self.window, self.hop)
        x = 0.5 + 0.5 * (16 / math.sqrt(self.window) * magnitude + 3e-3).log()[:, None]  # [B, 1, N, frames]
        maps = []
        for conv in self.convs:
            x = conv(x)
            maps.append(x)
        return [*maps, self.conv_post(x)]


class Discriminator(nn.Module):
    """All sub-discriminators; the defaults are those of DAC.

    `spectrograms` gives the hop of each window, in samples.

    Shape:
        audio ``[B, 1, T]`` -> for each sub-discriminator its feature maps, the score last.
    """

    def __init__(
        self,
        *,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        period_channels: Sequence[int] = (32, 128, 512, 1024),
        windows: Sequence[int] = (2048, 1024, 512),
        resolution_channels: int = 64,
        bands: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
        spectrograms: Mapping[int, int] | None = None,
        spectrogram_channels: Sequence[int] = (16, 32, 48, 48),
    ) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, period_channels) for period in periods),
                *(ResolutionDiscriminator(window, resolution_channels, bands) for window in windows),
                *(SpectrogramDiscriminator(*sizes, spectrogram_channels) for sizes in (spectrograms or {}).items()),
            ]
        )
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Keep the scale of what goes through.

        Torch's own gain shrinks it about a hundredfold on the way to the last layer: the scores of real and decoded
        audio, and their feature maps, then hardly differ for thousands of steps.
        """
        for layer in self.modules():
            if isinstance(layer, Conv2d):
                to_unit_length(layer.weight_v.normal_())
                layer.weight_g.fill_(math.sqrt(2))
                layer.bias.zero_()  # type: ignore[union-attr]
        for discriminator in self.discriminators:
            discriminator.conv_post.weight_g.fill_(0.3)  # type: ignore[union-attr, operator]
            if isinstance(discriminator, ResolutionDiscriminator):  # a bin's deviation for noise of deviation 1
                for convs in discriminator.band_convs:
                    convs[0][0].weight_g.div_(math.sqrt(0.375 * discriminator.window))  # type: ignore[index]

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        audio = audio - audio.mean(dim=-1, keepdim=True)
        audio = 0.8 * audio / (audio.abs().amax(dim=-1, keepdim=True) + 1e-9)
        return [discriminator(audio) for discriminator in self.discriminators]

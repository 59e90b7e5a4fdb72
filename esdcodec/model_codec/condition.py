"""The condition network: latent to a low-rate signal that guides the decoder, by inverse STFT as in Vocos."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Conv1d, ConvNeXtBlock, Float32, LayerNorm, full_precision
from .spectral import hann_window


class ConditionNetwork(nn.Module):
    """Predicts the speech below a quarter of the sample rate as magnitude and phase (Siuzdak 2023, arXiv:2306.00814).

    Shape:
        latent ``[B, D, L]`` -> subband ``[B, 1, hop_length · L]``, magnitude ``[B, N, L]`` with N = 2 · hop_length + 1.
    """

    def __init__(self, latent_dim: int, dim: int, hidden: int, n_blocks: int, hop_length: int) -> None:
        super().__init__()
        n_bins = 2 * hop_length + 1
        self.conv_in = nn.Conv1d(latent_dim, dim, 7, padding=3)
        self.norm_in = LayerNorm(dim)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(dim, hidden, layer_scale=1 / n_blocks) for _ in range(n_blocks)))
        self.norm_out = LayerNorm(dim)
        self.head = SpectrumHead(dim, n_bins)
        self.istft = InverseSTFT(4 * hop_length, hop_length)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Begin with frames that are symmetric about their centre: phase π in every other bin, whatever comes in.

        Harmonics then sound as soon as the magnitudes show them. With the phases of a random layer the bins of a
        harmonic cancel each other, and with none it lies where the window is 0. The head has no bias: the first
        channel is made a constant.
        """
        self.norm_out.weight[0], self.norm_out.bias[0] = 0.0, 1.0
        phase = self.head.phase
        phase.weight_v.mul_(0.1)
        phase.weight_v[:, 0] = 0.0
        phase.weight_v[1::2, 0, 1] = math.pi
        phase.weight_g.copy_(phase.weight_v.flatten(1).norm(dim=1)[:, None, None])

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm_out(self.blocks(self.norm_in(self.conv_in(latent))))
        with full_precision(x.device):
            magnitude, phase = self.head(x.float())
            return self.istft(magnitude, phase), magnitude


class SpectrumHead(Float32):
    """Magnitude (at most 100) and phase of the subband: ``[B, C, L] -> 2 × [B, N, L]``."""

    max_magnitude = 100.0

    def __init__(self, dim: int, n_bins: int) -> None:
        super().__init__()
        self.log_magnitude = Conv1d(dim, n_bins, 3, padding=0, bias=False)
        self.phase = Conv1d(dim, n_bins, 3, padding=0, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.pad(x, (1, 1), mode="reflect" if x.shape[-1] > 1 else "replicate")  # one frame has nothing to reflect
        # clamped before the exponential, which could overflow and make the gradient NaN
        magnitude = self.log_magnitude(x).clamp(max=math.log(self.max_magnitude)).exp()
        return magnitude, self.phase(x)


class InverseSTFT(Float32):
    """Inverse STFT with "same" padding: L frames give exactly hop_length · L samples."""

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length

    def window(self, device: torch.device) -> Tensor:
        """Periodic Hann window ``[n_fft]``, float32."""
        return hann_window(self.n_fft, device=device)

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        frames = torch.fft.irfft(torch.polar(magnitude, phase), self.n_fft, dim=1)
        window = self.window(magnitude.device)[:, None].expand(-1, magnitude.shape[-1])
        return self.overlap_add(frames * window) / self.overlap_add(window.square()[None])

    def overlap_add(self, frames: Tensor) -> Tensor:
        """``[B, n_fft, L] -> [B, 1, hop_length · L]``."""
        length = (frames.shape[-1] - 1) * self.hop_length + self.n_fft
        signal = F.fold(frames, (1, length), (1, self.n_fft), stride=(1, self.hop_length))[:, :, 0]
        trim = (self.n_fft - self.hop_length) // 2
        return signal[..., trim : length - trim]

"""Distances that the audio stages add to the library's: of the signal below 3 kHz, and of phases."""

from collections.abc import Sequence

import torch
from analysis import RATE
from torch import Tensor

from esdcodec.model_codec.losses import SUBBAND_WINDOWS, mel_loss
from esdcodec.model_codec.spectral import decimate

FACTOR = 4  # of the rates of the whole signal and of the subband


def below_3k(audio: Tensor) -> Tensor:
    """``[B, 1, T]`` at 24 kHz -> ``[B, 1, T / 4]`` at 6 kHz."""
    return decimate(audio[:, 0], FACTOR)[:, None]


def subband_mel(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mel distance of signals ``[B, 1, T]`` at 6 kHz."""
    return mel_loss(estimate, reference, RATE // FACTOR, SUBBAND_WINDOWS)


def phase_loss(estimate: Tensor, reference: Tensor, windows: Sequence[int], top: float) -> Tensor:
    """1 - cosine of the phase difference below `top` Hz of signals ``[B, 1, T]`` at 6 kHz.

    A mean weighed by the root of the magnitude, over spectra of several windows.
    """
    total = estimate.new_zeros(())
    for window in windows:
        y, x = (_spectrum_below(top, each, window)[:, 1:] for each in (estimate, reference))
        weight = x.abs().sqrt()
        cosine = (y * x.conj()).real / ((y.abs() + 1e-4) * x.abs().clamp(min=1e-6))
        total = total + 1 - (weight * cosine).sum() / weight.sum()
    return total / len(windows)


def agreement(decoded: Tensor, guide: Tensor) -> Tensor:
    """Distance of the spectra below 2.7 kHz of audio at 24 kHz and at 6 kHz, weighed by the root of the magnitude."""
    total = decoded.new_zeros(())
    for window in (128, 256, 512):
        y, x = (_spectrum_below(2700.0, each, window) for each in (below_3k(decoded), guide))
        root = (x.abs() + 1e-3).sqrt()
        total = total + ((y - x).abs() / root).sum() / root.sum()
    return total / 3


def _spectrum_below(top: float, audio: Tensor, window: int) -> Tensor:
    hann = torch.hann_window(window, device=audio.device)
    spectrum = torch.stft(audio[:, 0], window, window // 4, window, hann, return_complex=True)
    return spectrum[:, : int(top * FACTOR / RATE * window) + 1]

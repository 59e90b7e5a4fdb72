"""Spectra for the losses and the discriminators."""

import math
from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor


def kept_on_device(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of numbers that gives a constant, which stays on each device and in each dtype where it was wanted.

    Made anew and copied at each call, constants cost a training step on a GPU more than the operators that use them.
    """
    kept: dict[tuple, Tensor] = {}

    @wraps(make)
    def get(
        *numbers: float, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, **more: float
    ) -> Tensor:
        if torch.compiler.is_compiling():  # a constant of the graph: what is traced must not be kept
            return make(*numbers, **more).to(device, dtype)
        key = (numbers, *more.items(), torch.device(device), dtype)
        if key not in kept:
            with torch.inference_mode(False):  # whoever asks first, gradients may go through later
                kept[key] = make(*numbers, **more).to(device, dtype)
        return kept[key]

    return get


@kept_on_device
def hann_window(length: int) -> Tensor:
    """Periodic Hann window ``[length]``."""
    return torch.hann_window(length)


def centred_magnitude(audio: Tensor, window: int, hop_length: int) -> Tensor:
    """|STFT| of ``[B, T]`` -> ``[B, N, frames]``: periodic Hann, frames centred on reflect-padded audio."""
    hann = hann_window(window, device=audio.device)
    return torch.stft(
        audio, window, hop_length, window=hann, center=True, pad_mode="reflect", return_complex=True
    ).abs()


def frame_spectrum(audio: Tensor, window: int, hop_length: int) -> Tensor:
    """STFT of ``[B, T]`` -> complex ``[B, N, ⌈T / hop_length⌉]``: as many frames as hops, none centred.

    One reflect pad of (window - hop) / 2 on the left and as much plus what completes the last hop on the right.
    """
    pad = (window - hop_length) // 2
    audio = F.pad(audio[:, None], (pad, pad + -audio.shape[-1] % hop_length), mode="reflect")[:, 0]
    hann = hann_window(window, device=audio.device)
    return torch.stft(audio.float(), window, hop_length, window=hann, center=False, return_complex=True)


@kept_on_device
def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Mel filter bank ``[n_mels, N]`` from 0 to half the rate, scale and normalisation of Slaney's Auditory Toolbox."""
    linear_step, log_start = 200 / 3, 1000.0  # Hz per mel below 1 kHz; above it 27 mels for each factor of 6.4
    log_step = math.log(6.4) / 27

    def to_mel(hz: float) -> float:
        return hz / linear_step if hz < log_start else log_start / linear_step + math.log(hz / log_start) / log_step

    mels = torch.linspace(0, to_mel(sample_rate / 2), n_mels + 2, dtype=torch.float64)
    edges = torch.where(
        mels < log_start / linear_step,
        mels * linear_step,
        log_start * torch.exp((mels - log_start / linear_step) * log_step),
    )
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp(min=0)
    return (triangles * 2 / (high - low)).float()


def decimate(audio: Tensor, factor: int) -> Tensor:
    """``[B, T]`` -> ``[B, ⌊T / factor⌋]`` at 1/`factor` of the rate, by a windowed sinc low-pass, edges held."""
    kernel = low_pass(factor, device=audio.device, dtype=audio.dtype)
    width = (kernel.shape[-1] - factor) // 2
    padded = F.pad(audio[:, None], (width, width + factor), mode="replicate")
    return F.conv1d(padded, kernel, stride=factor)[:, 0, : audio.shape[-1] // factor]


@kept_on_device
def low_pass(factor: int) -> Tensor:
    """Kernel ``[1, 1, n]`` before a decimation: sinc of 24 zero crossings, cos² window, cut at 0.945 of the new half
    rate, as the condition losses of the published model were computed with.
    """
    zeros, rolloff = 24, 0.945
    width = math.ceil(zeros * factor / rolloff)
    t = torch.arange(-width, width + factor, dtype=torch.float64) * (rolloff / factor)
    t = t.clamp(-zeros, zeros) * math.pi
    kernel = torch.sinc(t / math.pi) * torch.cos(t / zeros / 2).square()
    return (kernel / kernel.sum())[None, None]

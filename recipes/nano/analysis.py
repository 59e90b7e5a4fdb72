"""What the latent of a frame says: 160 numbers that are measured here, and 64 that a teacher heard (whisper.py).

The only file that knows which stand where. Two mel spectra of 40 ms, centred on the quarters of the frame, 60 bins
each; pitch as a soft position on a scale of 38 semitones from 62 Hz; and the phase of that pitch at the frame's centre,
as cosine and sine. Position and phase shrink to zero where nothing is voiced. Loudness is that of the mel spectra.

The phase is there because the decoder has no state: from the same numbers in every frame it can render only what
repeats every 40 ms, that is multiples of 25 Hz. A steady voice of any other pitch needs frames that say where in its
period they begin.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from esdcodec.audio import resample
from esdcodec.model_codec.spectral import decimate, mel_filters

RATE, HOP = 24000, 960
N_MELS, N_PITCHES = 60, 38
PITCH = slice(2 * N_MELS, 2 * N_MELS + N_PITCHES)
PHASE = slice(PITCH.stop, PITCH.stop + 2)
DIM = PHASE.stop  # of the analysis
HEARD = slice(DIM, DIM + 64)
LATENT_DIM = HEARD.stop
SEMITONES = 1200 * math.log2(6.2) + 100 * np.arange(N_PITCHES)  # cents above 10 Hz

FIRST_BIN, CENTS_PER_BIN = 1997.3794, 20.0  # of CREPE, above 10 Hz

PAUSE_BELOW = 5.0  # natural logarithms under the loudest frame: quiet speech has a pitch, too
NOISE_FLOOR = -8.6  # what dither alone has, and a little
LOW = 110.0  # Hz: a voice that is lower is harder to render, and rarer

# What the stages need to know of it.
PARTS = {"pitch": PITCH, "phase": PHASE, "heard": HEARD}  # errors of which are shown apart
ACOUSTIC = PHASE  # what the semantic codebook leaves to the acoustic ones: it has better things to say
SEMANTIC = HEARD  # what the acoustic codebooks leave to it
WEIGHED_BY_TEACHER = slice(0, PITCH.start)


def weights(**parts: float) -> Tensor:
    """Weights of squared errors ``[D, 1]``: 1, and other ones for the named `PARTS`."""
    weight = torch.ones(LATENT_DIM, 1)
    for name, value in parts.items():
        weight[PARTS[name]] = value
    return weight


def standardisation(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale ``[160]`` by which the analysis is standardised; zeros of pitch and phase stay zeros."""
    mean, scale = frames.mean(0), 1 / frames.std(0).clip(min=1e-3)
    mean[PITCH.start :], scale[PITCH.start :] = 0, 3
    return mean, scale


def is_low(frames: np.ndarray) -> bool:
    """Whether more than a third of the voiced frames among these ``[L, 160]`` have a pitch below `LOW`."""
    position = frames[:, PITCH].astype(np.float32)
    voiced = position.sum(1) > 1.2  # half of what a frame with a sure pitch has
    low = SEMITONES[position.argmax(1)] < 1200 * math.log2(LOW / 10)
    return bool((low & voiced).sum() > voiced.sum() / 3)


def analysis(waveform: np.ndarray) -> np.ndarray:
    """``[L · 960]`` at 24 kHz -> ``[L, 160]``."""
    mels = mel_spectra(waveform)
    cents, voicing = pitch(waveform)
    loudness = mels.mean(1)
    voicing = voicing * (loudness > max(loudness.max() - PAUSE_BELOW, NOISE_FLOOR))  # pauses are not voiced
    phase = phase_of(waveform, np.where(voicing > 0.05, cents, 3600.0))
    position = np.exp(-0.5 * ((cents[:, None] - SEMITONES) / 100) ** 2)
    circle = np.stack([np.cos(phase), np.sin(phase)], axis=1)
    return np.concatenate([mels, position * voicing[:, None], circle * voicing[:, None]], axis=1).astype(np.float16)


def mel_spectra(waveform: np.ndarray) -> np.ndarray:
    """``[L · 960] -> [L, 120]``: log magnitudes."""
    n_frames = len(waveform) // HOP
    padded = F.pad(torch.from_numpy(waveform), (512 - HOP // 4, 512 + HOP))
    spectrum = torch.stft(padded, 1024, HOP // 2, HOP, torch.hann_window(HOP), center=False, return_complex=True).abs()
    mels = (mel_filters(RATE, 1024, N_MELS) @ spectrum[:, : 2 * n_frames]).clamp(min=1e-4).log()
    return mels.view(N_MELS, n_frames, 2).permute(1, 2, 0).reshape(n_frames, -1).numpy()


def pitch(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[L · 960] -> [L]``: cents above 10 Hz, and voicing in [0, 1]."""
    import torchcrepe

    n_frames = len(waveform) // HOP
    at_16k = np.pad(resample(waveform, RATE, 16000), (0, 2000))[320:]  # centred on the codec's frames
    hertz, periodicity = torchcrepe.predict(
        torch.from_numpy(at_16k)[None],
        16000,
        640,
        55,
        550,
        "tiny",
        return_periodicity=True,
        batch_size=512,
        device="cpu",
        decoder=_near_the_likeliest,
    )
    voicing = (periodicity[0, :n_frames].numpy() - 0.2).clip(0, 0.6) / 0.6
    return 1200 * np.log2(hertz[0, :n_frames].numpy() / 10), voicing


def _near_the_likeliest(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Bins ``[B, L]`` and frequencies of CREPE's probabilities ``[B, 360, L]``.

    The mean of the bins within 80 cents of the likeliest one, as in CREPE (Kim et al. 2018, arXiv:1802.06182).
    torchcrepe's own adds random cents to each of its bins, other ones in every process.
    """
    likeliest = probabilities.argmax(dim=1)
    bins = torch.arange(probabilities.shape[1], device=probabilities.device)[None, :, None]
    near = (bins - likeliest[:, None]).abs() <= 4
    weights = probabilities.clamp(min=0) * near  # those of pitches out of range are -inf
    mean = (weights * bins).sum(1) / weights.sum(1)
    return likeliest, 10 * 2 ** ((FIRST_BIN + CENTS_PER_BIN * mean) / 1200)


def phase_of(waveform: np.ndarray, cents: np.ndarray) -> np.ndarray:
    """Phase of the fundamental at the centre of each frame, ``[L]`` in radians.

    The pitch tracker is some ten cents off, which a window of 80 ms would not forgive: of the pitches within 60 cents
    the one counts whose first eight harmonics are the strongest.
    """
    window, size, rate = 480, 4096, RATE // 4
    low = decimate(torch.from_numpy(waveform)[None], 4)[0]
    n_frames = len(low) // (HOP // 4)
    offset = window // 2 - HOP // 8
    frames = F.pad(low, (offset, window)).unfold(0, window, HOP // 4)[:n_frames] * torch.hann_window(window)
    centred = frames.new_zeros(n_frames, size)  # the frame's centre at time zero
    centred[:, : window // 2], centred[:, size - window // 2 :] = frames[:, window // 2 :], frames[:, : window // 2]
    spectrum = torch.fft.rfft(centred)

    around = torch.linspace(-60, 60, 25)
    candidates = 10 * 2 ** ((torch.from_numpy(cents)[:, None].float() + around) / 1200)
    harmonics = _at(spectrum, candidates[..., None] * torch.arange(1, 9) * size / rate)  # [L, 25, 8]
    strength = harmonics.abs().pow(0.7).sum(-1) * (1 - 0.1 * (around / 60) ** 2)
    best = strength.argmax(1)
    return harmonics[torch.arange(n_frames), best, 0].angle().numpy()


def _at(spectrum: Tensor, bins: Tensor) -> Tensor:
    """`spectrum` ``[L, N]`` at `bins` ``[L, ...]`` between its own, interpolated."""
    bins = bins.clamp(max=spectrum.shape[1] - 2)
    below = bins.long()
    share = bins - below
    low, high = (spectrum.gather(1, index.flatten(1)).view_as(below) for index in (below, below + 1))
    return low * (1 - share) + high * share

"""What a speech recogniser hears of the latents, and so what the quantizers shall take care of.

Quantizers make a squared error small, which counts alike whatever it does to the speech. The teacher, the encoder of a
Whisper tiny (Radford et al. 2022, arXiv:2212.04356), tells directions apart: a small network learns to predict its
features from the latents, and its Jacobian says how far each direction of a latent moves them. The mel spectra are
then told with those directions enlarged: half of the weight is that of the teacher, half is left to all alike.
"""

import numpy as np
import torch
from analysis import DIM, HOP, PITCH, RATE
from torch import Tensor, nn

from esdcodec.audio import resample
from esdcodec.evaluation.words import recogniser_folder

N_FEATURES = 2 * 384  # two of the teacher's frames for each of the codec's
LONGEST = 600  # frames that it hears at once


class Whisper:
    """Features of Whisper's encoder."""

    def __init__(self) -> None:
        from faster_whisper import WhisperModel

        self.model = WhisperModel(str(recogniser_folder()), device="cpu", compute_type="float32")

    def features(self, waveform: np.ndarray) -> np.ndarray:
        """``[L · 960]`` at 24 kHz -> ``[L, 768]``."""
        pieces = np.split(waveform, range(LONGEST * HOP, len(waveform), LONGEST * HOP))
        return np.concatenate([self._features(piece) for piece in pieces])

    def _features(self, waveform: np.ndarray) -> np.ndarray:
        n_frames = len(waveform) // HOP
        second_more = np.pad(resample(waveform, RATE, 16000), (0, 16000))
        spectrum = self.model.feature_extractor(second_more)[:, : 4 * n_frames + 100]
        features = np.array(self.model.encode(np.ascontiguousarray(spectrum)))[0]
        return features[: 2 * n_frames].reshape(n_frames, N_FEATURES)


def make_listener() -> nn.Module:
    """A network that predicts the teacher's features: ``[B, 160, L] -> [B, 768, L]``."""
    layers: list[nn.Module] = []
    for i in range(3):
        layers += [nn.Conv1d(320 if i else DIM, 320, 5, padding=2), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv1d(320, N_FEATURES, 1))


def sensitivity(listener: nn.Module, latent: Tensor) -> Tensor:
    """Mean of JᵀJ ``[D, D]`` over the frames of `latent` ``[B, D, L]``; J is of `listener`, by one frame's latent."""
    latent = latent.requires_grad_(True)
    features = listener(latent)
    # E[vvᵀ] = 1, so the mean of (Jᵀv)(Jᵀv)ᵀ over random v is that of JᵀJ
    (gradient,) = torch.autograd.grad((features * torch.randn_like(features)).sum(), latent)
    gradient = gradient[..., 8:-8].transpose(1, 2).flatten(0, 1)  # frames of which all that follows is there
    return gradient.T @ gradient / len(gradient)


def language(sensitivity: Tensor) -> Tensor:
    """The symmetric matrix ``[D, D]`` that latents are multiplied by: pitch and phase stay as they are."""
    mels = slice(0, PITCH.start)
    heard = sensitivity[mels, mels].double()
    weights = (torch.eye(len(heard)) + heard / heard.diag().mean()) / 2
    values, vectors = torch.linalg.eigh(weights)
    matrix = torch.eye(DIM)
    matrix[mels, mels] = (vectors * values.sqrt() @ vectors.T).float()
    return matrix

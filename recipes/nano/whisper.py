"""What a speech recogniser hears, and so what the latents are and what the quantizers shall take care of.

Quantizers make a squared error small, which counts alike whatever it does to the speech. The teacher, the encoder of a
Whisper tiny (Radford et al. 2022, arXiv:2212.04356), tells directions apart, in two ways. A small network learns to
predict its features from the analysis, and its Jacobian says how far each direction moves them: the mel spectra are
told with those directions enlarged, half of the weight is that of the teacher, half is left to all alike. And the
principal components of what that network predicts are a part of the latent, so that the semantic codebook is searched
by words and by sound. (Of the features themselves an encoder that hears a third of a second can tell no more than that
prediction, and would learn it from noise.)
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from analysis import DIM, HEARD, HOP, RATE, WEIGHED_BY_TEACHER, standardisation
from data import Frames
from recordings import AUDIO, LATENTS, LENGTHS, Arrays, waveform_of
from stage import TARGETS, Job, Stage, noise_like
from torch import Tensor, nn

from esdcodec.audio import Waveform, resample
from esdcodec.dataset.batch import Batch
from esdcodec.evaluation.words import recogniser_folder

N_FEATURES = 2 * 384  # two of the teacher's frames for each of the codec's
LONGEST = 600  # frames that it hears at once
FEATURES = "teacher/features"
MARGIN = 8  # frames at both ends of a segment of which the listener does not see all that it could


class Whisper:
    """Features of Whisper's encoder."""

    def __init__(self) -> None:
        from faster_whisper import WhisperModel

        self.model = WhisperModel(str(recogniser_folder()), device="cpu", compute_type="float32")

    def features(self, waveform: Waveform) -> np.ndarray:
        """``[L · 960]`` at 24 kHz -> ``[L, 768]``."""
        pieces = np.split(waveform, range(LONGEST * HOP, len(waveform), LONGEST * HOP))
        return np.concatenate([self._features(piece) for piece in pieces])

    def _features(self, waveform: Waveform) -> np.ndarray:
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


def sensitivity(listener: nn.Module, latent: Tensor, random: torch.Generator) -> Tensor:
    """Mean of JᵀJ ``[D, D]`` over the frames of `latent` ``[B, D, L]``; J is of `listener`, by one frame's latent."""
    latent = latent.requires_grad_(True)
    features = listener(latent)
    # E[vvᵀ] = 1, so the mean of (Jᵀv)(Jᵀv)ᵀ over random v is that of JᵀJ
    (gradient,) = torch.autograd.grad((features * noise_like(features, random)).sum(), latent)
    gradient = gradient[..., MARGIN:-MARGIN].transpose(1, 2).flatten(0, 1)
    return gradient.T @ gradient / len(gradient)


def language(sensitivity: Tensor) -> Tensor:
    """The symmetric matrix ``[D, D]`` that the analysis is multiplied by: pitch and phase stay as they are."""
    mels = WEIGHED_BY_TEACHER
    heard = sensitivity[mels, mels].double().cpu()
    weights = (torch.eye(len(heard)) + heard / heard.diag().mean()) / 2
    values, vectors = torch.linalg.eigh(weights)
    matrix = torch.eye(DIM)
    matrix[mels, mels] = (vectors * values.sqrt() @ vectors.T).float()
    return matrix


def components(features: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[768]`` and matrix ``[768, 64]``: (features - mean) · matrix is what the latents hold of `features`.

    The largest principal components; `variance` is that of all together.
    """
    mean = features.mean(0)
    centred = (features - mean).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    vectors *= np.sign(vectors[np.abs(vectors).argmax(0), range(N_FEATURES)])
    values, vectors = values[::-1], vectors[:, ::-1]
    n = HEARD.stop - HEARD.start
    return mean, (vectors[:, :n] * np.sqrt(variance / values[:n].sum())).astype(np.float32)


class TeacherStage(Stage):
    """Learns what Whisper hears of the analysis; leaves the latents that all other stages learn from."""

    learns = ("listener",)
    name, terms, score = "teacher", ("features",), "not_heard"

    @classmethod
    def prepare(cls, job: Job) -> None:
        whisper: list[Whisper] = []  # made where there is something to hear

        def features(samples: np.ndarray) -> np.ndarray:
            if not whisper:
                whisper.append(Whisper())
            return whisper[0].features(waveform_of(samples)).astype(np.float16)

        for arrays in (job.train, job.validation):
            arrays.convert(AUDIO, FEATURES, features)

    def build(self) -> None:
        self.listener = make_listener().to(self.device)
        self.learn("listener", nn.ModuleList([self.listener]))  # in float32

    def frames(self) -> Mapping[str, Frames]:
        some = self.job.train.sample(FEATURES)
        self.analysed = Frames(LATENTS, *standardisation(self.job.train.sample(LATENTS)))
        return {
            "latent": self.analysed,
            "features": Frames(FEATURES, some.mean(0), 1 / some.std(0).clip(min=1e-3)),
        }

    def losses(self, batch: Batch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        latent = batch.features["latent"]
        heard = self.listener(latent + self.settings.noise * noise_like(latent, random))
        return {"features": F.mse_loss(heard, batch.features["features"])}

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """The share of the features' variance that is not heard."""
        return {"not_heard": F.mse_loss(self.listener(batch.features["latent"]), batch.features["features"])}

    def conclude(self, folder: Path) -> None:
        self.listener.requires_grad_(False)
        random = self.numbers(0, 1)
        batches = (self.data[i * self.settings.batch_size].to(self.device) for i in range(60))
        heard = [sensitivity(self.listener, batch.features["latent"], random) for batch in batches]
        told = language(torch.stack(heard).mean(0)).numpy()
        sampled = [[each[::7].copy() for each in self.hear(self.job.train, name)] for name in self.job.train.names]
        analysed, features = map(np.concatenate, zip(*sampled))
        mean, matrix = components(features, variance=(analysed @ told)[:, WEIGHED_BY_TEACHER].var(0).sum())
        for arrays in (self.job.train, self.job.validation):
            for name in arrays.names:
                analysed, features = self.hear(arrays, name)
                latents = np.concatenate([analysed @ told, (features - mean) @ matrix], axis=1)
                arrays.write(TARGETS, name, latents.astype(np.float16))

    @torch.no_grad()
    def hear(self, arrays: Arrays, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The standardised analysis of a shard's recordings, and the features that are predicted from it."""
        analysed = self.analysed(arrays.read(LATENTS, name))  # [160, L]
        ends = arrays.read(LENGTHS, name).cumsum()[:-1].tolist()
        features = [self.listener(each[None].to(self.device))[0] for each in analysed.tensor_split(ends, dim=1)]
        return analysed.T.numpy(), torch.cat(features, dim=1).T.cpu().numpy()

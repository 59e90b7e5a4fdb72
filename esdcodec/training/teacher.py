"""The distillation teacher: w2v-BERT 2.0, whose 17th layer the semantic latent learns to predict."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, Wav2Vec2BertModel

from ..audio import resample
from ..model_codec.layers import full_precision

TEACHER_RATE = 16000
SHORTEST = 1600  # samples: some frames, for less the features are not defined


class W2vBert(nn.Module):
    """Normalised hidden states of w2v-BERT (Barrault et al. 2023, arXiv:2312.05187) at the codec's frame rate.

    Args:
        path: folder or Hub id of the model, `facebook/w2v-bert-2.0`.
        statistics: file with a dict of `mean` and `var`, ``[D]`` each, as published beside the checkpoint; null leaves
            the states as they are.
        layer: index into the model's hidden states; the layers above it are dropped.
        pool: frames of the teacher (50 a second) for each one of the codec.
    """

    def __init__(self, path: str, statistics: str | None = None, layer: int = 17, pool: int = 2) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.model = Wav2Vec2BertModel.from_pretrained(path)
        depth = len(self.model.encoder.layers)
        if not 1 <= layer <= depth:
            raise ValueError(f"model.teacher.layer={layer}, but the model in {path} has layers 1 to {depth}")
        self.model.encoder.layers = self.model.encoder.layers[:layer]
        self.pool = pool
        dim = self.model.config.hidden_size
        mean, var = (torch.zeros(dim), torch.ones(dim)) if statistics is None else read_statistics(statistics, dim)
        self.register_buffer("mean", mean[:, None])
        self.register_buffer("std", var.sqrt()[:, None])
        self.eval().requires_grad_(False)

    def to_device(self, device: torch.device) -> "W2vBert":
        """Move it to `device`; on a GPU in half precision, the statistics excepted."""
        self.to(device)
        if device.type == "cuda":
            self.model.bfloat16()
        return self

    def train(self, mode: bool = True) -> "W2vBert":
        return super().train(False)  # frozen: no dropout, ever

    @property
    def dim(self) -> int:
        return self.model.config.hidden_size

    @torch.no_grad()
    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features ``[B, F, 160]`` and their mask ``[B, F]`` -> target ``[B, D, F / pool]`` and its mask.

        A frame of the target counts where all the frames that it is the mean of do; without a mask all do.
        """
        states = self.states(input_features, attention_mask).transpose(1, 2)
        normalised = (states - self.mean) / self.std
        mask = torch.ones_like(states[:, 0]) if attention_mask is None else attention_mask.float()
        whole = F.avg_pool1d(mask[:, None], self.pool)[:, 0] == 1
        return F.avg_pool1d(normalised, self.pool), whole

    @torch.no_grad()
    def states(self, input_features: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Hidden states ``[B, F, D]`` of the layer, as the model gives them, in float32."""
        dtype = next(self.model.parameters()).dtype
        with full_precision(input_features.device):
            output = self.model(input_features=input_features.to(dtype), attention_mask=attention_mask)
        return output.last_hidden_state.float()


class FeatureExtraction:
    """What w2v-BERT reads, from waveforms ``[n]`` at the codec's rate; runs in the loader's workers.

    The waveforms are not padded: zeros after them would change the mean that the extractor subtracts. Its padding of
    shorter ones is masked. Where nothing is, there is no mask: the model asks the device what it holds, and waits.
    """

    def __init__(self, path: str, sample_rate: int) -> None:
        self.extractor = AutoFeatureExtractor.from_pretrained(path)
        self.sample_rate = sample_rate

    def __call__(self, waveforms: Sequence[np.ndarray]) -> dict[str, Tensor]:
        waveforms = [resample(waveform, self.sample_rate, TEACHER_RATE) for waveform in waveforms]
        waveforms = [np.pad(waveform, (0, max(0, SHORTEST - len(waveform)))) for waveform in waveforms]
        features = self.extractor(waveforms, sampling_rate=TEACHER_RATE, return_tensors="pt")
        masked = not features["attention_mask"].all()
        return {name: features[name] for name in ("input_features", "attention_mask")[: 1 + masked]}


def read_statistics(file: str | Path, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and variance ``[dim]`` of the published statistics file.

    Raises:
        ValueError: the file does not hold them.
    """
    stored = torch.load(file, map_location="cpu", weights_only=True)
    try:
        mean, var = (torch.as_tensor(stored[name]).float().flatten() for name in ("mean", "var"))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{file}: expected a dict with `mean` and `var`") from error
    if len(mean) != dim or len(var) != dim:
        raise ValueError(f"{file}: {len(mean)} means and {len(var)} variances, but the teacher has {dim} channels")
    return mean, var

"""The training of an `AcousticModel`: its loss, validation and export."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from ...codec import ESDCodec
from ...dataset.codes_stream import CodesBatch
from ...dataset.voiced_stream import VoicedStream
from ...model_tts.acoustic_folder import save_acoustic
from ..optimizer import Learner
from ..state import host_copy
from ..task import Writer
from .task import SpeechTask


class AcousticTask(SpeechTask):
    """Trains an `AcousticModel`; each segment learns one codebook.

    Args:
        codec: whose codes these are.
    """

    data_settings = (
        "data.train",
        "data.segment_frames",
        "data.voice_share",
        "data.voice_frames",
        "data.shuffle_window",
        "trainer.seed",
    )
    shown: Mapping[str, str] = {"loss/total": "loss", "accuracy": "accuracy"}

    def __init__(
        self,
        accelerator: Accelerator,
        learner: Learner,
        networks: Mapping[str, Any],
        codec: ESDCodec,
        held_out: VoicedStream | None = None,
    ) -> None:
        super().__init__(accelerator, learner, networks, held_out)
        self.codec_name, self.fingerprint = codec.name, codec.fingerprint

    def backward(self, batch: CodesBatch, step: int, position: int) -> dict[str, Tensor]:
        """The mean over the frames of all ranks: how these are shared out changes nothing."""
        loss, n_right = losses(self.learner.network, batch)
        share = self.accelerator.num_processes / batch.n_targets  # gradients are means over the ranks
        self.accelerator.backward(loss * share)
        return {"loss/total": loss.detach() * share, "accuracy": n_right * share}

    n_sums = 3

    def sums(self, network: Any, batch: CodesBatch) -> Tensor:
        loss, n_right = losses(network, batch)
        return torch.stack([loss.float(), n_right.float(), loss.new_full((), batch.n_targets, dtype=torch.float32)])

    def values(self, sums: Sequence[float]) -> dict[str, float]:
        loss, n_right, n = sums
        return {"loss": loss / n, "accuracy": n_right / n}

    def export_later(self) -> Writer:
        network = self.learner.averaged
        weights = self.exported = host_copy(network.state_dict(), self.exported)

        def write(folder: Path) -> None:
            save_acoustic(folder, network.config, weights, codec=self.codec_name, fingerprint=self.fingerprint)

        return write


def losses(network: Any, batch: CodesBatch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the codes of each segment's codebook, and how many are the most probable ones."""
    logits = network(batch.codes, batch.codebook, batch.prompt).float()
    targets = batch.codes[torch.arange(len(batch.codes), device=batch.codes.device), batch.codebook]
    loss = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-1, reduction="sum")
    return loss, (logits.argmax(-1) == targets).sum()

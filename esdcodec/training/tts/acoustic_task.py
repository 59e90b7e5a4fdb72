"""The training of an `AcousticModel`: its loss, validation and export."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from ...codec import ESDCodec
from ...dataset.codes_stream import CodesBatch, CodesStream
from ...model_tts.acoustic_folder import save_acoustic
from ..optimizer import Learner
from ..state import host_copy
from ..task import Task, Validation, Writer


class AcousticTask(Task):
    """Trains an `AcousticModel`; each segment learns one codebook.

    Args:
        networks: sizes and codec.
        codec: whose codes these are.
        held_out: what is validated on; None: no validation.
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
        held_out: CodesStream | None = None,
    ) -> None:
        self.accelerator, self.learner, self.learners = accelerator, learner, [learner]
        self.sizes, self.held_out = dict(networks), held_out
        self.codec_name, self.fingerprint = codec.name, codec.fingerprint
        self.exported: dict[str, Tensor] | None = None  # its memory serves the next

    def networks(self) -> dict[str, Any]:
        return self.sizes

    def backward(self, batch: CodesBatch, step: int, position: int) -> dict[str, Tensor]:
        """The mean over the frames of all ranks: how these are shared out changes nothing."""
        loss, n_right = sums(self.learner.network, batch)
        share = self.accelerator.num_processes / batch.n_targets  # gradients are means over the ranks
        self.accelerator.backward(loss * share)
        return {"loss/total": loss.detach() * share, "accuracy": n_right * share}

    @torch.no_grad()
    def validate(self) -> Validation | None:
        if self.held_out is None:
            return None
        network = self.learner.averaged
        network.eval()
        total = torch.zeros(3, device=self.accelerator.device)
        with self.accelerator.autocast():
            for batch in self.held_out.once():
                loss, n_right = sums(network, batch.to(self.accelerator.device))
                total += torch.stack([loss.float(), n_right.float(), total.new_tensor(float(batch.n_targets))])
        network.train()
        loss, n_right, n = self.accelerator.reduce(total, "sum").tolist()
        return Validation({"loss": loss / n, "accuracy": n_right / n}, score=loss / n)

    def export_later(self) -> Writer:
        network = self.learner.averaged
        weights = self.exported = host_copy(network.state_dict(), self.exported)

        def write(folder: Path) -> None:
            save_acoustic(folder, network.config, weights, codec=self.codec_name, fingerprint=self.fingerprint)

        return write


def sums(network: Any, batch: CodesBatch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the codes of each segment's codebook, and how many are the most probable ones."""
    logits = network(batch.codes, batch.codebook, batch.prompt).float()
    targets = batch.codes[torch.arange(len(batch.codes), device=batch.codes.device), batch.codebook]
    loss = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-1, reduction="sum")
    return loss, (logits.argmax(-1) == targets).sum()

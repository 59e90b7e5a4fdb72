"""The training of a language model on text and semantic codes: its loss, validation and export."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ...dataset.text_stream import PackedBatch, TextStream
from ...model_tts.autoregressive import TokenLosses
from ...model_tts.text import TextFrontEnd
from ...model_tts.text_to_codes import SpeechTokens, TextToCodes
from ..optimizer import Learner
from ..state import host_copy
from ..task import Task, Validation, Writer


class TextToCodesTask(Task):
    """Trains an `AutoregressiveModel`.

    Args:
        networks: sizes, vocabulary and codec.
        held_out: what is validated on; None: no validation.
    """

    data_settings = (
        "data.train",
        "data.text_field",
        "data.max_sequence",
        "data.voice_share",
        "data.voice_frames",
        "data.shuffle_window",
        "trainer.seed",
    )
    shown: Mapping[str, str] = {"loss/total": "loss", "loss/end": "end", "accuracy": "accuracy"}

    def __init__(
        self,
        accelerator: Accelerator,
        learner: Learner,
        networks: Mapping[str, Any],
        tokens: SpeechTokens,
        front_end: TextFrontEnd,
        held_out: TextStream | None = None,
    ) -> None:
        self.accelerator, self.learner, self.learners = accelerator, learner, [learner]
        self.sizes, self.tokens, self.front_end, self.held_out = dict(networks), tokens, front_end, held_out
        self.exported: dict[str, Tensor] | None = None  # its memory serves the next

    def networks(self) -> dict[str, Any]:
        return self.sizes

    def backward(self, batch: PackedBatch, step: int, position: int) -> dict[str, Tensor]:
        """The mean over the tokens of all ranks: how these are shared out changes nothing."""
        found: TokenLosses = self.learner.network(batch.sequences)
        share = self.accelerator.num_processes / batch.n_targets  # gradients are means over the ranks
        loss = found.loss * share
        self.accelerator.backward(loss)
        return {
            "loss/total": loss.detach(),
            "loss/end": found.end.detach() / found.n_ends,
            "accuracy": found.n_right * share,
        }

    @torch.no_grad()
    def validate(self) -> Validation | None:
        if self.held_out is None:
            return None
        network = self.learner.averaged
        network.eval()
        sums = torch.zeros(len(TokenLosses._fields), device=self.accelerator.device)
        with self.accelerator.autocast():
            for batch in self.held_out.once():
                found = network(batch.sequences.to(self.accelerator.device))
                sums += torch.stack([value.float() for value in found])
        network.train()
        loss, end, n_tokens, n_ends, n_right = self.accelerator.reduce(sums, "sum").tolist()
        values = {"loss": loss / n_tokens, "end": end / n_ends, "accuracy": n_right / n_tokens}
        return Validation(values, score=values["loss"])

    def export_later(self) -> Writer:
        language_model = self.learner.averaged.language_model
        weights = self.exported = host_copy(language_model.state_dict(), self.exported)
        exported = TextToCodes(language_model, self.tokens, self.front_end)
        return lambda folder: exported.save(folder, weights)

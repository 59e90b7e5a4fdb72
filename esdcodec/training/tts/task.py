"""What the trainings of speech from text have in common, and that of a language model on text and semantic codes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ...dataset.text_stream import PackedBatch
from ...dataset.voiced_stream import VoicedStream
from ...model_tts.autoregressive import TokenLosses
from ...model_tts.text import TextFrontEnd
from ...model_tts.text_to_codes import SpeechTokens, TextToCodes
from ..optimizer import Learner
from ..state import host_copy
from ..task import Task, Validation, Writer


class SpeechTask(Task):
    """Trains one network on tokens.

    Args:
        networks: sizes, and the codec.
        held_out: what is validated on; None: no validation.
    """

    n_sums: int  # that validation adds up

    def __init__(
        self, accelerator: Accelerator, learner: Learner, networks: Mapping[str, Any], held_out: VoicedStream | None
    ) -> None:
        self.accelerator, self.learner, self.learners = accelerator, learner, [learner]
        self.sizes, self.held_out = dict(networks), held_out
        self.exported: dict[str, Tensor] | None = None  # its memory serves the next

    def networks(self) -> dict[str, Any]:
        return self.sizes

    def sums(self, network: Any, batch: Any) -> Tensor:
        """What validation adds up ``[n_sums]``, of a batch."""
        raise NotImplementedError

    def values(self, sums: Sequence[float]) -> dict[str, float]:
        """What validation shows, by these sums; the `loss` decides which checkpoint is the best."""
        raise NotImplementedError

    @torch.no_grad()
    def validate(self) -> Validation | None:
        if self.held_out is None:
            return None
        network, device = self.learner.averaged, self.accelerator.device
        network.eval()
        total = torch.zeros(self.n_sums, device=device)
        with self.accelerator.autocast():
            for batch in self.held_out.once():
                total += self.sums(network, batch.to(device))
        network.train()
        values = self.values(self.accelerator.reduce(total, "sum").tolist())
        return Validation(values, score=values["loss"])


class TextToCodesTask(SpeechTask):
    """Trains an `AutoregressiveModel`."""

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
        held_out: VoicedStream | None = None,
    ) -> None:
        super().__init__(accelerator, learner, networks, held_out)
        self.tokens, self.front_end = tokens, front_end

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

    n_sums = len(TokenLosses._fields)

    def sums(self, network: Any, batch: PackedBatch) -> Tensor:
        return torch.stack([value.float() for value in network(batch.sequences)])

    def values(self, sums: Sequence[float]) -> dict[str, float]:
        found = TokenLosses(*sums)  # type: ignore[arg-type]
        return {
            "loss": float(found.loss / found.n_tokens),
            "end": float(found.end / found.n_ends),
            "accuracy": float(found.n_right / found.n_tokens),
        }

    def export_later(self) -> Writer:
        language_model = self.learner.averaged.language_model
        weights = self.exported = host_copy(language_model.state_dict(), self.exported)
        exported = TextToCodes(language_model, self.tokens, self.front_end)
        return lambda folder: exported.save(folder, weights)

"""The training of a codec: its objective, codebook usage, validation and export."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from ..codec import ESDCodec
from ..dataset.batch import Batch
from ..evaluation.usage import CodebookUsage
from .export import Export
from .initialise import fit_to_latents
from .monitor import Sounds
from .objective import Objective
from .optimizer import Learner
from .settings import TrainerSettings
from .task import Task, Validation, Writer
from .validation import sample_sounds, validate

COLLAPSED = 0.01  # a healthy semantic codebook's perplexity is above this share of what could be seen
DOMINATED = 0.9  # D(real) − D(fake) of discriminators that are never fooled


class CodecTask(Task):
    """Trains a codec, with discriminators or without.

    Args:
        networks: the sizes of codec and discriminators.
        held_out: batches to validate on; None: no validation.
        n_processes: that compute its slow scores; 0: this one.
    """

    data_settings = (
        "data.train",
        "data.filters",
        "data.shuffle_window",
        "data.segment_speech.segment_length",
        "data.segment_speech.per_utterance",
        "trainer.seed",
    )
    shown: Mapping[str, str] = {
        "loss/total": "loss",
        "loss/mel": "mel",
        "loss/distillation": "distillation",
        "loss/semantic_commitment": "commitment",
        "discriminator/real": "D(real)",
        "discriminator/fake": "D(fake)",
    }

    def __init__(
        self,
        settings: TrainerSettings,
        accelerator: Accelerator,
        objective: Objective,
        networks: Mapping[str, Any],
        held_out: Iterable[Batch] | None = None,
        n_processes: int = 0,
    ) -> None:
        self.settings, self.accelerator, self.objective = settings, accelerator, objective
        self.codec = objective.codec
        self.discriminator = objective.adversarial.discriminator if objective.adversarial is not None else None
        self.learners = [self.codec] if self.discriminator is None else [self.codec, self.discriminator]
        self.sizes, self.held_out, self.n_processes = dict(networks), held_out, n_processes
        self.exported: Export | None = None  # its memory serves the next
        self.usage = CodebookUsage(self.codec.unwrapped.codebook_sizes, accelerator.device)

    def networks(self) -> dict[str, Any]:
        return self.sizes

    def active(self, step: int) -> list[Learner]:
        return self.learners if self.objective.adversarial_at(step) else [self.codec]

    def before_step(self, step: int, read: Callable[[], Batch]) -> None:
        """After `continuous_steps`, start the quantizers where the latents of some batches are, on all ranks alike."""
        if step != self.settings.continuous_steps or not self.settings.fit_batches:
            return
        some = [read() for _ in range(self.settings.fit_batches)]
        codec: ESDCodec = self.codec.unwrapped
        fit_to_latents(codec, torch.cat([batch.audio for batch in some]), self.accelerator.gather)
        for parameter in codec.parameters():  # sums on a GPU may differ in the last bit
            broadcast(parameter.data)
        if self.codec.average is not None:
            self.codec.average.n_averaged.zero_()  # the average begins anew

    def backward(self, batch: Batch, step: int, position: int) -> dict[str, Tensor]:
        scalars, codes = self.objective.backward(batch, step, position)
        self.usage.add(codes)
        return scalars

    def summary(self, accelerator: Accelerator) -> dict[str, float]:
        """Share of entries in use and perplexity of each codebook."""
        self.usage.counts = accelerator.reduce(self.usage.counts, "sum")
        self.frames = self.usage.frames
        values: dict[str, float] = {}
        for i, (used, perplexity) in enumerate(zip(self.usage.used(), self.usage.perplexity())):
            name = "semantic" if i == 0 else f"acoustic_{i}"
            values |= {f"usage/{name}": used, f"perplexity/{name}": perplexity}
        self.usage.clear()
        return values

    def warnings(self, values: Mapping[str, float], step: int) -> list[str]:
        # while it is trained past the quantizers, the codes mean nothing
        quantized = step > self.settings.continuous_steps
        return health_warnings(values, self.usage.sizes[0], self.frames if quantized else None)

    def validate(self) -> Validation | None:
        if self.held_out is None:
            return None
        return validate(self.codec.averaged, self.held_out, self.accelerator, self.n_processes)

    def sounds(self) -> Sounds:
        if self.held_out is None or not self.accelerator.is_main_process:
            return {}
        return sample_sounds(self.codec.averaged, self.held_out, self.accelerator)

    def export_later(self) -> Writer:
        discriminator = self.discriminator.unwrapped if self.discriminator is not None else None
        self.exported = Export(self.codec.averaged, discriminator, reuse=self.exported)
        return self.exported.write


def health_warnings(values: Mapping[str, float], semantic_entries: int, frames: int | None) -> list[str]:
    """What is wrong with a codec's training that logs these values, and what helps.

    Args:
        frames: from which the perplexity was computed; None: the perplexity means nothing.
    """
    found = []
    perplexity = values["perplexity/semantic"]
    if frames is not None and perplexity < COLLAPSED * min(semantic_entries, frames):
        found.append(
            f"semantic codebook collapse: {perplexity:.1f} entries are as good as in use, of {semantic_entries}. "
            "Distil from a teacher, or set trainer.continuous_steps and trainer.fit_batches; a lower learning rate and "
            "longer warm-up help"
        )
    real, fake = values.get("discriminator/real", 0.0), values.get("discriminator/fake", 0.0)
    if real - fake > DOMINATED:
        found.append(
            f"discriminator dominance: D(real) {real:.2f}, D(fake) {fake:.2f}, so the codec learns nothing from "
            "them. Lower trainer.discriminator.lr, or raise trainer.discriminator_start"
        )
    return found

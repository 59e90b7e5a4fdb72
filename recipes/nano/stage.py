"""What a stage is: a task for the library's loop, with the codec as the stages before left it, and segments."""

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from data import Frames, Segments
from recordings import Arrays, Augmentation, DataSettings
from settings import StageSettings
from torch import Tensor, nn

from esdcodec import ESDCodec
from esdcodec.dataset.batch import Batch
from esdcodec.training.objective import weighted_sum
from esdcodec.training.optimizer import Learner
from esdcodec.training.task import Task, Validation

TARGETS = "teacher/latents"  # of all stages but the teacher's, which makes them


@dataclass(frozen=True)
class Job:
    """What a stage works with."""

    folder: Path  # of the run; every stage has a folder of its own below it
    settings: StageSettings
    seed: int
    accelerator: Accelerator
    codec: ESDCodec
    train: Arrays
    validation: Arrays
    data: DataSettings
    discriminators: Mapping[str, Any]  # sizes by name
    damage: Augmentation | None = None


class Stage(Task):
    """Trains some parts of a codec; the rest stays as it is, and the whole codec is handed on.

    Subclasses say what there is by name, make their networks in `build`, and compute `losses` and `measure`.
    """

    name: str
    learns: tuple[str, ...]  # names of `settings.networks`
    terms: tuple[str, ...]  # names of `settings.loss_weights`
    options: tuple[str, ...] = ()  # names of `settings.options`
    score: str  # the value by which validation judges
    margin = 0  # frames to read before and after each segment

    def __init__(self, job: Job) -> None:
        self.job, self.settings, self.accelerator, self.codec = job, job.settings, job.accelerator, job.codec
        self.device = job.accelerator.device
        self.learners = []
        self.scalars: dict[str, Tensor] = {}  # to log, of the last step
        self.seed = [job.seed, zlib.crc32(self.name.encode())]
        frames = self.frames()
        self.data = self._segments(job.train, frames, self.settings.batch_size, self.damage)
        self.held_out = self._segments(job.validation, frames, self.settings.n_validation)[0].to(self.device)
        self.build()

    def _segments(
        self, arrays: Arrays, frames: Mapping[str, Frames], batch_size: int, damage: Augmentation | None = None
    ) -> Segments:
        n_frames = self.settings.n_frames + 2 * self.margin
        return Segments(
            arrays, frames, self.job.data, n_frames=n_frames, batch_size=batch_size, seed=self.seed, damage=damage
        )

    # ---- what a stage says of itself ---------------------------------------------------------------------------------

    @property
    def damage(self) -> Augmentation | None:
        """What the audio goes through before it is `damaged` in the batch; None: there is none."""
        return None

    @classmethod
    def prepare(cls, job: Job) -> None:
        """Write arrays that the stage needs; what is there stays."""

    def build(self) -> None:
        """Make what learns."""
        raise NotImplementedError

    def frames(self) -> Mapping[str, Frames]:
        """What is read besides the audio."""
        return {"latent": Frames(TARGETS)}

    def losses(self, batch: Batch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        """Terms of the loss, by the names of `settings.loss_weights`."""
        raise NotImplementedError

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """What the validation segments show."""
        raise NotImplementedError

    def handed_on(self) -> ESDCodec:
        return self.codec

    def conclude(self, folder: Path) -> None:
        """Write what else the next stages need: arrays, and files in the stage's `folder`."""

    # ---- what the loop asks ------------------------------------------------------------------------------------------

    data_settings = ("data", "seed", "after")

    def networks(self) -> dict[str, Any]:
        return {"codec": self.codec.config, "stage": asdict(self.settings)}

    def backward(self, batch: Batch, step: int, position: int) -> dict[str, Tensor]:
        self.scalars = {}
        terms = self.losses(batch, step, self.numbers(position))
        total = weighted_sum(terms, self.settings.loss_weights)
        self.accelerator.backward(total)
        losses = {f"loss/{name}": value.detach() for name, value in terms.items()}
        return {**losses, "loss/total": total.detach(), **self.scalars}

    @torch.no_grad()
    def validate(self) -> Validation:
        values = {name: value.item() for name, value in self.measure(self.held_out).items()}
        return Validation(values, score=values[self.score])

    def export(self, folder: Path) -> None:
        self.handed_on().save_pretrained(folder)

    # ---- tools -------------------------------------------------------------------------------------------------------

    def learn(self, name: str, network: nn.Module, ema_decay: float | None = None) -> Learner:
        """Let a network learn by `settings.networks[name]`.

        Calls of `network` are in the run's precision from now on, those of its parts by themselves are not.
        """
        settings = self.settings.networks[name].optimizer(self.settings.steps)
        learner = Learner.make(self.accelerator, name, network, settings)
        if ema_decay is not None:
            learner.keep_average(self.accelerator, ema_decay)
        self.learners.append(learner)
        return learner

    def numbers(self, *position: int) -> torch.Generator:
        """Random numbers that depend on the seed, the stage and a position alone: a resumed run draws the same."""
        state = np.random.SeedSequence([*self.seed, *position]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def noise_like(tensor: Tensor, random: torch.Generator) -> Tensor:
    """Normal deviates of the shape of `tensor`."""
    return torch.randn(tensor.shape, generator=random).to(tensor)

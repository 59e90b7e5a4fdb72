"""What the loop asks of what it trains. The loop knows no network; a task knows no loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from .monitor import Sounds
from .optimizer import Learner


@dataclass(frozen=True)
class Validation:
    """What a validation found."""

    values: dict[str, float]  # by name
    score: float  # the lowest is the best: this checkpoint is kept, and exported as `export_best`


class Task:
    """Networks, their losses, what is validated, shown and exported: what differs from one training to another.

    `learners` are all networks, in the order in which checkpoints number them. Every method runs on all ranks,
    `export` excepted.
    """

    learners: list[Learner]
    data_settings: tuple[str, ...] = ()  # names of the settings that decide what is read at a position
    shown: Mapping[str, str] = {"loss/total": "loss"}  # values of the progress line, and their labels there

    def networks(self) -> dict[str, Any]:
        """Sizes of all that is trained, and how: a checkpoint in which they differ is refused."""
        return {}

    def active(self, step: int) -> list[Learner]:
        """Those that learn in this step."""
        return self.learners

    def before_step(self, step: int, read: Callable[[], Any]) -> None:
        """What comes before some step: `read` gives batches, which the steps then go on after."""

    def backward(self, batch: Any, step: int, position: int) -> dict[str, Tensor]:
        """Add the gradients of a batch, whose first item is at `position`; returns scalars to log.

        A step with a scalar that is not finite is left out.
        """
        raise NotImplementedError

    def summary(self, accelerator: Accelerator) -> dict[str, float]:
        """What there is to log besides the means of the scalars since the last time, over all ranks."""
        return {}

    def warnings(self, values: Mapping[str, float], step: int) -> list[str]:
        """What is wrong with a run that logs these values, and what helps."""
        return []

    def validate(self) -> Validation | None:
        """Scores on data that is not trained on; None where there is none."""
        return None

    def sounds(self) -> Sounds:
        """Examples of what the networks give now."""
        return {}

    def export(self, folder: Path) -> None:
        """Write what others use, into `folder`; on the main process."""

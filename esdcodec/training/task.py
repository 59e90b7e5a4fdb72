"""What the loop asks of what it trains. The loop knows no network; a task knows no loop."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from accelerate import Accelerator
from torch import Tensor

from ..whole_file import whole_file
from .monitor import Sounds
from .optimizer import Learner

Writer: TypeAlias = Callable[[Path], None]  # writes into the folder that it is given


@dataclass(frozen=True)
class Validation:
    """What a validation found."""

    values: dict[str, float]  # by name
    score: float  # the lowest is the best: this checkpoint is kept, and exported as `export_best`


class Task:
    """Networks, their losses, what is validated, shown and exported: what differs from one training to another.

    `learners` are all networks, in the order in which checkpoints number them. Every method runs on all ranks,
    `export` and `export_later` excepted.
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

    def export_later(self) -> Writer:
        """What writes into a folder, while the training goes on, what others use of the networks as they are now.

        This one holds the training up for as long as `export` takes. A task with large networks copies their weights
        instead, and needs no `export`.
        """
        temporary = TemporaryDirectory(prefix="esdcodec-export-")  # removed with `write`
        self.export(Path(temporary.name))

        def write(folder: Path) -> None:
            written = Path(temporary.name)
            for path in (path for path in written.rglob("*") if path.is_file()):
                with whole_file(folder / path.relative_to(written)) as stream, open(path, "rb") as source:
                    shutil.copyfileobj(source, stream)

        return write

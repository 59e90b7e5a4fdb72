"""The loop: steps of a task over batches, and all that happens between them."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from torch import Tensor

from ..dataset.skip_counts import SkipCounts
from ..processes import Interrupted
from .host_copy import HostCopy, steps_behind
from .monitor import LogWindow, progress_line, starvation
from .optimizer import Learner
from .run import Run
from .settings import RunSettings
from .task import Task

log = get_logger(__name__)  # of the main process


class TrainingData(Protocol):
    """Endless batches of one process, which have `keys`, `to(device)`, and what was skipped for them.

    Batches of different sizes have, besides, the position of their `first` item, that `after` this step's batches of
    all ranks, and the `seconds` of audio in these.
    """

    @property
    def epoch_size(self) -> int | None:
        """Items of an epoch; None where nobody knows."""
        ...

    def batches(self, position: int) -> Iterator[Any]:
        """From `position`: the items that all ranks have read so far."""
        ...


@dataclass(frozen=True)
class TakenStep:
    """A step, and what there will be to say of it when the device is done with it."""

    number: int
    flags: HostCopy  # how many ranks found it not finite, how many received a signal to stop
    scalars: list[dict[str, Tensor]]  # of each batch
    norms: dict[str, Tensor]  # of the gradients before clipping, by the learner's name
    keys: list[str]  # of this rank's utterances


class Trainer:
    """Trains a task to `max_steps`.

    Args:
        batch_size: items of a batch of one process; None: batches say themselves what they are.
        item_seconds: of audio in each item, where they are equally many.
        skip_counts: what of the data could not be used; the batches add theirs.
        max_broken_share: of the data, above which the run stops.
        data_digest: the same where the same data is read; None: nobody knows.
    """

    def __init__(
        self,
        settings: RunSettings,
        run: Run,
        task: Task,
        data: TrainingData,
        *,
        batch_size: int | None,
        item_seconds: float = 0.0,
        skip_counts: SkipCounts,
        max_broken_share: float,
        data_digest: str | None = None,
    ) -> None:
        self.settings, self.run, self.task, self.data = settings, run, task, data
        self.accelerator, self.data_digest = run.accelerator, data_digest
        self.batch_size, self.item_seconds = batch_size, item_seconds
        self.skip_counts, self.max_broken_share = skip_counts, max_broken_share
        device = self.accelerator.device
        self.window = LogWindow(device)
        self._taken: deque[TakenStep] = deque()
        self._lag = steps_behind(device)
        self._no_yes = torch.tensor([0.0, 1.0], device=device)

    def train(self) -> None:
        """Train to `max_steps`, from the newest checkpoint in `output_dir` if there is one.

        Raises:
            Interrupted: a SystemExit with code 75, after SIGTERM or SIGUSR1; all is saved.
            CheckpointError: there is a checkpoint that cannot be gone on from.
            TooMuchIsBroken: more of the data than `data.max_broken_share`.
            FloatingPointError: `trainer.max_skipped_steps` steps in a row were not finite.
        """
        self.run.resume(self.task.learners, self.task.networks(), self.task.data_settings, self.data_digest)
        with self.run.running(), closing(self.data.batches(self.run.progress.position)) as batches:  # type: ignore[type-var]
            self._loop(batches)

    def _loop(self, batches: Iterator[Any]) -> None:
        settings, progress = self.settings, self.run.progress
        for learner in self.task.learners:
            learner.network.train()
        self.window.clear()
        occasions = settings.log_every, settings.validate_every, settings.sample_every, settings.checkpoint_every
        if progress.step >= settings.max_steps:
            self.run.export_again(self.task.export_later)
        while progress.step < settings.max_steps:
            with self.window.paused():
                self.task.before_step(progress.step, lambda: self.read(batches)[0])
            number = progress.step + 1
            last = number == settings.max_steps
            logs, validates, samples, saves = (last or number % every == 0 for every in occasions)
            self.take_step(batches)
            interrupted = self.look_back(0 if logs or validates or samples or saves else self._lag) and not last
            progress.step, progress.score = number, None
            if logs:
                self._log()
            with self.window.paused():
                if validates:
                    self._validate()
                if samples:
                    self.run.track_sounds(self.task.sounds())
                if saves or interrupted:
                    self.run.save(self.task.export_later, "interrupted" if interrupted else "running")
            self.run.check()
            if interrupted:
                raise Interrupted

    # ---- a step -----------------------------------------------------------------------------------------------------

    def read(self, batches: Iterator[Any]) -> tuple[Any, int]:
        """The next batch of this process, and the position of its first item."""
        started = time.perf_counter()
        batch = next(batches)
        first, after, seconds = self._extent(batch)
        if not self.window.stopped:
            self.window.waited += time.perf_counter() - started
            self.window.audio_seconds += seconds
        self.skip_counts.add(batch)
        self.run.progress.position = after
        self.run.progress.audio_seconds += seconds
        return batch.to(self.accelerator.device), first

    def _extent(self, batch: Any) -> tuple[int, int, float]:
        """Position of a batch's first item, where all ranks go on, and the seconds of audio that they have read."""
        if self.batch_size is None:
            return batch.first, batch.after, batch.seconds
        position, n_items = self.run.progress.position, self.batch_size * self.accelerator.num_processes
        first = position + self.accelerator.process_index * self.batch_size
        return first, position + n_items, n_items * self.item_seconds

    def take_step(self, batches: Iterator[Any]) -> None:
        """One optimizer step of all networks, over `gradient_accumulation` batches.

        A step that is not finite on any rank changes nothing on all. The device finds this out, and the host does not
        wait for it: `look_back` does, later.
        """
        learners = self.task.active(self.run.progress.step)
        broken = torch.zeros((), device=self.accelerator.device)
        scalars: list[dict[str, Tensor]] = []
        keys: list[str] = []
        for _ in range(self.settings.gradient_accumulation):
            batch, position = self.read(batches)
            keys += batch.keys
            with self.accelerator.accumulate(*(learner.network for learner in learners)):
                scalars.append(self.task.backward(batch, self.run.progress.step, position))
                broken += ~torch.isfinite(torch.stack(list(scalars[-1].values()))).all()
                if self.accelerator.sync_gradients:
                    norms = {f"grad_norm/{learner.name}": self._clip(learner) for learner in learners}
                    broken += ~torch.isfinite(torch.stack(list(norms.values()))).all()
                    interrupted = self._no_yes[int(self.run.interruption.received)]
                    flags = self.accelerator.reduce(torch.stack([broken, interrupted]), "sum")
                    skip = (flags[0] > 0).float()
                    for learner in learners:
                        learner.step(skip)
                for learner in learners:
                    learner.optimizer.zero_grad()
        for learner in learners:
            learner.schedule.step()
        for learner in self.task.learners:
            learner.update_average(skip)
        self.window.steps += 1
        self._taken.append(TakenStep(self.run.progress.step + 1, HostCopy(flags), scalars, norms, keys))

    def _clip(self, learner: Learner) -> Tensor:
        """Clip the gradient; returns its norm before."""
        most = learner.clip_grad_norm or self.settings.clip_grad_norm
        norm = self.accelerator.clip_grad_norm_(learner.network.parameters(), most)
        return norm.detach()

    def look_back(self, n_left: int = 0) -> bool:
        """See what became of the steps taken, until `n_left` remain; whether a rank received a signal to stop."""
        interrupted = False
        while len(self._taken) > n_left:
            step = self._taken.popleft()
            n_broken, n_interrupted = step.flags.tolist()
            if n_broken:
                self._report_skipped(step)
            else:
                self.run.progress.skipped_in_a_row = 0
                for scalars in (*step.scalars, step.norms):
                    self.window.add(scalars)
            if n_interrupted:
                interrupted, n_left = True, 0  # what is saved then is looked at too
        return interrupted

    def _report_skipped(self, step: TakenStep) -> None:
        progress = self.run.progress
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
        bad = sorted({name for each in step.scalars for name, value in each.items() if not torch.isfinite(value)})
        log.warning(
            "step %d is not finite (%s; gradient norms %s) and was skipped on all ranks; its utterances: %s",
            step.number,
            ", ".join(bad) or "no loss of this rank",
            ", ".join(f"{norm.item():.3g}" for norm in step.norms.values()),
            " ".join(gather_object(step.keys)),
        )
        if progress.skipped_in_a_row == self.settings.max_skipped_steps:
            self.run.wait()  # the last checkpoint may be in writing
            raise FloatingPointError(
                f"{progress.skipped_in_a_row} steps in a row were not finite (trainer.max_skipped_steps). The last "
                f"good checkpoint is {self.run.last_checkpoint or 'none'}: lower the learning rate or lengthen the "
                "warm-up, and go on from it"
            )

    # ---- what is seen -----------------------------------------------------------------------------------------------

    def _log(self) -> None:
        progress = self.run.progress
        skip_counts = sum(gather_object([self.skip_counts]), SkipCounts())
        values = self.window.summary(self.accelerator) | self.task.summary(self.accelerator)
        values |= {f"lr/{learner.name}": float(learner.schedule.get_last_lr()[0]) for learner in self.task.learners}
        values |= {
            "data/hours": progress.audio_seconds / 3600,
            "data/epoch": progress.position / self.data.epoch_size if self.data.epoch_size else 0.0,
            "data/skipped": skip_counts.reasons().total(),
            "skipped_steps": progress.skipped_steps,
        }
        self.run.track(values)
        log.info(progress_line(progress.step, self.settings.max_steps, values, self.task.shown))
        for warning in (*self.task.warnings(values, progress.step), *starvation(values)):
            log.warning(warning)
        self.window.clear()
        skip_counts.check(self.max_broken_share)

    def _validate(self) -> None:
        found = self.task.validate()
        if found is None:
            return
        self.run.progress.score = found.score
        self.run.track({f"validation/{name}": value for name, value in found.values.items()})
        values = "  ".join(f"{name} {value:.3f}" for name, value in found.values.items())
        log.info("step %d: %s", self.run.progress.step, values)

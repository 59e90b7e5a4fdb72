"""A training run as its output folder shows it: checkpoints, status, trackers, interruption. It knows no network."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list, gather_object
from omegaconf import OmegaConf

from ..processes import Interrupted, Interruption, interrupted_at_once
from . import checkpoint
from .background import Background
from .checkpoint import WRITE_ERRORS, CheckpointError, NotSaved, attempt, reason
from .environment import describe_environment
from .monitor import Sounds, log_sounds
from .optimizer import Learner
from .settings import RunSettings
from .state import TrainingState, gather_random_states
from .status import Status
from .task import Writer

log = get_logger(__name__)  # of the main process


@dataclass
class Progress:
    """How far a run is; the same on all ranks, and in every checkpoint."""

    step: int = 0
    position: int = 0  # items of the data that all ranks have read
    audio_seconds: float = 0.0  # of them
    skipped_steps: int = 0  # that were not finite
    skipped_in_a_row: int = 0  # a resumed run counts anew
    score: float | None = None  # of the last validation, if it was at this step; the lowest is the best


@contextmanager
def recorded(folder: Path) -> Iterator[Status]:
    """The status of a run from its very start: what fails before the first step is told too.

    A status of the start before, such as `interrupted`, is no longer there then. A signal to stop that comes before
    the first step ends the process at once, as there is nothing to save.
    """
    status = Status(folder)
    status.write("starting")
    try:
        with interrupted_at_once():
            yield status
    except Interrupted:
        if status.read().get("status") == "starting":
            status.write("interrupted", step=None)
        raise
    except GeneratorExit:  # another exception took the place of what ended the run
        raise
    except BaseException as error:
        status.write_failure(error, None)  # unless `Run` did, which knows the step
        raise


class Run:
    """What a run keeps in `trainer.output_dir`: checkpoints, `export/`, `config.yaml`, `environment.json`,
    `status.json`, and what its trackers write. A full disk ends none of this before the last step.

    Args:
        config: the whole configuration, as it is written down.
        name: of the project, for the trackers.
    """

    def __init__(
        self, settings: RunSettings, accelerator: Accelerator, config: Mapping[str, Any], name: str = "esdcodec"
    ) -> None:
        self.settings, self.accelerator, self.name = settings, accelerator, name
        self.config = _as_read_back(config)
        self.networks: dict[str, Any] = {}
        self.data_digest: str | None = None
        self.folder = Path(settings.output_dir)
        self.environment = describe_environment()
        self.status = Status(self.folder)
        self.progress = Progress()
        self.interruption = Interruption()
        self._writing = Background()
        self._copy: TrainingState | None = None  # of the last checkpoint; its memory serves the next
        self._unsaved: str | None = None  # why the last checkpoint is not there

    # ---- from start to end ------------------------------------------------------------------------------------------

    def resume(
        self,
        learners: Sequence[Learner],
        networks: Mapping[str, Any],
        data_settings: Sequence[str],
        data_digest: str | None = None,
    ) -> None:
        """Go on from the newest checkpoint, if there is one; then all ranks must hold the same weights.

        What is state comes from the checkpoint, all else from the configuration; what differs is logged.

        Args:
            networks: the sizes of what is trained: a checkpoint of others is refused.
            data_settings: names of the settings that decide what is read at a position: where they differ, exactness
                ends, so the checkpoint is refused unless `trainer.resume` is `new_data`.
            data_digest: the same where the same data is read; another one is refused alike.

        Raises:
            CheckpointError: there is one that cannot be gone on from, or the ranks differ.
        """
        self.networks, self.data_digest = _as_read_back(networks), data_digest
        if self.accelerator.is_main_process:
            checkpoint.remove_partial(self.folder)
        self.accelerator.wait_for_everyone()
        found = checkpoint.newest(self.accelerator, self.folder)
        if found is not None:
            self._load(found, learners, data_settings)
        digests = gather_object([[learner.digest() for learner in learners]])
        differing = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if differing:
            raise CheckpointError(
                f"ranks {', '.join(map(str, differing))} hold other weights than rank 0 ({found or 'no checkpoint'}): "
                f"{self.folder} must be on a disk that all nodes see, and their software the same"
            )

    def _load(self, found: Path, learners: Sequence[Learner], data_settings: Sequence[str]) -> None:
        state = checkpoint.load(self.accelerator, found, self.networks)
        changed = checkpoint.differences(state["config"], self.config)
        other_data = [n for n in changed if any(n == key or n.startswith(f"{key}.") for key in data_settings)]
        saved_digest = state.get("data_digest")
        if not other_data and saved_digest is not None and saved_digest != self.data_digest:
            other_data.append("the utterances in the shards")
        if other_data and self.settings.resume != "new_data":
            raise CheckpointError(
                f"{found} was trained on other data ({', '.join(other_data)} differ): set trainer.resume=new_data to "
                "go on from its weights with the data from the beginning, or trainer.output_dir to a new folder"
            )
        self.progress = Progress(**{name: state[name] for name in asdict(self.progress)})
        self.progress.skipped_in_a_row = 0
        if other_data:
            self.progress.position = 0
        for learner in learners:
            learner.keep_to_settings()
        log.info("resumed from %s", found)
        for name, (before, now) in changed.items():
            log.info("set differently from now on: %s=%s (it was %s)", name, now, before)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Tell the status file and the trackers that the run is on, and in the end what became of it."""
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(OmegaConf.create(self.config), self.folder / "config.yaml")
            (self.folder / "environment.json").write_text(json.dumps(self.environment, indent=1), encoding="utf-8")
        self.write_status("running")
        self._start_trackers()
        status, unsaved = "finished", None
        try:
            with self.interruption:
                try:
                    yield
                except Interrupted:
                    status = "interrupted"
                self._writing.wait()
                (unsaved,) = broadcast_object_list([self._unsaved])
            if unsaved is not None and status == "finished":
                raise NotSaved(f"{unsaved}, and start the same command again")
        except BaseException as error:
            self._wait_after_error()
            self.status.write_failure(error, self.progress.step)
            self.attempt(self.accelerator.end_training)
            raise
        self._leave(status)
        if status == "interrupted":
            log.warning(
                "stopped by a signal: %s; the same command goes on from %s",
                unsaved or f"saved at step {self.progress.step}",
                "there" if unsaved is None else self.last_checkpoint or "the beginning",
            )
            raise Interrupted

    def _wait_after_error(self) -> None:
        """Let the checkpoint that is being written become whole before the run ends."""
        try:
            self._writing.wait()
        except Exception as other:
            log.error("nor could a checkpoint be written (%s)", reason(other))

    def _leave(self, status: str) -> None:
        """Together: a launcher ends all processes when the first is gone."""
        self.write_status(status)
        for tracker in self.accelerator.trackers:
            self.attempt(tracker.finish)
        self.accelerator.trackers = []
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    def write_status(self, status: str) -> None:
        self.status.write(status, step=self.progress.step)

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def save(self, export: Callable[[], Writer], status: str = "running") -> None:
        """Copy the state; a checkpoint of it is written beside the training, then the status, then the export.

        The checkpoint before is waited for, and no other one. Only the main process writes.

        Args:
            export: returns what writes the networks, as they are now, into the folder that it is given.

        Raises:
            Exception: of the checkpoint before; a full disk is no error, but told in the log.
        """
        started = time.monotonic()
        random_states = gather_random_states(self.accelerator)
        if not self.accelerator.is_main_process:
            return
        self._writing.wait()
        state = {
            **asdict(self.progress),
            "networks": self.networks,
            "data_digest": self.data_digest,
            "environment": self.environment,
            "config": self.config,
        }
        try:
            copy = self._copy = TrainingState.take(self.accelerator, random_states, self._copy)
            write_export = export()
        except RuntimeError as error:  # torch's for memory that is not there
            self._not_written(self.progress.step, error)
            return
        stood_still = time.monotonic() - started
        self._writing.start(lambda: self._write(copy, state, write_export, status, stood_still))

    def _write(
        self, copy: TrainingState, state: dict[str, Any], export: Writer, status: str, stood_still: float
    ) -> None:
        """In the thread that writes: all that it reads of the networks are copies."""
        step, started = state["step"], time.monotonic()
        try:
            saved = checkpoint.write(self.folder, copy, state, keep=self.settings.keep_checkpoints)
        except WRITE_ERRORS as error:
            self._not_written(step, error)
            return
        seconds = time.monotonic() - started
        self._unsaved = None
        log.info("step %d: wrote %s in %.1f s; training stood still for %.2f s", step, saved, seconds, stood_still)
        if self.status.read().get("status") != "failed":  # another rank has told why
            self.status.write(status, step=step)
        self._export(saved, export)

    def _not_written(self, step: int, error: Exception) -> None:
        self._unsaved = f"step {step} could not be saved ({reason(error)}): make room in {self.folder}"
        log.error(
            "CHECKPOINT NOT WRITTEN at step %d (%s). Training goes on, and the checkpoints before are intact: make "
            "room in %s",
            step,
            reason(error),
            self.folder,
        )

    def wait(self) -> None:
        """Until no checkpoint is being written; raises what the writing raised."""
        self._writing.wait()

    def check(self) -> None:
        """Raise what the writing of a checkpoint raised, if it is known by now."""
        self._writing.check()

    def export_again(self, export: Callable[[], Writer]) -> None:
        """What a run that was killed after its last checkpoint had no time for."""
        saved = self.last_checkpoint
        if saved is not None and self.accelerator.is_main_process:
            self._export(saved, export())
        self.accelerator.wait_for_everyone()

    def _export(self, saved: Path, export: Writer) -> None:
        names = ["export", "export_best"] if checkpoint.best(self.folder) == saved else ["export"]
        for folder in (self.folder / name for name in names):
            problem = attempt(lambda folder=folder: export(folder))  # type: ignore[misc]
            if problem:
                log.error("%s not written (%s)", folder, problem)

    @property
    def last_checkpoint(self) -> Path | None:
        found = checkpoint.every(self.folder)
        return found[-1] if found else None

    # ---- trackers ---------------------------------------------------------------------------------------------------

    def track(self, values: Mapping[str, float]) -> None:
        """Hand values to the trackers."""
        self.attempt(lambda: self.accelerator.log(dict(values), step=self.progress.step))

    def track_sounds(self, sounds: Sounds) -> None:
        """Hand sounds to the trackers, with their spectrograms."""
        self.attempt(lambda: log_sounds(self.accelerator, sounds, self.progress.step))

    def attempt(self, report: Callable[[], None]) -> None:
        """Do something that hands things to the trackers, if the disk has room for them."""
        try:
            report()
        except OSError as error:
            log.error("step %d could not be reported (%s): make room in %s", self.progress.step, error, self.folder)
            attempt(self._start_trackers)  # a writer that has met a full disk writes no more

    def _start_trackers(self) -> None:
        name = self.settings.tracker
        defaults: dict[str | None, dict[str, Any]] = {
            "tensorboard": {"purge_step": self.progress.step + 1},  # what a killed run said after its last checkpoint
            "wandb": {"dir": str(self.folder), "resume": "allow"},
        }
        if name == "wandb" and self.accelerator.is_main_process:
            defaults[name]["id"] = self._identifier()
        options = defaults.get(name, {}) | self.settings.tracker_options
        self.accelerator.trackers = []
        self.accelerator.init_trackers(self.name, init_kwargs={name: options} if name else {})

    def _identifier(self) -> str:
        """By which Weights & Biases knows this run, the same after a restart; kept in its folder."""
        file = self.folder / "wandb_id"
        if not file.exists():
            file.write_text(uuid.uuid4().hex[:16])
        return file.read_text()


def _as_read_back(values: Mapping[str, Any]) -> dict[str, Any]:
    """As a checkpoint's state has it: keys are texts, sequences are lists."""
    return dict(json.loads(json.dumps(dict(values))))

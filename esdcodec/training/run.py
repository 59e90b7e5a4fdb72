"""A training run as its output folder shows it: checkpoints, status, trackers, interruption. It knows no network."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.logging import get_logger
from omegaconf import OmegaConf

from . import checkpoint
from .checkpoint import attempt
from .interruption import Interrupted, Interruption
from .monitor import Sounds, log_sounds
from .settings import RunSettings

log = get_logger(__name__)  # of the main process

PACKAGES = (
    "esdcodec", "torch", "accelerate", "transformers", "webdataset", "hydra-core", "numpy", "soundfile", "soxr",
)  # fmt: skip


@dataclass
class Progress:
    """How far a run is; the same on all ranks, and in every checkpoint."""

    step: int = 0
    position: int = 0  # items of the data that all ranks have read
    audio_seconds: float = 0.0  # of them
    skipped_steps: int = 0  # that were not finite
    skipped_in_a_row: int = 0
    score: float | None = None  # of the last validation, if it was at this step; the lowest is the best


class Run:
    """What a run keeps in `trainer.output_dir`: checkpoints, `export/`, `config.yaml`, `environment.json`,
    `status.json`, and what its trackers write. A full disk ends none of this, nor the run.

    Args:
        config: the whole configuration, as it is written down.
        networks: the sizes of what is trained: a checkpoint of others is refused.
        name: of the project, for the trackers.
    """

    def __init__(
        self,
        settings: RunSettings,
        accelerator: Accelerator,
        config: Mapping[str, Any],
        networks: Mapping[str, Any],
        name: str = "esdcodec",
    ) -> None:
        self.settings, self.accelerator, self.name = settings, accelerator, name
        self.config, self.networks = dict(config), dict(networks)
        self.folder = Path(settings.output_dir)
        self.environment = describe_environment()
        self.progress = Progress()
        self.interruption = Interruption()

    # ---- from start to end ------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one.

        Raises:
            CheckpointError: there is one that cannot be gone on from.
        """
        if self.accelerator.is_main_process:
            checkpoint.remove_partial(self.folder)
        self.accelerator.wait_for_everyone()
        found = checkpoint.every(self.folder)
        if not found:
            return
        state = checkpoint.load(self.accelerator, found[-1], self.networks)
        self.progress = Progress(**{name: state[name] for name in asdict(self.progress)})
        log.info("resumed from %s", found[-1])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Tell the status file and the trackers that the run is on, and in the end what became of it."""
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(OmegaConf.create(self.config), self.folder / "config.yaml")
            (self.folder / "environment.json").write_text(json.dumps(self.environment, indent=1))
        self.write_status("running")
        self._start_trackers()
        try:
            with self.interruption:
                yield
        except BaseException as error:
            self.write_status("interrupted" if isinstance(error, Interrupted) else f"failed: {error!r}")
            raise
        finally:
            self.attempt(self.accelerator.end_training)
        self.write_status("finished")

    def write_status(self, status: str) -> None:
        """For scripts: what became of the run."""
        if self.accelerator.is_main_process:
            unfinished = self.folder / ".status.json.partial"
            attempt(lambda: unfinished.write_text(json.dumps({"status": status, "step": self.progress.step})))
            attempt(lambda: os.replace(unfinished, self.folder / "status.json"))

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def save(self, export: Callable[[Path], None]) -> None:
        """Write a checkpoint, and what `export` writes into the folder that it is given."""
        state = {
            **asdict(self.progress),
            "networks": self.networks,
            "environment": self.environment,
            "config": self.config,
        }
        saved = checkpoint.save(self.accelerator, self.folder, state, keep=self.settings.keep_checkpoints)
        if saved is None:
            return
        if self.accelerator.is_main_process:
            names = ["export", "export_best"] if checkpoint.best(self.folder) == saved else ["export"]
            for folder in (self.folder / name for name in names):
                problem = attempt(lambda folder=folder: export(folder))  # type: ignore[misc]
                if problem:
                    log.error("%s not written (%s)", folder, problem)
        log.info("step %d: wrote %s", self.progress.step, saved)

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
            "wandb": {"dir": str(self.folder)},
        }
        options = defaults.get(name, {}) | self.settings.tracker_options
        self.accelerator.trackers = []
        self.accelerator.init_trackers(self.name, init_kwargs={name: options} if name else {})


def describe_environment() -> dict[str, Any]:
    """Command line, git revision of the code, Python and package versions."""
    return {
        "command": sys.argv,
        "git": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def git_revision() -> str | None:
    """Commit of the working tree that this code is in, marked `-dirty` where it differs; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

"""What a run leaves beside its checkpoints: where it came from, what became of it, and what its trackers are told."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.logging import get_logger
from omegaconf import DictConfig, OmegaConf

from .checkpoint import attempt

log = get_logger(__name__)  # of the main process

PACKAGES = (
    "esdcodec", "torch", "accelerate", "transformers", "webdataset", "hydra-core", "numpy", "soundfile", "soxr",
)  # fmt: skip


class Records:
    """`config.yaml`, `environment.json`, `status.json` and the trackers of a run, in its `trainer.output_dir`.

    A full disk ends none of this, nor the run.
    """

    def __init__(self, accelerator: Accelerator, config: DictConfig) -> None:
        self.accelerator, self.config = accelerator, config
        self.folder = Path(config.trainer.output_dir)
        self.environment = describe_environment()

    def start(self, step: int) -> None:
        """Begin, or go on from `step`."""
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, self.folder / "config.yaml", resolve=True)
            (self.folder / "environment.json").write_text(json.dumps(self.environment, indent=1))
        self.status("running", step)
        self._start_trackers(step)

    def status(self, status: str, step: int) -> None:
        """For scripts: what became of the run."""
        if self.accelerator.is_main_process:
            unfinished = self.folder / ".status.json.partial"
            attempt(lambda: unfinished.write_text(json.dumps({"status": status, "step": step})))
            attempt(lambda: os.replace(unfinished, self.folder / "status.json"))

    def track(self, values: Mapping[str, float], step: int) -> None:
        """Hand values to the trackers."""
        self.attempt(lambda: self.accelerator.log(dict(values), step=step), step)

    def attempt(self, report: Callable[[], None], step: int) -> None:
        """Do something that hands things to the trackers, if the disk has room for them."""
        try:
            report()
        except OSError as error:
            log.error("step %d could not be reported (%s): make room in %s", step, error, self.folder)
            attempt(lambda: self._start_trackers(step))  # a writer that has met a full disk writes no more

    def _start_trackers(self, step: int) -> None:
        name = self.config.trainer.tracker
        options = {
            "tensorboard": {"purge_step": step + 1},  # what a killed run said after its last checkpoint
            "wandb": {"dir": str(self.folder)},
        }.get(name, {})
        options |= OmegaConf.to_container(self.config.trainer.tracker_options)  # type: ignore[arg-type, operator]
        self.accelerator.trackers = []
        self.accelerator.init_trackers("esdcodec", init_kwargs={name: options})


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

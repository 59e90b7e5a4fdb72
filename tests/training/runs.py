"""Runs of the trainer on synthetic shards: in this process, or in one of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from esdcodec.config import config_folder
from esdcodec.training import setup, tasks
from esdcodec.training.trainer import Trainer
from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]
# accelerate's own word for a CPU: `--cpu` of its launcher starts one process whatever it is told
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
STEPS = 8
SMALL = (
    "model.discriminator={periods: [2], period_channels: [4], windows: [512], resolution_channels: 2, bands: [0, 1]}"
)


def train(*overrides: object, config: str = "esdcodec_smoke") -> Trainer:
    """Train in this process."""
    with on_one_thread():
        return tasks.train(composed(config, *overrides))


@contextmanager
def on_one_thread() -> Iterator[None]:
    """More only wait for each other on networks so small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def composed(config: str, *overrides: object) -> DictConfig:
    """A configuration of `conf/`."""
    with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
        return compose(config, overrides=[str(o) for o in overrides])


def make_trainer(*overrides: object, config: str = "esdcodec_smoke") -> Trainer:
    """A trainer that has not begun."""
    return setup.make_trainer(composed(config, *overrides))


def compose_values(*overrides: object, config: str = "esdcodec_smoke") -> dict:
    """A configuration, resolved."""
    return OmegaConf.to_container(composed(config, *overrides), resolve=True)


def start(*overrides: object, config: str = "esdcodec_smoke", **options: object) -> subprocess.Popen:
    """Start `python train.py …` in a process of its own."""
    command = [sys.executable, "train.py", f"--config-name={config}", *map(str, overrides)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=ENVIRONMENT, **options
    )


def wait_for(condition, process, seconds: float = PATIENCE) -> None:
    """Wait until `condition()` holds, while `process` lives."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def finish(process: subprocess.Popen, code: int = 0) -> str:
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == code, output
    return output


def launch(*command: object, ok: bool = True, **environment: str) -> str:
    """`accelerate launch …`, as a user types it."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines=1"]
    options = ["--mixed_precision=no", "--dynamo_backend=no"]
    result = subprocess.run(
        [*launcher, *options, *map(str, command)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**ENVIRONMENT, **environment}, timeout=PATIENCE,
    )  # fmt: skip
    assert (result.returncode == 0) == ok, result.stdout + result.stderr
    return result.stdout + result.stderr


def on_two(*overrides: object, ok: bool = True, **environment: str) -> str:
    """`accelerate launch --cpu` starts one process whatever it is told; this is its way to two on a CPU.

    `CONFIG` in the environment names another configuration than the codec's.
    """
    return launch("--multi_gpu", "--num_processes=2", "tests/training/two_ranks.py", *overrides, ok=ok, **environment)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "tensorboard/esdcodec"), size_guidance={"images": 0, "audio": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path) -> dict[str, list[float]]:
    found = events(folder)
    return {tag: [event.value for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def weights(folder: Path, step: int) -> list[dict[str, torch.Tensor]]:
    """Of the codec, and of the discriminators if there are any, at a checkpoint."""
    checkpoint = folder / f"checkpoint-{step:08d}"
    return [load_file(path) for path in sorted(checkpoint.glob("model*.safetensors"))]


def equal(left: list[dict[str, torch.Tensor]], right: list[dict[str, torch.Tensor]]) -> bool:
    return len(left) == len(right) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(left, right)
    )


def options(shards: Path, folder: Path, steps: int = STEPS) -> list[str]:
    return [
        f"machine.shards={shards}", f"trainer.output_dir={folder}", f"trainer.max_steps={steps}", SMALL,
        "trainer.checkpoint_every=1", "trainer.validate_every=4", "trainer.sample_every=100", "trainer.ema_decay=0.9",
        "trainer.continuous_steps=2", "trainer.fit_batches=2", "trainer.generator.muon_lr=0.01", "data.num_workers=1",
    ]  # fmt: skip


def in_process(shards: Path, folder: Path, steps: int) -> list[str]:
    return [*options(shards, folder, steps), "data.num_workers=0"]

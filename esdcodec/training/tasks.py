"""Which training a configuration describes: its `task`, a codec where it says nothing."""

from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

from .run import recorded
from .settings import ConfigurationError
from .trainer import Trainer

TASKS = {"codec": ".setup", "tts_ar": ".tts.setup", "tts_nar": ".tts.acoustic_setup"}  # module that makes its trainer


def train(config: DictConfig) -> Trainer:
    """Train what a configuration of `conf/` describes; see `Trainer.train` for what it raises."""
    with recorded(Path(str(config.trainer.output_dir))):
        trainer = make_trainer(config)
        trainer.train()
    return trainer


def make_trainer(config: DictConfig) -> Trainer:
    """All parts of the training that a configuration of `conf/` describes.

    Raises:
        ConfigurationError: there is no such task, or the configuration cannot be run.
    """
    task = config.get("task", "codec")
    if task not in TASKS:
        raise ConfigurationError(f"task={task!r} must be one of {', '.join(TASKS)}")
    trainer: Trainer = import_module(TASKS[task], __package__).make_trainer(config)
    return trainer

"""Train a codec or speech from text: `esdcodec train`, `python train.py`, or `accelerate launch -m esdcodec.train`.

All take the same arguments: `--config-name=esdcodec_train`, `group.key=value …` and Hydra's own.

Exit codes: 0 trained to the end; 2 the command or the configuration was wrong, in one line; 1 the run failed; 75 it was
stopped by a signal and has saved.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..config import config_folder, config_names
from .parsing import Command, Commands, add_command

NEEDED = ("hydra", "accelerate", "webdataset")
_FULL = "HYDRA_FULL_ERROR"
EXAMPLES = """  esdcodec train --config-name=esdcodec_smoke machine.shards=SHARDS    two steps of everything, to try
  esdcodec train --config-name=esdcodec_train trainer.batch_size=3      the published model, on one GPU
  esdcodec train --config-name=esdcodec_train --cfg job                 all settings, with what they are set to
  accelerate launch --num_processes=8 -m esdcodec.train …               the same arguments, on eight GPUs"""


def add_parser(commands: "Commands[Command]") -> None:
    """Only for the help: Hydra reads the arguments."""
    command = add_command(commands, "train", "train a codec or speech from text (needs [train])", EXAMPLES, start)
    command.add_argument("--config-name", default="esdcodec_train", help=f"one of {', '.join(config_names())}")
    command.add_argument("--config-dir", help="folder of more configurations, of your own")
    command.add_argument("--cfg", choices=("job",), help="print the configuration instead")
    command.add_argument("overrides", nargs="*", metavar="group.key=value", help="settings; see also --hydra-help")


def start(args: argparse.Namespace) -> int:
    raise AssertionError("main gives the arguments of this command to Hydra")


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the arguments (default: those of this process) say; returns the exit code.

    An error of the configuration or the data is printed in one line; any other keeps its traceback. With
    `HYDRA_FULL_ERROR=1` all of them do.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f'esdcodec: training needs {", ".join(missing)}: pip install "esdcodec[train]"', file=sys.stderr)
        return 2
    if argv is not None:
        sys.argv = ["esdcodec train", *argv]
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    everything = os.environ.get(_FULL) is not None
    os.environ[_FULL] = "1"  # Hydra then raises what it would otherwise print and end the process for
    try:
        _run()
    except Wrong as error:
        if everything:
            raise
        print(f"esdcodec: {error}", file=sys.stderr)
        return error.code
    except (HydraException, OmegaConfBaseException) as error:
        if everything:
            raise
        print(f"esdcodec: {_in_a_line(error)}", file=sys.stderr)
        return 2
    finally:
        if not everything:
            del os.environ[_FULL]
    return 0


class Wrong(Exception):
    """An error that a user can mend, in one line."""

    def __init__(self, error: Exception | str, code: int = 2) -> None:
        super().__init__(_in_a_line(error))
        self.code = code


def _run() -> None:
    import hydra

    failures: list[Exception] = []

    @hydra.main(version_base="1.3", config_path=str(config_folder().resolve()), config_name="esdcodec_train")
    def job(config: Any) -> None:
        try:
            _train(config)
        except Exception as error:  # raised below, without Hydra's own frames and words
            failures.append(error)

    job()
    if failures:
        raise failures[0]


def _train(config: Any) -> None:
    from omegaconf import OmegaConf

    from ..dataset.skip_counts import TooMuchIsBroken
    from ..training.checkpoint import CheckpointError, NotSaved
    from ..training.run import recorded
    from ..training.tasks import make_trainer

    for key in sorted(OmegaConf.missing_keys(config)):
        raise Wrong(f"{key} has no value: give it one, {key}=VALUE")
    trainer = None
    try:
        with recorded(Path(config.trainer.output_dir)):
            trainer = make_trainer(config)
            trainer.train()
    except CheckpointError as error:
        raise Wrong(error) from error
    except (TooMuchIsBroken, FloatingPointError, NotSaved) as error:
        raise Wrong(error, code=1) from error
    except (OSError, ValueError) as error:
        if trainer is None:  # a shard, a folder, a setting
            raise Wrong(error) from error
        raise


def _in_a_line(error: Exception | str) -> str:
    text = " ".join(str(error).split("Config search path:")[0].split()) or type(error).__name__
    if "Cannot find primary config" in text:
        text += f" Known are {', '.join(config_names())}"
    return text

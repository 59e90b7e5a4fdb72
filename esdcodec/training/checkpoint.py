"""Checkpoints: written whole or not at all, and the newest one found again."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

STATE_FILE = "trainer.json"
FORMAT = "esdcodec-checkpoint-1"


class CheckpointError(RuntimeError):
    """A checkpoint is damaged, or belongs to another model; the message says what to do."""


def save(accelerator: Accelerator, folder: Path, state: dict[str, Any], *, keep: int) -> Path:
    """Write `folder/checkpoint-STEP` with all that `accelerator` holds and `state`; keep the last `keep` of them."""
    final = folder / f"checkpoint-{state['step']:08d}"
    partial = folder / f"{final.name}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / STATE_FILE).write_text(json.dumps({"format": FORMAT, **state}, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in every(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return final


def every(folder: Path) -> list[Path]:
    """Whole checkpoints below `folder`, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name))


def load(accelerator: Accelerator, checkpoint: Path, model_config: dict[str, Any]) -> dict[str, Any]:
    """Restore everything from `checkpoint` and return its state.

    Raises:
        CheckpointError: it cannot be read, or the model in it is another; nothing has been trained from it then.
    """
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint} is not a whole checkpoint ({error}); remove it to use the one before"
        ) from error
    if state.get("format") != FORMAT:
        raise CheckpointError(f"{checkpoint} has format {state.get('format')!r}, this version reads {FORMAT!r}")
    differing = sorted(k for k in {*state["model"], *model_config} if state["model"].get(k) != model_config.get(k))
    if differing:
        raise CheckpointError(
            f"{checkpoint} holds another model (it differs in {', '.join(differing)}): use its configuration, or set "
            "trainer.output_dir to a new folder"
        )
    try:
        accelerator.load_state(str(checkpoint))
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise CheckpointError(f"{checkpoint} cannot be loaded ({error}); remove it to use the one before") from error
    return state

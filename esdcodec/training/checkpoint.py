"""Checkpoints: written whole or not at all, kept as long as they are wanted, and found again."""

import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from safetensors import SafetensorError

from ..errors import ESDCodecError
from .state import TrainingState, restore

log = logging.getLogger(__name__)

STATE_FILE = "trainer.json"
FORMAT = "esdcodec-checkpoint-3"
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)  # torch and safetensors have their own for a full disk


class CheckpointError(ESDCodecError, RuntimeError):
    """A checkpoint is damaged, or belongs to another model; the message says what to do."""


class NotSaved(ESDCodecError, RuntimeError):
    """What was trained last is in no checkpoint; the message says why, and what to do."""


def write(folder: Path, training: TrainingState, state: dict[str, Any], *, keep: int) -> Path:
    """Write `folder/checkpoint-STEP` with `training` and `state`, on the main process.

    It appears under its name when it is whole and on the disk. The last `keep` stay, and the one with the lowest
    `state["score"]`. Where it cannot be written (a full disk), nothing of it is left, and the older ones stay as they
    are.

    Raises:
        OSError, RuntimeError, SafetensorError: it cannot be written.
    """
    final = folder / f"checkpoint-{state['step']:08d}"
    partial = _partial(final)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        training.write(partial)
        _finish(partial, final, state)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _remove_old(folder, keep)
    return final


def _partial(checkpoint: Path) -> Path:
    """The name of what is being written, or removed: no checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.partial")


def attempt(write: Callable[[], Any]) -> str | None:
    """Do something that writes files; returns why it could not."""
    try:
        write()
    except WRITE_ERRORS as error:
        return reason(error)
    return None


def reason(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _first_problem(accelerator: Accelerator, problem: str | None) -> str | None:
    return next((p for p in gather_object([problem]) if p is not None), None)


def _finish(partial: Path, final: Path, state: dict[str, Any]) -> None:
    """Put down what belongs to it, make sure that it is on the disk, and give it its name."""
    files = {path.name: [path.stat().st_size, _crc32(path)] for path in sorted(partial.iterdir())}
    (partial / STATE_FILE).write_text(
        json.dumps({"format": FORMAT, "files": files, **state}, indent=1), encoding="utf-8"
    )
    for path in (*partial.iterdir(), partial):
        _sync(path)
    if final.exists():  # of a run that began anew here
        _remove(final, final.with_name(f"{final.name}.old.partial"))
    os.replace(partial, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return  # Windows opens no folders
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _crc32(path: Path) -> int:
    crc = 0
    with open(path, "rb") as stream:
        while block := stream.read(2**22):
            crc = zlib.crc32(block, crc)
    return crc


def _remove_old(folder: Path, keep: int) -> None:
    checkpoints = every(folder)
    wanted = {*checkpoints[-keep:], best(folder)}
    for old in checkpoints:
        if old not in wanted:
            _remove(old, _partial(old))


def _remove(checkpoint: Path, gone: Path) -> None:
    """Remove a checkpoint, under the name `gone`: half of one must not have its name."""
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(checkpoint, gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Remove what a killed run left half-written."""
    for path in folder.glob("checkpoint-*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def every(folder: Path) -> list[Path]:
    """Whole checkpoints below `folder`, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name))


def newest(accelerator: Accelerator, folder: Path) -> Path | None:
    """The newest checkpoint that the main process sees, on all ranks: another's listing of the folder may be old."""
    found = every(folder) if accelerator.is_main_process else []
    return broadcast_object_list([found[-1] if found else None])[0]


def best(folder: Path) -> Path | None:
    """The checkpoint with the lowest validation score, the newest of equals; None where none has one."""
    scores = {path: _score(path) for path in every(folder)}
    scored = {path: score for path, score in scores.items() if score is not None}
    return min(reversed(scored), key=lambda path: scored[path]) if scored else None


def _score(checkpoint: Path) -> float | None:
    try:
        return json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8")).get("score")
    except (OSError, ValueError, AttributeError):
        return None


def load(accelerator: Accelerator, checkpoint: Path, networks: dict[str, Any]) -> dict[str, Any]:
    """Restore everything from `checkpoint` on all ranks, and return its state.

    The main process reads the state and compares the checksums; all load.

    Args:
        networks: what the run consists of, as in the state that was saved.

    Raises:
        CheckpointError: on all ranks, if one cannot read it, or it belongs to a run of something else; nothing is
            trained from it then.
    """
    found: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            found[0] = _verify(checkpoint, networks)
        except CheckpointError as error:
            found[1] = str(error)
    state, refused = broadcast_object_list(found)
    if refused is not None:
        raise CheckpointError(refused)
    problem = None
    try:
        restore(accelerator, checkpoint)
    except Exception as error:  # whatever a reader raises at what another version wrote
        problem = f"rank {accelerator.process_index}: {error}"
    problem = _first_problem(accelerator, problem)
    if problem is not None:
        raise CheckpointError(f"{checkpoint} cannot be loaded ({problem}): {_way_out(checkpoint)}")
    return state


def _way_out(checkpoint: Path) -> str:
    return f"remove {checkpoint} to go on from the one before, or set trainer.output_dir to a new folder"


def _verify(checkpoint: Path, networks: dict[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint, whose files are whole and whose networks are those."""
    way_out = _way_out(checkpoint)
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        found, files, saved = state.get("format"), state.get("files"), state.get("networks")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint} is no whole checkpoint ({error}): {way_out}") from error
    if found != FORMAT:
        raise CheckpointError(f"{checkpoint} has format {found!r}, this version reads {FORMAT!r}: {way_out}")
    differing = sorted(differences(saved, networks))
    if differing:
        raise CheckpointError(
            f"{checkpoint} holds another model (it differs in {', '.join(differing)}): use its configuration, or set "
            "trainer.output_dir to a new folder"
        )
    for name, (size, crc) in (files or {}).items():
        path = checkpoint / name
        if not path.is_file() or path.stat().st_size != size or _crc32(path) != crc:
            raise CheckpointError(f"{checkpoint} is damaged ({name} is missing or has changed): {way_out}")
    return state


def differences(saved: Any, expected: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Settings in which two nested configurations differ, by their dotted names: (saved, expected)."""
    if isinstance(saved, dict) and isinstance(expected, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in {**saved, **expected}:
            found |= differences(saved.get(key), expected.get(key), f"{name}.{key}" if name else key)
        return found
    return {} if saved == expected else {name: (saved, expected)}

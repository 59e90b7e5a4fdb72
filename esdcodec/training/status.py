"""`status.json`: what became of a run, for scripts."""

import json
import os
from pathlib import Path
from typing import Any

from accelerate import PartialState

from .checkpoint import attempt


class Status:
    """`status.json`, for scripts: what became of a run, and where it is.

    `starting`, `running`, `interrupted`, `finished`, or `failed` with the rank that failed first, and why.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "status.json"

    def write(self, status: str, **more: Any) -> None:
        """As the main process sees it; nothing where the folder is not there yet."""
        if this_rank() == 0 and self.file.parent.is_dir():
            self._write({"status": status, **more})

    def write_failure(self, error: BaseException, step: int | None) -> None:
        """By the rank that failed, unless another one failed or was stopped before: the others fail because of it."""
        if self.file.parent.is_dir() and self.read().get("status") not in ("failed", "interrupted"):
            self._write({"status": "failed", "step": step, "rank": this_rank(), "cause": repr(error)})

    def read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def _write(self, content: dict[str, Any]) -> None:
        unfinished = self.file.with_name(f".status.json.{this_rank()}.partial")
        attempt(lambda: unfinished.write_text(json.dumps(content), encoding="utf-8"))
        attempt(lambda: os.replace(unfinished, self.file))


def this_rank() -> int:
    """Of this process, also where Accelerate was not asked yet."""
    return PartialState().process_index if PartialState._shared_state else int(os.environ.get("RANK", 0))

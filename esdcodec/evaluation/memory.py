"""How much memory a piece of work takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    megabytes: float | None = None  # beyond what was in use before; None where the system does not report it


@contextmanager
def peak_memory(device: torch.device | None = None) -> Iterator[Peak]:
    """Measures what is done within it: memory of the GPU if `device` is one, else of this process (on Linux)."""
    peak = Peak()
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.megabytes = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    try:
        _CLEAR.write_text("5")  # the peak is counted anew
        resident = _kilobytes("VmRSS")
    except OSError:
        yield peak
        return
    yield peak
    peak.megabytes = max(0, _kilobytes("VmHWM") - resident) / 1024


def _kilobytes(name: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"{_STATUS} has no {name}")


def resident_megabytes() -> float:
    """Memory that this process has now, on Linux.

    Raises:
        OSError: the system does not report it.
    """
    return _kilobytes("VmRSS") / 1024

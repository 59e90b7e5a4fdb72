"""The codec that tokenises units: in this process, or in several of this machine."""

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ...codec import ESDCodec, device_of_worker, load
from ...dataset.token_shards import FORMAT
from ...processes import WorkerDied, in_processes
from ...whole_file import tidy
from .settings import TokeniseSettings
from .sources import Unit
from .work import ShardManifest, manifest_file, relevant, tokenise_unit

Results: TypeAlias = Generator[tuple[Unit, "tuple[ShardManifest, float] | Exception"], None, None]
# Each unit, with its manifest and the seconds in the network, or with what it failed of


class Worker:
    """A codec that tokenises units, in the process where it was started."""

    codec: ESDCodec

    def __init__(self, settings: TokeniseSettings, output: Path, threads: int | None) -> None:
        self.settings, self.output, self.threads = settings, output, threads

    def start(self) -> None:
        """Load the model, to work with it."""
        if self.threads:
            torch.set_num_threads(self.threads)
        dtype = self.settings.dtype
        self._load(device_of_worker(self.settings.device), dtype if dtype == "auto" else getattr(torch, dtype))

    def look(self) -> None:
        """Load the model on the CPU, to know what is finished: others work."""
        self._load(torch.device("cpu"), torch.float32)

    def _load(self, device: torch.device, dtype: Any) -> None:
        self.codec = load(self.settings.model, device=device, dtype=dtype)
        self.codec.bitrate(self.settings.n_quantizers)  # says what is wrong with the number
        self.fingerprint = self.codec.fingerprint.hex()

    def finished(self, unit: Unit) -> list[tuple[str, str]] | None:
        """What was skipped of a unit that has been tokenised with these settings and weights; None: it has not."""
        try:
            known = json.loads(manifest_file(self.output, unit).read_bytes())
            n = self.settings.n_quantizers or self.codec.n_codebooks
            same = (known["format"], known["fingerprint"], known["settings"], known["inputs"]) == (
                FORMAT, self.fingerprint, relevant(self.settings, n), unit.digest,
            )  # fmt: skip
            return known["skipped"] if same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def run(self, unit: Unit) -> tuple[ShardManifest, float]:
        return tokenise_unit(self.codec, unit, self.settings, self.output)


def local_results(worker: Worker, units: Sequence[Unit], jobs: int) -> Results:
    """Units that `worker` does here, or one like it in each of `jobs` processes."""
    if jobs > 1:
        what = (worker.settings, worker.output, worker.threads)
        with closing(in_processes(jobs, _work, units, _start, *what)) as results:
            for unit, result in results:
                if isinstance(result, WorkerDied):
                    tidy(manifest_file(worker.output, unit).parent)  # of what it had begun
                yield unit, result
        return
    for unit in units:
        try:
            yield unit, worker.run(unit)
        except Exception as error:  # one shard's failure is one shard's
            yield unit, error


_worker: Worker  # of a process


def _start(settings: TokeniseSettings, output: Path, threads: int | None) -> None:
    global _worker
    _worker = Worker(settings, output, threads)
    _worker.start()


def _work(unit: Unit) -> tuple[ShardManifest, float]:
    return _worker.run(unit)

"""Units over processes and machines. What is finished is not done again, so a run that was killed goes on."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...codec import ESDCodec, load
from ...dataset.token_manifests import THREADS
from ...dataset.token_shards import FORMAT
from ...processes import in_processes
from .settings import TokeniseSettings
from .sources import Unit, find_units
from .work import ShardManifest, kind_of, manifest_file, relevant, tokenise_unit

RANKS = (  # of SLURM's arrays, torchrun, and Kubernetes' indexed jobs: this one's number, and how many there are
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("RANK", "WORLD_SIZE", ""),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),
)


@dataclass
class Summary:
    """What became of a corpus, or of this part of it."""

    units: int = 0  # tokenised now
    finished: int = 0  # before
    utterances: int = 0
    hours: float = 0.0
    network_seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)  # utterances by kind of reason, those of before too
    failed: dict[str, str] = field(default_factory=dict)  # unit -> why
    left_out: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything that was found has been coded."""
        return not self.failed and not self.skipped


Report = Callable[[Unit, "ShardManifest | Exception", int], None]


def part_of_environment(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which part of how many this process is, as a launcher says: ``(0, 1)`` where there is none.

    SLURM arrays, torchrun and Kubernetes' indexed jobs are known; the last need `JOB_COMPLETIONS` in their template.
    """
    for index, count, first in RANKS:
        if index in environment and count in environment:
            return int(environment[index]) - int(environment.get(first, 0) if first else 0), int(environment[count])
    return 0, 1


def tokenise(
    sources: Sequence[str | Path],
    output: str | Path,
    settings: TokeniseSettings | None = None,
    *,
    jobs: int = 1,
    part: tuple[int, int] | None = None,
    report: Report | None = None,
) -> Summary:
    """Write the codes of a corpus below `output`: for each shard, or group of files, one shard and its manifest.

    The same call again continues: a shard whose manifest says the same settings and weights is finished. Killed at
    any moment and repeated, the result is the same, byte by byte, on the same kind of device with as many threads.

    Args:
        sources: tar shards (list, glob, folder, brace, URL), folders of audio, or tables with a `path` column.
        jobs: processes, each with its share of the cores; on GPUs one for each device.
        part: this process's part and their number, such as ``(2, 64)``. Default: what a launcher's environment says.
        report: called with each unit, its manifest or the error that it ended with, and the number of units to do.

    Raises:
        FileNotFoundError, ValueError: as `find_units`; nothing was written.
        ModelNotFoundError, WeightsError: as `esdcodec.load`.
    """
    output, settings = Path(output), settings or TokeniseSettings()
    corpus = find_units(sources, settings.group_size)
    index, count = part_of_environment() if part is None else part
    if not 0 <= index < count:
        raise ValueError(f"part {index} of {count}: parts are numbered from 0 to {count - 1}")
    units = corpus.units[index::count]
    worker = Worker(settings, output, threads=max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None)
    worker.start()
    summary = Summary(left_out=corpus.left_out)
    waiting = []
    with ThreadPoolExecutor(THREADS) as pool:
        finished = list(pool.map(worker.finished, units))
    for unit, known in zip(units, finished):
        if known is None:
            waiting.append(unit)
        else:
            summary.finished += 1
            summary.skipped.update(kind_of(reason) for _, reason in known)
    for unit, result in _results(worker, waiting, jobs):
        if isinstance(result, Exception):
            summary.failed[unit.name] = str(result) or type(result).__name__
        else:
            manifest, seconds = result
            summary.units += 1
            summary.utterances += manifest.utterances
            summary.hours += manifest.seconds / 3600
            summary.network_seconds += seconds
            summary.skipped += manifest.reasons
        if report:
            report(unit, result if isinstance(result, Exception) else result[0], len(waiting))
    return summary


class Worker:
    """A codec that tokenises units, in the process where it was started."""

    codec: ESDCodec

    def __init__(self, settings: TokeniseSettings, output: Path, threads: int | None) -> None:
        self.settings, self.output, self.threads = settings, output, threads

    def start(self) -> None:
        """Load the model."""
        if self.threads:
            torch.set_num_threads(self.threads)
        settings = self.settings
        dtype: Any = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
        self.codec = load(settings.model, device=settings.device, dtype=dtype)
        self.codec.bitrate(settings.n_quantizers)  # says what is wrong with the number
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


_worker: Worker  # of a process


def _start(settings: TokeniseSettings, output: Path, threads: int | None) -> None:
    global _worker
    _worker = Worker(settings, output, threads)
    _worker.start()


def _work(unit: Unit) -> tuple[ShardManifest, float]:
    return _worker.run(unit)


def _results(
    worker: Worker, units: Sequence[Unit], jobs: int
) -> Iterator[tuple[Unit, tuple[ShardManifest, float] | Exception]]:
    if jobs > 1:
        yield from in_processes(jobs, _work, units, _start, worker.settings, worker.output, worker.threads)
        return
    for unit in units:
        try:
            yield unit, worker.run(unit)
        except Exception as error:  # one shard's failure is one shard's
            yield unit, error

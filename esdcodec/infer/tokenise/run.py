"""Units over processes and machines. What is finished is not done again, so a run that was killed goes on."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ...dataset.token_manifests import THREADS
from .ray_address import import_ray
from .ray_engine import ray_results
from .settings import TokeniseSettings
from .sources import Unit, find_units
from .work import ShardManifest, kind_of
from .worker import Worker, local_results

RANKS = (  # of SLURM's arrays, torchrun, and Kubernetes' indexed jobs: this one's number, how many, the first, the step
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
    ("RANK", "WORLD_SIZE", "", ""),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", "", ""),
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

    def add(self, unit: Unit, result: tuple[ShardManifest, float] | Exception) -> None:
        """Count what became of a unit."""
        if isinstance(result, Exception):
            self.failed[unit.name] = str(result) or type(result).__name__
            return
        manifest, seconds = result
        self.units += 1
        self.utterances += manifest.utterances
        self.hours += manifest.seconds / 3600
        self.network_seconds += seconds
        self.skipped += manifest.reasons


Report = Callable[[Unit, ShardManifest | Exception, int], None]


def part_of_environment(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which part of how many this process is, as a launcher says: ``(0, 1)`` where there is none.

    SLURM arrays, torchrun and Kubernetes' indexed jobs are known; the last need `JOB_COMPLETIONS` in their template.
    """
    for index, count, first, step in RANKS:
        if index in environment and count in environment:
            number = int(environment[index]) - int(environment.get(first, 0))
            return number // int(environment.get(step, 1)), int(environment[count])
    return 0, 1


def tokenise(
    sources: Sequence[str | Path],
    output: str | Path,
    settings: TokeniseSettings | None = None,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    part: tuple[int, int] | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    report: Report | None = None,
) -> Summary:
    """Write the codes of a corpus below `output`: for each shard, or group of files, one shard and its manifest.

    The same call again continues: a shard whose manifest says the same settings and weights is finished. Killed at
    any moment and repeated, the result is the same, byte by byte, on the same kind of device with as many threads.

    Args:
        sources: tar shards (list, glob, folder, brace, URL), folders of audio, or tables with a `path` column.
        jobs: processes; worker i on GPU i modulo their number. Default: this one. On Ray: actors, with a GPU each where
            the cluster has some. Default: as many as it has room for.
        threads: of each process, for the network on a CPU. Default: its share of the cores; on Ray 1.
        part: this process's part and their number, such as ``(2, 64)``. Default: what a launcher's environment says.
        engine: `local`, or `ray` (extra `[ray]`): on all machines of a Ray cluster, which share the disk of `output`.
        ray_address: of the cluster, as `ray.init` takes it. Default: the one that is known here, or a new local one.
        report: called with each unit, its manifest or the error that it ended with, and the number of units to do.

    Raises:
        FileNotFoundError, ValueError: as `find_units`; nothing was written.
        ImportError: Ray is not installed.
        ConnectionError: no Ray cluster answers at this address.
        ModelNotFoundError, WeightsError: as `esdcodec.load`.
    """
    output, settings = Path(output), settings or TokeniseSettings()
    corpus = find_units(sources, settings.group_size, output)
    index, count = part_of_environment() if part is None else part
    if not 0 <= index < count:
        raise ValueError(f"part {index} of {count}: parts are numbered from 0 to {count - 1}")
    if engine == "ray":
        import_ray()  # says what is missing before the work begins
        worker = Worker(settings, output.absolute(), threads)
        worker.look()
    elif engine == "local":
        share = max(1, (os.cpu_count() or 1) // jobs) if jobs and jobs > 1 else None
        worker = Worker(settings, output, threads or share)
        worker.start()
    else:
        raise ValueError(f"engine={engine!r} is none of local, ray")
    summary = Summary(left_out=corpus.left_out)
    waiting = _unfinished(worker, corpus.units[index::count], summary)
    if engine == "ray":
        results = ray_results(worker, waiting, jobs, ray_address)
    else:
        results = local_results(worker, waiting, jobs or 1)
    with closing(results):
        for unit, result in results:
            summary.add(unit, result)
            if report:
                report(unit, result if isinstance(result, Exception) else result[0], len(waiting))
    return summary


def _unfinished(worker: Worker, units: Sequence[Unit], summary: Summary) -> list[Unit]:
    """The units that are still to be tokenised; what became of the others goes to `summary`."""
    waiting = []
    with ThreadPoolExecutor(THREADS) as pool:
        finished = list(pool.map(worker.finished, units))
    for unit, known in zip(units, finished):
        if known is None:
            waiting.append(unit)
        else:
            summary.finished += 1
            summary.skipped.update(kind_of(reason) for _, reason in known)
    return waiting

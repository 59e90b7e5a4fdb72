"""Systems times files times metrics: scored in parallel, resumable, and summed up with intervals."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio import AudioFileError, Waveform, read, write
from ..model_codec import ESDCodec
from ..pretrained import load
from ..workers import in_processes
from .metrics import Pair, Scores, load_metric, score_pair
from .systems import System, SystemFailed, command_system, folder_system, model_systems, peer_system

SAMPLE_RATE = 24000  # Hz at which systems are compared
RESAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Row:
    """What one system did with one file."""

    file: str
    system: str
    seconds: float
    scores: dict[str, float]
    n_bytes: int | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    codes: list[list[int]] | None = None
    bitrate: float | None = None
    megabytes: float | None = None


@dataclass(frozen=True)
class Failure:
    file: str
    system: str
    reason: str


def transcript(file: Path) -> str | None:
    """What is said in a file: the text beside it, `NAME.txt`."""
    text = file.with_suffix(".txt")
    return text.read_text(encoding="utf-8").strip() if text.is_file() else None


@dataclass(frozen=True)
class Plan:
    """What is to be evaluated and how: all that a worker process needs."""

    folder: Path  # of the originals
    metrics: tuple[str, ...]
    model: str | None = None
    device: str = "cpu"
    n_quantizers: tuple[int, ...] = ()
    decoded: tuple[tuple[str, Path], ...] = ()  # name, folder of decoded files
    peers: tuple[str, ...] = ()  # names in `systems.PEERS`
    commands: tuple[tuple[str, str], ...] = ()  # name, template of a shell command
    output: Path | None = None  # where decoded files are kept; None: nowhere

    def systems(self, codec: ESDCodec | None) -> dict[str, System]:
        """The systems by name, ready to run; `codec` is that of `model`.

        Raises:
            SystemFailed: a program is not installed.
        """
        found = {} if codec is None else model_systems(codec, self.n_quantizers)
        found |= {name: folder_system(self.folder, decoded) for name, decoded in self.decoded}
        found |= {name: peer_system(name) for name in self.peers}
        found |= {name: command_system(template, SAMPLE_RATE) for name, template in self.commands}
        return found


def kept_file(output: Path, system: str, name: str) -> Path:
    """Where the decoded file of a system is kept below `output`."""
    return output / re.sub(r"[^\w.=-]+", "_", system) / Path(name).with_suffix(".wav")


class Evaluator:
    """Scores one file after another through all systems of a plan.

    Args:
        scorers: the plan's metrics, where they are loaded already.

    Raises:
        SystemFailed: a program is not installed.
        ModelNotFoundError, WeightsError: as `esdcodec.load`.
        MissingPackage: a metric's package is not installed.
    """

    def __init__(self, plan: Plan, scorers: Mapping[str, Callable[[Pair], Scores]] | None = None) -> None:
        self.plan = plan
        codec = load(plan.model, device=plan.device) if plan.model is not None else None
        self.codebook_sizes = codec.codebook_sizes if codec is not None else ()
        self.systems = plan.systems(codec)
        self.scorers = scorers or {name: load_metric(name) for name in plan.metrics}

    def __call__(self, file: Path, finished: frozenset[str] = frozenset()) -> list[Row | Failure]:
        """Rows of a file, without those of systems that are `finished`."""
        name = str(file.relative_to(self.plan.folder))
        wanted = {system: run for system, run in self.systems.items() if system not in finished}
        try:
            waveform, _ = read(file, SAMPLE_RATE)
        except AudioFileError as error:
            return [Failure(name, system, str(error)) for system in wanted]
        return [self._row(file, name, waveform, system, run) for system, run in wanted.items()]

    def _row(self, file: Path, name: str, waveform: Waveform, system: str, run: System) -> Row | Failure:
        try:
            decoded = run(file, waveform, SAMPLE_RATE)
            if self.plan.output is not None:
                target = kept_file(self.plan.output, system, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                write(target, decoded.waveform, SAMPLE_RATE)
            scores = score_pair(self.scorers, Pair(waveform, decoded.waveform, SAMPLE_RATE, transcript(file)))
        except (SystemFailed, AudioFileError, ValueError, RuntimeError) as error:
            return Failure(name, system, str(error))
        return Row(
            name,
            system,
            len(waveform) / SAMPLE_RATE,
            scores,
            decoded.n_bytes,
            decoded.encode_seconds,
            decoded.decode_seconds,
            None if decoded.codes is None else decoded.codes.tolist(),
            decoded.bitrate,
            decoded.megabytes,
        )


_evaluator: Evaluator | None = None  # of a worker process


def _start_worker(plan: Plan) -> None:
    global _evaluator
    torch.set_num_threads(1)
    _evaluator = Evaluator(plan)


def _work(job: tuple[Path, frozenset[str]]) -> list[Row | Failure]:
    assert _evaluator is not None
    return _evaluator(*job)


def evaluate(
    evaluator: Evaluator, files: Sequence[Path], *, done: Iterable[Row] = (), jobs: int = 1
) -> Iterator[list[Row | Failure]]:
    """Rows of `files`, one list for each as they come, without what is `done`; in `jobs` processes."""
    plan = evaluator.plan
    finished: dict[str, set[str]] = defaultdict(set)
    for row in done:
        finished[row.file].add(row.system)
    work = [(file, frozenset(finished[str(file.relative_to(plan.folder))])) for file in files]
    if jobs == 1:
        yield from (evaluator(*job) for job in work)
        return
    with closing(in_processes(jobs, _work, work, _start_worker, plan)) as results:
        for (file, without), rows in results:
            if isinstance(rows, Exception):
                name, reason = str(file.relative_to(plan.folder)), str(rows) or type(rows).__name__
                rows = [Failure(name, system, reason) for system in evaluator.systems if system not in without]
            yield rows


# ---- rows on disk ----------------------------------------------------------------------------------------------------


def append(row: Row, file: Path) -> None:
    """Add a row to a file of JSON lines; a line that a killed run left unfinished stays apart."""
    with open(file, "ab+") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        unfinished = stream.read(1) not in (b"", b"\n")
        stream.write(b"\n" * unfinished + json.dumps(vars(row)).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def rows_in(file: Path) -> list[Row]:
    """The whole rows of a file; none where there is no such file."""
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # cut off when the run was killed
    return rows


# ---- summing up ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A mean over files and its bootstrap 95 % interval."""

    value: float
    low: float
    high: float


RATIOS = {"wer": ("word_errors", "words"), "cer": ("letter_errors", "letters")}


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """For each system an `Estimate` of every column, and what is counted over all files.

    WER and CER are errors over words of all files. Every system is resampled alike.
    """
    by_system: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_system[row.system].append(row)
    return {system: _summary(sorted(of, key=lambda row: row.file)) for system, of in by_system.items()}


def _summary(rows: list[Row]) -> dict[str, Any]:
    columns = {name: np.array([row.scores.get(name, np.nan) for row in rows]) for name in score_names(rows)}
    summary: dict[str, Any] = {"files": len(rows), "seconds": sum(row.seconds for row in rows)}
    for name, (errors, total) in RATIOS.items():
        if errors in columns:
            e, t = columns.pop(errors), columns.pop(total)
            draws = _draws(len(rows))
            resampled = e[draws].sum(1) / np.maximum(t[draws].sum(1), 1)
            summary[name] = _estimate(e.sum() / max(t.sum(), 1), resampled)
    for name, values in columns.items():
        known = values[~np.isnan(values)]
        if len(known):
            summary[name] = _estimate(known.mean(), known[_draws(len(known))].mean(1))
    if all(row.n_bytes is not None for row in rows):
        summary["kbps"] = sum(row.n_bytes or 0 for row in rows) * 8 / summary["seconds"] / 1000
    if rows[0].bitrate is not None:
        summary["nominal"] = rows[0].bitrate / 1000
    if known_megabytes := [row.megabytes for row in rows if row.megabytes is not None]:
        summary["megabytes"] = max(known_megabytes)
    for what in ("encode", "decode"):
        spent = [getattr(row, f"{what}_seconds") for row in rows]
        if all(s is not None for s in spent):
            summary[f"{what}_speed"] = summary["seconds"] / max(sum(spent), 1e-9)
    return summary


def _draws(n: int) -> np.ndarray:
    """Which of `n` files each resample takes ``[RESAMPLES, n]``, the same for every system."""
    return np.random.default_rng(0).integers(0, n, (RESAMPLES, n))


def score_names(rows: Sequence[Row]) -> list[str]:
    """Columns that any of the rows has, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row.scores))


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))

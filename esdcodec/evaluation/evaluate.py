"""Systems times files times metrics: computed in parallel, each row once."""

import hashlib
import math
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from ..audio import FolderContent, Waveform, audio_files
from ..codec import device_of_worker, load
from ..processes import in_processes
from .alignment import delay_ms
from .metrics import METRICS, Scorer, load_metric, metric_version
from .pair import NotScorable, Pair
from .reference import SAMPLE_RATE, Reference, is_silent, read_reference, text_hash
from .settings import ORIGINAL, EvaluationSettings
from .store import Key, ScoreRow, ScoreStore
from .systems import (
    Decoded,
    System,
    SystemFailed,
    command_system,
    folder_system,
    model_systems,
    original_system,
    peer_system,
)

CODING, CODING_VERSION = "coding", "1"  # the row of rates and times, beside those of the metrics
LENGTH_MISMATCH = 0.2, 0.12  # share and seconds of difference from which it is another recording


@dataclass(frozen=True)
class Coding:
    """What is measured of a system on one file, apart from scores."""

    seconds: float  # of the recording
    decoded: str  # hash of the decoded samples in 16 bits
    n_bytes: int | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    codes: list[list[int]] | None = None
    bitrate: float | None = None
    megabytes: float | None = None
    delay_ms: float | None = None  # None: too unlike the original
    longer: float = 0.0  # seconds by which the decoded audio is longer than the original
    silent: bool = False  # though the original is not
    problems: list[str] = field(default_factory=list)  # what is missing or damaged in the files


@dataclass(frozen=True)
class Failure:
    """Why there is no row of a system, or of one metric of it, for a file. It is tried again the next time."""

    file: str
    system: str
    reason: str


@dataclass(frozen=True)
class FileEvaluation:
    """One reference through all systems."""

    reference: Reference | None  # None: it cannot be read
    keys: dict[str, list[Key]] = field(default_factory=dict)  # the rows that belong to it, by name of the system
    rows: list[ScoreRow] = field(default_factory=list)  # those of them that are new
    failures: list[Failure] = field(default_factory=list)


class Evaluator:
    """Scores one file after another through all systems.

    Args:
        scorers: those of the metrics, where they are loaded already.

    Raises:
        SystemFailed: a program is not installed.
        ModelNotFoundError, WeightsError: as `esdcodec.load`.
        MissingPackage: a metric's package is not installed.
        ValueError: the model has fewer codebooks.
    """

    def __init__(self, settings: EvaluationSettings, scorers: Mapping[str, Scorer] | None = None) -> None:
        self.settings = settings
        codec = load(settings.model, device=device_of_worker(settings.device)) if settings.model is not None else None
        self.codebook_sizes = codec.codebook_sizes if codec is not None else ()
        self.systems = [] if codec is None else model_systems(codec, settings.n_quantizers)
        self.systems += [folder_system(name, decoded) for name, decoded in settings.decoded]
        self.systems += [peer_system(name) for name in settings.peers]
        self.systems += [command_system(name, template) for name, template in settings.commands]
        if not self.systems:
            raise ValueError("nothing to evaluate: give a model, decoded files, a peer or a command")
        if any(not METRICS[name].intrusive for name in settings.metrics):
            self.systems.append(original_system())
        self.scorers = dict(scorers or {name: load_metric(name) for name in settings.metrics})
        self.versions = {name: metric_version(name) for name in settings.metrics}

    def __call__(self, file: Path, known: Mapping[Key, ScoreRow] | None = None) -> FileEvaluation:
        """The rows of a file, computed but for those that are `known`. An exception is that file's and system's."""
        try:
            reference = read_reference(file, self.settings.folder)
            if self.settings.language:
                reference = Reference(**{**vars(reference), "language": self.settings.language})
        except Exception as error:
            name = file.relative_to(self.settings.folder).as_posix()
            return FileEvaluation(None, failures=[Failure(name, s.name, reason_of(error)) for s in self.systems])
        result = FileEvaluation(reference)
        for system in self.systems:
            try:
                self._evaluate(reference, system, known or {}, result)
            except Exception as error:
                result.keys.pop(system.name, None)
                result.failures.append(Failure(reference.name, system.name, reason_of(error)))
        return result

    def _evaluate(
        self, reference: Reference, system: System, known: Mapping[Key, ScoreRow], result: FileEvaluation
    ) -> None:
        key = partial(Key, system.identity(reference), reference.name)
        coding_key = key(reference.content, CODING, CODING_VERSION)
        metrics = {name: self._key(key, reference, name) for name in self._metrics_of(reference, system)}
        missing = {name: key for name, key in metrics.items() if key not in known}
        kept = self._kept(reference, system)
        coding = Coding(**known[coding_key].values) if coding_key in known else None
        if missing or coding is None or (kept is not None and _hash_in(kept) != coding.decoded):
            decoded = system.run(reference)
            _check(decoded, reference)
            estimate = _fit(decoded.waveform, len(reference.waveform))
            if coding is None or coding.decoded != _hash(_pcm16(estimate)):  # scores of other audio do not belong to it
                values = asdict(_coding_of(decoded, estimate, reference, aligned=system.name == ORIGINAL))
                result.rows.append(ScoreRow(coding_key, system.name, values))
                missing = metrics
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(kept, _pcm16(estimate), SAMPLE_RATE, subtype="PCM_16")
            pair = Pair(reference.waveform, estimate, SAMPLE_RATE, reference.text, reference.language)
            for name, metric_key in missing.items():
                self._score(pair, name, metric_key, system.name, result)
        result.keys[system.name] = [coding_key, *metrics.values()]

    def _metrics_of(self, reference: Reference, system: System) -> list[str]:
        """Of an original those that need no other signal, and a text if they read one."""
        if system.name != ORIGINAL:
            return list(self.scorers)
        needed = (name for name in self.scorers if not METRICS[name].intrusive)
        return [name for name in needed if reference.text is not None or not METRICS[name].reads_text]

    def _key(self, key: "partial[Key]", reference: Reference, name: str) -> Key:
        content = reference.content
        if METRICS[name].reads_text:
            content = text_hash(content, reference.text, reference.language)
        return key(content, name, self.versions[name])

    def _score(self, pair: Pair, name: str, key: Key, system: str, result: FileEvaluation) -> None:
        nothing = dict.fromkeys(METRICS[name].columns, math.nan)
        note = "the original is silent" if is_silent(pair.reference) else None
        values: dict[str, Any] = nothing
        if note is None:
            try:
                values = dict(self.scorers[name](pair))
            except NotScorable as error:
                note = str(error)
            except Exception as error:
                result.failures.append(Failure(key.file, system, f"{name}: {reason_of(error)}"))
                return
            if note is None and any(isinstance(v, float) and math.isnan(v) for v in values.values()):
                note = "the decoded audio is silent" if is_silent(pair.estimate) else "the metric gives no number"
        result.rows.append(ScoreRow(key, system, values, note))

    def _kept(self, reference: Reference, system: System) -> Path | None:
        kept = self.settings.kept
        return None if kept is None or system.name == ORIGINAL else kept_file(kept, system, reference.name)


def kept_file(folder: Path, system: System, name: str) -> Path:
    """Where the decoded file of a system is kept below `folder`; no two systems or files share one."""
    label = re.sub(r"[^\w.=-]+", "_", system.name)
    return folder / f"{label}-{text_hash(system.name, system.description)[:8]}" / f"{name}.wav"


def reason_of(error: Exception) -> str:
    """The message of an exception; with its type, unless it is one that is raised for users."""
    known = isinstance(error, ValueError | RuntimeError | OSError) and str(error)
    return str(error) if known else f"{type(error).__name__}: {error}".removesuffix(": ")


def _check(decoded: Decoded, reference: Reference) -> None:
    if not np.isfinite(decoded.waveform).all():
        raise SystemFailed("the decoded audio contains NaN or infinite samples")
    if not len(decoded.waveform):
        raise SystemFailed("the decoded audio holds no samples")
    seconds, expected = (len(w) / SAMPLE_RATE for w in (decoded.waveform, reference.waveform))
    share, least = LENGTH_MISMATCH
    if abs(seconds - expected) > max(least, share * expected):
        raise SystemFailed(f"{seconds:.2f} s come out of {expected:.2f} s: another recording, or a wrong sample rate")


def _fit(waveform: Waveform, length: int) -> Waveform:
    """As long as the original: cut, or completed with zeros."""
    return np.pad(waveform, (0, max(0, length - len(waveform))))[:length].astype(np.float32)


def _coding_of(decoded: Decoded, estimate: Waveform, reference: Reference, *, aligned: bool) -> Coding:
    silent = is_silent(reference.waveform)
    return Coding(
        len(reference.waveform) / SAMPLE_RATE,
        _hash(_pcm16(estimate)),
        decoded.n_bytes,
        decoded.encode_seconds,
        decoded.decode_seconds,
        None if decoded.codes is None else decoded.codes.tolist(),
        decoded.bitrate,
        decoded.megabytes,
        None if aligned or silent else delay_ms(reference.waveform, estimate, SAMPLE_RATE),
        (len(decoded.waveform) - len(reference.waveform)) / SAMPLE_RATE,
        is_silent(estimate) and not silent,
        [f"of an original: {problem}" for problem in reference.problems]
        + [f"of a decoded file: {problem}" for problem in decoded.problems],
    )


def _pcm16(waveform: Waveform) -> NDArray[np.int16]:
    return (np.clip(waveform, -1, 1) * 32767).round().astype(np.int16)


def _hash(samples: NDArray[np.int16]) -> str:
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()[:32]


def _hash_in(file: Path) -> str | None:
    """That of a kept file; None where there is none."""
    try:
        return _hash(soundfile.read(file, dtype="int16")[0])
    except (OSError, soundfile.SoundFileError):
        return None


def references_below(folder: Path, *, without: Path) -> tuple[list[Path], list[str]]:
    """The audio files below `folder`, but for results below `without`, and a line for each kind of what is left out."""
    content = audio_files(folder)
    beside = {path: reason for path, reason in content.left_out.items() if path.suffix not in (".txt", ".json")}
    mine = without.resolve()
    files, rest = ([path for path in paths if mine not in path.resolve().parents] for paths in (content.files, beside))
    return files, FolderContent(files, {path: beside[path] for path in rest}).report()


# ---- in parallel -----------------------------------------------------------------------------------------------------

_evaluator: Evaluator | None = None  # of a worker process


def _start_worker(settings: EvaluationSettings) -> None:
    global _evaluator
    torch.set_num_threads(1)
    _evaluator = Evaluator(settings)


def _work(job: tuple[Path, Mapping[Key, ScoreRow]]) -> FileEvaluation:
    assert _evaluator is not None
    return _evaluator(*job)


def evaluate_files(
    evaluator: Evaluator, files: Sequence[Path], store: ScoreStore, *, jobs: int = 1
) -> Generator[FileEvaluation, None, None]:
    """Each of `files` through all systems, as they come, in `jobs` processes; what is new goes to `store`."""
    folder = evaluator.settings.folder
    work = [(file, store.of_file(file.relative_to(folder).as_posix())) for file in files]
    for result in _results(evaluator, work, jobs):
        store.add(result.rows)
        yield result


def _results(
    evaluator: Evaluator, work: Sequence[tuple[Path, Mapping[Key, ScoreRow]]], jobs: int
) -> Iterator[FileEvaluation]:
    if jobs == 1:
        yield from (evaluator(*job) for job in work)
        return
    with closing(in_processes(jobs, _work, work, _start_worker, evaluator.settings)) as results:
        for (file, _), result in results:
            if isinstance(result, Exception):
                name = file.relative_to(evaluator.settings.folder).as_posix()
                failures = [Failure(name, s.name, reason_of(result)) for s in evaluator.systems]
                result = FileEvaluation(None, failures=failures)
            yield result

"""Many files through one task: where each goes, in how many processes, what became of it."""

import argparse
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from ..audio import EXTENSIONS
from ..processes import WorkerDied, in_processes
from .files import STDIN, STDOUT, Found, Job, find_jobs, is_stream, printable, tidy
from .progress import SecondsBar
from .tasks import Facts, Task

Outcome = tuple[Job, list[Path], Facts | str]  # files written and facts; or why not


class Refused(ValueError):
    """A command would overwrite something, or has nowhere to write."""


def run(args: argparse.Namespace, task: Task, extensions: Iterable[str], formats: Sequence[str]) -> int:
    """Do `task` to all that `args.sources` name; returns the exit code.

    Args:
        args: sources, output, jobs, overwrite, skip_existing and json, as the command line has them.
        extensions: of what is taken from folders.
        formats: that --output may name as the extension of a file, that of the task among them; none: it is a folder.
    """
    if args.jobs < 1:
        raise Refused(f"--jobs {args.jobs} must be at least 1")
    found = _find(args, task, extensions)
    single = len(found.jobs) == 1 and len(args.sources) == 1 and found.jobs[0].source in (STDIN, Path(args.sources[0]))
    into = _file_of(args.output, formats, single=single)
    if not found.jobs and not found.failed:
        left_out = "".join(f"\n           left out: {line}" for line in found.report())
        what = "audio" if frozenset(extensions) == EXTENSIONS else " ".join(sorted(extensions))
        raise Refused(f"no {what} files in {', '.join(map(str, args.sources))}{left_out}")
    piped = into is not None and is_stream(into) and _same_file(into, sys.stdout.fileno)
    if into == STDOUT and sys.stdout.isatty():
        raise Refused("this would write binary data to the terminal: give --output, or a pipe")
    if into == STDOUT and args.json:
        raise Refused("--json and the result would both go to the standard output: give --output a file")
    planned, outcomes, skipped = _plan(args, task, found, into)
    planned, hopeless = _first_look(task, planned)
    outcomes += hopeless
    for outcome in outcomes if args.json else ():
        print(json.dumps(_as_json(*outcome)), flush=True)
    threads = max(1, (os.cpu_count() or 1) // args.jobs) if args.jobs > 1 else None
    if planned:
        task.start(threads)  # here too: what is wrong with the model is told once, and before anything is written
    show = sys.stderr.isatty() and not args.json
    hours = work = 0.0
    with (
        SecondsBar(disable=not show or len(planned) != 1) as task.progress,
        tqdm(total=len(planned), unit="file", disable=not show or len(planned) < 2) as bar,
    ):
        for job, targets, facts in _outcomes(task, planned, args.jobs, threads):
            outcomes.append((job, targets, facts))
            bar.update()
            if isinstance(facts, Facts):
                hours += facts.audio_seconds / 3600
                work += facts.encode_seconds + facts.decode_seconds
                bar.set_postfix_str(f"{hours:.2f} h of audio" + (f", {3600 * hours / work:.0f}×" if work else ""))
            if args.json:
                print(json.dumps(_as_json(job, targets, facts)), flush=True)
    _summarise(args, task if planned else None, outcomes, skipped, found, quiet=piped)
    return 1 if any(isinstance(facts, str) or facts.problems for _, _, facts in outcomes) else 0


def _find(args: argparse.Namespace, task: Task, extensions: Iterable[str]) -> Found:
    if "-" not in map(str, args.sources):
        return find_jobs(args.sources, extensions)
    if len(args.sources) > 1:
        raise Refused("- stands for a pipe and takes no other source beside it")
    if not task.takes_pipes:
        raise Refused("this command takes no pipe: give it files")
    args.output = "-" if args.output is None else args.output
    return Found([Job(STDIN, Path("stdin"))])


def names_folder(output: str) -> bool:
    """Whether --output is surely a folder: there is one, or it ends with a slash."""
    return Path(output).is_dir() or output.endswith(("/", os.sep))


def _file_of(output: str | None, formats: Sequence[str], *, single: bool) -> Path | None:
    """The file or stream that --output names; None: a folder, or nothing.

    Args:
        single: the source is one file.

    Raises:
        Refused: it is a file, but there are several sources; or it looks like one of a format that is not known.
    """
    if output is None or (output != "-" and names_folder(output)):
        return None
    path = STDOUT if output == "-" else Path(output)
    extension = path.suffix.lower()
    known = ", ".join(f".{format}" for format in formats)
    stream = is_stream(path)
    if not formats:
        if stream or extension in (".wav", ".esd", ".flac", ".mp3", ".ogg", ".opus"):
            raise Refused(f"--output {output}: this command writes several files: name a folder")
    elif stream or extension[1:] in formats:
        if not single:
            raise Refused(f"--output {output} is one file, and the sources are not: name a folder")
        return path
    elif single and extension:
        raise Refused(f"--output {output}: no such format; known are {known} (a folder: end it with /)")
    return None


def _same_file(path: Path, number: Callable[[], int]) -> bool:
    """Whether a stream is that of a descriptor."""
    if path == STDOUT:
        return True
    try:
        return os.path.samestat(os.stat(path), os.fstat(number()))
    except (OSError, ValueError):
        return False


def wanted(targets: list[Path], *, overwrite: bool, skip_existing: bool) -> bool:
    """Whether to write `targets`, which are made together: not where all are there and may stay.

    Raises:
        Refused: one exists, and nothing was said about that.
    """
    there = [target for target in targets if target.exists() and not is_stream(target)]
    for target in there:
        if target.is_dir():
            raise Refused(f"{target} is a folder, and a file should go there")
    if not there or overwrite:
        return True
    if skip_existing:
        return len(there) < len(targets)
    raise Refused(f"{there[0]} exists: say --overwrite or --skip-existing")


def _plan(
    args: argparse.Namespace, task: Task, found: Found, into: Path | None
) -> tuple[list[tuple[Job, list[Path]]], list[Outcome], int]:
    """What is to be done; what cannot be; and the number of files that are there already."""
    sources = {_identity(job.source) for job in found.jobs} - {None}
    taken: dict[Path, Path] = {}
    planned: list[tuple[Job, list[Path]]] = []
    refused: list[Outcome] = [(Job(path, path), [], why) for path, why in found.failed.items()]
    skipped = 0
    for job in found.jobs:
        stem = job.source.parent / job.target.name if args.output is None else Path(args.output) / job.target
        targets = [into] if into else [stem.with_name(stem.name + each) for each in task.suffixes]
        for target in targets:
            found.left_out.pop(target, None)  # an earlier result beside its source
        first = taken.setdefault(targets[0], job.source)
        if first is not job.source and os.path.realpath(first) == os.path.realpath(job.source):
            continue  # it was named twice
        try:
            if first is not job.source:
                raise Refused(
                    f"its output {targets[0]} would replace that of {first}: give another --output, or a folder of "
                    "both, which is mirrored"
                )
            if any(_identity(target) in sources for target in targets):
                raise Refused("its output would replace an input; choose another --output")
            if job.source != STDIN:
                _check_source(job.source)
            if not wanted(targets, overwrite=args.overwrite, skip_existing=args.skip_existing):
                skipped += 1
                continue
        except (Refused, OSError, ValueError) as error:
            refused.append((job, targets, _reason(job.source, error)))
            continue
        planned.append((job, targets))
    return planned, refused, skipped


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file is, under all of its names; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _check_source(source: Path) -> None:
    try:
        mode = source.stat().st_mode
    except FileNotFoundError:
        raise Refused("link to nothing" if source.is_symlink() else "no such file") from None
    if stat.S_ISDIR(mode):
        raise Refused("is a folder, and a file should be there")
    if source.suffix.lower() == ".txt":
        raise Refused(f"is no audio; if it is a list of files say @{source}")


def _first_look(
    task: Task, planned: list[tuple[Job, list[Path]]]
) -> tuple[list[tuple[Job, list[Path]]], list[Outcome]]:
    """What is still to be done, and what failed: all, where the beginnings of all sources say so, or else nothing.

    One good source ends the look. Without one no model needs to be loaded.
    """
    failed: list[Outcome] = []
    for job, targets in planned:
        try:
            if not is_stream(job.source):
                task.check(job.source)
        except Exception as error:
            failed.append((job, targets, _reason(job.source, error)))
        else:
            return planned, []
    return [], failed


# ---- doing it --------------------------------------------------------------------------------------------------------


def _outcomes(
    task: Task, planned: list[tuple[Job, list[Path]]], n_processes: int, threads: int | None
) -> Iterator[Outcome]:
    if n_processes == 1 or len(planned) < 2:
        for job, targets in planned:
            yield job, targets, _attempt(task, job.source, targets)
        return
    with closing(in_processes(n_processes, _work, planned, _start_worker, replace(task), threads)) as results:
        for (job, targets), facts in results:
            for target in targets if isinstance(facts, WorkerDied) else ():
                tidy(Path(os.path.realpath(target)).parent)
            yield job, targets, _reason(job.source, facts) if isinstance(facts, Exception) else facts


def _attempt(task: Task, source: Path, targets: list[Path]) -> Facts | str:
    try:
        return task.run(source, targets)
    except Exception as error:  # not audio, no place, no memory, or a fault of ours: it is this file's alone
        return _reason(source, error)


def _reason(source: Path, error: Exception) -> str:
    """Why a file failed, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename not in (None, str(source)) else "")
    words = str(error).removeprefix(f"{source}: ")
    known = isinstance(error, ValueError | OSError | RuntimeError | MemoryError) and words
    return words if known else f"{type(error).__name__}: {words}".removesuffix(": ")


_TASK: Task


def _start_worker(task: Task, threads: int | None) -> None:
    global _TASK
    task.start(threads)
    _TASK = task


def _work(planned: tuple[Job, list[Path]]) -> Facts | str:
    job, targets = planned
    return _attempt(_TASK, job.source, targets)


# ---- telling it ------------------------------------------------------------------------------------------------------


def _name(source: Path) -> str:
    return "-" if source == STDIN else str(source)


def _as_json(job: Job, targets: list[Path], facts: Facts | str) -> dict[str, object]:
    told: dict[str, object] = {"source": _name(job.source), "targets": [str(target) for target in targets]}
    return told | ({"error": facts} if isinstance(facts, str) else asdict(facts))


def _summarise(
    args: argparse.Namespace, task: Task | None, outcomes: list[Outcome], skipped: int, found: Found, *, quiet: bool
) -> None:
    done = [(targets, facts) for _, targets, facts in outcomes if isinstance(facts, Facts)]
    failures = [(job, facts) for job, _, facts in outcomes if isinstance(facts, str)]
    seconds = sum(facts.audio_seconds for _, facts in done)
    size = sum(facts.coded_bytes for _, facts in done)
    if args.json:
        summary = {"files": len(done), "failed": len(failures), "skipped": skipped, "audio_seconds": seconds}
        left_out = {"left_out": {str(path): why for path, why in found.left_out.items()}} if found.left_out else {}
        print(json.dumps(summary | {"coded_bytes": size} | left_out), flush=True)
    elif done and task and not quiet:
        spent = {what: sum(getattr(facts, f"{what}_seconds") for _, facts in done) for what in ("encode", "decode")}
        speed = ", ".join(f"{what} {seconds / each:.1f}×" for what, each in spent.items() if each)
        written = done[0][0] if len(done) == 1 else [Path(args.output or ".")]
        lines = {
            "model": task.describe(),
            "audio": f"{len(done)} file{'s' * (len(done) > 1)}, {seconds:.2f} s",
            "codes": f"{size:,} bytes: {8 * size / seconds:.0f} bit/s of files" if seconds else "",
            "speed": f"{speed} real time" if speed else "",
            "skipped": f"{skipped} that exist" if skipped else "",
            "written": "\n           ".join(printable(path) for path in written),
        }
        print("\n".join(f"{name:10} {text}" for name, text in lines.items() if text))
    elif skipped and not failures and not quiet:
        print(f"skipped    {skipped} that exist: nothing to do")
    for job, _, facts in outcomes:
        for problem in [] if isinstance(facts, str) else facts.problems:
            print(f"recovered  {printable(_name(job.source))}: {printable(problem)}", file=sys.stderr)
    for line in found.report():
        print(f"left out   {printable(line)}", file=sys.stderr)
    for job, why in failures:
        print(f"failed     {printable(_name(job.source))}: {printable(why)}", file=sys.stderr)

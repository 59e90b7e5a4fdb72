"""Which files a command reads and where the results of each go, decided before anything is written."""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..audio import EXTENSIONS
from ..pipes import STDIN, STDOUT, is_stream
from .file_task import FileTask
from .options import FileSettings, UsageError, names_folder
from .outcome import Outcome, PlannedFile, reason_of
from .paths import FoundFiles, Job, find_jobs


@dataclass
class Plan:
    """The files to work on, those that are refused, and how many exist already."""

    found: FoundFiles
    piped: bool  # into the standard output
    planned: list[PlannedFile] = field(default_factory=list)
    refused: list[Outcome] = field(default_factory=list)
    skipped: int = 0


def make_plan(files: FileSettings, task: FileTask, extensions: Iterable[str], formats: Sequence[str]) -> Plan:
    """
    Args:
        extensions: of what is taken from folders.
        formats: that --output may name as the extension of a file, that of the task among them; none: it is a folder.

    Raises:
        UsageError: there is nothing to do, or nowhere to write.
    """
    found = _find(files, task, extensions)
    single = len(found.jobs) == 1 and len(files.sources) == 1
    single = single and found.jobs[0].source in (STDIN, Path(files.sources[0]))
    into = _file_of(files.output, formats, single=single)
    if not found.jobs and not found.failed:
        left_out = "".join(f"\n           left out: {line}" for line in found.report())
        what = "audio" if frozenset(extensions) == EXTENSIONS else " ".join(sorted(extensions))
        raise UsageError(f"no {what} files in {', '.join(map(str, files.sources))}{left_out}")
    piped = into is not None and is_stream(into) and _same_file(into, sys.stdout.fileno)
    if into == STDOUT and sys.stdout.isatty():
        raise UsageError("this would write binary data to the terminal: give --output, or a pipe")
    if into == STDOUT and files.json:
        raise UsageError("--json and the result would both go to the standard output: give --output a file")
    plan = Plan(found, piped, refused=[Outcome(Job(path, path), [], why) for path, why in found.failed.items()])
    _assign_targets(plan, files, task, into)
    _look_first(plan, task)
    return plan


def _find(files: FileSettings, task: FileTask, extensions: Iterable[str]) -> FoundFiles:
    if "-" not in files.sources:
        return find_jobs(files.sources, extensions)
    if len(files.sources) > 1:
        raise UsageError("- stands for a pipe and takes no other source beside it")
    if not task.takes_pipes:
        raise UsageError("this command takes no pipe: give it files")
    return FoundFiles([Job(STDIN, Path("stdin"))])


def _file_of(output: str | None, formats: Sequence[str], *, single: bool) -> Path | None:
    """The file or stream that --output names; None: a folder, or nothing.

    Args:
        single: the source is one file.

    Raises:
        UsageError: it is a file, but there are several sources; or it looks like one of a format that is not known.
    """
    if output is None or (output != "-" and names_folder(output)):
        return None
    path = STDOUT if output == "-" else Path(output)
    extension = path.suffix.lower()
    known = ", ".join(f".{format}" for format in formats)
    stream = is_stream(path)
    if not formats:
        if stream or extension in (".wav", ".esd", ".flac", ".mp3", ".ogg", ".opus"):
            raise UsageError(f"--output {output}: this command writes several files: name a folder")
    elif stream or extension[1:] in formats:
        if not single:
            raise UsageError(f"--output {output} is one file, and the sources are not: name a folder")
        return path
    elif single and extension:
        raise UsageError(f"--output {output}: no such format; known are {known} (a folder: end it with /)")
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
        UsageError: one exists, and no option says what to do with it.
    """
    there = [target for target in targets if target.exists() and not is_stream(target)]
    for target in there:
        if target.is_dir():
            raise UsageError(f"{target} is a folder, and a file should go there")
    if not there or overwrite:
        return True
    if skip_existing:
        return len(there) < len(targets)
    raise UsageError(f"{there[0]} exists: say --overwrite or --skip-existing")


def _assign_targets(plan: Plan, files: FileSettings, task: FileTask, into: Path | None) -> None:
    """Give each file its targets, or a reason why it is refused."""
    found = plan.found
    sources = {_identity(job.source) for job in found.jobs} - {None}
    taken: dict[Path, Path] = {}
    for job in found.jobs:
        stem = job.source.parent / job.target.name if files.output is None else Path(files.output) / job.target
        targets = [into] if into else [stem.with_name(stem.name + each) for each in task.suffixes]
        for target in targets:
            found.left_out.pop(target, None)  # an earlier result beside its source
        first = taken.setdefault(targets[0], job.source)
        if first is not job.source and os.path.realpath(first) == os.path.realpath(job.source):
            continue  # it was named twice
        try:
            if first is not job.source:
                raise UsageError(
                    f"its output {targets[0]} would replace that of {first}: give another --output, or a folder of "
                    "both, which is mirrored"
                )
            if any(_identity(target) in sources for target in targets):
                raise UsageError("its output would replace an input; choose another --output")
            if job.source != STDIN:
                _check_source(job.source)
            if wanted(targets, overwrite=files.overwrite, skip_existing=files.skip_existing):
                plan.planned.append(PlannedFile(job, targets))
            else:
                plan.skipped += 1
        except (OSError, ValueError) as error:
            plan.refused.append(Outcome(job, targets, reason_of(error, job.source)))


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, the same under all names of a file; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _check_source(source: Path) -> None:
    try:
        mode = source.stat().st_mode
    except FileNotFoundError:
        raise UsageError("link to nothing" if source.is_symlink() else "no such file") from None
    if stat.S_ISDIR(mode):
        raise UsageError("is a folder, and a file should be there")
    if source.suffix.lower() == ".txt":
        raise UsageError(f"is no audio; if it is a list of files say @{source}")


def _look_first(plan: Plan, task: FileTask) -> None:
    """Check the beginnings of the sources until one is good; if none is, refuse all of them.

    Then no model is loaded for nothing.
    """
    failed: list[Outcome] = []
    for file in plan.planned:
        try:
            if not is_stream(file.job.source):
                task.check(file.job.source)
        except Exception as error:
            failed.append(Outcome(file.job, file.targets, reason_of(error, file.job.source)))
        else:
            return
    plan.planned = []
    plan.refused += failed

"""Many files through one task, in one process or in several."""

import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from ..infer.files import CodedFile
from ..processes import WorkerDied, in_processes
from ..whole_file import tidy
from .file_task import FileTask
from .options import FileSettings, UsageError
from .outcome import Outcome, PlannedFile, reason_of, summarise
from .plan import make_plan
from .terminal import SecondsBar


class CannotStart(RuntimeError):
    """A process cannot do a task for any file, such as without its model; the message says why."""


@dataclass(frozen=True)
class WorkDone:
    """The result of a task on a file, and the description of the task."""

    result: CodedFile | str
    description: str


Results = Generator[tuple[PlannedFile, WorkDone], None, None]


def run(files: FileSettings, task: FileTask, extensions: Iterable[str], formats: Sequence[str]) -> int:
    """Do `task` to all files; returns the exit code.

    Args:
        extensions: of what is taken from folders.
        formats: that --output may name as the extension of a file, that of the task among them; none: it is a folder.

    Raises:
        UsageError: the command cannot be done as it was given; nothing was written.
    """
    plan = make_plan(files, task, extensions, formats)
    outcomes = list(plan.refused)
    for outcome in outcomes if files.json else ():
        print(outcome.to_json(), flush=True)
    description = None
    if plan.planned:
        task.prepare()
    show = sys.stderr.isatty() and not files.json
    hours = work = 0.0
    with (
        SecondsBar(disable=not show or len(plan.planned) != 1) as task.progress,
        tqdm(total=len(plan.planned), unit="file", disable=not show or len(plan.planned) < 2) as bar,
        closing(_results(task, plan.planned, files.jobs)) as results,
    ):
        for file, done in results:
            description = done.description or description or ""
            outcome = Outcome(file.job, file.targets, done.result)
            outcomes.append(outcome)
            bar.update()
            if isinstance(done.result, CodedFile):
                hours += done.result.audio_seconds / 3600
                work += done.result.encode_seconds + done.result.decode_seconds
                bar.set_postfix_str(f"{hours:.2f} h of audio" + (f", {3600 * hours / work:.0f}×" if work else ""))
            if files.json:
                print(outcome.to_json(), flush=True)
    summarise(files, outcomes, skipped=plan.skipped, found=plan.found, description=description, piped=plan.piped)
    return 0 if all(outcome.is_whole for outcome in outcomes) else 1


def _results(task: FileTask, planned: list[PlannedFile], n_processes: int) -> Results:
    if not planned:
        return
    if n_processes == 1 or len(planned) == 1:
        task.start(None if n_processes == 1 else max(1, (os.cpu_count() or 1) // n_processes))
        for file in planned:
            yield file, _attempt(task, file)
        return
    yield from _results_of_processes(task, planned, n_processes)


def _results_of_processes(task: FileTask, planned: list[PlannedFile], n_processes: int) -> Results:
    threads = max(1, (os.cpu_count() or 1) // n_processes)
    begun = False
    with closing(in_processes(n_processes, _work, planned, _start_worker, replace(task), threads)) as results:
        for file, done in results:
            if isinstance(done, CannotStart) and not begun:
                raise UsageError(str(done))  # the same for all files
            begun = True
            for target in file.targets if isinstance(done, WorkerDied) else ():
                tidy(Path(os.path.realpath(target)).parent)
            yield file, WorkDone(reason_of(done, file.job.source), "") if isinstance(done, Exception) else done


def _attempt(task: FileTask, file: PlannedFile) -> WorkDone:
    result: CodedFile | str
    try:
        result = task.run(file.job.source, file.targets)
    except Exception as error:  # not audio, a full disk, no memory, or a fault in this program: the other files go on
        result = reason_of(error, file.job.source)
    return WorkDone(result, task.describe())


_TASK: FileTask


def _start_worker(task: FileTask, threads: int | None) -> None:
    global _TASK
    try:
        task.start(threads)
    except Exception as error:
        raise CannotStart(reason_of(error, Path())) from error
    _TASK = task


def _work(file: PlannedFile) -> WorkDone:
    return _attempt(_TASK, file)

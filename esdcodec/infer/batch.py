"""Many files through one task: where each goes, in how many processes, what became of it."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from ..workers import in_processes
from .files import Job, find_jobs, whole_file
from .tasks import Facts, Task

Outcome = tuple[Job, list[Path], Facts | str]  # files written and facts; or why not


class Refused(ValueError):
    """A command would overwrite something, or has nowhere to write."""


def run(args: argparse.Namespace, task: Task, extensions: Iterable[str], suffix: str, *, folder: bool = False) -> int:
    """Do `task` to all that `args.sources` name; returns the exit code.

    Args:
        args: sources, output, jobs, overwrite, skip_existing and json, as the command line has them.
        suffix: of the output that --output may name as a file.
        folder: --output is always a folder.
    """
    if args.jobs < 1:
        raise Refused(f"--jobs {args.jobs} must be at least 1")
    if "-" in map(str, args.sources):
        return _pipe(args, task)
    jobs = list(find_jobs(args.sources, extensions))
    if not jobs:
        raise Refused(f"no {' '.join(sorted(extensions))} files in {', '.join(map(str, args.sources))}")
    planned, outcomes, skipped = _plan(args, task, jobs, suffix, folder)
    planned, hopeless = _first_look(task, planned)
    outcomes += hopeless
    for outcome in hopeless if args.json else ():
        print(json.dumps(_as_json(*outcome)), flush=True)
    threads = max(1, (os.cpu_count() or 1) // args.jobs) if args.jobs > 1 else None
    if planned:
        task.start(threads)  # here too: what is wrong with the model is told once, and before anything is written
    show = sys.stderr.isatty() and len(planned) > 1 and not args.json
    hours = work = 0.0
    with tqdm(total=len(planned), unit="file", disable=not show) as bar:
        for job, targets, facts in _outcomes(task, planned, args.jobs, threads):
            outcomes.append((job, targets, facts))
            bar.update()
            if isinstance(facts, Facts):
                hours += facts.audio_seconds / 3600
                work += facts.encode_seconds + facts.decode_seconds
                bar.set_postfix_str(f"{hours:.2f} h of audio" + (f", {3600 * hours / work:.0f}×" if work else ""))
            if args.json:
                print(json.dumps(_as_json(job, targets, facts)), flush=True)
    _summarise(args, task if planned else None, outcomes, skipped)
    return 1 if any(isinstance(facts, str) or facts.problems for _, _, facts in outcomes) else 0


def _pipe(args: argparse.Namespace, task: Task) -> int:
    if len(args.sources) > 1:
        raise Refused("- stands for a pipe and takes no other source beside it")
    task.start(None)
    if args.output not in (None, "-"):
        target = Path(args.output)
        if not wanted([target], overwrite=args.overwrite, skip_existing=args.skip_existing):
            return 0
        with whole_file(target) as stream:
            facts = task.pipe(sys.stdin.buffer, stream)
    else:
        if sys.stdout.isatty():
            raise Refused("this would write binary data to the terminal: give --output, or a pipe")
        facts = task.pipe(sys.stdin.buffer, sys.stdout.buffer)
    for problem in facts.problems:
        print(f"recovered  -: {problem}", file=sys.stderr)
    return 1 if facts.problems else 0


def wanted(targets: list[Path], *, overwrite: bool, skip_existing: bool) -> bool:
    """Whether to write `targets`, which are made together: not where all are there and may stay.

    Raises:
        Refused: one exists, and nothing was said about that.
    """
    there = [target for target in targets if target.exists()]
    if not there or overwrite:
        return True
    if skip_existing:
        return len(there) < len(targets)
    raise Refused(f"{there[0]} exists: say --overwrite or --skip-existing")


def _plan(
    args: argparse.Namespace, task: Task, jobs: list[Job], suffix: str, folder: bool
) -> tuple[list[tuple[Job, list[Path]]], list[Outcome], int]:
    """What is to be done; what cannot be; and the number of files that are there already."""
    single = len(jobs) == 1 and jobs[0].source == Path(args.sources[0]) and not folder
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    planned: list[tuple[Job, list[Path]]] = []
    refused: list[Outcome] = []
    skipped = 0
    for job in jobs:
        if args.output is None:
            stem = job.source.with_suffix("")
        elif single and Path(args.output).suffix == suffix and not Path(args.output).is_dir():
            stem = Path(args.output).with_suffix("")
        else:
            stem = Path(args.output) / job.target
        targets = [stem.with_name(stem.name + each) for each in task.suffixes]
        why = ""
        if targets[0] in taken:
            why = f"its output would replace that of {taken[targets[0]]}"
        elif any(target.resolve() in sources for target in targets):
            why = "its output would replace an input; choose another --output"
        elif not job.source.is_file():
            why = "no such file"
        else:
            try:
                if not wanted(targets, overwrite=args.overwrite, skip_existing=args.skip_existing):
                    skipped += 1
                    continue
            except Refused as refusal:
                why = str(refusal)
        if why:
            refused.append((job, targets, why))
            if args.json:
                print(json.dumps(_as_json(job, targets, why)), flush=True)
            continue
        taken[targets[0]] = job.source
        planned.append((job, targets))
    return planned, refused, skipped


def _first_look(
    task: Task, planned: list[tuple[Job, list[Path]]]
) -> tuple[list[tuple[Job, list[Path]]], list[Outcome]]:
    """What is still to be done, and what failed: all, where the beginnings of all sources say so, or else nothing.

    One good source ends the look. Without one no model needs to be loaded.
    """
    failed: list[Outcome] = []
    for job, targets in planned:
        try:
            task.check(job.source)
        except ValueError as error:
            failed.append((job, targets, str(error).removeprefix(f"{job.source}: ")))
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


def _as_json(job: Job, targets: list[Path], facts: Facts | str) -> dict[str, object]:
    told: dict[str, object] = {"source": str(job.source), "targets": [str(target) for target in targets]}
    return told | ({"error": facts} if isinstance(facts, str) else asdict(facts))


def _summarise(args: argparse.Namespace, task: Task | None, outcomes: list[Outcome], skipped: int) -> None:
    done = [(targets, facts) for _, targets, facts in outcomes if isinstance(facts, Facts)]
    failures = [(job, facts) for job, _, facts in outcomes if isinstance(facts, str)]
    seconds = sum(facts.audio_seconds for _, facts in done)
    size = sum(facts.coded_bytes for _, facts in done)
    if args.json:
        summary = {"files": len(done), "failed": len(failures), "skipped": skipped, "audio_seconds": seconds}
        print(json.dumps(summary | {"coded_bytes": size}), flush=True)
    elif done and task:
        spent = {what: sum(getattr(facts, f"{what}_seconds") for _, facts in done) for what in ("encode", "decode")}
        speed = ", ".join(f"{what} {seconds / each:.1f}×" for what, each in spent.items() if each)
        written = done[0][0] if len(done) == 1 else [Path(args.output or ".")]
        lines = {
            "model": task.describe(),
            "audio": f"{len(done)} file{'s' * (len(done) > 1)}, {seconds:.2f} s",
            "codes": f"{size:,} bytes: {8 * size / seconds:.0f} bit/s" if seconds else "",
            "speed": f"{speed} real time" if speed else "",
            "skipped": f"{skipped} that exist" if skipped else "",
            "written": "\n           ".join(map(str, written)),
        }
        print("\n".join(f"{name:10} {text}" for name, text in lines.items() if text))
    elif skipped and not failures:
        print(f"skipped    {skipped} that exist: nothing to do")
    for job, _, facts in outcomes:
        for problem in [] if isinstance(facts, str) else facts.problems:
            print(f"recovered  {job.source}: {problem}", file=sys.stderr)
    for job, why in failures:
        print(f"failed     {job.source}: {why}", file=sys.stderr)

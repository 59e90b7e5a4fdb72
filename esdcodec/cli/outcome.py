"""The result of each file, as text and as JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..infer.files import CodedFile
from ..pipes import STDIN
from .options import FileSettings
from .paths import FoundFiles, Job
from .terminal import printable


@dataclass(frozen=True)
class PlannedFile:
    """A file and what is to be written for it."""

    job: Job
    targets: list[Path]


@dataclass(frozen=True)
class Outcome:
    """The result of a file: its numbers, or in one line why it failed."""

    job: Job
    targets: list[Path]
    result: CodedFile | str

    @property
    def name(self) -> str:
        return "-" if self.job.source == STDIN else str(self.job.source)

    @property
    def is_whole(self) -> bool:
        return isinstance(self.result, CodedFile) and not self.result.problems

    def to_json(self) -> str:
        about: dict[str, object] = {"source": self.name, "targets": [str(target) for target in self.targets]}
        return json.dumps(about | ({"error": self.result} if isinstance(self.result, str) else asdict(self.result)))


def reason_of(error: Exception, source: Path) -> str:
    """Why a file failed, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename not in (None, str(source)) else "")
    try:
        words = str(error).removeprefix(f"{source}: ")
    except Exception:  # some exceptions of other packages cannot say what they are
        words = ""
    known = isinstance(error, ValueError | OSError | RuntimeError | MemoryError) and words
    return words if known else f"{type(error).__name__}: {words}".removesuffix(": ")


def summarise(
    files: FileSettings,
    outcomes: Sequence[Outcome],
    *,
    skipped: int,
    found: FoundFiles,
    description: str | None,
    piped: bool,
    problem: str = "recovered",
) -> None:
    """Print what was done, and on the standard error what is not whole, was left out, or failed.

    Args:
        description: of the task; None: it was not started.
        problem: what is printed before each problem.
    """
    done = [(outcome, outcome.result) for outcome in outcomes if isinstance(outcome.result, CodedFile)]
    failures = [(outcome, outcome.result) for outcome in outcomes if isinstance(outcome.result, str)]
    if files.json:
        print(_totals(done, len(failures), skipped, found), flush=True)
    elif done and description is not None and not piped:
        written = done[0][0].targets if len(done) == 1 else [Path(files.output or ".")]
        print(_table([result for _, result in done], description, skipped, written))
    elif skipped and not failures and not piped:
        print(f"skipped    {skipped} that exist: nothing to do")
    for outcome, result in done:
        for why in result.problems:
            print(f"{problem:10} {printable(outcome.name)}: {printable(why)}", file=sys.stderr)
    for line in found.report():
        print(f"left out   {printable(line)}", file=sys.stderr)
    for outcome, why in failures:
        print(f"failed     {printable(outcome.name)}: {printable(why)}", file=sys.stderr)


def _totals(done: Sequence[tuple[Outcome, CodedFile]], failed: int, skipped: int, found: FoundFiles) -> str:
    totals: dict[str, object] = {
        "files": len(done),
        "failed": failed,
        "skipped": skipped,
        "audio_seconds": sum(result.audio_seconds for _, result in done),
        "coded_bytes": sum(result.coded_bytes for _, result in done),
    }
    if found.left_out:
        totals["left_out"] = {str(path): why for path, why in found.left_out.items()}
    return json.dumps(totals)


def _table(results: Sequence[CodedFile], description: str, skipped: int, written: Sequence[Path]) -> str:
    seconds = sum(result.audio_seconds for result in results)
    size = sum(result.coded_bytes for result in results)
    spent = {
        "encode": sum(result.encode_seconds for result in results),
        "decode": sum(result.decode_seconds for result in results),
        "generate": sum(result.generate_seconds for result in results),
    }
    speed = ", ".join(f"{what} {seconds / each:.1f}×" for what, each in spent.items() if each)
    lines = {
        "model": description,
        "audio": f"{len(results)} file{'s' * (len(results) > 1)}, {seconds:.2f} s",
        "codes": f"{size:,} bytes: {8 * size / seconds:.0f} bit/s of files" if seconds and size else "",
        "speed": f"{speed} real time" if speed else "",
        "skipped": f"{skipped} that exist" if skipped else "",
        "written": "\n           ".join(printable(path) for path in written),
    }
    return "\n".join(f"{name:10} {text}" for name, text in lines.items() if text)

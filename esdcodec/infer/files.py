"""Which files a command reads and writes, and how: whole or not at all."""

import glob
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..audio import EXTENSIONS, audio_files

LISTS = (".lst", ".list", ".txt")


@dataclass(frozen=True)
class Job:
    """A file to read, and where below the output folder its results go (without extension)."""

    source: Path
    target: Path


def find_jobs(sources: Iterable[str | Path], extensions: Iterable[str] = EXTENSIONS) -> Iterator[Job]:
    """Jobs for files, globs, folders (searched through, mirrored) and lists (`.lst`, `.list`, `.txt`: a path a line).

    The files of a list or a glob keep their folders, from the one that all of them share. A path that does not exist
    becomes a job all the same, which then fails.

    Args:
        extensions: of what is taken from folders.
    """
    for source in sources:
        path = Path(source)
        if path.is_dir():
            for file in audio_files(path, extensions).files:
                yield Job(file, Path(path.resolve().name) / file.relative_to(path).with_suffix(""))
        elif path.suffix in LISTS and path.is_file():
            lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
            yield from _together([path.parent / line for line in lines if line and not line.startswith("#")])
        elif not path.exists() and glob.has_magic(str(source)):
            yield from _together([f for f in map(Path, sorted(glob.glob(str(source), recursive=True))) if f.is_file()])
        else:
            yield Job(path, Path(path.stem))


def _together(files: list[Path]) -> Iterator[Job]:
    shared = os.path.commonpath([file.parent.absolute() for file in files]) if files else ""
    for file in files:
        yield Job(file, file.absolute().relative_to(shared).with_suffix(""))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears as `path` when it is complete; until then, and if that fails, there is nothing of it.

    What a killed process leaves is a hidden `.NAME.part`, which the next one that writes NAME replaces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        with open(partial, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def spooled(stream: BinaryIO) -> Iterator[BinaryIO]:
    """What a pipe gives, as a file that can seek, on disk."""
    with tempfile.TemporaryFile() as file:
        while block := stream.read(2**20):
            file.write(block)
        file.seek(0)
        yield file

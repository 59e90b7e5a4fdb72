"""The files that a command is given, and where the results of each go."""

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..audio import EXTENSIONS, FolderContent, audio_files, is_failure
from ..pipes import of_kind

LISTS = (".lst", ".list")


@dataclass(frozen=True)
class Job:
    """A file to read, and where below the output folder its results go (without the extension of the results)."""

    source: Path
    target: Path


@dataclass(frozen=True)
class FoundFiles:
    """The jobs that sources name, and with their reasons what is left out and what cannot be read."""

    jobs: list[Job] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def search(self, folder: Path, extensions: frozenset[str]) -> list[Path]:
        """Files of a folder. Broken links with the extension, and folders that cannot be listed, count as failed."""
        content = audio_files(folder, extensions)
        for path, why in content.left_out.items():
            (self.failed if is_failure(path, why, extensions) else self.left_out)[path] = why
        return content.files

    def report(self) -> list[str]:
        """What is left out: a line for each reason, with the number and some names."""
        return FolderContent([], self.left_out).report()


def find_jobs(sources: Iterable[str | Path], extensions: Iterable[str] = EXTENSIONS) -> FoundFiles:
    """Jobs for files, globs, folders (searched, mirrored) and lists (`.lst`, `.list` or `@FILE`: a path a line).

    The files of a list or a glob keep their folders, from the one that all of them share. A path that does not exist
    becomes a job all the same, which then fails. A file of another extension that is named like a recording beside it,
    such as its transcript, is left out.

    A target is named like its source without the extension. Where another file of `extensions` in the same folder would
    have this name too, each keeps its own extension: `a.wav` and `a.mp3` become `a.wav.esd` and `a.mp3.esd`, whichever
    of them are sources, so that no run takes the output of one for that of the other.

    Args:
        extensions: of what is taken from folders.
    """
    found = FoundFiles()
    names = _Names(frozenset(extension.lower() for extension in extensions))
    for source in sources:
        path = Path(source)
        if of_kind(path, stat.S_ISDIR):
            top = Path(path.resolve().name)
            files = found.search(path, names.extensions)
            found.jobs.extend(Job(file, names.target(file, top / file.relative_to(path))) for file in files)
        elif path.suffix.lower() in LISTS and of_kind(path, stat.S_ISREG):
            found.jobs.extend(names.together(_listed(path)))
        elif str(source).startswith("@") and not os.path.lexists(path):
            found.jobs.extend(names.together(_listed(Path(str(source)[1:]))))
        elif not os.path.lexists(path) and glob.has_magic(str(source)):
            matches = [Path(match) for match in sorted(glob.glob(str(source), recursive=True))]
            files = []
            for match in matches:
                if not of_kind(match, stat.S_ISDIR):
                    files.append(match)
                elif "**" not in str(source):  # or else its files match too
                    files += found.search(match, names.extensions)
            found.jobs.extend(names.together(_without_companions(files, names, found)))
        else:
            files = _without_companions([path], names, found)
            found.jobs.extend(Job(file, names.target(file, Path(file.name))) for file in files)
    return found


def _without_companions(files: list[Path], names: "_Names", found: FoundFiles) -> list[Path]:
    companions = {file for file in files if names.is_companion(file)}
    found.left_out.update((file, "no audio, beside a recording of the same name") for file in companions)
    return [file for file in files if file not in companions]


def _listed(file: Path) -> list[Path]:
    """The paths of a list, which are relative to its folder (to the current one, if it is a pipe)."""
    folder = file.parent if of_kind(file, stat.S_ISREG) else Path()
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")  # names may be of any bytes
    lines = (line.strip(" \t\r") for line in text.split("\n"))
    return [folder / line for line in lines if line and not line.startswith("#")]


class _Names:
    """Names of targets. Each folder is listed once."""

    def __init__(self, extensions: frozenset[str]) -> None:
        self.extensions = extensions
        self.folders: dict[Path, Counter[str]] = {}

    def _in_folder(self, folder: Path) -> "Counter[str]":
        """How often each name is there, without extension, and in lower case, as some file systems ignore case."""
        if folder not in self.folders:
            files: list[Path] = []
            with suppress(OSError):
                files = [Path(name) for name in os.listdir(folder)]
            self.folders[folder] = Counter(file.stem.casefold() for file in files if self._wanted(file))
        return self.folders[folder]

    def _wanted(self, file: Path) -> bool:
        return file.suffix.lower() in self.extensions and not file.name.startswith("._")

    def _others(self, file: Path) -> int:
        """How many other files of its folder would have the same target."""
        return self._in_folder(file.parent)[file.stem.casefold()] - self._wanted(file)

    def target(self, file: Path, below: Path) -> Path:
        """Where the results of `file` go if it is `below` the output folder."""
        keeps = file.stem in (".", "..") or self._others(file) > 0
        return below if keeps else below.with_name(file.stem)

    def is_companion(self, file: Path) -> bool:
        return file.suffix.lower() not in self.extensions and self._others(file) > 0 and of_kind(file, stat.S_ISREG)

    def together(self, files: list[Path]) -> Iterator[Job]:
        """Jobs whose targets keep their folders from the one that all share; `..` leads to none above it."""
        absolute = [Path(os.path.normpath(file.absolute())) for file in files]
        shared = os.path.commonpath([path.parent for path in absolute]) if absolute else ""
        for file, path in zip(files, absolute):
            yield Job(file, self.target(file, path.relative_to(shared)))

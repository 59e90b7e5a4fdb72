"""Which files a command reads and writes, and how: whole or not at all."""

import errno
import functools
import glob
import os
import platform
import re
import secrets
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..audio import EXTENSIONS, FolderContent, audio_files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LISTS = (".lst", ".list")
STDIN, STDOUT = Path("/dev/stdin"), Path("/dev/stdout")  # what `-` stands for, also where there are no such files


# ---- what is read ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A file to read, and where below the output folder its results go (without the extension of the results)."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Found:
    """The jobs that sources name; what is left out; and what should be a source, and cannot. Both with the reason."""

    jobs: list[Job] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def search(self, folder: Path, extensions: frozenset[str]) -> list[Path]:
        """Files of a folder. Links to nothing and the like, if they have the extension, and closed folders failed."""
        content = audio_files(folder, extensions)
        for path, why in content.left_out.items():
            looks_right = path.suffix.lower() in extensions and not path.name.startswith("._")
            (self.failed if looks_right or "cannot be listed" in why else self.left_out)[path] = why
        return content.files

    def report(self) -> list[str]:
        """What is left out: a line for each reason, with the number and some names."""
        return FolderContent([], self.left_out).report()


def find_jobs(sources: Iterable[str | Path], extensions: Iterable[str] = EXTENSIONS) -> Found:
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
    found = Found()
    names = _Names(frozenset(extension.lower() for extension in extensions))
    for source in sources:
        path = Path(source)
        if _is(path, stat.S_ISDIR):
            top = Path(path.resolve().name)
            files = found.search(path, names.extensions)
            found.jobs.extend(Job(file, names.target(file, top / file.relative_to(path))) for file in files)
        elif path.suffix.lower() in LISTS and _is(path, stat.S_ISREG):
            found.jobs.extend(names.together(_listed(path)))
        elif str(source).startswith("@") and not os.path.lexists(path):
            found.jobs.extend(names.together(_listed(Path(str(source)[1:]))))
        elif not os.path.lexists(path) and glob.has_magic(str(source)):
            matches = [Path(match) for match in sorted(glob.glob(str(source), recursive=True))]
            files = []
            for match in matches:
                if not _is(match, stat.S_ISDIR):
                    files.append(match)
                elif "**" not in str(source):  # or else its files match too
                    files += found.search(match, names.extensions)
            found.jobs.extend(names.together(_without_companions(files, names, found)))
        else:
            files = _without_companions([path], names, found)
            found.jobs.extend(Job(file, names.target(file, Path(file.name))) for file in files)
    return found


def _without_companions(files: list[Path], names: "_Names", found: Found) -> list[Path]:
    companions = {file for file in files if names.is_companion(file)}
    found.left_out.update((file, "no audio, beside a recording of the same name") for file in companions)
    return [file for file in files if file not in companions]


def _listed(file: Path) -> list[Path]:
    """The paths of a list, which are relative to its folder (to the current one, if it is a pipe)."""
    folder = file.parent if _is(file, stat.S_ISREG) else Path()
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")  # names may be of any bytes
    lines = (line.strip(" \t\r") for line in text.split("\n"))
    return [folder / line for line in lines if line and not line.startswith("#")]


class _Names:
    """What targets are called; looks once into each folder."""

    def __init__(self, extensions: frozenset[str]) -> None:
        self.extensions = extensions
        self.folders: dict[Path, Counter[str]] = {}

    def _in_folder(self, folder: Path) -> "Counter[str]":
        """How often each name is there, without extension, and in small letters: some systems make no difference."""
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
        return file.suffix.lower() not in self.extensions and self._others(file) > 0 and _is(file, stat.S_ISREG)

    def together(self, files: list[Path]) -> Iterator[Job]:
        """Jobs whose targets keep their folders from the one that all share; `..` leads to none above it."""
        places = [Path(os.path.normpath(file.absolute())) for file in files]
        shared = os.path.commonpath([place.parent for place in places]) if places else ""
        for file, place in zip(files, places):
            yield Job(file, self.target(file, place.relative_to(shared)))


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether this is of a kind such as `stat.S_ISDIR`; what cannot be looked at is of none."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def printable(text: object) -> str:
    """Text for a terminal, in one line: what it would not show, or obey, is shown as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


@contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """A file or a pipe, `STDIN` included, open for reading."""
    number = _descriptor(path)
    with open(path if number is None else os.dup(number), "rb") as stream:
        yield stream


@contextmanager
def spooled(stream: BinaryIO) -> Iterator[BinaryIO]:
    """What a pipe gives, as a file that can seek, on disk."""
    with tempfile.TemporaryFile() as file:
        while block := stream.read(2**20):
            file.write(block)
        file.seek(0)
        yield file


# ---- what is written -------------------------------------------------------------------------------------------------


@contextmanager
def output(path: Path) -> Iterator[BinaryIO]:
    """A `whole_file`; or a pipe, a device or what a process has open, such as `STDOUT`, which take what comes."""
    if not is_stream(path):
        with whole_file(path) as stream:
            yield stream
        return
    number = _descriptor(path)
    with open(path if number is None else os.dup(number), "wb") as stream:
        yield stream


def is_stream(path: Path) -> bool:
    """Whether it is none of the files that a folder has: a pipe, a device, or what a process has open."""
    kinds = (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISBLK, stat.S_ISSOCK)
    return _descriptor(path) is not None or any(_is(path, kind) for kind in kinds)


def _descriptor(path: Path) -> int | None:
    """The number of the descriptor of this process that a path such as `/dev/stdout` or `/dev/fd/3` stands for."""
    if path in (STDIN, STDOUT):
        return (STDIN, STDOUT).index(path)
    for _ in range(40):  # as many links as Linux follows
        folder = os.path.realpath(path.parent)
        if path.name.isdecimal() and folder in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    return None


def can_seek(stream: BinaryIO) -> bool:
    """Whether what was written can be changed: not in a pipe or a device, nor in a file that is appended to."""
    if not stream.seekable():
        return False
    try:
        number = stream.fileno()
    except OSError:
        return True  # in memory
    return stat.S_ISREG(os.fstat(number).st_mode) and not (fcntl and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND)


HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40] or "host"
_PARTIAL = re.compile(r"\..*\.([A-Za-z0-9-]+)\.[0-9a-f]{16}\.part", re.DOTALL)
OLD = 86400.0  # seconds, after which nobody is thought to be writing any more


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears as `path` when it is complete; until then, and if that fails, there is nothing of it.

    Until then it is a hidden file beside it, of a name and with a lock of its own, so that several processes may write
    the same `path`, and each publishes a whole file. What a killed process left is deleted by the next one that
    writes into the folder. A link is followed.

    Raises:
        OSError: there is no such place, it is full, or a folder has this name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", str(path))
    _tidy_once(target.parent)
    partial = target.with_name(f".{target.name[:40]}.{HOST}.{secrets.token_hex(8)}.part")
    try:
        with _create(partial) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            with suppress(OSError):
                os.chmod(partial, stat.S_IMODE(target.stat().st_mode))  # of the file that it replaces
            if fcntl:
                os.replace(partial, target)  # while it is locked
        if not fcntl:
            os.replace(partial, target)  # Windows moves no file that is open
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _create(partial: Path) -> BinaryIO:
    while True:
        stream = open(partial, "x+b")  # noqa: SIM115
        if _lock(stream, wait=True) is None or partial.exists():
            return stream
        stream.close()  # before it was locked, another process took it for a dead one's


def _lock(stream: BinaryIO, *, wait: bool) -> bool | None:
    """Lock a file until it is closed; False if another process has it, None if there are no locks here."""
    if not fcntl:
        return None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None


def tidy(folder: Path) -> None:
    """Delete what processes left that were killed: nobody holds its lock. Where locks do not reach, it must be old."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if match := _PARTIAL.fullmatch(name):
                with suppress(OSError), open(folder / name, "r+b") as stream:
                    lock = _lock(stream, wait=False) if match[1] == HOST else None
                    if lock or (lock is None and time.time() - os.fstat(stream.fileno()).st_mtime > OLD):
                        (folder / name).unlink()


_tidy_once = functools.cache(tidy)

"""Paths that may be pipes or devices: read and written as they are, where files are written whole."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .whole_file import whole_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STDIN, STDOUT = Path("/dev/stdin"), Path("/dev/stdout")  # what `-` stands for, also where there are no such files


def of_kind(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path is of a kind such as `stat.S_ISDIR`; False where it cannot be examined."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


@contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """A file or a pipe, `STDIN` included, open for reading."""
    number = _descriptor(path)
    with open(path if number is None else os.dup(number), "rb") as stream:
        yield stream


@contextmanager
def spooled(stream: BinaryIO) -> Iterator[BinaryIO]:
    """A copy on disk of what a pipe gives, which can seek."""
    with tempfile.TemporaryFile() as file:
        while block := stream.read(2**20):
            file.write(block)
        file.seek(0)
        yield file


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
    """Whether this is no regular file: a pipe, a device, or a descriptor of this process."""
    kinds = (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISBLK, stat.S_ISSOCK)
    return _descriptor(path) is not None or any(of_kind(path, kind) for kind in kinds)


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

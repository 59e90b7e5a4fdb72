"""Reads pieces of large files, which stay open between the reads."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO


class ChangedFile(OSError):
    """A file is not the one that was indexed."""

    def __init__(self, path: str) -> None:
        super().__init__(None, "it has changed since it was indexed", path)


class OpenFiles:
    """Reads pieces of files; the last `size` of them are kept open, in each process its own.

    Args:
        size: below the 1,024 that a process may usually have open, as torch shares tensors by files too.
    """

    def __init__(self, size: int = 256) -> None:
        self.size, self.process = size, os.getpid()
        self._open: OrderedDict[str, BinaryIO] = OrderedDict()

    def __getstate__(self) -> dict:
        return {"size": self.size, "process": -1, "_open": OrderedDict()}

    def read(
        self, path: str, offset: int, size: int, *, file_size: int | None = None, modified: int | None = None
    ) -> bytes:
        """`size` bytes from `offset` on.

        Args:
            file_size, modified: bytes and nanoseconds of the file that is meant. Default: whichever is there.

        Raises:
            OSError: it is not there, or cannot be read.
            ChangedFile: it is another one.
        """
        try:
            return _read(self._file(path, file_size, modified), offset, size)
        except ChangedFile:
            raise
        except OSError:  # too many open files, or a stale handle: once more, with all closed
            if not self._open:
                raise
            self.close()
            return _read(self._file(path, file_size, modified), offset, size)

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _file(self, path: str, file_size: int | None, modified: int | None) -> BinaryIO:
        if self.process != os.getpid():  # a fork shares the position in the files of its parent
            self.process, self._open = os.getpid(), OrderedDict()
        file = self._open.get(path)
        if file is None:
            file = open(path, "rb", buffering=0)  # noqa: SIM115  it is closed when others need the room
            if not as_indexed(os.fstat(file.fileno()), file_size, modified):
                file.close()
                raise ChangedFile(path)
            self._open[path] = file
            while len(self._open) > self.size:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return file


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):  # Windows has none
        content = os.pread(file.fileno(), size, offset)
    else:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:  # a system may give less than was asked for
        rest = _read(file, offset + len(content), size - len(content)) if content else b""
        content += rest
    return content


def same_file(path: str | Path, file_size: int, modified: int) -> bool:
    """Whether a file is still the one of that size and time."""
    try:
        return as_indexed(os.stat(path), file_size, modified)
    except OSError:
        return False


def as_indexed(status: os.stat_result, file_size: int | None, modified: int | None) -> bool:
    """Whether a status is that of the file of this size and time; None: of any."""
    return file_size in (None, status.st_size) and modified in (None, status.st_mtime_ns)

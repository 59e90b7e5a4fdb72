"""Files that appear when they are complete, or not at all."""

import errno
import functools
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40] or "host"
_PARTIAL = re.compile(r"\..*\.([A-Za-z0-9-]+)\.[0-9a-f]{16}\.part", re.DOTALL)
OLD = 86400.0  # seconds, after which an unfinished file counts as abandoned


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears as `path` when it is complete; until then, and if that fails, there is nothing of it.

    Until then it is a hidden file beside it, of a name and with a lock of its own, so that several processes may write
    the same `path`, and each publishes a whole file. What a killed process left is deleted by the next one that
    writes into the folder. A link is followed.

    Raises:
        OSError: the folder cannot be written, the disk is full, or a folder has this name.
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
    """Delete unfinished files of killed processes: nobody holds their lock. Without locks they must be `OLD`."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if match := _PARTIAL.fullmatch(name):
                with suppress(OSError), open(folder / name, "r+b") as stream:
                    lock = _lock(stream, wait=False) if match[1] == HOST else None
                    if lock or (lock is None and time.time() - os.fstat(stream.fileno()).st_mtime > OLD):
                        (folder / name).unlink()


def tidy_after_kill(folders: Collection[Path], seconds: float) -> None:
    """`tidy` folders of processes that were killed just now, until the last one has ended, for so long at most."""
    until = time.monotonic() + seconds
    while any(any(folder.glob(".*.part")) for folder in folders) and time.monotonic() < until:
        for folder in folders:
            tidy(folder)
        time.sleep(0.1)


_tidy_once = functools.cache(tidy)

"""One shard read from front to back: a pipe, a URL, a compressed tar; again where it broke, if it is elsewhere."""

import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep
from typing import IO, Any

from webdataset.gopen import gopen
from webdataset.tariterators import group_by_keys

from .members import AUDIO, LARGEST_ITEM, METADATA, BoundedTarInfo, read_metadata, split_name
from .shards import REMOTE

PIPE = "pipe:"
WAITS = (1.0, 5.0, 25.0)  # seconds before a shard that is elsewhere is tried again
CLOSED_EARLY = (0, -13, 141)  # exit codes of a pipe whose reader has seen the end of the tar
_ABOUT_THE_SHARD = re.compile(r"__[^/]*__($|/)")  # members that WebDataset leaves out


class ShardBroken(OSError):
    """A shard could not be read to its end; the message is the reason."""


def utterances(shard: str) -> Iterator[dict[str, Any]]:
    """Members of each utterance by extension, with `__key__` and `__url__`; those that are no audio or json are empty.

    Raises:
        ShardBroken: after what could be read, with the reason; of a shard that is elsewhere after some tries.
    """
    done = 0  # utterances that were given
    for wait in (*WAITS, None) if shard.startswith(REMOTE) else (None,):
        errors: list[Exception] = []
        number, last = 0, None
        for sample in _read(shard, errors):
            if last is not None and number > done:
                yield last
                done = number
            number, last = number + 1, sample
        # what was being read when it broke may lack members: it is left to the next try, if there is one
        if last is not None and number > done and (not errors or wait is None):
            yield last
            done = number
        if not errors:
            return
        if wait is None:
            raise ShardBroken(_in_a_line(errors))
        sleep(wait)


def _read(shard: str, errors: list[Exception]) -> Iterator[dict[str, Any]]:
    """Utterances up to what breaks; that goes to `errors`."""

    def note(error: Exception) -> bool:
        errors.append(error)
        return True

    try:
        with _opened(shard) as stream:
            yield from group_by_keys(_members(shard, stream, note), handler=note)
    except (OSError, subprocess.SubprocessError) as error:
        errors.append(error)


def _members(shard: str, stream: IO[bytes], note: Callable[[Exception], bool]) -> Iterator[dict[str, Any]]:
    """Name and content of each member, as `group_by_keys` wants them; an error goes to `note` and is the end."""
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=BoundedTarInfo) as tar:
            for member in tar:
                key, extension = split_name(member.name)
                if member.isfile() and key and not _ABOUT_THE_SHARD.match(member.name):
                    yield {"fname": member.name, "data": _content(tar, member, extension), "__url__": shard}
                tar.members = []  # type: ignore[attr-defined]  # which would grow
    except Exception as error:
        note(error)
    yield {}  # the end of a shard


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> bytes:
    """The bytes of an item, or of its metadata as far as they are looked at; of others none."""
    if extension == METADATA:
        return read_metadata(tar, member)
    if extension not in AUDIO:
        return b""
    if member.size > LARGEST_ITEM:
        raise tarfile.ReadError("an audio member is larger than 4 GiB")
    content = tar.extractfile(member)
    return content.read() if content else b""


@contextmanager
def _opened(shard: str) -> Iterator[IO[bytes]]:
    """The bytes of a shard.

    Raises:
        OSError: it cannot be opened, or its command failed, with what that wrote last.
    """
    if not shard.startswith(PIPE):
        with gopen(shard) as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(shard[len(PIPE) :], shell=True, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            yield process.stdout
            process.stdout.close()
            code = process.wait(timeout=60)  # all is read
        finally:
            process.stdout.close()
            process.kill()
            process.wait()
        if code not in CLOSED_EARLY:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise OSError(f"its command ended with exit code {code}{': ' + lines[-1] if lines else ''}")


def _in_a_line(errors: list[Exception]) -> str:
    """The reason: that of a command rather than that of the tar which it left unfinished."""
    error = errors[-1]
    text = str(error.args[0] if error.args else "") or type(error).__name__
    return " ".join(text.split())[:200]

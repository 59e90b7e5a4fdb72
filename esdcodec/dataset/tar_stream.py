"""One shard read from front to back: a pipe, a URL, a compressed tar; again where it broke, if it is elsewhere."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep
from typing import IO, Any

from webdataset.gopen import gopen
from webdataset.tariterators import group_by_keys, tar_file_expander

from .shards import REMOTE

PIPE = "pipe:"
WAITS = (1.0, 5.0, 25.0)  # seconds before a shard that is elsewhere is tried again
CLOSED_EARLY = (0, -13, 141)  # exit codes of a pipe whose reader has seen the end of the tar


class ShardBroken(OSError):
    """A shard could not be read to its end; the message is the reason."""


def utterances(shard: str) -> Iterator[dict[str, Any]]:
    """Members of each utterance by extension, with `__key__` and `__url__`.

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
            files = tar_file_expander([{"url": shard, "stream": stream}], handler=note)
            yield from group_by_keys(files, handler=note)
    except (OSError, subprocess.SubprocessError) as error:
        errors.append(error)


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
    text = str(error.args[0] if error.args else "").split(" @ ")[0] or type(error).__name__
    return " ".join(text.split())[:200]

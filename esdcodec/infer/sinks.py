"""Where decoded audio goes: into files of several formats, and into pipes."""

import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..audio import AudioFileError, Waveform
from ..pipes import can_seek
from ..processes import uninterrupted

Write = Callable[[Waveform], None]
Sink = AbstractContextManager[Write]
MakeSink = Callable[[int, int | None], Sink]  # from the rate and the number of samples (None: not known yet)


@dataclass(frozen=True)
class Format:
    """A format of audio files in soundfile's words, and the sample rates that it has (none given: all)."""

    container: str
    subtype: str
    rates: tuple[int, ...] = ()
    highest: int = 2**32  # rate; above it libvorbis ends the process

    def nearest_rate(self, rate: int) -> int:
        """The rate itself, or the next higher one that the format has, or else its highest."""
        if not self.rates or rate in self.rates:
            return rate
        return min((each for each in self.rates if each > rate), default=max(self.rates))


FORMATS = {
    "wav": Format("WAV", "PCM_16"),
    "flac": Format("FLAC", "PCM_16"),
    "mp3": Format("MP3", "MPEG_LAYER_III", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
    "ogg": Format("OGG", "VORBIS", highest=200_000),
    "opus": Format("OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
}


def sink_into(target: BinaryIO, format: str, comment: str | None = None) -> MakeSink:
    """Into a file or a pipe, in one of `FORMATS`.

    Args:
        comment: goes into the file's metadata.
    """
    if format == "wav":
        return lambda rate, n_samples: _wav(target, rate, n_samples, comment)
    whole = can_seek(target) and target.tell() == 0
    return lambda rate, n_samples: (_soundfile if whole else _spooled_soundfile)(target, FORMATS[format], rate, comment)


def _pcm16(waveform: Waveform) -> NDArray[np.int16]:
    return (np.clip(waveform, -1, 1) * 32767).round().astype("<i2")


# ---- wav -------------------------------------------------------------------------------------------------------------

LARGEST = 2**32 - 1  # that a wav header can state, and what it states where the length is not known
_DS64 = 28  # bytes of the chunk in which RF64 has its sizes (EBU Tech 3306)


@contextmanager
def _wav(target: BinaryIO, rate: int, n_samples: int | None, comment: str | None) -> Iterator[Write]:
    """16-bit wav, or RF64 from 4 GB on. A length that is not known is written at the end, if `target` can seek."""
    correct = n_samples is None and can_seek(target)
    start = target.tell() if correct else 0
    written = 0

    def write(waveform: Waveform) -> None:
        nonlocal written
        target.write(_pcm16(waveform).tobytes())
        written += len(waveform)

    target.write(_wav_header(rate, n_samples, comment, reserve=correct))
    yield write
    if correct:
        end = target.tell()
        target.seek(start)
        target.write(_wav_header(rate, written, comment, reserve=True))
        target.seek(end)
    target.flush()


def _wav_header(rate: int, n_samples: int | None, comment: str | None = None, *, reserve: bool) -> bytes:
    """
    Args:
        reserve: keep room for the sizes of RF64, so that all lengths have a header of the same size.
    """
    data = LARGEST if n_samples is None else 2 * n_samples
    junk = struct.pack(f"<4sI{_DS64}x", b"JUNK", _DS64) if reserve else b""
    format = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16) + _wav_comment(comment)
    riff = 4 + len(junk) + len(format) + 8 + data
    if n_samples is None or riff <= LARGEST:
        head = struct.pack("<4sI4s", b"RIFF", min(LARGEST, riff), b"WAVE") + junk
        return head + format + struct.pack("<4sI", b"data", data)
    riff += 0 if reserve else 8 + _DS64
    head = struct.pack("<4sI4s", b"RF64", LARGEST, b"WAVE")
    sizes = struct.pack("<4sIQQQI", b"ds64", _DS64, riff, data, data // 2, 0)
    return head + sizes + format + struct.pack("<4sI", b"data", LARGEST)


def _wav_comment(comment: str | None) -> bytes:
    """A chunk of metadata, before the samples, whose number may not be known."""
    if comment is None:
        return b""
    text = comment.encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    return struct.pack("<4sI4s4sI", b"LIST", 12 + len(text), b"INFO", b"ICMT", len(text)) + text


# ---- what libsndfile writes ------------------------------------------------------------------------------------------

PIECE = 2**16  # samples that go to an encoder at once: Vorbis puts them on the stack


@contextmanager
def _spooled_soundfile(target: BinaryIO, format: Format, rate: int, comment: str | None) -> Iterator[Write]:
    """Into a pipe, which gets it when it is complete: libsndfile completes its headers at the end."""
    with tempfile.TemporaryFile() as file:
        with _soundfile(file, format, rate, comment) as write:
            yield write
        file.seek(0)
        shutil.copyfileobj(file, target)
        target.flush()


@contextmanager
def _soundfile(target: BinaryIO, format: Format, rate: int, comment: str | None) -> Iterator[Write]:
    watched = _Watched(target)
    refusal = f"{rate} Hz {format.container} cannot be written; another --sample-rate may do"
    if rate > format.highest:
        raise AudioFileError(f"{refusal}, up to {format.highest} Hz")
    sound: soundfile.SoundFile = watched.call(
        lambda: soundfile.SoundFile(watched, "w", rate, 1, format.subtype, format=format.container), refusal
    )

    if comment is not None:
        watched.call(partial(setattr, sound, "comment", comment), f"{format.container} cannot be written")

    def write(waveform: Waveform) -> None:
        samples = _pcm16(waveform)
        for i in range(0, len(samples), PIECE):
            watched.call(partial(sound.write, samples[i : i + PIECE]), f"{format.container} cannot be written")

    try:
        yield write
    except BaseException:
        with suppress(OSError, AudioFileError):
            watched.call(sound.close, "")
        raise
    watched.call(sound.close, f"{format.container} cannot be finished")


class _Watched:
    """A file for soundfile, which loses what is raised in the methods that it calls: it is kept and raised later."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def call(self, function: Callable[[], Any], words: str) -> Any:
        """
        Raises:
            OSError: of the file.
            AudioFileError: of soundfile.
        """
        try:
            with uninterrupted():
                result = function()
        except (soundfile.SoundFileError, AssertionError, ValueError, TypeError) as error:
            if self.error is None:
                raise AudioFileError(f"{words} ({getattr(error, 'error_string', error)})") from error
        if self.error is not None:
            raise self.error
        return result

    def write(self, data: Any) -> int:
        return self._keep(lambda: self.file.write(data))

    def read(self, size: int) -> bytes:
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._keep(lambda: self.file.seek(offset, whence))

    def tell(self) -> int:
        return self.file.tell()

    def _keep(self, function: Callable[[], int]) -> int:
        try:
            return function()
        except OSError as error:
            self.error = self.error or error
            return 0

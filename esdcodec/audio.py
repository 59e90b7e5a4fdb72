"""Audio files and sample rates: the only place that opens one or changes the other."""

import errno
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float32]  # [T], mono, full scale 1.0

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})


BLOCK = 2**18  # samples
MARGIN = 2048  # samples on each side that a resampled one may depend on
PREROLL = {"MPEG_LAYER_III": 8 * 1152, "OPUS": 4096}  # samples until a decoder that begins in the middle is right


_FAILURES = (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError)


class AudioFileError(ValueError):
    """A file could not be read or written as audio; the message names it and says why."""


def read(file: str | Path | BinaryIO, sample_rate: int | None = None) -> tuple[Waveform, int]:
    """Read an audio file (wav, flac, ogg, opus, mp3, …) as mono.

    Channels are averaged. With `sample_rate` the audio is resampled to it.

    Returns:
        waveform ``[T]`` float32 and its sample rate in Hz.

    Raises:
        AudioFileError: the file is missing, is not audio, or holds no samples.
    """
    with opened(file) as (rate, blocks):
        waveform = np.concatenate(list(blocks))
    if sample_rate is not None:
        waveform, rate = resample(waveform, rate, sample_rate), sample_rate
    return waveform, rate


def probe(file: str | Path | BinaryIO) -> None:
    """Say at once whether a file is audio: only its beginning is decoded, and a stream is left where it was.

    A file that passes may still turn out to be damaged further on.

    Raises:
        AudioFileError: as `read` does.
    """
    start = None if isinstance(file, str | Path) else file.tell()
    with opened(file, size=4096) as (_, blocks):
        next(blocks)
    if start is not None and not isinstance(file, str | Path):
        file.seek(start)


@contextmanager
def opened(file: str | Path | BinaryIO, size: int = BLOCK) -> Iterator[tuple[int, Iterator[Waveform]]]:
    """The sample rate of an audio file and its samples as mono blocks ``[≤ size]``, one at a time.

    Raises:
        AudioFileError: the file is missing, is not audio, or holds no samples.
    """
    name = file if isinstance(file, str | Path) else getattr(file, "name", "audio")
    if isinstance(file, str | Path) and not Path(file).is_file():
        raise AudioFileError(f"{name}: no such file")
    try:
        stream = soundfile.SoundFile(file)
    except _FAILURES as error:
        raise AudioFileError(f"{name}: cannot be read as audio ({_reason(error)})") from error
    with stream:
        yield stream.samplerate, _blocks(stream, name, size)


def _blocks(stream: soundfile.SoundFile, name: object, size: int) -> Iterator[Waveform]:
    # The length that a header states may be unknown or wrong, so it is not asked for. After every read soundfile seeks,
    # from where the decoder of an mp3 needs some frames to be right again.
    lead, place = PREROLL.get(stream.subtype, 0), 0
    while True:
        try:
            before = min(lead, place)
            if before:
                stream.seek(place - before)
            block = stream.read(before + size, dtype="float32", always_2d=True)[before:]
        except _FAILURES as error:
            raise AudioFileError(f"{name}: cannot be read as audio ({_reason(error)})") from error
        if not len(block):
            break
        place += len(block)
        yield block.mean(axis=1)
    if not place:
        raise AudioFileError(f"{name}: holds no samples")


@dataclass(frozen=True)
class FolderContent:
    """Files below a folder: those that were looked for, and the rest with the reason why it is left out."""

    files: list[Path]  # sorted
    left_out: dict[Path, str]

    def report(self) -> list[str]:
        """What is left out: for each reason a line with its number and up to three examples."""
        kinds: dict[str, list[Path]] = {}
        for path, reason in self.left_out.items():
            kinds.setdefault(reason, []).append(path)
        return [
            f"{reason}: {len(paths)} ({', '.join(map(str, paths[:3]))}{', …' if len(paths) > 3 else ''})"
            for reason, paths in kinds.items()
        ]


def audio_files(folder: Path, extensions: Iterable[str] = EXTENSIONS) -> FolderContent:
    """Audio files, or those with other `extensions` in any case, in `folder` and the folders below it.

    Links to files and to folders are followed; each folder is searched once, under its own name if that is below
    `folder` too. Left out, with a reason, are other extensions, links to nothing and in a circle, folders that cannot
    be listed, what is no regular file, and the `._NAME` files of macOS. Hidden files of other kinds are not counted.
    """
    if not folder.is_dir():
        return FolderContent([], {folder: "no such folder"})
    wanted = frozenset(extension.lower() for extension in extensions)
    files: list[Path] = []
    left_out: dict[Path, str] = {}
    above = {_identity(parent) for parent in (folder.resolve(), *folder.resolve().parents)}
    searched: set[tuple[int, int]] = set()
    folders = [folder]
    linked: list[Path] = []  # they wait until no folder is left
    while folders or linked:
        current = folders.pop() if folders else linked.pop(0)
        try:
            identity = _identity(current)
            if identity in searched:
                left_out[current] = "folder that is searched under another name"
                continue
            searched.add(identity)
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            left_out[current] = f"folder cannot be listed ({error.strerror})"
            continue
        for entry in entries:
            path = current / entry.name
            kind = _kind(entry, wanted)
            if kind == "file":
                files.append(path)
            elif kind == "folder":
                if not entry.is_symlink():
                    folders.append(path)
                elif _identity(path) in above:
                    left_out[path] = "link in a circle"
                else:
                    linked.append(path)
            elif kind:
                left_out[path] = kind
    return FolderContent(sorted(files), dict(sorted(left_out.items())))


def _kind(entry: "os.DirEntry[str]", wanted: frozenset[str]) -> str:
    """Of what is in a folder: "file" to take, "folder" to search, or else why it is left out; empty: not to be told."""
    try:
        os.stat(entry.path)  # follows a link
    except OSError as error:
        return "link in a circle" if error.errno == errno.ELOOP else "link to nothing"
    if entry.is_dir():
        return "folder"
    extension = os.path.splitext(entry.name)[1].lower()
    if extension not in wanted:
        return "" if entry.name.startswith(".") else f"extension {extension}" if extension else "no extension"
    if entry.name.startswith("._"):
        return "attributes that macOS keeps beside a file"
    return "file" if entry.is_file() else "no regular file"


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class Segment:
    """A piece of a recording."""

    waveform: Waveform  # [n], n ≤ what was asked for
    channels: int  # of the recording; they are averaged
    from_rate: int  # Hz, of the recording


def read_segment(file: str | Path | BinaryIO, length: int, sample_rate: int, place: float) -> Segment:
    """Read `length` samples at `sample_rate`, or the whole of a shorter recording.

    Only what they need is decoded and resampled, where the format can seek. The values are those of the same piece of
    the whole recording (mp3: within its own rounding).

    Args:
        place: 0 for the beginning to 1 for the end of a recording.

    Raises:
        AudioFileError: as `read` does.
    """
    name = getattr(file, "name", file if isinstance(file, str | Path) else "audio")
    try:
        with soundfile.SoundFile(file) as stream:
            rate = stream.samplerate
            common = math.gcd(rate, sample_rate)
            up, down = sample_rate // common, rate // common
            start = round(place * max(0, stream.frames * up // down - length))
            margin = 0 if rate == sample_rate else MARGIN
            lead = margin + PREROLL.get(stream.subtype, 0)
            first = max(0, start // up - -(-lead // down))  # in units of `down` samples, which are `up` samples after
            last = -(-(start + length) * down // up) + margin
            if first:
                stream.seek(first * down)
            blocks = stream.read(last - first * down, dtype="float32", always_2d=True)
            channels = stream.channels
    except _FAILURES as error:
        raise AudioFileError(f"{name}: cannot be read as audio ({_reason(error)})") from error
    skipped = start - first * up
    waveform = resample(blocks.mean(axis=1) if channels > 1 else blocks[:, 0], rate, sample_rate)
    waveform = waveform[skipped : skipped + length]
    if not len(waveform):
        raise AudioFileError(f"{name}: holds no samples")
    return Segment(waveform, channels, rate)


def resample(waveform: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """Resample ``[T]`` to ⌈T · to_rate / from_rate⌉ samples, at the highest quality that soxr has.

    Raises:
        ValueError: a rate is not positive.
    """
    if from_rate <= 0 or to_rate <= 0:
        raise ValueError(f"sample rates must be positive numbers of Hz, not {from_rate} and {to_rate}")
    if from_rate == to_rate:
        return waveform
    length = -(-len(waveform) * to_rate // from_rate)
    resampled = soxr.resample(waveform.astype(np.float32), from_rate, to_rate, quality="VHQ")
    return np.pad(resampled, (0, max(0, length - len(resampled))))[:length]


class Resampler:
    """Resamples a recording that comes in pieces; the values are those of `resample` on the whole."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self.from_rate, self.to_rate = from_rate, to_rate
        self.taken = self.given = 0  # samples
        self.stream = soxr.ResampleStream(from_rate, to_rate, 1, quality="VHQ")

    def push(self, waveform: Waveform) -> Waveform:
        """What of the resampled recording can be told after the next piece ``[T]``."""
        self.taken += len(waveform)
        return self._give(self.stream.resample_chunk(np.ascontiguousarray(waveform, np.float32)))

    def finish(self) -> Waveform:
        """The rest of it."""
        rest = self._give(self.stream.resample_chunk(np.zeros(0, np.float32), last=True))
        return np.concatenate([rest, np.zeros(self._left(), np.float32)])

    def _left(self) -> int:
        """Samples still to be given of what was taken."""
        return -(-self.taken * self.to_rate // self.from_rate) - self.given

    def _give(self, resampled: Waveform) -> Waveform:
        resampled = resampled[: self._left()]
        self.given += len(resampled)
        return resampled


def write(file: str | Path, waveform: Waveform, sample_rate: int) -> None:
    """Write ``[T]`` as 16-bit audio, format by extension; what exceeds full scale is clipped.

    Raises:
        AudioFileError: the file cannot be written.
    """
    try:
        soundfile.write(file, np.clip(waveform, -1, 1), sample_rate, subtype="PCM_16")
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(f"{file}: cannot be written ({_reason(error)})") from error


def _reason(error: BaseException) -> object:
    return getattr(error, "error_string", error)

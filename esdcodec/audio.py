"""Audio files and sample rates: the only place that opens one or changes the other."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float32]  # [T], mono, full scale 1.0

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})


BLOCK = 2**18  # samples


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
    name = file if isinstance(file, str | Path) else getattr(file, "name", "audio")
    if isinstance(file, str | Path) and not Path(file).is_file():
        raise AudioFileError(f"{name}: no such file")
    try:
        with soundfile.SoundFile(file) as stream:
            rate = stream.samplerate
            blocks = []  # the length that a header states may be unknown or wrong, so it is not asked for
            while len(block := stream.read(BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
    except (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError) as error:
        reason = getattr(error, "error_string", error)
        raise AudioFileError(f"{name}: cannot be read as audio ({reason})") from error
    if not blocks:
        raise AudioFileError(f"{name}: holds no samples")
    waveform = np.concatenate(blocks)
    if sample_rate is not None:
        waveform, rate = resample(waveform, rate, sample_rate), sample_rate
    return waveform, rate


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


def write(file: str | Path, waveform: Waveform, sample_rate: int) -> None:
    """Write ``[T]`` as 16-bit audio, format by extension; what exceeds full scale is clipped.

    Raises:
        AudioFileError: the file cannot be written.
    """
    try:
        soundfile.write(file, np.clip(waveform, -1, 1), sample_rate, subtype="PCM_16")
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(f"{file}: cannot be written ({getattr(error, 'error_string', error)})") from error

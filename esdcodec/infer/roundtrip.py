"""Files through the codec and back: wav, codes and a picture for each."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..audio import AudioFileError, audio_files, read, write
from ..model_codec.codec import ESDCodec


@dataclass(frozen=True)
class Job:
    """A file to read, and where below the output folder its results go (without extension)."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Result:
    """What became of a job."""

    files: list[Path]  # written: the wav first
    audio_seconds: float
    encode_seconds: float
    decode_seconds: float
    code_bits: int


def find_jobs(sources: Iterable[str | Path]) -> Iterator[Job]:
    """Jobs for files, for folders (searched through, mirrored) and for lists (`.lst`, `.list`, `.txt`: a path a line).

    The files of a list keep their folders, from the one that all of them share. A path that does not exist becomes a
    job all the same, which then fails.
    """
    for path in map(Path, sources):
        if path.is_dir():
            for file in audio_files(path):
                yield Job(file, Path(path.resolve().name) / file.relative_to(path).with_suffix(""))
        elif path.suffix in (".lst", ".list", ".txt") and path.is_file():
            lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
            files = [path.parent / line for line in lines if line and not line.startswith("#")]
            shared = os.path.commonpath([file.parent.absolute() for file in files]) if files else ""
            for file in files:
                yield Job(file, file.absolute().relative_to(shared).with_suffix(""))
        else:
            yield Job(path, Path(path.stem))


def roundtrip(codec: ESDCodec, job: Job, output: Path, n_quantizers: int, *, picture: bool = False) -> Result:
    """Encode and decode one file.

    Writes `TARGET.wav`, `TARGET.codes.npy` (``[n, L]``) and, if asked for, the picture `TARGET.png`.

    Raises:
        AudioFileError: the file is no readable audio; nothing is written.
    """
    waveform, _ = read(job.source, codec.sample_rate)
    audio = torch.from_numpy(waveform).to(codec.device)
    started = time.perf_counter()
    try:
        codes = codec.encode(audio, n_quantizers=n_quantizers).cpu()
    except ValueError as error:
        raise AudioFileError(f"{job.source}: {error}") from error
    encoded = time.perf_counter()
    decoded = codec.decode(codes.to(codec.device), length=len(waveform))[0, 0].cpu().numpy()
    finished = time.perf_counter()

    target = output / job.target
    target.parent.mkdir(parents=True, exist_ok=True)
    wav, npy, png = (target.with_name(target.name + suffix) for suffix in (".wav", ".codes.npy", ".png"))
    write(wav, decoded, codec.sample_rate)
    indices = codes[0].numpy().astype(np.min_scalar_type(-max(codec.codebook_sizes)))  # int16 for 14 bit
    np.save(npy, indices)
    if picture:
        from .plot import plot  # matplotlib is needed for nothing else

        plot(png, waveform, decoded, indices, codec.codebook_sizes, codec.sample_rate)
    return Result(
        files=[wav, npy, *[png] * picture],
        audio_seconds=len(waveform) / codec.sample_rate,
        encode_seconds=encoded - started,
        decode_seconds=finished - encoded,
        code_bits=codec.bits_per_frame(n_quantizers) * codes.shape[-1],
    )

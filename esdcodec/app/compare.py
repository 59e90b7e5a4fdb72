"""A recording, and what several numbers of codebooks make of it."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio import Waveform, opened
from ..bitstream import Codes, Reader, transcode
from ..codec import ESDCodec
from ..evaluation.plot import subband_signal
from ..infer.files import decode_file, encode_file


@dataclass(frozen=True)
class Version:
    """What the first n codebooks make of a recording."""

    n_quantizers: int
    bitrate: float  # bit/s of the codes
    n_bytes: int  # of the .esd file: with header and checksums
    audio: Waveform  # [T], as long as the recording and at its rate
    subband: Waveform  # [T], what guided the decoder, at the rate of the comparison's subbands


@dataclass(frozen=True)
class Comparison:
    """A recording and its versions."""

    original: Waveform  # [T], its channels averaged
    sample_rate: int  # Hz
    subband_sample_rate: int  # Hz
    codes: Codes  # [n, L] of the largest version
    versions: tuple[Version, ...]  # by number of codebooks
    problems: tuple[str, ...]  # what is missing or damaged in the file

    @property
    def seconds(self) -> float:
        return len(self.original) / self.sample_rate


def compare(codec: ESDCodec, file: str | Path, numbers: Sequence[int], max_seconds: float) -> Comparison:
    """Encode a recording once, and decode it from each of `numbers` of codebooks.

    Raises:
        AudioFileError: this is no audio.
        ValueError: the recording is longer than `max_seconds`, or the model has no such number of codebooks.
    """
    if not numbers:
        raise ValueError("choose at least one number of codebooks")
    original, rate = read_recording(file, max_seconds)
    numbers = sorted(set(numbers))
    coded = io.BytesIO()
    result = encode_file(codec, file, coded, numbers[-1])
    codes = Reader(coded).read()
    return Comparison(
        original,
        rate,
        codec.subband_sample_rate,
        codes,
        tuple(_version(codec, Reader(coded), codes, n) for n in numbers),
        tuple(result.problems),
    )


def read_recording(file: str | Path, max_seconds: float) -> tuple[Waveform, int]:
    """All of a file that is short enough, ``[T]``, and its rate; of one that is not, no more than that is decoded.

    Raises:
        AudioFileError: this is no audio.
        ValueError: it is longer than `max_seconds`.
    """
    parts, n_samples = [], 0
    with opened(file) as (rate, blocks):
        for block in blocks:
            n_samples += len(block)
            if n_samples > max_seconds * rate:
                raise ValueError(f"the recording is longer than {max_seconds:g} s: cut it, or take another one")
            parts.append(block)
    return np.concatenate(parts), rate


def _version(codec: ESDCodec, reader: Reader, codes: Codes, n_quantizers: int) -> Version:
    file = io.BytesIO()
    parts: list[Waveform] = []

    @contextmanager
    def collected(rate: int, n_samples: int | None) -> Iterator[Callable[[Waveform], None]]:
        yield parts.append

    n_bytes = transcode(reader, file, n_quantizers)
    file.seek(0)
    decode_file(codec, file, collected)
    return Version(
        n_quantizers,
        codec.bitrate(n_quantizers),
        n_bytes,
        np.concatenate(parts),
        subband_signal(codec, codes[:n_quantizers], reader.header.gain_db),
    )

"""One file's work: audio to codes, `.esd` to audio. Called in the threads of the queue."""

from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
import torch

from ..audio import opened
from ..bitstream import Reader
from ..codec import ESDCodec
from ..infer.files import CodedFile, Pieces, decode_file, encode_array, encode_file
from ..infer.sinks import FORMATS, sink_into
from ..loudness import LoudnessMeter
from .refusal import Refusal
from .work import Work

PIECES = Pieces(chunk_seconds=10.0)  # after each, the work asks whether it is still wanted
HIGHEST_RATE = 48000  # Hz, of audio that is sent at the limit of its length
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg", "opus": "audio/ogg"}


@dataclass(frozen=True)
class Encoding:
    """How a file is encoded."""

    n_quantizers: int | None = None  # None: all
    gain_db: float | None = None  # None: what brings it to the codec's level; 0 for arrays, which cannot keep it
    format: Literal["esd", "npy"] = "esd"


def encode(
    codec: ESDCodec, source: BinaryIO, target: BinaryIO, how: Encoding, max_seconds: float, work: Work
) -> CodedFile:
    """
    Raises:
        Refusal: there is more audio than `max_seconds`, whatever a header states.
        AudioFileError, BitstreamError, ValueError: as `infer.files` raises them.
    """
    codec.bits_per_frame(how.n_quantizers)  # raises for a wrong number
    gain_db = _measured_gain(source, max_seconds, work)
    source.seek(0)
    if how.format == "esd":
        gain_db = gain_db if how.gain_db is None else how.gain_db
        return encode_file(
            codec, source, target, how.n_quantizers, PIECES, gain_db=gain_db, progress=lambda *_: work.check()
        )
    codes, result = encode_array(
        codec, source, how.n_quantizers, PIECES, gain_db=how.gain_db or 0.0, progress=lambda *_: work.check()
    )
    np.save(target, codes)
    return result


def _measured_gain(source: BinaryIO, max_seconds: float, work: Work) -> float:
    """What brings the audio to the codec's level, in dB; its length is seen on the way."""
    with opened(source) as (rate, blocks):
        meter, n_samples = LoudnessMeter(rate), 0
        for block in blocks:
            work.check()
            n_samples += len(block)
            _check_length(n_samples / rate, max_seconds)
            meter.push(block)
    return meter.gain_db


def decode(
    codec: ESDCodec,
    source: BinaryIO,
    target: BinaryIO,
    format: str,
    sample_rate: int | None,
    max_seconds: float,
    work: Work,
) -> CodedFile:
    """
    Raises:
        Refusal: the file holds more audio than `max_seconds`, or more samples than that at 48 kHz.
        BitstreamError, ValueError: as `decode_file` raises them.
    """
    reader = Reader(source)
    _check_length(reader.duration, max_seconds)
    rates = FORMATS[format].rates
    if sample_rate is not None and rates and sample_rate not in rates:
        raise ValueError(f"sample_rate={sample_rate}: {format} has {', '.join(map(str, rates))} Hz alone")
    rate = FORMATS[format].nearest_rate(sample_rate or reader.header.original_rate)
    if reader.duration * rate > max_seconds * HIGHEST_RATE:
        raise Refusal(413, f"at {rate} Hz these are too many samples: give a lower sample_rate")
    source.seek(0)
    sink = sink_into(target, format)
    return decode_file(codec, source, sink, sample_rate=rate, pieces=PIECES, progress=lambda *_: work.check())


def pcm(audio: torch.Tensor) -> bytes:
    """Samples ``[T]`` of 16 bits, little-endian."""
    return (audio.clamp(-1, 1) * 32767).round().cpu().numpy().astype("<i2").tobytes()


def _check_length(seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise Refusal(413, f"the audio is longer than {max_seconds:g} s: send it in parts, or as a live stream")

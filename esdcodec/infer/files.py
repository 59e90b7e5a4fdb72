"""Audio to `.esd` and back, file to file, in memory that does not grow with their length."""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from ..audio import AudioFileError, Resampler, Waveform, opened
from ..bitstream import MAX_RATE, MIN_RATE, Block, Codes, Header, PipeReader, Reader, Writer
from ..codec import ESDCodec
from ..loudness import LoudnessMeter
from ..streams import StreamDecoder
from .sinks import MakeSink

SILENCE = 2**18  # samples that are written at once
# seconds of audio that are done, and of how many (None: not known)
FileProgress = Callable[[float, float | None], None]


@dataclass(frozen=True)
class CodedFile:
    """The result of encoding a file, decoding it, or both."""

    audio_seconds: float
    coded_bytes: int  # 0 where they came out of a pipe
    encode_seconds: float = 0.0  # in the codec alone
    decode_seconds: float = 0.0
    generate_seconds: float = 0.0  # where speech was made
    problems: list[str] = field(default_factory=list)  # what is missing or damaged in the source


@dataclass(frozen=True)
class Pieces:
    """How audio is cut for the network."""

    chunk_seconds: float = 20.0
    batch_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Of audio that go through the network at once."""
        return max(self.chunk_seconds, self.batch_seconds or 0.0)


def stated_seconds(source: str | Path | BinaryIO) -> float | None:
    """The length in a file's header, which may be wrong; None where it has none."""
    if not isinstance(source, str | Path):
        return None
    try:
        return float(soundfile.info(str(source)).duration)
    except (soundfile.LibsndfileError, ValueError):  # a name that is no UTF-8
        return None


def header_of(codec: ESDCodec, n_quantizers: int | None, original_rate: int, gain_db: float = 0.0) -> Header:
    bits = tuple((size - 1).bit_length() for size in codec.codebook_sizes[:n_quantizers])
    rates = codec.sample_rate, codec.hop_length, original_rate
    return Header(codec.name, codec.fingerprint[:8], *rates, bits, gain=round(100 * gain_db))


def encode_file(
    codec: ESDCodec,
    source: str | Path | BinaryIO,
    target: BinaryIO,
    n_quantizers: int | None = None,
    pieces: Pieces = Pieces(),
    *,
    gain_db: float | None = None,
    progress: FileProgress | None = None,
) -> CodedFile:
    """Encode an audio file into an `.esd` stream.

    Of a file that is damaged or shorter than it states, what decodes is coded; `CodedFile.problems` says so.

    Args:
        source: a file; what is open must be able to seek, unless `gain_db` is given.
        n_quantizers: codebooks to use. Default: all.
        gain_db: by which the audio is amplified before, in hundredths of a dB; the file keeps it, and decoding takes it
            back. Default: what brings the recording to the codec's level, for which it is read twice.
        progress: is called after each piece, and from 0 to the end before where the loudness is measured first.

    Raises:
        AudioFileError: the source is no readable audio.
        BitstreamError: no `.esd` file can hold this sample rate or gain.
        ValueError: `n_quantizers` is not of this model.
    """
    gain_db = _gain_of(source, progress) if gain_db is None else round(gain_db, 2)
    encoding = _Encoding(codec, source, n_quantizers, pieces, gain_db, progress)
    with opened(source, problems=encoding.problems) as (rate, blocks):
        writer = Writer(target, header_of(codec, n_quantizers, rate, gain_db))
        for codes in encoding.run(rate, blocks):
            writer.write(codes)
        writer.finish(encoding.n_samples)
    return CodedFile(encoding.n_samples / rate, writer.n_bytes, encoding.seconds, problems=encoding.problems)


def encode_array(
    codec: ESDCodec,
    source: str | Path | BinaryIO,
    n_quantizers: int | None = None,
    pieces: Pieces = Pieces(),
    *,
    gain_db: float = 0.0,
    progress: FileProgress | None = None,
) -> tuple[NDArray[np.uint16], CodedFile]:
    """The codes ``[n, L]`` of an audio file alone, as language models take them. Arguments are as of `encode_file`.

    Raises:
        AudioFileError: the source is no readable audio.
        ValueError: `n_quantizers` is not of this model, or a codebook has more entries than uint16 can number.
    """
    codec.bits_per_frame(n_quantizers)  # raises for a wrong number
    if max(codec.codebook_sizes[:n_quantizers]) > 2**16:
        raise ValueError(f"arrays hold codes of 16 bits, and this model has codebooks of {codec.codebook_sizes}")
    encoding = _Encoding(codec, source, n_quantizers, pieces, gain_db, progress)
    with opened(source, problems=encoding.problems) as (rate, blocks):
        codes = np.concatenate([each.astype(np.uint16) for each in encoding.run(rate, blocks)], axis=1)
    return codes, CodedFile(encoding.n_samples / rate, codes.nbytes, encoding.seconds, problems=encoding.problems)


class _Encoding:
    """Blocks of audio to codes; afterwards, the samples there were and the seconds that the codec took."""

    def __init__(
        self,
        codec: ESDCodec,
        source: str | Path | BinaryIO,
        n_quantizers: int | None,
        pieces: Pieces,
        gain_db: float,
        progress: FileProgress | None,
    ) -> None:
        self.codec, self.source, self.pieces, self.progress = codec, source, pieces, progress
        self.n_quantizers, self.gain_db = n_quantizers, gain_db
        self.n_samples, self.seconds = 0, 0.0
        self.problems: list[str] = []

    def run(self, rate: int, blocks: Iterator[Waveform]) -> Iterator[Codes]:
        stated = stated_seconds(self.source) if self.progress is not None else None
        stream = self.codec.stream_encoder(
            rate,
            n_quantizers=self.n_quantizers,
            gain_db=self.gain_db,
            chunk_seconds=self.pieces.chunk_seconds,
            batch_seconds=self.pieces.batch_seconds,
        )
        for piece in _gathered(_finite(self.source, blocks), round(self.pieces.seconds * rate)):
            self.n_samples += len(piece)
            yield self._timed(stream.push, torch.from_numpy(piece).to(self.codec.device))
            if self.progress is not None:
                self.progress(self.n_samples / rate, stated)
        yield self._timed(stream.finish)

    def _timed(self, function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Codes:
        started = time.perf_counter()
        codes: Codes = function(*inputs)[0].cpu().numpy()
        self.seconds += time.perf_counter() - started
        return codes


def _gain_of(source: str | Path | BinaryIO, progress: FileProgress | None) -> float:
    """What brings a recording to the codec's level, in dB; a stream is then where it was."""
    stated = stated_seconds(source) if progress is not None else None
    n_samples = 0
    start = None if isinstance(source, str | Path) else source.tell()
    with opened(source) as (rate, blocks):
        meter = LoudnessMeter(rate)
        for block in _finite(source, blocks):
            meter.push(block)
            n_samples += len(block)
            if progress is not None:
                progress(n_samples / rate, stated)
    if start is not None and not isinstance(source, str | Path):
        source.seek(start)
    return meter.gain_db


def _finite(source: str | Path | BinaryIO, blocks: Iterator[Waveform]) -> Iterator[Waveform]:
    for block in blocks:
        if not np.isfinite(block).all():
            raise AudioFileError(f"{getattr(source, 'name', source)}: contains NaN or infinite samples")
        yield block


def _gathered(blocks: Iterator[Waveform], size: int) -> Iterator[Waveform]:
    """Blocks of any length as pieces of `size` samples, the last one shorter."""
    waiting: list[Waveform] = []
    n = 0
    for block in blocks:
        waiting.append(block)
        n += len(block)
        if n >= size:
            joined = np.concatenate(waiting)
            whole = n // size * size
            yield from np.split(joined[:whole], whole // size)
            waiting, n = [joined[whole:].copy()], n - whole
    if n:
        yield np.concatenate(waiting)


def decode_file(
    codec: ESDCodec,
    source: BinaryIO,
    sink: MakeSink,
    *,
    sample_rate: int | None = None,
    recover: bool = False,
    pieces: Pieces = Pieces(),
    progress: FileProgress | None = None,
) -> CodedFile:
    """Decode an `.esd` stream.

    Args:
        source: a file, or a pipe, which cannot be recovered.
        sink: from the rate and the number of samples (None: not known yet) to what takes them.
        sample_rate: Hz of what comes out, 1,000 to 1,000,000. Default: that of the recording.
        recover: decode what is whole of a damaged file; damaged seconds are silent.
        progress: is called after each piece.

    Raises:
        BitstreamError: this is no `.esd` file, it is damaged, or (WrongModel) it is of another model.
        ValueError: the sample rate is not as described above.
    """
    check_output_rate(sample_rate)
    reader = Reader(source, recover=recover) if source.seekable() else PipeReader(source)
    header = reader.header
    header.check_model(codec.name, codec.fingerprint)
    header.check_sizes(codec.sample_rate, codec.hop_length, codec.codebook_sizes)
    decoding = _Decoding(codec, pieces, header.gain_db)
    if reader.error:
        decoding.problems.append(str(reader.error))
    _write_audio(reader, decoding, sink, sample_rate or header.original_rate, progress)
    assert reader.original_samples is not None
    seconds = reader.original_samples / header.original_rate
    size = source.seek(0, io.SEEK_END) if source.seekable() else 0
    return CodedFile(seconds, size, decode_seconds=decoding.seconds, problems=decoding.problems)


def _write_audio(
    reader: Reader | PipeReader, decoding: "_Decoding", sink: MakeSink, rate: int, progress: FileProgress | None
) -> None:
    """Decode what `reader` has, at `rate` Hz and as long as the recording was."""

    def length() -> int | None:
        if reader.original_samples is None:
            return None
        return -(-reader.original_samples * rate // reader.header.original_rate)

    codec_rate = decoding.codec.sample_rate
    resampler = None if rate == codec_rate else Resampler(codec_rate, rate)
    given = 0
    with sink(rate, length()) as write:

        def give(audio: Waveform) -> None:
            nonlocal given
            total = length()  # of a pipe it is known when only the last frames are left
            audio = audio if total is None else audio[: max(0, total - given)]
            given += len(audio)
            if len(audio):
                write(audio)
                if progress is not None:
                    progress(given / rate, total and total / rate)

        for waveform in decoding.run(reader.read_blocks()):
            give(resampler.push(waveform) if resampler else waveform)
        if resampler:
            give(resampler.finish())
        total = length()
        assert total is not None
        while given < total:  # what was cut off
            give(np.zeros(min(total - given, SILENCE), np.float32))


def check_output_rate(sample_rate: int | None) -> None:
    """
    Raises:
        ValueError: nothing is decoded to this rate.
    """
    if sample_rate is not None and not MIN_RATE <= sample_rate <= MAX_RATE:
        raise ValueError(f"sample_rate={sample_rate} must be {MIN_RATE} to {MAX_RATE} Hz, such as 16000")


class _Decoding:
    """Blocks to audio at the codec's rate. Lost blocks are silence, and what is between them is decoded by itself."""

    def __init__(self, codec: ESDCodec, pieces: Pieces, gain_db: float) -> None:
        self.codec, self.pieces, self.gain_db = codec, pieces, gain_db
        self.size = max(1, round(pieces.seconds * codec.frame_rate))  # frames
        self.seconds = 0.0
        self.problems: list[str] = []

    def run(self, blocks: Iterator[Block]) -> Iterator[Waveform]:
        stream: StreamDecoder | None = None
        waiting: list[np.ndarray] = []
        for block in blocks:
            if block.codes is not None:
                waiting.append(block.codes)
                if sum(codes.shape[1] for codes in waiting) >= self.size:
                    stream = stream or self._stream()
                    yield self._timed(stream.push, waiting)
                    waiting = []
                continue
            self.problems.append(str(block.error))
            yield from self._rest(stream, waiting)
            stream, waiting = None, []
            yield np.zeros(block.n_frames * self.codec.hop_length, np.float32)
        yield from self._rest(stream, waiting)

    def _stream(self) -> StreamDecoder:
        return self.codec.stream_decoder(
            gain_db=self.gain_db, chunk_seconds=self.pieces.chunk_seconds, batch_seconds=self.pieces.batch_seconds
        )

    def _rest(self, stream: "StreamDecoder | None", waiting: list[np.ndarray]) -> Iterator[Waveform]:
        if waiting:
            stream = stream or self._stream()
            yield self._timed(stream.push, waiting)
        if stream:
            yield self._timed(stream.finish)

    def _timed(self, function: Callable[..., torch.Tensor], codes: "list[np.ndarray] | None" = None) -> Waveform:
        started = time.perf_counter()
        inputs = () if codes is None else (torch.from_numpy(np.concatenate(codes, axis=1))[None].to(self.codec.device),)
        waveform: Waveform = function(*inputs)[0, 0].cpu().numpy()
        self.seconds += time.perf_counter() - started
        return waveform

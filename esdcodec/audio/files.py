"""Reading and writing audio files. The length is that of the decoded samples, whatever a header states."""

import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from .containers import parts_of
from .decoders import FAILURES, AudioDecoder, FFmpegDecoder, SoundfileDecoder, View, decoder_of, reason_of
from .errors import AudioFileError
from .part import Part
from .resample import Resampler, Waveform, resample

BLOCK = 2**18  # samples
MARGIN = 2048  # samples on each side that a resampled one may depend on
LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000  # Hz, of recordings
KEPT = 2**24  # samples of a recording that are kept while its length is not known


def read(file: str | Path | BinaryIO, sample_rate: int | None = None) -> tuple[Waveform, int]:
    """Read an audio file (wav, flac, ogg, opus, mp3, m4a, webm, wma, …) as mono.

    Channels are averaged. With `sample_rate` the audio is resampled to it. A file of which something is missing or
    damaged gives what there is, with a warning.

    Returns:
        waveform ``[T]`` float32 and its sample rate in Hz.

    Raises:
        AudioFileError: the file is missing, is not audio, or holds no samples.
    """
    problems: list[str] = []
    with opened(file, problems=problems) as (rate, blocks):
        waveform = np.concatenate(list(blocks))
    for problem in problems:
        warnings.warn(f"{_name(file)}: {problem}", stacklevel=2)
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
    with opened(file, size=4096, thorough=False) as (_, blocks):
        next(blocks)
    if start is not None and not isinstance(file, str | Path):
        file.seek(start)


@contextmanager
def opened(
    file: str | Path | BinaryIO, size: int = BLOCK, *, problems: list[str] | None = None, thorough: bool = True
) -> Iterator[tuple[int, Iterator[Waveform]]]:
    """The sample rate of an audio file and its samples as mono blocks, of about `size`, one at a time.

    Args:
        problems: what turns out to be missing or damaged is added here, the last of it at the end of the blocks.
        thorough: look for damage also where that needs a look at all bytes before.

    Raises:
        AudioFileError: the file is missing, is not audio, or holds no samples.
    """
    problems = [] if problems is None else problems
    name = _name(file)
    with _bytes_of(file) as (stream, path):
        parts = _parts(stream, name, thorough)
        problems += [_located(parts, i, part.problem) for i, part in enumerate(parts) if part.problem]
        first = _first_decoder(stream, path, name, parts)
        yield first.rate, _blocks(stream, path, name, parts, first, size, problems)


def _blocks(
    stream: BinaryIO,
    path: str | Path | None,
    name: object,
    parts: list[Part],
    first: AudioDecoder,
    size: int,
    problems: list[str],
) -> Iterator[Waveform]:
    given = 0
    decoder: AudioDecoder = first
    for i, part in enumerate(parts):
        if i:
            try:
                decoder = _check_rate(decoder_of(stream, path, part, False))
            except AudioFileError as error:
                problems.append(_located(parts, i, f"cannot be read as audio ({error})"))
                continue
        for block in _at_rate(_salvaged(decoder, stream, part, len(parts) == 1, size), decoder.rate, first.rate):
            given += len(block)
            if len(block):
                yield block
        problems += [_located(parts, i, problem) for problem in decoder.problems if not part.problem]
    if not given:
        reason = "; ".join(problems)
        raise AudioFileError(f"{name}: cannot be read as audio ({reason})" if reason else f"{name}: holds no samples")


def _salvaged(decoder: AudioDecoder, stream: BinaryIO, part: Part, whole: bool, size: int) -> Iterator[Waveform]:
    """The blocks of a decoder; where soundfile fails in the middle, FFmpeg goes on from there."""
    try:
        yield from decoder.blocks(size)
    except FAILURES as error:
        if not isinstance(decoder, SoundfileDecoder):
            raise
        total = 0
        try:
            for block in FFmpegDecoder(View(stream, part)).blocks(size):
                skipped = min(max(0, decoder.position - total), len(block))
                total += len(block)
                yield block[skipped:]
        except FAILURES:
            pass
        missing = (decoder.stated - max(total, decoder.position)) / decoder.rate
        reason = reason_of(error).removeprefix("Error : ")
        cut = total > 0 and missing > 0.5  # seconds, more than any format has in a packet
        decoder.problems.append(f"{missing:.2f} s shorter than its header states" if cut else f"damaged ({reason})")


def _at_rate(blocks: Iterator[Waveform], from_rate: int, to_rate: int) -> Iterator[Waveform]:
    """The blocks of a part, at the rate of the first part."""
    if from_rate == to_rate:
        yield from blocks
        return
    resampler = Resampler(from_rate, to_rate)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.finish()


@dataclass(frozen=True)
class AudioSegment:
    """A piece of a recording."""

    waveform: Waveform  # [n], n ≤ what was asked for
    channels: int  # of the recording; they are averaged
    from_rate: int  # Hz, of the recording


def read_segment(file: str | Path | BinaryIO, length: int, sample_rate: int, position: float) -> AudioSegment:
    """Read `length` samples at `sample_rate`, or the whole of a shorter recording.

    Only what they need is decoded and resampled, where the format can seek and its length is sure; elsewhere all of it
    is decoded. The values are those of the same piece of the whole recording (mp3: within its own rounding).

    Args:
        position: of the segment, from 0 for the beginning to 1 for the end of the recording. In a file that was cut it
            may be a position in what its header states, where that is still there.

    Raises:
        AudioFileError: as `read` does, and for what is damaged.
    """
    name = _name(file)
    with _bytes_of(file) as (stream, path):
        parts = _parts(stream, name, thorough=False)
        decoder = _first_decoder(stream, path, name, parts)
        rate = decoder.rate
        if len(parts) == 1 and isinstance(decoder, SoundfileDecoder):
            cut = Cut(decoder.stated, rate, length, sample_rate, position, decoder.preroll)
            try:
                samples = decoder.range(cut.first, cut.last)
                if cut.first + len(samples) >= min(cut.last, decoder.stated) > 0:
                    return AudioSegment(cut.resampled(samples), decoder.channels, rate)
            except FAILURES:
                pass  # it may be shorter than stated
            decoder = _first_decoder(stream, path, name, parts)
        problems: list[str] = []
        kept: list[Waveform] = []
        total = 0
        for block in _blocks(stream, path, name, parts, decoder, BLOCK, problems):
            total += len(block)
            if total <= KEPT:
                kept.append(block)
    if any("damaged" in problem for problem in problems):
        raise AudioFileError(f"{name}: {problems[0]}")
    cut = Cut(total, rate, length, sample_rate, position, 0)
    if total > KEPT:
        with opened(file, thorough=False) as (_, again):
            kept = list(_between(again, cut.first, cut.last))
        return AudioSegment(cut.resampled(np.concatenate(kept)), decoder.channels, rate)
    return AudioSegment(cut.resampled(np.concatenate(kept)[cut.first : cut.last]), decoder.channels, rate)


@dataclass(frozen=True)
class Cut:
    """Which samples of a recording a segment of it needs, and the segment out of these."""

    total: int  # samples of the recording
    rate: int  # Hz, of the recording
    length: int  # samples of the segment
    sample_rate: int  # Hz, of the segment
    position: float  # 0 to 1
    preroll: int  # samples that a decoder needs before

    @property
    def up(self) -> int:
        return self.sample_rate // math.gcd(self.rate, self.sample_rate)

    @property
    def down(self) -> int:
        return self.rate // math.gcd(self.rate, self.sample_rate)

    @property
    def margin(self) -> int:
        return 0 if self.rate == self.sample_rate else MARGIN

    @property
    def start(self) -> int:
        """Of the segment, in its own samples."""
        return round(self.position * max(0, self.total * self.up // self.down - self.length))

    @property
    def group(self) -> int:
        """The first sample, in units of `down` samples, which are `up` samples after."""
        return max(0, self.start // self.up - -(-(self.margin + self.preroll) // self.down))

    @property
    def first(self) -> int:
        return self.group * self.down

    @property
    def last(self) -> int:
        return -(-(self.start + self.length) * self.down // self.up) + self.margin

    def resampled(self, samples: Waveform) -> Waveform:
        skipped = self.start - self.group * self.up
        return resample(samples, self.rate, self.sample_rate)[skipped : skipped + self.length]


def _between(blocks: Iterator[Waveform], first: int, last: int) -> Iterator[Waveform]:
    position = 0
    for block in blocks:
        if position < last and position + len(block) > first:
            yield block[max(0, first - position) : last - position]
        position += len(block)
        if position >= last:
            return


def write(file: str | Path, waveform: Waveform, sample_rate: int) -> None:
    """Write ``[T]`` as 16-bit audio, format by extension; what exceeds full scale is clipped.

    Raises:
        AudioFileError: the file cannot be written.
    """
    try:
        soundfile.write(file, np.clip(waveform, -1, 1), sample_rate, subtype="PCM_16")
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(f"{file}: cannot be written ({reason_of(error)})") from error


# ---- opening and checking --------------------------------------------------------------------------------------------


def _name(file: str | Path | BinaryIO) -> object:
    name = file if isinstance(file, str | Path) else getattr(file, "name", "audio")
    return "audio" if isinstance(name, int) else name  # a file without a name is called by its descriptor


@contextmanager
def _bytes_of(file: str | Path | BinaryIO) -> Iterator[tuple[BinaryIO, str | Path | None]]:
    """The open file, and its path if it has one."""
    if not isinstance(file, str | Path):
        yield file, None
        return
    if not Path(file).is_file():
        raise AudioFileError(f"{file}: no such file")
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(open(file, "rb"))
        except OSError as error:
            raise AudioFileError(f"{file}: cannot be read ({error.strerror})") from error
        yield stream, file


def _parts(stream: BinaryIO, name: object, thorough: bool) -> list[Part]:
    try:
        parts = parts_of(stream, thorough=thorough)
    except OSError as error:
        raise AudioFileError(f"{name}: cannot be read ({error.strerror or error})") from error
    if not parts:
        raise AudioFileError(f"{name}: cannot be read as audio (the file is empty)")
    return parts


def _located(parts: list[Part], i: int, problem: str) -> str:
    return problem if len(parts) == 1 else f"part {i + 1} of {len(parts)}: {problem}"


def _check_rate(decoder: AudioDecoder) -> AudioDecoder:
    """Refuse a rate that would make gigabytes of a small file."""
    if not LOWEST_RATE <= decoder.rate <= HIGHEST_RATE:
        raise AudioFileError(f"it states a sample rate of {decoder.rate} Hz")
    return decoder


def _first_decoder(stream: BinaryIO, path: str | Path | None, name: object, parts: list[Part]) -> AudioDecoder:
    try:
        return _check_rate(decoder_of(stream, path, parts[0], len(parts) == 1))
    except AudioFileError as error:
        if "no samples" in str(error):
            raise AudioFileError(f"{name}: holds no samples") from error
        raise AudioFileError(f"{name}: cannot be read as audio ({error})") from error

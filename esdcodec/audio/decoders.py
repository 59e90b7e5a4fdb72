"""Two decoders with the same interface: soundfile (exact, seeks fast) and FFmpeg by PyAV (reads nearly everything)."""

import errno
import io
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..processes import uninterrupted
from .errors import AudioFileError
from .part import Part
from .resample import Resampler, Waveform

FAILURES = (soundfile.SoundFileError, OSError, TypeError, ValueError, MemoryError, EOFError)
MOST_SAMPLES = 8192  # of a byte: more than a file of any format has, but for a header that is wrong
PREROLL = {"MPEG_LAYER_III": 8 * 1152, "OPUS": 4096}  # samples until a decoder that begins in the middle is right

LONGEST_GAP = 10  # seconds that are filled with silence; a longer gap means a wrong time stamp

# Of FFmpeg's formats those that hold sound. Playlists, which could name other files and addresses, are not among them.
_FORMATS = (
    "3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,ircam,loas,m4a,matroska,mov,mp3,"
    "mp4,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,qcp,rm,shn,sox,tak,truehd,tta,w64,wav,webm,wtv,wv,xwma"
)


class AudioDecoder(Protocol):
    """An open recording."""

    rate: int  # Hz
    channels: int
    problems: list[str]  # filled while it is read

    def blocks(self, size: int) -> Iterator[Waveform]:
        """All samples as mono ``[n]``, about `size` at a time."""
        ...


class SoundfileDecoder:
    """soundfile, for files whose header states the right length: of others it reads too little, or fails."""

    def __init__(self, file: str | Path | BinaryIO) -> None:
        name_or_file: Any = file
        if isinstance(file, str | Path) and os.name != "nt":
            name_or_file = os.fsencode(file)  # soundfile takes names for UTF-8
        with uninterrupted():
            self.stream = soundfile.SoundFile(name_or_file)
        self.rate, self.channels, self.stated = self.stream.samplerate, self.stream.channels, self.stream.frames
        self.preroll = PREROLL.get(self.stream.subtype, 0)
        # in a wav the length of MPEG audio is a guess
        self.states_length = self.stream.format == "MP3" or not self.stream.subtype.startswith("MPEG")
        self.problems: list[str] = []
        self.position = 0  # samples given by `blocks`

    def blocks(self, size: int) -> Iterator[Waveform]:
        # After every read soundfile seeks, from where the decoder of an mp3 needs some frames to be right again.
        while True:
            before = min(self.preroll, self.position)
            with uninterrupted():
                if before:
                    self.stream.seek(self.position - before)
                block = self.stream.read(before + size, dtype="float32", always_2d=True)[before:]
            if not len(block):
                break
            self.position += len(block)
            yield block.mean(axis=1)
        if self.states_length and 0 < self.position < self.stated:
            self.problems.append(f"{(self.stated - self.position) / self.rate:.2f} s shorter than its header states")

    def range(self, first: int, last: int) -> Waveform:
        """Samples from `first` to before `last`, fewer where there are not as many."""
        with uninterrupted():
            if first:
                self.stream.seek(first)
            block = self.stream.read(last - first, dtype="float32", always_2d=True)
        return block.mean(axis=1) if self.channels > 1 else block[:, 0]


class FFmpegDecoder:
    """FFmpeg, for the first audio track. A packet that cannot be decoded becomes silence and is named in `problems`."""

    def __init__(self, file: Any, format: str | None = None) -> None:
        import av

        self.failure = av.error.FFmpegError
        try:
            # `options` would go to the streams too, of which PyAV before 17 counts those that come late wrongly
            self.container = av.open(file, "r", format=format, container_options={"format_whitelist": _FORMATS})
        except (av.error.FFmpegError, UnicodeError) as error:
            if isinstance(error, ValueError | EOFError) or getattr(error, "errno", 0) == errno.EINVAL:
                raise ValueError("Format not recognised.") from error
            raise ValueError(_words(error)) from error
        if not self.container.streams.audio:
            raise ValueError("has no audio track")
        self.stream = self.container.streams.audio[0]
        if self.stream.codec_context is None:
            raise ValueError("its audio is in a codec that is not known")
        self.rate = self.channels = 0
        self.problems: list[str] = []
        self.frames = self._frames()
        self.waiting = next(self.frames, None)  # only a decoded frame has the true rate
        if self.waiting is not None:
            self.rate, self.channels = self.waiting.sample_rate, self.waiting.layout.nb_channels

    def _frames(self) -> Iterator[Any]:
        """Decoded frames; the number of samples, as it states, of a packet that cannot be decoded."""
        n = damaged = 0
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
            except (self.failure, OSError) as error:
                self.problems.append(f"cannot be read further ({_words(error)})")
                break
            n += 1
            try:
                yield from packet.decode()
            except self.failure:
                damaged += bool(self.rate)
                if self.rate and packet.duration and packet.time_base:
                    yield round(packet.duration * packet.time_base * self.rate)
        # a frame of an mp3 may need bytes of the ones before, which are gone where files were cut and joined
        if damaged > (n // 100 + 1 if self.stream.codec_context.name.startswith("mp3") else 0):
            self.problems.append(f"{damaged} packets of it cannot be decoded and are silent")

    def blocks(self, size: int) -> Iterator[Waveform]:
        if self.waiting is None:
            return
        pieces: list[Waveform] = []
        n = given = 0
        longest = silence = 0  # what cannot be decoded is silent if something follows
        begin: Fraction | None = None  # seconds
        resampler: Resampler | None = None
        frame = self.waiting
        while frame is not None:
            if isinstance(frame, int):
                silence += min(frame, longest)
                waveform = np.zeros(0, np.float32)
            else:
                waveform = _mono(frame)
                if self.container.format.name in ("ogg", "flac") and frame.pts is not None and frame.time_base:
                    time = frame.pts * frame.time_base
                    begin = time if begin is None else begin
                    gap = round((time - begin) * self.rate) - given - n
                    # a page or some frames are lost
                    silence = gap if self.rate // 20 < gap < LONGEST_GAP * self.rate else 0
                if silence:
                    pieces.append(np.zeros(silence, np.float32))
                    n += silence
                    silence = 0
                longest = max(longest, len(waveform))
                if resampler and resampler.from_rate != frame.sample_rate:
                    pieces.append(resampler.finish())
                    resampler = None
                if frame.sample_rate != self.rate:
                    resampler = resampler or Resampler(frame.sample_rate, self.rate)
                    waveform = resampler.push(waveform)
            pieces.append(waveform)
            n += len(waveform)
            if n >= size:
                joined = np.concatenate(pieces)
                # the last frame is kept back: what follows the stated end in it is the encoder's padding
                keep = min(len(joined), 2 * longest)
                yield joined[: len(joined) - keep]
                given += len(joined) - keep
                pieces, n = [joined[len(joined) - keep :]], keep
            frame = next(self.frames, None)
        if resampler:
            pieces.append(resampler.finish())
        rest = np.concatenate(pieces)
        stated, exact = self._stated()
        if stated is not None:
            if exact and stated < given + len(rest) < stated + longest:
                rest = rest[: max(0, stated - given)]
            if given + len(rest) < stated - self.rate // 5:
                self.problems.append(f"{(stated - given - len(rest)) / self.rate:.2f} s shorter than its header states")
        if len(rest):
            yield rest

    def _stated(self) -> tuple[int | None, bool]:
        """Samples that a container states, where it is no guess, and whether they are exact."""
        format, duration, base = self.container.format.name, self.stream.duration, self.stream.time_base
        if format.split(",")[0] in ("mov", "asf", "flac", "tta", "wv") and duration and base:
            return round(duration * base * self.rate), format != "flac"  # its frames have no padding
        time = re.match(r"(\d+):(\d+):([\d.]+)", self.stream.metadata.get("DURATION", ""))
        if format.startswith("matroska") and time:
            hours, minutes, seconds = map(float, time.groups())
            return round((3600 * hours + 60 * minutes + seconds) * self.rate), False
        if format.startswith("matroska") and self.container.duration and len(self.container.streams) == 1:
            return round(self.container.duration * self.rate / 10**6), False
        return None, False


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


_ZERO = {"u8": 128, "u8p": 128}
_SCALE = {"u8": 128, "s16": 2**15, "s32": 2**31, "s64": 2**63}


def _mono(frame: Any) -> Waveform:
    """The mean of the channels of a frame of any sample format, full scale 1.0."""
    samples: NDArray[Any] = frame.to_ndarray()  # [channels, n], or [1, n · channels]
    name = frame.format.name
    if not name.endswith("p"):
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale = _SCALE.get(name.removesuffix("p"))
    if scale:
        samples = (samples.astype(np.float64) - _ZERO.get(name, 0)) / scale
    mono: Waveform = samples.astype(np.float32).mean(axis=0, dtype=np.float32)
    return mono


class View(io.RawIOBase):
    """A part of a file that can seek, as a file.

    Args:
        start: of the bytes, if they begin before the part.
    """

    def __init__(self, file: BinaryIO, part: Part, start: int | None = None) -> None:
        super().__init__()
        self.file, self.lengths = file, part.lengths
        self.start, self.stop, self.position = part.start if start is None else start, part.stop, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.stop - self.start}[whence]
        # elsewhere it stays, as a file does; soundfile would print what is raised here
        if 0 <= origin + offset < 2**62:
            self.position = origin + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        n_bytes = min(len(view), self.stop - self.start - self.position)
        if n_bytes <= 0:
            return 0
        first = self.start + self.position
        self.file.seek(first)
        content = self.file.read(n_bytes)
        view[: len(content)] = content
        for offset, length in self.lengths:
            if first - len(length) < offset < first + len(content):
                begin, end = max(0, first - offset), min(len(length), first + len(content) - offset)
                view[offset + begin - first : offset + end - first] = length[begin:end]
        self.position += len(content)
        return len(content)


def decoder_of(file: BinaryIO, path: str | Path | None, part: Part, whole: bool) -> AudioDecoder:
    """The decoder for one part of an open file.

    Args:
        path: of the file, if it has one.
        whole: the part is all of it.

    Raises:
        AudioFileError: neither can decode it; the message is the reason alone.
    """
    view: Any = View(file, part, 0 if whole else None)
    if part.lengths:
        path = None  # the decoder must see other bytes than the file has
    reason = ""
    if part.kind and part.trusted:
        try:
            sound = SoundfileDecoder(path if whole and path is not None else view)
            if sound.stated <= MOST_SAMPLES * (part.stop - part.start):
                return sound
        except FAILURES as error:
            reason = reason_of(error)
        view.seek(0)
    try:
        decoder = FFmpegDecoder(view)
        if decoder.waiting is not None:
            return decoder
        reason = reason or "holds no samples"
    except FAILURES as error:
        reason = reason or reason_of(error)
    if not part.kind:  # formats that only soundfile has, some of them known by their extension alone
        try:
            view.seek(0)
            named = whole and path is not None and Path(path).suffix.lower() != ".mp3"
            return SoundfileDecoder(path if named and path is not None else view)
        except FAILURES:
            pass
    raise AudioFileError(reason)


def reason_of(error: BaseException) -> str:
    return str(getattr(error, "error_string", None) or error)

"""What a command does to one file. A task travels to the processes that do it, and loads its model there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Literal

import numpy as np

from ..audio import probe
from ..bitstream import Reader, read_header, transcode
from .files import is_stream, open_source, output, spooled, whole_file

if TYPE_CHECKING:
    import torch

    from ..codec import ESDCodec
    from .progress import Progress


@dataclass(frozen=True)
class Facts:
    """What became of a file."""

    audio_seconds: float
    coded_bytes: int
    encode_seconds: float = 0.0  # in the network
    decode_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)  # of a file that was recovered


@dataclass
class Task:
    """Base of all tasks.

    `run` makes of a file the files `targets`, one for each of `suffixes`. Where `takes_pipes`, all may be pipes too.
    """

    takes_pipes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.progress: Progress | None = None  # is told how far a file is; stays in this process

    @property
    def suffixes(self) -> tuple[str, ...]:
        raise NotImplementedError

    def start(self, threads: int | None) -> None:
        """Get ready in the process that does the work, with so many threads (None: as it comes)."""

    def check(self, source: Path) -> None:
        """Look at a source, as cheaply as can be and without the model.

        Raises:
            ValueError: `run` would fail on it.
        """

    def describe(self) -> str:
        """A line for the summary."""
        return ""

    def run(self, source: Path, targets: list[Path]) -> Facts:
        raise NotImplementedError


@dataclass
class ModelTask(Task):
    """A task of a codec."""

    model: str
    device: str | None
    dtype: str
    chunk_seconds: float
    batch_seconds: float | None

    def start(self, threads: int | None) -> None:
        import torch

        from ..codec import load
        from .coding import Pieces

        if threads:
            torch.set_num_threads(threads)
        dtype: torch.dtype | Literal["auto"] = "auto" if self.dtype == "auto" else getattr(torch, self.dtype)
        self.codec: ESDCodec = load(self.model, device=self.device, dtype=dtype)
        self.dtype = str(self.codec.dtype).removeprefix("torch.")  # decided once for all processes
        self.pieces = Pieces(self.chunk_seconds, self.batch_seconds)
        # first calls are slow and would spoil the speed that is told
        self.codec.decode(self.codec.encode(torch.zeros(1, device=self.codec.device)))


@dataclass
class Encode(ModelTask):
    """Audio to `.esd`, or to the codes alone as an array."""

    n_quantizers: int | None  # None: all
    format: str
    gain_db: float | None = None  # None: what brings each file to the codec's level; arrays can't keep that

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (f".{self.format}",)

    def start(self, threads: int | None) -> None:
        super().start(threads)
        self.codec.bitrate(self.n_quantizers)  # says what is wrong with the number

    def check(self, source: Path) -> None:
        probe(source)

    def describe(self) -> str:
        return _model_line(self.codec, self.n_quantizers)

    def run(self, source: Path, targets: list[Path]) -> Facts:
        from .coding import encode_file

        gain_db = self.gain_db if self.format == "esd" else self.gain_db or 0.0
        encode = partial(encode_file, gain_db=gain_db, progress=self.progress)
        with output(targets[0]) as target, _seekable(source) as audio:
            if self.format == "esd":
                done = encode(self.codec, audio, target, self.n_quantizers, self.pieces)
                size = done.bytes
            else:
                coded, array = io.BytesIO(), io.BytesIO()
                done = encode(self.codec, audio, coded, self.n_quantizers, self.pieces)
                codes = Reader(coded).read()
                narrow = codes.astype(np.min_scalar_type(-max(self.codec.codebook_sizes)))  # int16 for 14 bit
                np.save(array, narrow)
                target.write(array.getbuffer())
                size = narrow.nbytes
        return Facts(done.audio_seconds, size, encode_seconds=done.network_seconds, problems=done.problems)


@dataclass
class Decode(ModelTask):
    """`.esd` to audio."""

    format: str
    sample_rate: int | None
    recover: bool

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (f".{self.format}",)

    def describe(self) -> str:
        return f"{self.codec.name} on {self.codec.device}"

    def run(self, source: Path, targets: list[Path]) -> Facts:
        from .coding import decode_file
        from .sinks import FORMATS, sink_into

        with ExitStack() as stack:
            file = stack.enter_context(open_source(source))
            if not file.seekable() and (self.recover or FORMATS[self.format].rates):
                file = stack.enter_context(spooled(file))
            rate = self.sample_rate
            if rate is None and FORMATS[self.format].rates:
                rate = FORMATS[self.format].nearest_rate(read_header(file).original_rate)
                file.seek(0)
            target = stack.enter_context(output(targets[0]))
            sink = sink_into(target, self.format)
            done = decode_file(
                self.codec,
                file,
                sink,
                sample_rate=rate,
                recover=self.recover,
                pieces=self.pieces,
                progress=self.progress,
            )
            size = file.seek(0, io.SEEK_END) if file.seekable() else 0
        return Facts(done.audio_seconds, size, decode_seconds=done.network_seconds, problems=done.problems)


@dataclass
class Roundtrip(ModelTask):
    """Audio to `.esd` and back to wav, with a picture if wanted."""

    takes_pipes = False

    n_quantizers: int | None  # None: all
    picture: bool
    gain_db: float | None = None  # None: what brings each file to the codec's level

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".wav", ".esd", *[".png"] * self.picture)

    def start(self, threads: int | None) -> None:
        if self.picture and find_spec("matplotlib") is None:
            raise ValueError("pictures need matplotlib: pip install matplotlib")
        super().start(threads)
        self.codec.bitrate(self.n_quantizers)

    def check(self, source: Path) -> None:
        probe(source)

    def describe(self) -> str:
        return _model_line(self.codec, self.n_quantizers)

    def run(self, source: Path, targets: list[Path]) -> Facts:
        import torch

        from .coding import decode_file, encode_file
        from .sinks import sink_into

        with ExitStack() as stack:
            decoded, coded, *picture = (stack.enter_context(whole_file(target)) for target in targets)
            encoding = encode_file(
                self.codec,
                source,
                coded,
                self.n_quantizers,
                self.pieces,
                gain_db=self.gain_db,
                progress=self.progress,
            )
            rate = self.codec.sample_rate
            sink = sink_into(decoded, "wav")
            decoding = decode_file(
                self.codec, coded, sink, sample_rate=rate, pieces=self.pieces, progress=self.progress
            )
            if picture:
                reader = Reader(coded)
                codes = torch.from_numpy(reader.read())[None]
                self._draw(source, picture[0], "png", codes, reader.header.gain_db)
        return Facts(
            encoding.audio_seconds,
            encoding.bytes,
            encoding.network_seconds,
            decoding.network_seconds,
            encoding.problems + decoding.problems,
        )

    def _draw(
        self, source: Path, picture: BinaryIO, format: str, codes: torch.Tensor | None = None, gain_db: float = 0.0
    ) -> None:
        import torch

        from ..audio import read
        from ..evaluation.plot import plot  # matplotlib is needed for nothing else
        from ..loudness import gain_for

        waveform, rate = read(source, self.codec.sample_rate)
        if codes is None:
            gain_db = gain_for(waveform, rate) if self.gain_db is None else self.gain_db
            codes = self.codec.encode(waveform, n_quantizers=self.n_quantizers, gain_db=gain_db)
        codes = codes.to(self.codec.device)
        with torch.no_grad():
            decoded, subband, _ = self.codec.decode_latent(self.codec.dequantize(codes))
        gain = 10 ** (gain_db / 20)
        plot(
            picture,
            waveform,
            (decoded[0, 0, : len(waveform)] / gain).cpu().numpy(),
            (subband[0, 0].float() / gain).cpu().numpy(),
            codes[0].cpu().numpy(),
            self.codec.codebook_sizes,
            self.codec.sample_rate,
            self.codec.subband_sample_rate,
            format=format,
        )

    def draw(self, source: Path, target: Path) -> None:
        """The picture alone, in the format of its name."""
        with whole_file(target) as picture:
            self._draw(source, picture, target.suffix[1:])


@dataclass
class Transcode(Task):
    """`.esd` to `.esd` with fewer codebooks."""

    n_quantizers: int

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".esd",)

    def run(self, source: Path, targets: list[Path]) -> Facts:
        with ExitStack() as stack:
            file = stack.enter_context(open_source(source))
            if not file.seekable():
                file = stack.enter_context(spooled(file))
            target = stack.enter_context(output(targets[0]))
            reader = Reader(file)
            size = transcode(reader, target, self.n_quantizers)
        return Facts(reader.duration, size)


@contextmanager
def _seekable(source: Path) -> Iterator[Path | BinaryIO]:
    """A file; of what a pipe gives, a copy that can seek, as soundfile must."""
    if not is_stream(source):
        yield source
        return
    with open_source(source) as stream, spooled(stream) as file:
        yield file


def _model_line(codec: ESDCodec, n_quantizers: int | None) -> str:
    share = f"{n_quantizers or codec.n_codebooks} of {codec.n_codebooks} codebooks"
    return f"{codec.name} on {codec.device}, {share}: {codec.bitrate(n_quantizers):.0f} bit/s of codes"

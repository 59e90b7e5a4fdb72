"""What a command does to one file. A task travels to the processes that do it, and loads its model there."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..audio import probe
from .bitstream import Reader, transcode
from .files import spooled, whole_file

if TYPE_CHECKING:
    import torch

    from ..model_codec.codec import ESDCodec
    from .coding import Sink


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

    `run` makes the files `targets`, one for each of `suffixes`; `pipe` goes from one stream to another.
    """

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

    def pipe(self, source: BinaryIO, target: BinaryIO) -> Facts:
        raise ValueError("this command takes no pipe: give it files")


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

        from ..pretrained import load
        from .coding import Pieces

        if threads:
            torch.set_num_threads(threads)
        self.codec: ESDCodec = load(self.model, device=self.device, dtype=getattr(torch, self.dtype))
        self.codec.keep_fingerprint()
        self.pieces = Pieces(self.chunk_seconds, self.batch_seconds)
        # first calls are slow and would spoil the speed that is told
        self.codec.decode(self.codec.encode(torch.zeros(1, device=self.codec.device)))


@dataclass
class Encode(ModelTask):
    """Audio to `.esd`, or to the codes alone as an array."""

    n_quantizers: int
    format: str

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
        with whole_file(targets[0]) as target:
            return self._encode(source, target)

    def pipe(self, source: BinaryIO, target: BinaryIO) -> Facts:
        with spooled(source) as file:  # soundfile must seek
            return self._encode(file, target)

    def _encode(self, source: Path | BinaryIO, target: BinaryIO) -> Facts:
        from .coding import encode_file

        if self.format == "esd":
            done = encode_file(self.codec, source, target, self.n_quantizers, self.pieces)
            size = done.bytes
        else:
            coded = io.BytesIO()
            done = encode_file(self.codec, source, coded, self.n_quantizers, self.pieces)
            codes = Reader(coded).read()
            narrow = codes.astype(np.min_scalar_type(-max(self.codec.codebook_sizes)))  # int16 for 14 bit
            np.save(target, narrow)
            size = narrow.nbytes
        return Facts(done.audio_seconds, size, encode_seconds=done.network_seconds)


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
        from .coding import file_sink

        with open(source, "rb") as file, whole_file(targets[0]) as target:
            return self._decode(file, file_sink(target, self.format), source.stat().st_size)

    def pipe(self, source: BinaryIO, target: BinaryIO) -> Facts:
        from .coding import pipe_sink

        with spooled(source) if self.recover else nullcontext(source) as file:
            return self._decode(file, pipe_sink(target), 0)

    def _decode(self, source: BinaryIO, sink: Callable[[int, int | None], Sink], coded_bytes: int) -> Facts:
        from .coding import decode_file

        done = decode_file(
            self.codec, source, sink, sample_rate=self.sample_rate, recover=self.recover, pieces=self.pieces
        )
        return Facts(done.audio_seconds, coded_bytes, decode_seconds=done.network_seconds, problems=done.problems)


@dataclass
class Roundtrip(ModelTask):
    """Audio to `.esd` and back to wav, with a picture if wanted."""

    n_quantizers: int
    picture: bool

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

        from .coding import decode_file, encode_file, file_sink

        with ExitStack() as stack:
            decoded, coded, *picture = (stack.enter_context(whole_file(target)) for target in targets)
            encoding = encode_file(self.codec, source, coded, self.n_quantizers, self.pieces)
            rate = self.codec.sample_rate
            decoding = decode_file(self.codec, coded, file_sink(decoded, "WAV"), sample_rate=rate, pieces=self.pieces)
            if picture:
                self._draw(source, picture[0], "png", torch.from_numpy(Reader(coded).read())[None])
        return Facts(encoding.audio_seconds, encoding.bytes, encoding.network_seconds, decoding.network_seconds)

    def _draw(self, source: Path, picture: BinaryIO, format: str, codes: torch.Tensor | None = None) -> None:
        import torch

        from ..audio import read
        from .plot import plot  # matplotlib is needed for nothing else

        waveform, _ = read(source, self.codec.sample_rate)
        if codes is None:
            codes = self.codec.encode(torch.from_numpy(waveform).to(self.codec.device), n_quantizers=self.n_quantizers)
        codes = codes.to(self.codec.device)
        with torch.no_grad():
            decoded, subband, _ = self.codec.decode_latent(self.codec.dequantize(codes))
        plot(
            picture,
            waveform,
            decoded[0, 0, : len(waveform)].cpu().numpy(),
            subband[0, 0].float().cpu().numpy(),
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
        with open(source, "rb") as file, whole_file(targets[0]) as target:
            return self._transcode(file, target)

    def pipe(self, source: BinaryIO, target: BinaryIO) -> Facts:
        with spooled(source) as file:
            return self._transcode(file, target)

    def _transcode(self, source: BinaryIO, target: BinaryIO) -> Facts:
        reader = Reader(source)
        size = transcode(reader, target, self.n_quantizers)
        return Facts(reader.duration, size)


def _model_line(codec: ESDCodec, n_quantizers: int) -> str:
    share = f"{n_quantizers} of {codec.n_codebooks} codebooks"
    return f"{codec.name} on {codec.device}, {share}: {codec.bitrate(n_quantizers):.0f} bit/s"

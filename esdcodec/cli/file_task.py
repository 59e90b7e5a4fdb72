"""What a command does to one file. A task is sent to the processes that do it, and loads its model there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Literal

from .options import CodecSettings

if TYPE_CHECKING:
    import torch

    from ..codec import ESDCodec
    from ..infer.files import CodedFile, FileProgress
    from ..tts import TextToSpeech


@dataclass
class FileTask:
    """Base of all tasks.

    `run` makes of a file the files `targets`, one for each of `suffixes`. Where `takes_pipes`, all may be pipes too.
    """

    takes_pipes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.progress: FileProgress | None = None  # called with the progress of a file; stays in this process

    @property
    def suffixes(self) -> tuple[str, ...]:
        raise NotImplementedError

    def prepare(self) -> None:
        """Decide, before anything is written, what all processes have in common; no model is loaded for that.

        Raises:
            OSError, ValueError: nothing can be done to any file.
        """

    def start(self, threads: int | None) -> None:
        """Get ready in the process that does the work, with `threads` threads (None: torch's default)."""

    def check(self, source: Path) -> None:
        """Look at the beginning of a source, without the model.

        Raises:
            ValueError: `run` would fail on it.
        """

    def describe(self) -> str:
        """A line for the summary, once the task has started."""
        return ""

    def run(self, source: Path, targets: list[Path]) -> CodedFile:
        raise NotImplementedError


def load_codec(settings: CodecSettings) -> ESDCodec:
    import torch

    from ..codec import device_of_worker, load

    dtype: torch.dtype | Literal["auto"] = "auto" if settings.dtype == "auto" else getattr(torch, settings.dtype)
    return load(settings.model, device=device_of_worker(settings.device), dtype=dtype)


def load_speaker(model: str | None, codec: ESDCodec) -> TextToSpeech | None:
    """The model that speaks with a codec; None where none is asked for."""
    if model is None:
        return None
    from ..tts import load_tts

    return load_tts(model, codec=codec)


@dataclass
class CodecFileTask(FileTask):
    """A task of a codec."""

    model: CodecSettings

    def prepare(self) -> None:
        from .. import weights
        from ..codec import device_of_worker
        from ..precision import fastest_dtype

        weights.find(self.model.model)  # downloads it once for all processes
        if self.model.dtype == "auto":
            dtype = fastest_dtype(device_of_worker(self.model.device))
            self.model = replace(self.model, dtype=str(dtype).removeprefix("torch."))

    def start(self, threads: int | None) -> None:
        import torch

        from ..infer.files import Pieces

        if threads:
            torch.set_num_threads(threads)
        self.codec = load_codec(self.model)
        self.pieces = Pieces(self.model.chunk_seconds, self.model.batch_seconds)
        # the first calls are slow: they are left out of the speed that is reported
        self.codec.decode(self.codec.encode(torch.zeros(1, device=self.codec.device)))

    def describe(self) -> str:
        return f"{self.codec.name} on {self.codec.device}"


@dataclass
class EncodingTask(CodecFileTask):
    """A task that encodes audio."""

    n_quantizers: int | None = None  # None: all

    def start(self, threads: int | None) -> None:
        super().start(threads)
        self.codec.bitrate(self.n_quantizers)  # raises for a wrong number

    def check(self, source: Path) -> None:
        from ..audio import probe

        probe(source)

    def describe(self) -> str:
        codec, n = self.codec, self.n_quantizers
        share = f"{n or codec.n_codebooks} of {codec.n_codebooks} codebooks"
        return f"{super().describe()}, {share}: {codec.bitrate(n):.0f} bit/s of codes"


@contextmanager
def seekable(source: Path, *, only_if: bool = True) -> Iterator[BinaryIO]:
    """A source open for reading; of what a pipe gives, a copy on disk, unless a pipe will do (`only_if` is false)."""
    from ..pipes import open_source, spooled

    with open_source(source) as stream:
        if stream.seekable() or not only_if:
            yield stream
            return
        with spooled(stream) as file:
            yield file


@contextmanager
def named_or_seekable(source: Path) -> Iterator[Path | BinaryIO]:
    """A file by its name; of what a pipe gives, a copy that can seek, as soundfile must."""
    from ..pipes import is_stream, open_source, spooled

    if not is_stream(source):
        yield source
        return
    with open_source(source) as stream, spooled(stream) as file:
        yield file

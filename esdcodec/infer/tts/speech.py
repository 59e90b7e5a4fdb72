"""What a model that speaks gives: audio, and why each sentence ended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from ...model_tts.generate import Stop
from ...whole_file import whole_file
from ..sinks import FORMATS, sink_into

TAG = "Generated speech (esdcodec)"  # what generated files say about themselves


def joined_stop(stops: Sequence[Stop]) -> Stop:
    """Of several sentences: "end", or what happened to the first that has another."""
    return next((stop for stop in stops if stop != "end"), "end")


@dataclass(frozen=True, eq=False)
class Speech:
    """Audio that was generated. `numpy.asarray` of it are its samples."""

    audio: Tensor  # [T] float32, on the CPU
    sample_rate: int  # Hz
    stops: tuple[Stop, ...]  # of each sentence: it was said; it became too long; it repeated itself, which was cut off

    @property
    def stop(self) -> Stop:
        """ "end" where all sentences have it, else what happened to the first one that has not."""
        return joined_stop(self.stops)

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.sample_rate

    def save(self, file: str | Path, *, tag: bool = True) -> None:
        """Write a file, its format by its extension: wav, flac, mp3, ogg or opus.

        Args:
            tag: say in its metadata that it was generated.

        Raises:
            ValueError: the format is another one.
        """
        format = Path(file).suffix[1:].lower()
        if format not in FORMATS:
            raise ValueError(f"{file}: no such format; known are {', '.join(FORMATS)}")
        with whole_file(Path(file)) as target:
            self.write(target, format, tag=tag)

    def write(self, target: BinaryIO, format: str = "wav", *, tag: bool = True) -> None:
        """Into an open file or a pipe; `format` and `tag` as of `save`."""
        with sink_into(target, format, TAG if tag else None)(self.sample_rate, len(self.audio)) as write:
            write(self.audio.numpy())

    def __len__(self) -> int:
        return len(self.audio)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray[Any, Any]":
        return np.array(self.audio.numpy(), dtype=dtype, copy=copy is not False)


class SpeechStream(Iterator[Tensor]):
    """Pieces ``[T]`` of audio, float32 on the CPU, as they are generated.

    Attributes:
        sample_rate: Hz.
        stops: of the sentences that have ended so far, as in `Speech`.
    """

    def __init__(self, pieces: Iterator[Tensor], stops: list[Stop], sample_rate: int) -> None:
        self._pieces, self.stops, self.sample_rate = pieces, stops, sample_rate

    def __next__(self) -> Tensor:
        return next(self._pieces)

    @property
    def stop(self) -> Stop:
        """As that of `Speech`, of the sentences that have ended so far."""
        return joined_stop(self.stops)

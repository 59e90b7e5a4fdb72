"""Speech in another voice: its semantic codes stay, the acoustic ones are made anew."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...audio import AudioFileError, Waveform, opened
from ...codec import ESDCodec
from ...loudness import LoudnessMeter, gain_for
from ...model_tts.acoustic import AcousticModel
from ...model_tts.acoustic_generation import AcousticPrompt, AcousticSettings, acoustic_codes

LONGEST = 20.0  # seconds that the acoustic network sees together; longer speech is cut where it is quietest
BLOCK = 2**18  # samples

SpeechSource = str | Path | BinaryIO | Tensor | NDArray[Any]


def convert(
    codec: ESDCodec,
    model: AcousticModel,
    source: SpeechSource,
    sample_rate: int | None,
    prompt: AcousticPrompt | None,
    settings: AcousticSettings,
    problems: list[str] | None = None,
) -> Iterator[Tensor]:
    """Pieces ``[T]`` of the audio at the codec's rate, together as long and as loud as the source.

    Args:
        source: a file, open ones at their beginning, or samples ``[T]`` at `sample_rate` Hz (default: the codec's).
        prompt: of the voice.
        problems: what turns out to be missing or damaged is added here.

    Raises:
        AudioFileError: the file is no audio.
        ValueError: these are no samples of one recording.
    """
    gain_db = _gain_of(source, sample_rate or codec.sample_rate)
    decoder = codec.stream_decoder(gain_db=gain_db)
    held = torch.zeros(0)  # a frame, of which the end may be surplus
    with _blocks_of(source, sample_rate or codec.sample_rate, problems) as (rate, blocks):
        counted = _Counted(blocks)
        for semantic in semantic_parts(codec, rate, counted, gain_db):
            codes = acoustic_codes(model, semantic, prompt, settings)
            audio = torch.cat([held, decoder.push(codes[None].to(codec.device))[0, 0].cpu()])
            held = audio[max(0, len(audio) - codec.hop_length) :]
            yield audio[: len(audio) - len(held)]
    audio = torch.cat([held, decoder.finish()[0, 0].cpu()])
    n_samples = -(-counted.n_samples * codec.sample_rate // rate)
    surplus = codec.num_frames(n_samples) * codec.hop_length - n_samples
    yield audio[: len(audio) - surplus]


def semantic_parts(codec: ESDCodec, rate: int, blocks: Iterable[Waveform], gain_db: float) -> Iterator[Tensor]:
    """Semantic codes ``[L]`` of a recording at `rate` Hz, cut at quiet frames into parts of at most `LONGEST`."""
    longest = round(LONGEST * codec.frame_rate)
    stream = codec.stream_encoder(rate, n_quantizers=1, gain_db=gain_db)
    levels = _FrameLevels(rate / codec.frame_rate)
    waiting = torch.zeros(0, dtype=torch.int64)
    for block in chain(blocks, [None]):  # None: the end
        if block is not None:
            levels.push(block)
        codes = stream.finish() if block is None else stream.push(torch.from_numpy(block).to(codec.device))
        waiting = torch.cat([waiting, codes[0, 0].cpu()])
        while len(waiting) > longest:
            n = levels.take_until_quiet(longest // 2, longest)
            yield waiting[:n]
            waiting = waiting[n:]
    yield waiting


class _FrameLevels:
    """The power of each frame of a recording that comes in pieces.

    Args:
        size: samples of a frame, which need not be whole.
    """

    def __init__(self, size: float) -> None:
        self.size, self.n_done, self.n_taken = size, 0, 0  # frames
        self.pending: Waveform = np.zeros(0, np.float32)
        self.powers: list[float] = []

    def push(self, block: Waveform) -> None:
        self.pending = np.concatenate([self.pending, block])
        start = round(self.n_done * self.size)
        offset = 0
        while (end := round((self.n_done + 1) * self.size) - start) <= len(self.pending):
            self.powers.append(float(np.square(self.pending[offset:end], dtype=np.float64).mean()))
            self.n_done, offset = self.n_done + 1, end
        self.pending = self.pending[offset:].copy()

    def take_until_quiet(self, first: int, last: int) -> int:
        """Take frames up to the quietest one from `first` to below `last`; returns their number."""
        n = first + int(np.argmin(self.powers[first:last])) + 1
        del self.powers[:n]
        return n


class _Counted:
    """Blocks, and afterwards how many samples they had."""

    def __init__(self, blocks: Iterable[Waveform]) -> None:
        self.blocks, self.n_samples = blocks, 0

    def __iter__(self) -> Iterator[Waveform]:
        for block in self.blocks:
            self.n_samples += len(block)
            yield block


def _gain_of(source: SpeechSource, sample_rate: int) -> float:
    """What brings a recording to the codec's level, in dB; an open file is then at its beginning again."""
    if isinstance(source, Tensor | np.ndarray):
        return gain_for(source, sample_rate)
    with opened(source) as (rate, blocks):
        meter = LoudnessMeter(rate)
        for block in blocks:
            if not np.isfinite(block).all():
                raise AudioFileError(f"{getattr(source, 'name', source)}: contains NaN or infinite samples")
            meter.push(block)
    if not isinstance(source, str | Path):
        source.seek(0)
    return meter.gain_db


@contextmanager
def _blocks_of(
    source: SpeechSource, sample_rate: int, problems: list[str] | None
) -> Iterator[tuple[int, Iterable[Waveform]]]:
    """Sample rate and blocks ``[n]`` of a recording."""
    if not isinstance(source, Tensor | np.ndarray):
        with opened(source, problems=problems) as found:
            yield found
        return
    samples = torch.as_tensor(source).cpu().reshape(-1)
    if not samples.is_floating_point():
        samples = samples.float() / 2**15  # int16, as `gain_for` has checked
    yield sample_rate, (block.float().numpy() for block in samples.split(BLOCK))

"""Audio and codes of any length, in pieces: the values of one pass over the whole, in bounded memory.

A codec is a row of stages. Each sees its input with as much context on both sides as its layers reach, and zeros only
where the whole begins and ends, so that cutting changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from ..audio import Resampler
from .inputs import Audio, check_audio, check_codes, check_n_quantizers, check_sample_rate
from .reach import Context, context, needed, needed_of_decoder

if TYPE_CHECKING:
    from .codec import ESDCodec


class Stage:
    """A network over frames, given and giving ``[B, C, L]`` piece by piece.

    Args:
        network: of windows of frames; an output frame depends on the input frames in `context`.
        chunk_frames: a window gives at most so many frames, to which the context is added.
        batch: windows of equal length that go through the network together.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], context: Context, *, chunk_frames: int, batch: int = 1
    ) -> None:
        self.network, self.context = network, context
        self.chunk_frames, self.batch = chunk_frames, batch
        self.buffer: Tensor | None = None  # input frames from `first` on
        self.first = 0
        self.done = 0  # output frames given

    def push(self, frames: Tensor | None, last: bool) -> Tensor | None:
        """The output frames that can be told now; with `last`, all that are left. None: there are none."""
        if frames is not None:
            self.buffer = frames if self.buffer is None else torch.cat([self.buffer, frames], dim=-1)
        if self.buffer is None:
            return None
        end = self.first + self.buffer.shape[-1]
        ready = end if last else end - self.context.right
        outputs = []
        windows: list[tuple[int, int]] = []
        for start in range(self.done, ready, self.chunk_frames):
            window = (start, min(start + self.chunk_frames, ready))
            if windows and (len(windows) == self.batch or self._shape(window, end) != self._shape(windows[0], end)):
                outputs.append(self._run(windows, end))
                windows = []
            windows.append(window)
        if windows:
            outputs.append(self._run(windows, end))
        self.done = max(self.done, ready)
        kept = max(self.first, self.done - self.context.left)
        # a copy: a view would keep all that has gone through
        self.buffer = self.buffer[..., kept - self.first :].clone() if kept > self.first else self.buffer
        self.first = kept
        return torch.cat(outputs, dim=-1) if outputs else None

    def _bounds(self, window: tuple[int, int], end: int) -> tuple[int, int]:
        return max(0, window[0] - self.context.left), min(end, window[1] + self.context.right)

    def _shape(self, window: tuple[int, int], end: int) -> tuple[int, int]:
        """Context before, and frames in all: windows that have them in common fit into a batch."""
        start, stop = self._bounds(window, end)
        return window[0] - start, stop - start

    def _run(self, windows: list[tuple[int, int]], end: int) -> Tensor:
        assert self.buffer is not None
        bounds = [self._bounds(window, end) for window in windows]
        inputs = torch.cat([self.buffer[..., a - self.first : b - self.first] for a, b in bounds])
        before, n_frames = windows[0][0] - bounds[0][0], windows[0][1] - windows[0][0]
        output = self.network(inputs)[..., before : before + n_frames]
        return rearrange(output, "(w b) c l -> b c (w l)", w=len(windows))


class Pipeline:
    """Stages in a row."""

    def __init__(self, *stages: Stage) -> None:
        self.stages = stages

    def push(self, frames: Tensor | None, last: bool = False) -> Tensor | None:
        for stage in self.stages:
            frames = stage.push(frames, last)
        return frames

    @property
    def look_ahead(self) -> int:
        """Frames after a frame that must be known before it can be told."""
        return sum(stage.context.right for stage in self.stages)


def encoding(codec: ESDCodec, n_quantizers: int, *, chunk_frames: int, batch: int = 1) -> Pipeline:
    """Audio as frames ``[B, hop_length, L]`` -> codes ``[B, n_quantizers, L]``."""
    hop = codec.hop_length
    reach = context(needed(codec.encoder, (0, 0)), hop)
    # acoustic codes describe what the semantic decoder leaves over, which looks around; semantic ones do not
    around = context(needed(codec.semantic_decoder, (0, 0))) if n_quantizers > 1 else Context(0, 0)
    return Pipeline(
        Stage(lambda frames: codec.encode_latent(unframed(frames)), reach, chunk_frames=chunk_frames, batch=batch),
        Stage(lambda latent: codec.quantize(latent, n_quantizers), around, chunk_frames=chunk_frames, batch=batch),
    )


def decoding(codec: ESDCodec, *, chunk_frames: int, batch: int = 1) -> Pipeline:
    """Codes ``[B, n, L]`` -> audio as frames ``[B, hop_length, L]``."""
    hop, subband_hop = codec.hop_length, codec.subband_hop_length
    dim: int = codec.config["latent_dim"]
    latent, subband = needed_of_decoder(codec.decoder, (0, hop - 1))
    of_latent, of_subband = context(latent), context(subband, subband_hop)
    reaches = (
        context(needed(codec.semantic_decoder, (0, 0))),
        context(needed(codec.condition_network, (0, subband_hop - 1))),
        Context(max(of_latent.left, of_subband.left), max(of_latent.right, of_subband.right)),
    )

    def condition(latent: Tensor) -> Tensor:
        return torch.cat([latent, framed(codec.condition(latent)[0], subband_hop)], dim=1)

    def decode(both: Tensor) -> Tensor:
        return framed(codec.synthesise(both[:, :dim], unframed(both[:, dim:])), hop)

    networks = (codec.dequantize, condition, decode)
    return Pipeline(*(Stage(n, reach, chunk_frames=chunk_frames, batch=batch) for n, reach in zip(networks, reaches)))


def framed(signal: Tensor, hop_length: int) -> Tensor:
    """``[B, 1, hop_length · L] -> [B, hop_length, L]``."""
    return rearrange(signal, "b 1 (l h) -> b h l", h=hop_length)


def unframed(frames: Tensor) -> Tensor:
    """``[B, hop_length, L] -> [B, 1, hop_length · L]``."""
    return rearrange(frames, "b h l -> b 1 (l h)")


class _Stream:
    """Look-ahead and end of a stream, whichever way it goes."""

    def __init__(self, codec: ESDCodec, pipeline: Pipeline) -> None:
        self.codec, self.pipeline = codec, pipeline
        self.finished = False

    @property
    def look_ahead_ms(self) -> float:
        """Milliseconds that must follow the end of a frame before its values can be told."""
        return 1000 * self.pipeline.look_ahead / self.codec.frame_rate

    def _check_open(self) -> None:
        if self.finished:
            raise ValueError("this stream is finished: make another for the next recording")

    def _close(self, begun: bool, work: str) -> None:
        self._check_open()
        if not begun:
            raise ValueError(f"nothing was pushed: there is nothing to {work}")
        self.finished = True


class StreamEncoder(_Stream):
    """Encodes audio that comes in pieces; made by `ESDCodec.stream_encoder`. The codes are those of `encode`."""

    def __init__(
        self, codec: ESDCodec, sample_rate: int | None, n_quantizers: int | None, chunk_frames: int, batch: int
    ) -> None:
        self.n_quantizers = check_n_quantizers(n_quantizers, codec.n_codebooks)
        super().__init__(codec, encoding(codec, self.n_quantizers, chunk_frames=chunk_frames, batch=batch))
        rate = check_sample_rate(sample_rate, codec.sample_rate)
        self.resampler = None if rate == codec.sample_rate else Resampler(rate, codec.sample_rate)
        self.pending: Tensor | None = None  # samples that do not fill a frame yet

    def push(self, audio: Audio) -> Tensor:
        """The codes ``[B, n_quantizers, L]`` that can be told after the next piece, L ≥ 0.

        Args:
            audio: ``[T]``, ``[B, T]`` or ``[B, 1, T]`` as `ESDCodec.encode` takes it, any T ≥ 1, B the same for all
                pieces (1 where the stream has another rate than the model).

        Raises:
            ValueError: the piece is not what is said above, or the stream is finished.
        """
        self._check_open()
        audio = check_audio(audio, self.codec.device)
        if self.pending is not None and self.pending.shape[0] != audio.shape[0]:
            raise ValueError(f"this piece has {audio.shape[0]} items, those before it {self.pending.shape[0]}")
        if self.resampler is not None:
            if audio.shape[0] > 1:
                raise ValueError("a stream that is resampled takes one item: make a stream for each")
            resampled = self.resampler.push(audio[0, 0].cpu().numpy())
            audio = torch.from_numpy(resampled).to(audio.device)[None, None]
        return self._push(audio, last=False)

    def finish(self) -> Tensor:
        """The codes that were waiting for what follows; zeros complete the last frame.

        Raises:
            ValueError: nothing was pushed, or the stream is finished.
        """
        self._close(self.pending is not None, "encode")
        assert self.pending is not None
        rest = self.pending.new_zeros(*self.pending.shape[:2], 0)
        if self.resampler is not None:
            rest = torch.from_numpy(self.resampler.finish()).to(rest.device)[None, None]
        return self._push(rest, last=True)

    @torch.no_grad()
    def _push(self, audio: Tensor, last: bool) -> Tensor:
        if self.pending is not None:
            audio = torch.cat([self.pending, audio], dim=-1)
        hop = self.codec.hop_length
        whole = audio.shape[-1] if last else audio.shape[-1] // hop * hop
        self.pending = audio[..., whole:].clone()
        audio = torch.nn.functional.pad(audio[..., :whole], (0, -whole % hop))
        codes = self.pipeline.push(framed(audio, hop) if whole else None, last)
        if codes is None:
            return torch.empty(audio.shape[0], self.n_quantizers, 0, dtype=torch.int64, device=audio.device)
        return codes


class StreamDecoder(_Stream):
    """Decodes codes that come in pieces; made by `ESDCodec.stream_decoder`. The samples are those of `decode`."""

    def __init__(self, codec: ESDCodec, chunk_frames: int, batch: int) -> None:
        super().__init__(codec, decoding(codec, chunk_frames=chunk_frames, batch=batch))
        self.shape: tuple[int, int] | None = None  # items and codebooks

    def push(self, codes: Tensor) -> Tensor:
        """The audio ``[B, 1, T]`` that can be told after the next codes ``[B, n, L]``, T ≥ 0.

        Raises:
            ValueError: these are no codes of this model, or not shaped like those before, or the stream is finished.
        """
        self._check_open()
        codes, frames = check_codes(codes, self.codec.codebook_sizes, self.codec.device)
        if min(frames) < codes.shape[-1]:
            raise ValueError("codes of a stream have no padding: make a stream for each item")
        shape = (codes.shape[0], codes.shape[1])
        if self.shape not in (None, shape):
            raise ValueError(f"codes [B, n] = {list(shape)} in this piece, {list(self.shape or ())} before")
        self.shape = shape
        return self._push(codes, last=False)

    def finish(self) -> Tensor:
        """The audio that was waiting for what follows.

        Raises:
            ValueError: nothing was pushed, or the stream is finished.
        """
        self._close(self.shape is not None, "decode")
        return self._push(None, last=True)

    @torch.no_grad()
    def _push(self, codes: Tensor | None, last: bool) -> Tensor:
        frames = self.pipeline.push(codes, last)
        if frames is None:
            assert self.shape is not None
            return torch.empty(self.shape[0], 1, 0, device=self.codec.device)
        return unframed(frames)

"""Audio and codes that come in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .audio import Resampler
from .model_codec.checks import Audio, check_audio, check_codes, check_n_quantizers, check_sample_rate
from .model_codec.chunking import Pipeline, decoding, encoding
from .model_codec.inference_network import InferenceNetwork
from .model_codec.look_ahead import DECODER_WEIGHTS, ENCODER_WEIGHTS, spread
from .model_codec.streaming import Frames, State, StreamingNetwork, StreamingSteps, joined


class _Stream:
    """Past, look-ahead and end of a stream, whichever way it goes.

    It runs the streaming form. A network that has none, with parts that are compiled, hooked or of another type, and
    chunks that are to go through in batches, are run over windows with their context.

    Attributes:
        exact: whether the values are those of one pass.
        look_ahead: frames that must follow a frame before its values are given.
        look_aheads: frames of each step, by its name. Where they are exact they may overlap.
    """

    weights: Mapping[str, int]  # by which a smaller look-ahead is spread over the steps

    def __init__(self, codec: InferenceNetwork, chunk_frames: int, batch: int, look_ahead_ms: float | None) -> None:
        self.codec, self.chunk_frames = codec, chunk_frames
        self.state, self.finished = State(), False
        self.exact, self.pipeline = True, None
        try:
            exact_frames = self.coder.look_ahead
            of_steps = self._coder(codec.streaming_form(), [0] * len(self.weights)).exact_look_aheads
            self.pipeline = None if batch == 1 else self._windows(chunk_frames, batch, None)
        except TypeError:
            self.pipeline = self._windows(chunk_frames, batch, None)
            exact_frames, of_steps = self.pipeline.look_ahead, [s.context.right for s in self.pipeline.stages]
        self.look_ahead = exact_frames if self.pipeline is None else self.pipeline.look_ahead
        self.look_aheads = dict(zip(self.weights, of_steps))
        frames = self.look_ahead if look_ahead_ms is None else self._frames(look_ahead_ms)
        if frames < self.look_ahead:
            self.exact, self.look_ahead = False, frames
            self.look_aheads = spread(frames, self.weights, self.look_aheads)
            if self.pipeline is not None:
                self.pipeline = self._windows(1, 1, list(self.look_aheads.values()))

    def _frames(self, look_ahead_ms: float) -> int:
        if not look_ahead_ms >= 0:
            raise ValueError(f"look_ahead_ms={look_ahead_ms} must be 0 or more; leave it out for exact values")
        return int(min(look_ahead_ms, 1e9) * self.codec.frame_rate / 1000 + 1e-6)

    @property
    def look_ahead_ms(self) -> float:
        """Milliseconds that must follow the end of a frame before its values are given."""
        return 1000 * self.look_ahead / self.codec.frame_rate

    def _windows(self, chunk_frames: int, batch: int, look_aheads: Sequence[int] | None) -> Pipeline:
        raise NotImplementedError

    def _coder(self, network: StreamingNetwork, look_aheads: Sequence[int] | None) -> StreamingSteps:
        raise NotImplementedError

    @property
    def coder(self) -> StreamingSteps:
        """What codes pieces, with the weights that the codec has now."""
        look_aheads = None if self.exact else list(self.look_aheads.values())
        return self._coder(self.codec.streaming_form(), look_aheads)

    @property
    def _kind(self) -> tuple[object, ...]:
        """Streams that have it in common are run by the same coder."""
        return type(self), id(self.codec), self.exact, *self.look_aheads.values()

    @torch.no_grad()
    def _run(self, frames: Frames, last: bool) -> Frames:
        """What is known after more frames ``[B, L, C]``."""
        if self.pipeline is not None:
            output = self.pipeline.push(
                self.codec.inference_form(), None if frames is None else frames.transpose(1, 2), last
            )
            return None if output is None else output.transpose(1, 2)
        parts: Sequence[Frames] = [None] if frames is None else frames.split(self.chunk_frames, dim=1)
        coder = self.coder
        return joined(*(coder(part, self.state, last and i == len(parts) - 1) for i, part in enumerate(parts)))

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

    weights = ENCODER_WEIGHTS

    def __init__(
        self,
        codec: InferenceNetwork,
        sample_rate: int | None,
        n_quantizers: int | None,
        gain: float,
        chunk_frames: int,
        batch: int,
        look_ahead_ms: float | None = None,
    ) -> None:
        self.gain = gain  # a factor
        self.n_quantizers = check_n_quantizers(n_quantizers, codec.n_codebooks)
        super().__init__(codec, chunk_frames, batch, look_ahead_ms)
        rate = check_sample_rate(sample_rate, codec.sample_rate)
        self.resampler = None if rate == codec.sample_rate else Resampler(rate, codec.sample_rate)
        self.pending: Tensor | None = None  # samples that do not fill a frame yet

    def push(self, audio: Audio) -> Tensor:
        """The codes ``[B, n_quantizers, L]`` that are known after the next piece, L ≥ 0.

        Args:
            audio: ``[T]``, ``[B, T]`` or ``[B, 1, T]`` as `ESDCodec.encode` takes it, any T ≥ 1, B the same for all
                pieces (1 where the stream has another rate than the model).

        Raises:
            ValueError: the piece is not what is said above, or the stream is finished.
        """
        return self._given(self._run(self._frames_of(self._checked(audio)), last=False))

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
        return self._given(self._run(self._framed(rest, last=True), last=True))

    def _checked(self, audio: Audio) -> Tensor:
        """A piece ``[B, 1, T]`` that this stream can take."""
        self._check_open()
        audio = check_audio(audio, self.codec.device)
        if self.pending is not None and self.pending.shape[0] != audio.shape[0]:
            raise ValueError(f"this piece has {audio.shape[0]} items, those before it {self.pending.shape[0]}")
        if self.resampler is not None and audio.shape[0] > 1:
            raise ValueError("a stream that is resampled takes one item: make a stream for each")
        return audio

    def _frames_of(self, audio: Tensor) -> Frames:
        """The frames ``[B, L, hop_length]`` that the next piece completes."""
        if self.resampler is not None:
            resampled = self.resampler.push(audio[0, 0].cpu().numpy())
            audio = torch.from_numpy(resampled).to(audio.device)[None, None]
        return self._framed(audio, last=False)

    def _framed(self, audio: Tensor, last: bool) -> Frames:
        if self.pending is not None:
            audio = torch.cat([self.pending, audio], dim=-1)
        hop = self.codec.hop_length
        whole = audio.shape[-1] if last else audio.shape[-1] // hop * hop
        self.pending = audio[..., whole:].detach().clone()
        audio = torch.nn.functional.pad(audio[..., :whole].detach(), (0, -whole % hop))
        return audio.view(audio.shape[0], -1, hop) * self.gain if whole else None

    def _given(self, codes: Frames) -> Tensor:
        if codes is None:
            assert self.pending is not None
            shape = self.pending.shape[0], self.n_quantizers, 0
            return torch.empty(shape, dtype=torch.int64, device=self.codec.device)
        return codes.transpose(1, 2)

    @property
    def _kind(self) -> tuple[object, ...]:
        return *super()._kind, self.n_quantizers

    def _windows(self, chunk_frames: int, batch: int, look_aheads: Sequence[int] | None) -> Pipeline:
        n = self.n_quantizers
        return encoding(self.codec, n, chunk_frames=chunk_frames, batch=batch, look_aheads=look_aheads)

    def _coder(self, network: StreamingNetwork, look_aheads: Sequence[int] | None) -> StreamingSteps:
        return network.encoder(self.n_quantizers, look_aheads)


class StreamDecoder(_Stream):
    """Decodes codes that come in pieces; made by `ESDCodec.stream_decoder`. The samples are those of `decode`."""

    weights = DECODER_WEIGHTS

    def __init__(
        self,
        codec: InferenceNetwork,
        gain: float,
        chunk_frames: int,
        batch: int,
        look_ahead_ms: float | None = None,
    ) -> None:
        self.gain = gain  # a factor
        super().__init__(codec, chunk_frames, batch, look_ahead_ms)
        self.shape: tuple[int, int] | None = None  # items and codebooks

    def push(self, codes: Tensor) -> Tensor:
        """The audio ``[B, 1, T]`` that is known after the next codes ``[B, n, L]``, L ≥ 0 and T ≥ 0.

        Raises:
            ValueError: these are no codes of this model, or not shaped like those before, or the stream is finished.
        """
        return self._given(self._run(self._frames_of(self._checked(codes)), last=False))

    def finish(self) -> Tensor:
        """The audio that was waiting for what follows.

        Raises:
            ValueError: nothing was pushed, or the stream is finished.
        """
        self._close(self.shape is not None, "decode")
        return self._given(self._run(None, last=True))

    def _checked(self, codes: Tensor) -> Tensor | None:
        """Codes ``[B, n, L]`` that this stream can take; None: an encoder gave none yet."""
        self._check_open()
        if isinstance(codes, Tensor) and codes.dim() == 3 and not codes.shape[2]:
            return None
        codes, frames = check_codes(codes, self.codec.codebook_sizes, self.codec.device)
        if min(frames) < codes.shape[-1]:
            raise ValueError("codes of a stream have no padding: make a stream for each item")
        shape = (codes.shape[0], codes.shape[1])
        if self.shape not in (None, shape):
            raise ValueError(f"codes [B, n] = {list(shape)} in this piece, {list(self.shape or ())} before")
        return codes

    def _frames_of(self, codes: Tensor | None) -> Frames:
        if codes is None:
            return None
        self.shape = codes.shape[0], codes.shape[1]
        return codes.transpose(1, 2)

    def _given(self, audio: Frames) -> Tensor:
        if audio is None:
            items = 1 if self.shape is None else self.shape[0]
            return torch.empty(items, 1, 0, dtype=torch.float32, device=self.codec.device)
        return audio.reshape(audio.shape[0], 1, -1) / self.gain

    def _windows(self, chunk_frames: int, batch: int, look_aheads: Sequence[int] | None) -> Pipeline:
        return decoding(self.codec, chunk_frames=chunk_frames, batch=batch, look_aheads=look_aheads)

    def _coder(self, network: StreamingNetwork, look_aheads: Sequence[int] | None) -> StreamingSteps:
        return network.decoder(look_aheads)


def push_together(streams: Sequence[StreamEncoder | StreamDecoder], pieces: Sequence[Any]) -> list[Tensor]:
    """`push` of a piece for each of many streams, with those that are at the same point as one batch.

    Streams may begin, pause and finish at any time; each gets the values that it gets alone.

    Raises:
        ValueError: as `push`, or the pieces are not as many as the streams; no stream has taken its piece then.
    """
    if len(streams) != len(pieces) or len(set(map(id, streams))) != len(streams):
        raise ValueError(f"{len(pieces)} pieces for {len(streams)} streams: give one for each, and each stream once")
    checked: list[Any] = [stream._checked(piece) for stream, piece in zip(streams, pieces)]
    frames = [stream._frames_of(piece) for stream, piece in zip(streams, checked)]
    outputs: list[Frames] = [None] * len(streams)
    groups: dict[object, list[int]] = {}
    for i, (stream, piece) in enumerate(zip(streams, frames)):
        if stream.pipeline is not None or piece is None or piece.shape[1] > stream.chunk_frames:
            groups[i] = [i]
            continue
        groups.setdefault((stream._kind, piece.shape[1:], stream.state.point), []).append(i)
    for members in groups.values():
        if len(members) == 1:
            outputs[members[0]] = streams[members[0]]._run(frames[members[0]], last=False)
            continue
        for i, output in zip(members, _as_batch([streams[i] for i in members], [frames[i] for i in members])):
            outputs[i] = output
    return [stream._given(output) for stream, output in zip(streams, outputs)]


@torch.no_grad()
def _as_batch(streams: Sequence[_Stream], frames: Sequence[Frames]) -> Sequence[Frames]:
    there = [each for each in frames if each is not None]
    sizes = [each.shape[0] for each in there]
    state = State.join([stream.state for stream in streams])
    output = streams[0].coder(torch.cat(there), state, False)
    for stream, own in zip(streams, state.split(sizes)):
        stream.state = own
    return [None] * len(streams) if output is None else output.split(sizes)

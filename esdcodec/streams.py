"""Audio and codes that come in pieces."""

import torch
from torch import Tensor

from .audio import Resampler
from .model_codec.checks import Audio, check_audio, check_codes, check_n_quantizers, check_sample_rate
from .model_codec.chunking import Pipeline, decoding, encoding, framed, unframed
from .model_codec.inference_network import InferenceNetwork


class _Stream:
    """Look-ahead and end of a stream, whichever way it goes."""

    def __init__(self, codec: InferenceNetwork, pipeline: Pipeline) -> None:
        self.codec, self.pipeline = codec, pipeline
        self.finished = False

    @property
    def look_ahead_ms(self) -> float:
        """Milliseconds that must follow the end of a frame before its values are known."""
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
        self,
        codec: InferenceNetwork,
        sample_rate: int | None,
        n_quantizers: int | None,
        gain: float,
        chunk_frames: int,
        batch: int,
    ) -> None:
        self.gain = gain  # a factor
        self.n_quantizers = check_n_quantizers(n_quantizers, codec.n_codebooks)
        super().__init__(codec, encoding(codec, self.n_quantizers, chunk_frames=chunk_frames, batch=batch))
        rate = check_sample_rate(sample_rate, codec.sample_rate)
        self.resampler = None if rate == codec.sample_rate else Resampler(rate, codec.sample_rate)
        self.pending: Tensor | None = None  # samples that do not fill a frame yet

    def push(self, audio: Audio) -> Tensor:
        """The codes ``[B, n_quantizers, L]`` whose context is complete after the next piece, L ≥ 0.

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
        frames = framed(audio, hop) * self.gain if whole else None
        codes = self.pipeline.push(self.codec.inference_form(), frames, last)
        if codes is None:
            return torch.empty(audio.shape[0], self.n_quantizers, 0, dtype=torch.int64, device=audio.device)
        return codes


class StreamDecoder(_Stream):
    """Decodes codes that come in pieces; made by `ESDCodec.stream_decoder`. The samples are those of `decode`."""

    def __init__(self, codec: InferenceNetwork, gain: float, chunk_frames: int, batch: int) -> None:
        self.gain = gain  # a factor
        super().__init__(codec, decoding(codec, chunk_frames=chunk_frames, batch=batch))
        self.shape: tuple[int, int] | None = None  # items and codebooks

    def push(self, codes: Tensor) -> Tensor:
        """The audio ``[B, 1, T]`` whose context is complete after the next codes ``[B, n, L]``, T ≥ 0.

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
        frames = self.pipeline.push(self.codec.inference_form(), codes, last)
        if frames is None:
            assert self.shape is not None
            return torch.empty(self.shape[0], 1, 0, dtype=torch.float32, device=self.codec.device)
        return unframed(frames) / self.gain

"""Decoding of a stream of which some frames are lost."""

from __future__ import annotations

import torch
from torch import Tensor

from .streams import StreamDecoder

FADE = 0.7  # of the amplitude, for each frame that is lost in a row


class ConcealingDecoder:
    """A `StreamDecoder` for codes that come over a network.

    A lost frame has the codes of the last one that came, so that the sound goes on, and is softer by `fade` than the
    frame before it, as a voice does not stay what it was. The next frame that comes is as loud as it was sent.

    Args:
        stream: to push to, made by `ESDCodec.stream_decoder`, of one item.
        fade: factor for each frame that is lost in a row; 0 is silence.
    """

    def __init__(self, stream: StreamDecoder, fade: float = FADE) -> None:
        if not 0 <= fade <= 1:
            raise ValueError(f"fade={fade} must be 0 (silence) to 1 (no fading)")
        self.stream, self.fade = stream, fade
        self.last: Tensor | None = None  # codes [1, n, 1] of the last frame that came
        self.gain = 1.0  # of the last frame that was pushed
        self.gains: list[float] = []  # at the ends of the frames whose audio has not come yet
        self.gain_before = 1.0  # at the end of the frame whose audio came last

    def push(self, codes: Tensor) -> Tensor:
        """The audio ``[1, 1, T]`` that is known after the next codes ``[1, n, L]``.

        Raises:
            ValueError: as `StreamDecoder.push`.
        """
        audio = self.stream.push(codes)
        if codes.shape[-1]:
            self.gain, self.last = 1.0, codes[..., -1:]
            self.gains += [1.0] * codes.shape[-1]
        return self._faded(audio)

    def lose(self, n_frames: int) -> Tensor:
        """The audio that is known when `n_frames` did not come: silence, if none ever did."""
        if self.last is None:
            return torch.zeros(1, 1, n_frames * self.stream.codec.hop_length, device=self.stream.codec.device)
        for _ in range(n_frames):
            self.gain *= self.fade
            self.gains.append(self.gain)
        return self._faded(self.stream.push(self.last.expand(-1, -1, n_frames)))

    def finish(self) -> Tensor:
        """The audio that was waiting for what follows: none, if nothing ever came."""
        if self.last is None:
            return torch.zeros(1, 1, 0, device=self.stream.codec.device)
        return self._faded(self.stream.finish())

    def _faded(self, audio: Tensor) -> Tensor:
        """`audio`, whole frames, with the gain of each frame reached at its end, and held where it stays."""
        hop = self.stream.codec.hop_length
        n_frames = audio.shape[-1] // hop
        ends, self.gains = self.gains[:n_frames], self.gains[n_frames:]
        starts = [self.gain_before, *ends][:n_frames]
        if n_frames:
            self.gain_before = ends[-1]
        if min([*starts, *ends], default=1.0) == 1:
            return audio
        begin, end = (torch.tensor(each, device=audio.device)[:, None] for each in (starts, ends))
        ramp = torch.linspace(0, 1, hop + 1, device=audio.device)[1:]
        return audio * (begin + (end - begin) * ramp).flatten()

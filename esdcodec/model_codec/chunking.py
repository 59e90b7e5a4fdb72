"""Audio and codes of any length, in pieces: the values of one pass over the whole, in bounded memory.

A codec is a sequence of stages. Each gets its input with the context of its receptive field on both sides, and zero
padding only where the whole signal begins and ends, so that cutting changes nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from .network import Network
from .receptive_field import Context, context, receptive_field, receptive_field_of_decoder

Step = Callable[[Network, Tensor], Tensor]  # a network's work on a window of frames, [B, C, L] -> [B, C', L]


class Stage:
    """One step over frames ``[B, C, L]`` that come piece by piece.

    Args:
        step: what is done with a window; an output frame depends on the input frames in `context`.
        chunk_frames: a window gives at most so many frames, to which the context is added.
        batch: windows of equal length that go through the network together.
    """

    def __init__(self, step: Step, context: Context, *, chunk_frames: int, batch: int = 1) -> None:
        self.step, self.context = step, context
        self.chunk_frames, self.batch = chunk_frames, batch
        self.buffer: Tensor | None = None  # input frames from `first` on
        self.first = 0
        self.done = 0  # output frames given

    def push(self, network: Network, frames: Tensor | None, last: bool) -> Tensor | None:
        """The output frames whose context is complete; with `last`, all that are left. None: there are none."""
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
                outputs.append(self._run(network, windows, end))
                windows = []
            windows.append(window)
        if windows:
            outputs.append(self._run(network, windows, end))
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

    def _run(self, network: Network, windows: list[tuple[int, int]], end: int) -> Tensor:
        assert self.buffer is not None
        bounds = [self._bounds(window, end) for window in windows]
        inputs = torch.cat([self.buffer[..., a - self.first : b - self.first] for a, b in bounds])
        before, n_frames = windows[0][0] - bounds[0][0], windows[0][1] - windows[0][0]
        output = self.step(network, inputs)[..., before : before + n_frames]
        return rearrange(output, "(w b) c l -> b c (w l)", w=len(windows))


class Pipeline:
    """Stages in sequence. Every call is given the network: the pipeline holds frames, no weights."""

    def __init__(self, *stages: Stage) -> None:
        self.stages = stages

    def push(self, network: Network, frames: Tensor | None, last: bool = False) -> Tensor | None:
        """The output frames whose context is complete; with `last`, all that are left. None: there are none."""
        for stage in self.stages:
            frames = stage.push(network, frames, last)
        return frames

    def run(self, network: Network, frames: Tensor) -> Tensor:
        """The output of the whole ``[B, C, L]``, L ≥ 1, computed with as many frames at a time as run together."""
        first = self.stages[0]
        pieces = frames.split(first.chunk_frames * first.batch, dim=-1)
        outputs = [self.push(network, piece, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
        return torch.cat([output for output in outputs if output is not None], dim=-1)

    @property
    def look_ahead(self) -> int:
        """Frames after a frame that must be known before its output is."""
        return self.context.right

    @property
    def context(self) -> Context:
        """Of all stages together: frames around a frame that its output depends on."""
        return Context(*(sum(sides) for sides in zip(*(stage.context for stage in self.stages))))


def encoding(
    network: Network,
    n_quantizers: int,
    *,
    chunk_frames: int,
    batch: int = 1,
    look_aheads: Sequence[int] | None = None,
) -> Pipeline:
    """Audio as frames ``[B, hop_length, L]`` -> codes ``[B, n_quantizers, L]``.

    Args:
        look_aheads: frames of context after a frame that the encoder and the semantic decoder get at most. Chunks must
            then be of one frame. Default: all that there is.
    """
    of_latent = context(receptive_field(network.encoder, (0, 0)), network.hop_length)
    # acoustic codes describe what the semantic decoder leaves over, which looks around; semantic ones do not
    of_codes = context(receptive_field(network.semantic_decoder, (0, 0))) if n_quantizers > 1 else Context(0, 0)
    steps = (_encode, partial(_quantize, n_quantizers=n_quantizers))
    return _pipeline(steps, (of_latent, of_codes), look_aheads, chunk_frames, batch)


def _pipeline(
    steps: Sequence[Step],
    contexts: Sequence[Context],
    look_aheads: Sequence[int] | None,
    chunk_frames: int,
    batch: int,
) -> Pipeline:
    if look_aheads is not None:
        contexts = [Context(c.left, min(look_ahead, c.right)) for c, look_ahead in zip(contexts, look_aheads)]
    return Pipeline(*(Stage(step, c, chunk_frames=chunk_frames, batch=batch) for step, c in zip(steps, contexts)))


def _encode(network: Network, frames: Tensor) -> Tensor:
    return network.encode_latent(unframed(frames))


def _quantize(network: Network, latent: Tensor, n_quantizers: int) -> Tensor:
    return network.quantize(latent, n_quantizers)


def decoding(
    network: Network,
    *,
    chunk_frames: int,
    batch: int = 1,
    look_aheads: Sequence[int] | None = None,
) -> Pipeline:
    """Codes ``[B, n, L]`` -> audio as frames ``[B, hop_length, L]``.

    Args:
        look_aheads: as `encoding` takes them, for the semantic decoder, the condition network and the decoder.
    """
    hop, subband_hop = network.hop_length, network.subband_hop_length
    by_latent, by_subband = receptive_field_of_decoder(network.decoder, (0, hop - 1))
    of_latent, of_subband = context(by_latent), context(by_subband, subband_hop)
    contexts = (
        context(receptive_field(network.semantic_decoder, (0, 0))),
        context(receptive_field(network.condition_network, (0, subband_hop - 1))),
        Context(max(of_latent.left, of_subband.left), max(of_latent.right, of_subband.right)),
    )
    return _pipeline((_dequantize, _condition, _synthesise), contexts, look_aheads, chunk_frames, batch)


def _dequantize(network: Network, codes: Tensor) -> Tensor:
    return network.dequantize(codes)


def _condition(network: Network, latent: Tensor) -> Tensor:
    """The latent, and below it the subband as frames."""
    subband, _ = network.condition(latent)
    return torch.cat([latent, framed(subband, network.subband_hop_length)], dim=1)


def _synthesise(network: Network, latent_and_subband: Tensor) -> Tensor:
    latent, subband = latent_and_subband.tensor_split([network.config["latent_dim"]], dim=1)
    return framed(network.synthesise(latent, unframed(subband)), network.hop_length)


def framed(signal: Tensor, hop_length: int) -> Tensor:
    """``[B, 1, hop_length · L] -> [B, hop_length, L]``."""
    return rearrange(signal, "b 1 (l h) -> b h l", h=hop_length)


def unframed(frames: Tensor) -> Tensor:
    """``[B, hop_length, L] -> [B, 1, hop_length · L]``."""
    return rearrange(frames, "b h l -> b 1 (l h)")

"""Encoding and decoding by pieces, exact or with less look-ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from ..network import Network
from .layers import Chain
from .parts import DecodeLatent, Dequantize, condition, encode_latent, quantize, synthesise
from .state import State
from .steps import Frames, StreamingStep


class StreamingSteps:
    """Frames in, frames out, in steps. The past lies in the state that a call gets."""

    steps: tuple[StreamingStep, ...]

    def __call__(self, frames: Frames, state: State, last: bool) -> Frames:
        """The frames that are known after more frames ``[B, L, C]``; with `last`, nothing follows."""
        raise NotImplementedError

    @property
    def look_ahead(self) -> int:
        """Frames that must follow a frame before it is given."""
        return sum(step.look_ahead for step in self.steps)

    @property
    def exact_look_aheads(self) -> list[int]:
        """Frames that each step needs to be exact."""
        return [step.exact for step in self.steps]


class EncodingSteps(StreamingSteps):
    """Audio as frames ``[B, L, hop_length]`` to codes ``[B, L, n_quantizers]``.

    Args:
        look_aheads: frames, of the encoder and of the semantic decoder. Default: exact, as one step.
    """

    def __init__(self, network: Network, n_quantizers: int, look_aheads: Sequence[int] | None = None) -> None:
        keys = count()
        encoder, quantizer = encode_latent(network, keys), quantize(network, keys, n_quantizers)
        hop = (network.hop_length,)
        if look_aheads is None:
            self.steps = (StreamingStep(keys, Chain(encoder, quantizer), per_frame=hop),)
        else:
            of_encoder, of_quantizer = look_aheads
            self.steps = StreamingStep(keys, encoder, of_encoder, hop), StreamingStep(keys, quantizer, of_quantizer)

    def __call__(self, frames: Frames, state: State, last: bool) -> Frames:
        frames = None if frames is None else frames.flatten(1)[..., None]
        for step in self.steps:
            frames = step(frames, state=state, last=last)
        return frames


class DecodingSteps(StreamingSteps):
    """Codes ``[B, L, n]`` to audio ``[B, hop_length · L, 1]``.

    Args:
        look_aheads: frames, of the semantic decoder, the condition network and the decoder. Default: exact, as one
            step: less than their sum, as the decoder looks further ahead in the latent than in the subband.
    """

    def __init__(self, network: Network, look_aheads: Sequence[int] | None = None) -> None:
        keys = count()
        dequantize = Dequantize(network, keys)
        if look_aheads is None:
            self.steps = (StreamingStep(keys, Chain(dequantize, DecodeLatent(network, keys))),)
        else:
            of_latent, of_subband, of_audio = look_aheads
            rates = 1, network.subband_hop_length
            self.steps = (
                StreamingStep(keys, dequantize, of_latent),
                StreamingStep(keys, condition(network, keys), of_subband),
                StreamingStep(keys, synthesise(network, keys), of_audio, rates),
            )

    def __call__(self, frames: Frames, state: State, last: bool) -> Frames:
        first, *others = self.steps
        frames = first(frames, state=state, last=last)
        if others:
            condition_, synthesise_ = others
            subband = condition_(frames, state=state, last=last)
            frames = synthesise_(frames, subband, state=state, last=last)
        return frames


class StreamingNetwork:
    """The streaming forms of a network, each made once.

    Args:
        network: an inference form.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._made: dict[object, StreamingSteps] = {}

    def encoder(self, n_quantizers: int, look_aheads: Sequence[int] | None = None) -> StreamingSteps:
        """See `EncodingSteps`.

        Raises:
            TypeError: a part cannot be streamed: of a type that is not known here, compiled or with hooks.
        """
        key = n_quantizers, None if look_aheads is None else tuple(look_aheads)
        return self._once(key, lambda: EncodingSteps(self.network, n_quantizers, look_aheads))

    def decoder(self, look_aheads: Sequence[int] | None = None) -> StreamingSteps:
        """See `DecodingSteps`.

        Raises:
            TypeError: as `encoder`.
        """
        key = None if look_aheads is None else tuple(look_aheads)
        return self._once(key, lambda: DecodingSteps(self.network, look_aheads))

    def _once(self, key: object, make: Callable[[], StreamingSteps]) -> StreamingSteps:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

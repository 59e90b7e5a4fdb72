"""The network on a signal that comes in pieces, each computed once: the values of one pass over the whole.

Every layer gives the outputs whose inputs are all there, and keeps the inputs that later outputs need as well. It thus
runs behind its input by its right context, and nothing is computed twice. Padding, of zeros or by reflection, and the
normalisation of the inverse STFT belong to the true ends: the first piece finds the padding of the left, the last one
brings that of the right, and everything comes out.

What is kept lies in a `State`, not in the layers: one form, made once from the inference form, serves any number of
streams. Its tensors are never written to, so a copy of the dictionary is a copy of the stream. The states of streams
that are at the same point can be joined, pushed as a batch, and split again.

Pieces are ``[B, n, C]`` here: channels last, as a CPU's convolutions want them. None stands for no positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .condition import ConditionNetwork
from .decoder import Decoder, DecoderBlock, SubbandEncoder
from .encoder import Encoder, EncoderBlock, InputBlock, SemanticDecoder
from .inference import (
    FoldedConv1d,
    FoldedConvTranspose1d,
    InPlaceDecoderBlock,
    InPlaceResidualUnit,
    InPlaceSnake,
    MatmulConvTranspose1d,
    PlanarConv1d,
)
from .kernels import snake, upsampling_matrices
from .layers import ConvNeXtBlock, ResidualUnit, Snake, full_precision
from .network import Network
from .snapshot import is_customised

Piece = Tensor | None  # [B, n, C], n >= 1


class Kept(NamedTuple):
    """What one layer keeps."""

    values: Tensor  # [B, n, C]
    begun: bool  # whether it has given outputs


class State(dict[int, Kept]):
    """What the layers keep of one stream's past, by their keys."""

    def fork(self) -> State:
        """Another stream with the same past."""
        return State(self)

    @property
    def point(self) -> tuple[object, ...]:
        """Where the stream is: states can be joined where it is the same (and so is whether they are empty)."""
        return tuple((key, kept.values.shape[1:], kept.begun) for key, kept in sorted(self.items()))

    @staticmethod
    def join(states: Sequence[State]) -> State:
        """The state of a batch of streams."""
        first = states[0]
        return State({k: Kept(torch.cat([s[k].values for s in states]), first[k].begun) for k in first})

    def split(self, sizes: Sequence[int]) -> list[State]:
        """The states of the streams of a batch, of `sizes` items each."""
        parts = {key: kept.values.split(list(sizes)) for key, kept in self.items()}
        return [State({k: Kept(parts[k][i].clone(), self[k].begun) for k in self}) for i in range(len(sizes))]


def joined(*pieces: Piece) -> Piece:
    """Pieces one after another."""
    there = [piece for piece in pieces if piece is not None and piece.shape[1]]
    return torch.cat(there, dim=1) if len(there) > 1 else there[0] if there else None


def flat(frames: Piece) -> Piece:
    """``[B, L, n] -> [B, n · L, 1]``."""
    return None if frames is None else frames.flatten(1)[..., None]


class Layer:
    """One step of a network, piece by piece."""

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        """The outputs that are known after the next piece; with `last`, nothing follows and all are."""
        raise NotImplementedError

    def known(self, n: int) -> int:
        """Outputs that are known after `n` inputs of a stream that goes on."""
        raise NotImplementedError


class Pointwise(Layer):
    """A step that looks at one position at a time."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        self.step = step

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        return None if x is None else self.step(x)

    def known(self, n: int) -> int:
        return n


class Window(Layer):
    """A step that looks at `width` positions for each output and moves on by `stride`: a convolution and its kin.

    Args:
        step: ``[B, (n - 1) · stride + width, C] -> [B, n · per_window, C']``, without padding of its own. It is told
            whether the window lies at the true start and at the true end.
        padding: zeros at either end of the whole.
    """

    def __init__(
        self,
        key: int,
        step: Callable[[Tensor, bool, bool], Tensor],
        *,
        width: int,
        stride: int = 1,
        padding: int = 0,
        per_window: int = 1,
    ) -> None:
        self.key, self.step = key, step
        self.width, self.stride, self.padding, self.per_window = width, stride, padding, per_window

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        kept = state.get(self.key)
        before = None if kept is None else kept.values
        some = x if x is not None else before
        if some is None:
            return None
        padding = some.new_zeros(some.shape[0], self.padding, some.shape[2])
        x = joined(padding if kept is None else before, x, padding if last else None)
        assert x is not None
        n = max(0, (x.shape[1] - self.width) // self.stride + 1)
        begun = kept is not None and kept.begun
        state[self.key] = Kept(x[:, n * self.stride :].clone() if n else x, begun or n > 0)
        return self.step(x[:, : (n - 1) * self.stride + self.width], not begun, last) if n else None

    def known(self, n: int) -> int:
        return max(0, (n + self.padding - self.width) // self.stride + 1) * self.per_window


class Chain(Layer):
    """Layers in a row."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        for layer in self.layers:
            x = layer(x, state, last)
        return x

    def known(self, n: int) -> int:
        for layer in self.layers:
            n = layer.known(n)
        return n


class Together:
    """Streams of the same rate side by side: what one is ahead of the others waits for them."""

    def __init__(self, keys: Sequence[int]) -> None:
        self.keys = keys

    def __call__(self, *pieces: Piece, state: State) -> tuple[Tensor, ...] | None:
        waiting = [joined(state[key].values if key in state else None, piece) for key, piece in zip(self.keys, pieces)]
        n = min(0 if each is None else each.shape[1] for each in waiting)
        for key, each in zip(self.keys, waiting):
            if each is not None:
                state[key] = Kept(each[:, n:].clone() if n else each, False)
        return tuple(each[:, :n] for each in waiting if each is not None) if n else None


class Residual(Layer):
    """The input plus what `body` makes of it."""

    def __init__(self, keys: count[int], body: Layer) -> None:
        self.body, self.together = body, Together([next(keys), next(keys)])

    def __call__(self, x: Piece, state: State, last: bool) -> Piece:
        both = self.together(x, self.body(x, state, last), state=state)
        return None if both is None else both[0] + both[1]

    def known(self, n: int) -> int:
        return self.body.known(n)


# ---- what becomes of the layers of a network -------------------------------------------------------------------------


def streaming(layer: nn.Module, keys: count[int]) -> Layer:
    """The form of `layer`, a part of an inference form, for pieces.

    Raises:
        TypeError: nothing is known of such a layer.
    """
    make = _FORMS.get(type(layer))
    if make is None or is_customised(layer):
        raise TypeError(f"{type(layer).__name__} cannot be streamed: what it needs of its past is not known")
    return make(layer, keys)


def _chain(layers: nn.Sequential, keys: count[int]) -> Layer:
    return Chain(*(streaming(layer, keys) for layer in layers))


def _convolution(layer: FoldedConv1d | nn.Conv1d, keys: count[int]) -> Layer:
    kernel, stride, padding, dilation = _sizes(layer)

    def step(x: Tensor, first: bool, last: bool) -> Tensor:
        return _unpadded(layer, x)

    if kernel == stride == 1:
        return Pointwise(lambda x: _unpadded(layer, x))
    return Window(next(keys), step, width=dilation * (kernel - 1) + 1, stride=stride, padding=padding)


def _sizes(layer: FoldedConv1d | nn.Conv1d) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation."""
    if isinstance(layer, FoldedConv1d):
        return layer.weight.shape[-1], layer.steps["stride"], layer.steps["padding"], layer.steps["dilation"]
    return layer.kernel_size[0], layer.stride[0], int(layer.padding[0]), layer.dilation[0]


def _unpadded(layer: FoldedConv1d | nn.Conv1d, x: Tensor) -> Tensor:
    x = x.to(layer.weight.dtype).transpose(1, 2)
    if isinstance(layer, FoldedConv1d):
        return layer.unpadded(x).transpose(1, 2)
    return F.conv1d(x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups).transpose(1, 2)


def _upsampling(layer: FoldedConvTranspose1d | MatmulConvTranspose1d, keys: count[int]) -> Layer:
    """An output sees one input and the one before, and lies half a stride behind: three inputs for a stride."""
    matrices = layer.matrices if isinstance(layer, MatmulConvTranspose1d) else upsampling_matrices(layer.weight)
    stride, bias = layer.stride, layer.bias
    assert bias is not None
    padding = math.ceil(stride / 2) - stride % 2  # an odd stride is filled by one position on the left

    def step(x: Tensor, first: bool, last: bool) -> Tensor:
        x = x.to(matrices.dtype)
        y = x[:, 1:] @ matrices[0] + x[:, :-1] @ matrices[1]
        y = y.view(x.shape[0], -1, bias.shape[0])[:, padding : padding + (x.shape[1] - 2) * stride] + bias
        if first and stride % 2:
            y[:, 0] = y[:, 2]  # by reflection
        return y

    return Window(next(keys), step, width=3, padding=1, per_window=stride)


def _snake(layer: Snake | InPlaceSnake, keys: count[int]) -> Layer:
    alpha = layer.alpha.transpose(1, 2)

    def step(x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return snake(wide, alpha.to(wide.dtype)).to(x.dtype)

    return Pointwise(step)


def _residual_unit(unit: ResidualUnit, keys: count[int]) -> Layer:
    return Residual(keys, _chain(unit, keys))


def _convnext(block: ConvNeXtBlock, keys: count[int]) -> Layer:
    def mlp(x: Tensor) -> Tensor:
        h = block.pwconv2(F.gelu(block.pwconv1(block.norm(x))))
        return h if block.gamma is None else block.gamma * h

    return Residual(keys, Chain(streaming(block.dwconv, keys), Pointwise(mlp)))


def _normalised(norm: nn.LayerNorm) -> Layer:
    return Pointwise(lambda x: F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps))


def _condition_network(network: ConditionNetwork, keys: count[int]) -> Layer:
    """Latent ``[B, n, D]`` to subband ``[B, n · hop_length, 1]``."""
    head, istft = network.head, network.istft
    hop = istft.hop_length

    def spectrum(x: Tensor, first: bool, last: bool) -> Tensor:
        """Windowed frames of the inverse transform, and below them the squared windows that they are divided by."""
        x, one_frame = x.float(), first and last and x.shape[1] == 3
        x = x.clone() if first or last else x
        if first:  # by reflection; one frame has nothing to reflect
            x[:, 0] = x[:, 1 if one_frame else 2]
        if last:
            x[:, -1] = x[:, -2 if one_frame else -3]
        with full_precision(x.device):
            magnitude = _unpadded(head.log_magnitude, x).clamp(max=math.log(head.max_magnitude)).exp()
            frames = torch.fft.irfft(torch.polar(magnitude, _unpadded(head.phase, x)), istft.n_fft, dim=2)
        window = istft.window(x.device)
        return torch.cat([frames * window, window.square().expand_as(frames)], dim=2)

    def overlap_add(x: Tensor, first: bool, last: bool) -> Tensor:
        """Frames beyond the ends are zeros, squared windows included."""
        n = x.shape[1] - 4
        parts = x.unflatten(2, (2, 4, hop))
        sums = torch.stack([parts[:, 3 - j : n + 4 - j, :, j] for j in range(4)]).sum(0)  # [B, n + 1, 2, hop]
        signal, weight = sums.transpose(1, 2).flatten(2)[..., hop // 2 : hop // 2 + n * hop].unbind(1)
        return (signal / weight)[..., None]

    return Chain(
        streaming(network.conv_in, keys),
        _normalised(network.norm_in),
        _chain(network.blocks, keys),
        _normalised(network.norm_out),
        Window(next(keys), spectrum, width=3, padding=1),
        Window(next(keys), overlap_add, width=5, padding=2, per_window=hop),
    )


_FORMS: dict[type[nn.Module], Callable[..., Layer]] = {
    **dict.fromkeys((nn.Sequential, Encoder, InputBlock, EncoderBlock, SemanticDecoder), _chain),
    **dict.fromkeys((FoldedConv1d, PlanarConv1d, nn.Conv1d), _convolution),
    **dict.fromkeys((FoldedConvTranspose1d, MatmulConvTranspose1d), _upsampling),
    **dict.fromkeys((Snake, InPlaceSnake), _snake),
    **dict.fromkeys((ResidualUnit, InPlaceResidualUnit), _residual_unit),
    ConvNeXtBlock: _convnext,
    ConditionNetwork: _condition_network,
}


class StreamingDecoder:
    """`decoder.Decoder` for pieces of the latent and of the subband."""

    def __init__(self, decoder: Decoder, keys: count[int]) -> None:
        for part in (decoder, decoder.subband_encoder, *decoder.stages):
            if is_customised(part) or type(part) not in (Decoder, SubbandEncoder, DecoderBlock, InPlaceDecoderBlock):
                raise TypeError(f"{type(part).__name__} cannot be streamed: what it needs of its past is not known")
        self.conv_in = streaming(decoder.conv_in, keys)
        self.guides = [streaming(conv, keys) for conv in decoder.subband_encoder.convs]
        self.stages = [
            (
                Chain(streaming(block.snake, keys), streaming(block.upsample, keys)),
                Together([next(keys), next(keys)]),
                streaming(block.residual_units, keys),
            )
            for block in decoder.stages
        ]
        self.out = Chain(streaming(decoder.snake_out, keys), streaming(decoder.conv_out, keys), Pointwise(torch.tanh))

    def __call__(self, latent: Piece, subband: Piece, state: State, last: bool) -> Piece:
        guides: list[Piece] = []
        for conv in self.guides:
            subband = conv(subband, state, last)
            guides.insert(0, subband)
        x = self.conv_in(latent, state, last)
        for i, (upsample, together, units) in enumerate(self.stages):
            x = upsample(x, state, last)
            if i < len(guides):
                both = together(x, guides[i], state=state)
                x = None if both is None else both[0] + both[1]
            x = units(x, state, last)
        return self.out(x, state, last)

    def known(self, n_latent: int, n_subband: int) -> int:
        """Samples that are known after so many positions of the latent and of the subband."""
        guides: list[int] = []
        for conv in self.guides:
            n_subband = conv.known(n_subband)
            guides.insert(0, n_subband)
        n = self.conv_in.known(n_latent)
        for i, (upsample, _, units) in enumerate(self.stages):
            n = upsample.known(n)
            n = units.known(min(n, guides[i]) if i < len(guides) else n)
        return self.out.known(n)


class StreamingNetwork:
    """The figure for pieces: the steps of `network.Network`, of layers that keep their past in a state.

    Args:
        network: an inference form.

    Raises:
        TypeError: it has a part that cannot be streamed: of a type that is not known here, compiled or with hooks.
    """

    def __init__(self, network: Network) -> None:
        keys = count()
        self.network = network
        self.encoder = streaming(network.encoder, keys)
        self.semantic_decoder = streaming(network.semantic_decoder, keys)
        self.condition_network = streaming(network.condition_network, keys)
        self.decoder = StreamingDecoder(network.decoder, keys)
        self.residual_together = Together([next(keys), next(keys), next(keys)])
        self.latent_together = Together([next(keys), next(keys)])

    def encode_latent(self, audio: Piece, state: State, last: bool) -> Piece:
        """Latent ``[B, L, D]`` of audio ``[B, n, 1]``, whole frames in all."""
        latent = self.encoder(audio, state, last)
        return None if latent is None else latent.float()

    def quantize(self, latent: Piece, state: State, last: bool, *, n_quantizers: int) -> Piece:
        """Codes ``[B, L, n_quantizers]`` of a latent ``[B, L, D]``."""
        semantic, quantized = None, None
        if latent is not None:
            with full_precision(latent.device):
                semantic = self.network.semantic_quantizer.encode(latent.transpose(1, 2))
                if n_quantizers > 1:
                    quantized = self.network.semantic_quantizer.decode(semantic).transpose(1, 2)
                semantic = semantic.transpose(1, 2)
        if n_quantizers == 1:
            return semantic
        known = self.residual_together(latent, semantic, self.semantic_decoder(quantized, state, last), state=state)
        if known is None:
            return None
        latent, semantic, described = known
        with full_precision(latent.device):
            residual = (latent - described.float()).transpose(1, 2)
            acoustic = self.network.acoustic_quantizer.encode(residual, n_quantizers - 1)
        return torch.cat([semantic, acoustic.transpose(1, 2)], dim=2)

    def dequantize(self, codes: Piece, state: State, last: bool) -> Piece:
        """Latent ``[B, L, D]`` of codes ``[B, L, n]``."""
        semantic, acoustic = None, None
        if codes is not None:
            layers = codes.transpose(1, 2)
            with full_precision(codes.device):
                semantic = self.network.semantic_quantizer.decode(layers[:, :1]).transpose(1, 2)
                acoustic = self.network.acoustic_quantizer.decode(layers[:, 1:]).transpose(1, 2)
        known = self.latent_together(self.semantic_decoder(semantic, state, last), acoustic, state=state)
        return None if known is None else known[0].float() + known[1]

    def condition(self, latent: Piece, state: State, last: bool) -> Piece:
        """Subband ``[B, subband_hop_length · L, 1]`` of a latent ``[B, L, D]``."""
        return self.condition_network(latent, state, last)

    def synthesise(self, latent: Piece, subband: Piece, state: State, last: bool) -> Piece:
        """Audio ``[B, hop_length · L, 1]`` of a latent ``[B, L, D]`` and its subband."""
        audio = self.decoder(latent, subband, state, last)
        return None if audio is None else audio.float()

    def encode(self, audio: Piece, state: State, last: bool, *, n_quantizers: int) -> Piece:
        """Codes ``[B, L, n_quantizers]`` of audio as frames ``[B, L, hop_length]``."""
        latent = self.encode_latent(flat(audio), state, last)
        return self.quantize(latent, state, last, n_quantizers=n_quantizers)

    def decode(self, codes: Piece, state: State, last: bool) -> Piece:
        """Audio ``[B, hop_length · L, 1]`` of codes ``[B, L, n]``."""
        latent = self.dequantize(codes, state, last)
        return self.synthesise(latent, self.condition(latent, state, last), state, last)

    # ---- look-ahead: frames that must follow a frame before its values are known -----------------------------------

    def encoder_look_aheads(self, n_quantizers: int) -> tuple[int, int]:
        """Of the encoder and of the semantic decoder, which matters with acoustic codes; they add up."""
        of_encoder = _FAR - self.encoder.known(_FAR * self.network.hop_length)
        return of_encoder, _FAR - self.semantic_decoder.known(_FAR) if n_quantizers > 1 else 0

    def decoder_look_aheads(self) -> tuple[int, int, int]:
        """Of the semantic decoder, the condition network and the decoder."""
        hop, subband_hop = self.network.hop_length, self.network.subband_hop_length
        return (
            _FAR - self.semantic_decoder.known(_FAR),
            _FAR - self.condition_network.known(_FAR) // subband_hop,
            _FAR - self.decoder.known(_FAR, _FAR * subband_hop) // hop,
        )

    def decoder_look_ahead(self) -> int:
        """Of decoding as a whole: less than the sum, as the decoder looks further ahead in the latent than below it."""
        latent = self.semantic_decoder.known(_FAR)
        return _FAR - self.decoder.known(latent, self.condition_network.known(latent)) // self.network.hop_length


_FAR = 10_000  # frames: no network needs so many

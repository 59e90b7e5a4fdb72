"""`AudioSignal` in and out, for programs written around DAC: `pip install "esdcodec[audiotools]"`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from audiotools import AudioSignal

    from ..codec import ESDCodec


def encode_signal(codec: ESDCodec, signal: AudioSignal, n_quantizers: int | None = None) -> Tensor:
    """Codes ``[B, n, L]`` of a signal at any rate; its channels are averaged.

    Args:
        n_quantizers: codebooks to use, as in `ESDCodec.encode`.
    """
    audio = signal.audio_data.mean(dim=1, keepdim=True)  # [B, C, T] -> [B, 1, T]
    return codec.encode(audio.to(codec.device), signal.sample_rate, n_quantizers=n_quantizers)


def decode_signal(codec: ESDCodec, codes: Tensor, like: AudioSignal | None = None) -> AudioSignal:
    """The audio of codes ``[B, n, L]`` as a mono signal on the CPU.

    Args:
        like: take the rate and the length of this signal. Default: the codec's rate, whole frames.
    """
    from audiotools import AudioSignal

    decoded = AudioSignal(codec.decode(codes.to(codec.device)).float().cpu(), codec.sample_rate)
    if like is None:
        return decoded
    decoded = decoded.resample(like.sample_rate)
    return decoded.zero_pad(0, max(0, like.signal_length - decoded.signal_length)).truncate_samples(like.signal_length)

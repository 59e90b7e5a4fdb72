"""The public border: what users pass is made canonical here, or refused with a word on what to do."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Audio = Any  # torch.Tensor or numpy.ndarray, [T], [B, T] or [B, 1, T]


def check_audio(audio: Audio, device: torch.device) -> Tensor:
    """Audio as float32 ``[B, 1, T]`` on `device`, finite and not empty."""
    if isinstance(audio, Tensor):
        same = audio.device.type == device.type and device.index in (None, audio.device.index)
        if not same:
            raise ValueError(f"the audio is on {audio.device}, the model on {device}: move one of them with `.to(...)`")
    else:
        try:
            audio = torch.as_tensor(audio).to(device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"audio must be a torch tensor or a numpy array, not {type(audio).__name__}") from error
    if audio.dim() == 3 and audio.shape[1] != 1:
        raise ValueError(
            f"audio of shape {list(audio.shape)} has {audio.shape[1]} channels, but the codec is mono: "
            "mix down with `audio.mean(1, keepdim=True)`, or encode the channels as items of a batch"
        )
    if not 1 <= audio.dim() <= 3:
        raise ValueError(f"audio must be [T], [B, T] or [B, 1, T], not {list(audio.shape)}")
    if audio.numel() == 0:
        raise ValueError(f"audio of shape {list(audio.shape)} is empty: there is nothing to encode")
    if audio.dtype == torch.int16:
        audio = audio / 32768
    elif not audio.is_floating_point():
        raise ValueError(f"audio must be floating point (full scale 1.0) or int16, not {audio.dtype}: convert it first")
    audio = audio.float()
    if not torch.isfinite(audio).all():
        raise ValueError("audio contains NaN or infinite samples: repair it, for example with `torch.nan_to_num`")
    return audio.reshape(-1 if audio.dim() > 1 else 1, 1, audio.shape[-1])


def check_lengths(lengths: Tensor | Sequence[int] | None, audio: Tensor) -> list[int]:
    """Samples of each item of `audio` ``[B, 1, T]``."""
    batch, _, total = audio.shape
    if lengths is None:
        return [total] * batch
    values = [int(n) for n in lengths]
    if len(values) != batch or not all(1 <= n <= total for n in values):
        raise ValueError(
            f"lengths must be {batch} numbers of samples from 1 to {total}, one for each item, not {values}"
        )
    return values


def check_n_quantizers(n_quantizers: int | None, n_codebooks: int) -> int:
    """Number of codebooks to use, from 1 to `n_codebooks`; None is all."""
    if n_quantizers is None:
        return n_codebooks
    try:
        n = operator.index(n_quantizers)
    except TypeError:
        n = 0
    if not 1 <= n <= n_codebooks:
        raise ValueError(
            f"n_quantizers={n_quantizers!r} but this model has 1 to {n_codebooks} codebooks (the semantic one is the "
            "first); see `codec.bitrate(n)`"
        )
    return n


def check_codes(codes: Tensor, codebook_sizes: Sequence[int], device: torch.device) -> tuple[Tensor, list[int]]:
    """Codes as int64 ``[B, n, L]``, and the frames of each item before its padding of -1."""
    if not isinstance(codes, Tensor):
        codes = torch.as_tensor(codes).to(device)
    if codes.device.type != device.type or device.index not in (None, codes.device.index):
        raise ValueError(f"the codes are on {codes.device}, the model on {device}: move one of them with `.to(...)`")
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise ValueError(f"codes must be integers, not {codes.dtype}: pass what `encode` returned")
    if codes.dim() != 3 or codes.numel() == 0:
        raise ValueError(f"codes must be [B, n, L] and not empty, not {list(codes.shape)}")
    n = check_n_quantizers(codes.shape[1], len(codebook_sizes))
    codes = codes.long()
    padding = (codes == -1).all(1)  # [B, L]
    frames = (~padding).sum(1)
    if (padding != (torch.arange(codes.shape[2], device=device) >= frames[:, None])).any():
        raise ValueError("frames of -1 are padding and may stand only at the end of an item: cut the gap out")
    sizes = torch.tensor(codebook_sizes[:n], device=device)[:, None]
    wrong = ((codes < 0) | (codes >= sizes)) & ~padding[:, None]
    if wrong.any():
        item, book, frame = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"code {int(codes[item, book, frame])} of item {item}, codebook {book}, frame {frame} is not one of 0 to "
            f"{codebook_sizes[book] - 1}: these codes are not from this model, or their axes are not [B, n, L]"
        )
    return codes, frames.tolist()

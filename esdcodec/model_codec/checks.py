"""Checks of what users pass: it is converted to one form, or refused with advice."""

import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

LOUDEST = 32.0  # full scales (30 dB above): no recording of floats is louder, and 16-bit values nearly always are
ALIKE = 0.8  # correlation of two channels of one recording, at least; two recordings of speech have about 0
FEW_SAMPLES = 2400  # with fewer, the correlation is not meaningful
MAX_PARTS = 1000  # blocks, stages or codebooks of a network
MAX_RATE = 1_000_000  # Hz, as in `.esd` files
MAX_CHANNELS = 8  # a second axis no longer than this is taken for channels, not for samples

MAX_GAIN_DB = 60
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

Audio = Any  # torch.Tensor or numpy.ndarray, [T], [B, T] or [B, 1, T]


def check_tensor(values: Any, what: str, device: torch.device) -> Tensor:
    """A tensor on `device`; arrays are converted and moved, tensors must be there already."""
    if isinstance(values, Tensor):
        if values.device.type != device.type or device.index not in (None, values.device.index):
            raise ValueError(
                f"the {what} is on {values.device}, the model on {device}: move one of them with `.to(...)`"
            )
        return values
    try:
        array = np.asarray(values)
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
    except (TypeError, ValueError) as error:
        name = type(values).__name__
        raise ValueError(f"{what} must be a torch tensor or an array of numbers, not this {name} ({error})") from error


def check_device(device: str | torch.device) -> torch.device:
    """A device on which tensors can be made."""
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, TypeError, ImportError, NotImplementedError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({reason}): leave it out for the best one that there is"
        ) from error


def check_dtype(dtype: Any) -> torch.dtype:
    """A dtype in which the convolutions can run."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(map(str, DTYPES))}, or 'auto'")
    chosen: torch.dtype = dtype
    return chosen


def check_integer(value: Any, what: str, low: int, high: int | None, advice: str) -> int:
    """`value` as int, if it is one from `low` to `high`."""
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high):
        raise ValueError(f"{what}={value!r} {advice}")
    return number


def check_audio(audio: Audio, device: torch.device) -> Tensor:
    """Audio as float32 ``[B, 1, T]`` on `device`, finite and not empty.

    Warns of likely mistakes: values on another scale, and the two channels of one recording as a batch.
    """
    audio = check_tensor(audio, "audio", device)
    shape = list(audio.shape)
    if audio.dim() == 3 and shape[1] != 1:
        raise ValueError(
            f"audio of shape {shape} has {shape[1]} channels, but the codec is mono: mix down with "
            "`audio.mean(1, keepdim=True)`, or encode the channels as items of a batch"
        )
    if audio.dim() == 2 and shape[1] <= MAX_CHANNELS and shape[0] > shape[1]:
        raise ValueError(
            f"audio of shape {shape} looks like [T, channels], but the codec is mono and takes [B, T]: mix down with "
            "`audio.mean(1)`"
        )
    if not 1 <= audio.dim() <= 3:
        raise ValueError(f"audio must be [T], [B, T] or [B, 1, T], not {shape}")
    if audio.numel() == 0:
        raise ValueError(f"audio of shape {shape} is empty: there is nothing to encode")
    if audio.dtype == torch.int16:
        audio = audio.float() / 32768
    elif not audio.is_floating_point():
        raise ValueError(f"audio must be floating point (full scale 1.0) or int16, not {audio.dtype}: convert it first")
    audio = audio.float()
    peak = float(audio.abs().amax())  # NaN if there is one
    if not math.isfinite(peak):
        raise ValueError("audio contains NaN or infinite samples: repair it, for example with `torch.nan_to_num`")
    if peak > LOUDEST:
        warnings.warn(
            f"audio reaches {peak:.0f}, but full scale is 1.0: if these are 16-bit values, divide them by 32768 or "
            "pass them as int16",
            stacklevel=3,
        )
    if shape[0] == 2 and audio.dim() == 2 and _alike(*audio):
        warnings.warn(
            f"audio of shape {shape} is taken for a batch of two recordings, but they are alike, as channels are: mix "
            "down with `audio.mean(0)`; a batch of two that are meant so is [2, 1, T]",
            stacklevel=3,
        )
    return audio.reshape(-1 if audio.dim() > 1 else 1, 1, audio.shape[-1])


def _alike(left: Tensor, right: Tensor) -> bool:
    """Whether two waveforms ``[T]`` are channels of one recording, by their correlation."""
    if len(left) < FEW_SAMPLES:
        return False
    norms = left.norm() * right.norm()
    return bool(left @ right > ALIKE * norms) and bool(norms > 0)


def check_sample_rate(sample_rate: int | None, default: int) -> int:
    """A sample rate in Hz; None is `default`."""
    if sample_rate is None:
        return default
    return check_integer(sample_rate, "sample_rate", 1, None, "must be a positive whole number of Hz, such as 16000")


def check_gain(gain_db: float) -> float:
    """A gain in dB as a factor."""
    try:
        right = -MAX_GAIN_DB <= gain_db <= MAX_GAIN_DB
    except TypeError:
        right = False
    if not right:
        raise ValueError(f"gain_db={gain_db!r} must be a number of dB from -{MAX_GAIN_DB} to {MAX_GAIN_DB}")
    return float(10 ** (float(gain_db) / 20))


def check_lengths(lengths: Tensor | Sequence[int] | None, audio: Tensor) -> list[int]:
    """Samples of each item of `audio` ``[B, 1, T]``."""
    batch, _, total = audio.shape
    if lengths is None:
        return [total] * batch
    advice = f"must be {batch} numbers of samples from 1 to {total}, one for each item"
    if not hasattr(lengths, "__len__") or getattr(lengths, "ndim", 1) != 1 or len(lengths) != batch:
        raise ValueError(f"lengths={lengths!r} {advice}")
    return [check_integer(n, "lengths", 1, total, advice) for n in lengths]


def check_n_quantizers(n_quantizers: int | None, n_codebooks: int) -> int:
    """Number of codebooks to use, from 1 to `n_codebooks`; None is all."""
    if n_quantizers is None:
        return n_codebooks
    advice = f"but this model has 1 to {n_codebooks} codebooks (the semantic one is the first); see `codec.bitrate(n)`"
    return check_integer(n_quantizers, "n_quantizers", 1, n_codebooks, advice)


def check_codes(codes: Any, codebook_sizes: Sequence[int], device: torch.device) -> tuple[Tensor, list[int]]:
    """Codes as int64 ``[B, n, L]``, and the frames of each item before its padding of -1."""
    codes = check_tensor(codes, "codes", device)
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


def check_config(config: dict[str, Any]) -> None:
    """Sizes of a network: positive whole numbers, of which only the acoustic codebooks may be none.

    Parts are checked to be few before they are made, which takes time and memory even without weights.
    """
    for name, value in config.items():
        if name.endswith("_rates"):
            if not isinstance(value, list) or not 0 < len(value) <= MAX_PARTS:
                raise ValueError(f"{name} must be a list of 1 to {MAX_PARTS} strides, such as [4, 5, 6, 8]")
            for rate in value:
                check_integer(rate, name, 1, None, "must be positive whole numbers")
        elif value is not None or name != "semantic_codebook_dim":
            low = 0 if name == "acoustic_codebooks" else 1
            high = (
                MAX_RATE if name == "sample_rate" else MAX_PARTS if name.endswith(("_blocks", "_codebooks")) else None
            )
            limit = f" and at most {high}" if high else ""
            check_integer(value, name, low, high, f"must be a whole number of at least {low}{limit}")

"""Trained codecs: loaded, saved, uploaded."""

import tempfile
from pathlib import Path
from typing import Literal

import torch

from . import weights
from .model_codec.codec import ESDCodec
from .precision import fastest_dtype
from .weights import Weights, WeightsError

_COUNTS = ("semantic_blocks", "acoustic_codebooks", "condition_blocks", "encoder_rates", "decoder_rates")


def load(
    source: str | Path = "25hz_nano",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | Literal["auto"] | None = None,
    revision: str | None = None,
) -> ESDCodec:
    """Load a trained codec, in evaluation mode.

    Args:
        source: a bundled name (`25hz_nano`), a published name (`25hz_v1`, from the Hugging Face Hub, cached), a folder
            (`config.json` and `model.safetensors`, or the published weights), a file, or a Hub id (`owner/name`).
        device: where to put it. Default: CUDA, MPS or CPU, the first there is.
        dtype: of the convolutions, for example `torch.bfloat16`; the quantizers stay in float32. `"auto"` is bfloat16
            where that is faster: on GPUs that have it, and on CPUs where a short measurement says so. Default: float32.
        revision: branch, tag or commit on the Hub.

    Raises:
        ModelNotFoundError: there is no such model, or no way to download it.
        WeightsError: the file is damaged or holds something else.
    """
    device = best_device() if device is None else torch.device(device)
    with torch.inference_mode(False), torch.device("cpu"):  # whatever the caller has set
        codec = _build(weights.read(source, revision)).eval()
        dtype = fastest_dtype(device) if dtype == "auto" else dtype or torch.float32
        codec.name = str(source) if weights.is_named(source) else Path(source).name
        fingerprint = None if dtype == torch.float32 else codec.fingerprint
        codec.to(device=device, dtype=dtype)
        if fingerprint is not None:
            codec.keep_fingerprint(fingerprint)
    return codec


def best_device() -> torch.device:
    """CUDA, else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _build(source: Weights) -> ESDCodec:
    """The codec of a configuration, with its weights in float32."""
    unknown = sorted(set(source.config) - set(ESDCodec.__init__.__kwdefaults__ or ()))
    if unknown:
        raise WeightsError(
            f"{source.config_file}: unknown settings {', '.join(unknown)}; a newer esdcodec may have written it: "
            "upgrade"
        )
    try:
        for name in _COUNTS:  # of parts, each with tensors of its own: no more are made than there are weights for
            value = source.config.get(name, 0)
            if (value if isinstance(value, int) else len(value)) > len(source.tensors):
                raise ValueError(f"{name} is for more parts than there are tensors, {len(source.tensors)}")
        with torch.device("meta"):
            codec = ESDCodec(**source.config)
    except (TypeError, ValueError, RuntimeError, OverflowError, ArithmeticError) as error:
        raise WeightsError(f"{source.config_file}: no codec can have this configuration ({error})") from error
    source.check_fit(codec.state_dict())
    # copies: what was read may lie in the file, which can change
    tensors = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in source.tensors.items()}
    codec.load_state_dict(tensors, assign=True)
    return codec


def save(codec: ESDCodec, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write `config.json` and `model.safetensors` into `folder`; `load` takes it, or the second file alone.

    Args:
        dtype: of the stored weights. Default: as they are. `torch.float16` halves the file.
    """
    weights.write(folder, codec.config, codec.state_dict(), dtype=dtype)


def push(codec: ESDCodec, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Upload what `save` writes to the Hub, making the repository if need be; returns the commit's URL."""
    with tempfile.TemporaryDirectory() as folder:
        save(codec, folder)
        return weights.upload(folder, repo_id, private=private, token=token)

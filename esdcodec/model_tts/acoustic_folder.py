"""An `AcousticModel` as a folder: `config.json`, with the codec whose codes it makes, and `model.safetensors`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ..weights import CONFIG, WEIGHTS, WeightsError, read_tensors
from ..whole_file import whole_file
from .acoustic import AcousticModel
from .text_to_codes import check_fingerprint

FORMAT = "esdcodec-acoustic-1"


def save_acoustic(
    folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], *, codec: str, fingerprint: bytes
) -> None:
    """Write a network, by its configuration and its weights, into `folder`.

    Args:
        codec, fingerprint: name and fingerprint of the codec whose codes it was trained on.
    """
    about = {"format": FORMAT, "codec": codec, "fingerprint": fingerprint.hex(), "network": dict(config)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with whole_file(Path(folder) / WEIGHTS) as stream:
        stream.write(save(tensors, metadata={"format": "pt"}))
    with whole_file(Path(folder) / CONFIG) as stream:
        stream.write(json.dumps(about, indent=1).encode())


def load_acoustic(folder: str | Path, fingerprint: bytes, *, device: str | torch.device = "cpu") -> AcousticModel:
    """From a folder, in evaluation mode.

    Args:
        fingerprint: of the codec that is to decode the codes, `ESDCodec.fingerprint`.

    Raises:
        CodecMismatchError: the network was trained on codes of another codec.
        WeightsError: the folder holds something else.
    """
    file = Path(folder) / CONFIG
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}")
        model = AcousticModel(**about["network"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{file}: no acoustic model of this version ({error}): give a training's export") from error
    remedy = f"Load the codec {about['codec']}, or train on its codes"
    check_fingerprint(about["fingerprint"], fingerprint.hex(), str(folder), remedy)
    tensors, _ = read_tensors(Path(folder) / WEIGHTS)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"{folder}: the weights do not fit {CONFIG} ({error})") from error
    return model.to(device).eval()

"""A model that speaks, from its folder."""

from pathlib import Path
from typing import Literal

import torch

from ...codec import ESDCodec, best_device, load
from ...model_tts.acoustic_folder import load_acoustic
from ...model_tts.text_to_codes import TextToCodes, check_fingerprint
from .folder import ACOUSTIC, TEXT_TO_CODES, SpeechModelConfig, find_folder, voice_files
from .settings import SpeechSettings
from .synthesis import TextToSpeech


def load_tts(
    source: str | Path = "25hz_nano_tts",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | Literal["auto"] | None = None,
    codec: ESDCodec | str | Path | None = None,
) -> TextToSpeech:
    """Load a model that speaks.

    Args:
        source: a name, or the folder that `bundle_tts` wrote.
        device: where to put it. Default: CUDA, MPS or CPU, the first there is.
        dtype: of the codec's convolutions, as `esdcodec.load` takes it; a `torch.dtype` is that of the language model
            too.
        codec: loaded, on the same device, or as `esdcodec.load` takes it. Default: the one that the folder names.

    Raises:
        ModelNotFoundError: there is no such model, or no such codec.
        CodecMismatchError: the codec is another one than the model was trained with.
        SpeechModelError, WeightsError: the folder holds something else.
        ImportError: the extra `[tts]` is not installed.
    """
    folder = find_folder(source)
    config = SpeechModelConfig.read(folder)
    if not isinstance(codec, ESDCodec):
        device = best_device() if device is None else torch.device(device)
        within = folder / config.codec
        codec = load(codec or (within if within.is_dir() else config.codec), device=device, dtype=dtype)
    remedy = f"Give the codec {config.codec}, or train on the codes of this one"
    check_fingerprint(config.fingerprint, codec.fingerprint.hex(), str(folder), remedy)
    kind = dtype if isinstance(dtype, torch.dtype) else torch.float32
    try:
        text = TextToCodes.load(folder / TEXT_TO_CODES, codec.fingerprint, device=codec.device, dtype=kind)
    except ModuleNotFoundError as error:
        raise ImportError(f'speech from text needs {error.name}: `pip install "esdcodec[tts]"`') from error
    return TextToSpeech(
        codec,
        text,
        load_acoustic(folder / ACOUSTIC, codec.fingerprint, device=codec.device),
        voices=voice_files(folder),
        default_voice=config.default_voice,
        language=config.language,
        settings=SpeechSettings.from_dict(config.settings),
        about=config.about,
        name=str(source) if str(source) != str(folder) else folder.name,
    )

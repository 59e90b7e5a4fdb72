"""The codec as `transformers` knows neural codecs.

    from transformers import AutoFeatureExtractor, AutoModel
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor([audio, other], sampling_rate=24000, return_tensors="pt")
    codes = model.encode(inputs["input_values"], inputs["padding_mask"]).audio_codes   # [B, K, L]
    audio = model.decode(codes).audio_values                                           # [B, 1, T]

`folder` is what `ESDCodec.save_pretrained` and the trainer write, or a Hub id. Arguments, shapes and names of the
outputs are those of `MimiModel`; the feature extractor is EnCodec's, at the model's rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput, cached_file

from ..codec import ESDCodec, best_device, load
from ..weights import CONFIG, WEIGHTS, is_named

SETTINGS: dict[str, Any] = ESDCodec.__init__.__kwdefaults__ or {}  # of a network: name -> default
_HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
_WITHOUT_EFFECT = {  # what the Auto classes add, and advice on reading that this package does in one way
    *("trust_remote_code", "adapter_kwargs", "code_revision", "_from_auto", "_commit_hash"),
    *("low_cpu_mem_usage", "use_safetensors", "weights_only", "attn_implementation"),
}


@dataclass
class ESDCodecEncoderOutput(ModelOutput):
    """Output of `ESDCodecModel.encode`."""

    audio_codes: Tensor | None = None  # [B, num_quantizers, L] int64; -1 past the end of an item


@dataclass
class ESDCodecDecoderOutput(ModelOutput):
    """Output of `ESDCodecModel.decode`."""

    audio_values: Tensor | None = None  # [B, 1, T] float32


@dataclass
class ESDCodecOutput(ModelOutput):
    """Output of `ESDCodecModel.forward`."""

    audio_codes: Tensor | None = None  # [B, num_quantizers, L] int64; -1 past the end of an item
    audio_values: Tensor | None = None  # [B, 1, T] float32, T that of the input


class ESDCodecConfig(PretrainedConfig):
    """The arguments of `ESDCodec`, under their names, in a `config.json` that `esdcodec.load` reads as well."""

    model_type = "esdcodec"
    attribute_map = {"sampling_rate": "sample_rate"}  # noqa: RUF012  (transformers reads it from the class)

    def __init__(self, **kwargs: Any) -> None:
        for name, default in SETTINGS.items():
            value = kwargs.pop(name, default)
            setattr(self, name, list(value) if isinstance(value, tuple) else value)
        super().__init__(**kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoConfig") -> None:
        """Nothing to do: the code stays in this package, and a saved folder imports it."""

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `ESDCodec`."""
        return {name: getattr(self, name) for name in SETTINGS}

    @property
    def hop_length(self) -> int:
        """Samples of a frame."""
        return math.prod(self.encoder_rates)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return float(self.sample_rate / self.hop_length)

    @property
    def num_quantizers(self) -> int:
        """Number of codebooks K, the semantic one included."""
        return 1 + int(self.acoustic_codebooks)

    @property
    def codebook_sizes(self) -> list[int]:
        """Entries of each codebook."""
        return [self.semantic_codebook_size, *[self.acoustic_codebook_size] * self.acoustic_codebooks]


class ESDCodecModel(PreTrainedModel):
    """`ESDCodec` behind the calls of `MimiModel`; the codec itself, with streams and gradients, is `codec`."""

    config_class = ESDCodecConfig
    base_model_prefix = "codec"
    main_input_name = "input_values"
    input_modalities = "audio"

    def __init__(self, config: ESDCodecConfig, codec: ESDCodec | None = None) -> None:
        super().__init__(config)
        self.codec = ESDCodec(**config.settings) if codec is None else codec
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """The layers have initialised themselves."""

    # ---- encode and decode ------------------------------------------------------------------------------------------

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
        return_dict: bool | None = None,
    ) -> ESDCodecEncoderOutput | tuple[Tensor, ...]:
        """Audio at the model's rate to codes.

        Args:
            input_values: ``[B, 1, T]``.
            padding_mask: ``[B, T]`` or ``[B, 1, T]``, 1 for samples and 0 for the padding that follows them. Each item
                gets the codes that it gets alone, and -1 past its end.
            num_quantizers: codebooks to use, the semantic one included. Default: all.
            return_dict: False for a tuple. Default: that of the configuration.

        Raises:
            ValueError: the input is not as described above; the message says what to do.
        """
        lengths = None if padding_mask is None else _lengths(padding_mask)
        codes = self.codec.encode(input_values, n_quantizers=num_quantizers, lengths=lengths)
        return self._output(ESDCodecEncoderOutput(audio_codes=codes), return_dict)

    def decode(
        self, audio_codes: Tensor, padding_mask: Tensor | None = None, return_dict: bool | None = None
    ) -> ESDCodecDecoderOutput | tuple[Tensor, ...]:
        """Codes to audio ``[B, 1, T]``.

        Args:
            audio_codes: ``[B, n, L]`` of the first n codebooks; frames of -1 at the end of an item are padding.
            padding_mask: that of the audio; what is longer is cut off.
            return_dict: as in `encode`.

        Raises:
            ValueError: the codes are not as described above; the message says what to do.
        """
        audio = self.codec.decode(audio_codes)
        if padding_mask is not None:
            audio = audio[..., : padding_mask.shape[-1]]
        return self._output(ESDCodecDecoderOutput(audio_values=audio), return_dict)

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
        audio_codes: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> ESDCodecOutput | tuple[Tensor, ...]:
        """Encode, unless the codes are given, and decode, to the length of the input; without gradients."""
        if audio_codes is None:
            (audio_codes,) = self.encode(input_values, padding_mask, num_quantizers, return_dict=False)
        (audio,) = self.decode(audio_codes, return_dict=False)
        audio = audio[..., : input_values.shape[-1]]
        return self._output(ESDCodecOutput(audio_codes=audio_codes, audio_values=audio), return_dict)

    def get_encoded_length(self, input_length: Tensor) -> Tensor:
        """Frames of items of so many samples."""
        return -(-input_length // self.codec.hop_length)

    def get_audio_codes_mask(self, padding_mask: Tensor) -> Tensor:
        """Which frames ``[B, L]`` are an item's own, as booleans."""
        frames = self.get_encoded_length(_lengths(padding_mask))
        longest = int(self.get_encoded_length(torch.tensor(padding_mask.shape[-1])))
        return torch.arange(longest, device=frames.device) < frames[:, None]

    def _output(self, output: ModelOutput, return_dict: bool | None) -> Any:
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    # ---- to and from files ------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(  # type: ignore[override]  # what has no meaning here is refused
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: ESDCodecConfig | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: Any = None,
        **kwargs: Any,
    ) -> ESDCodecModel:
        """A trained model, in evaluation mode, on the CPU unless `device_map` names a device.

        Args:
            pretrained_model_name_or_path: folder, bundled name or Hub id.
            config: its configuration, where that has been read already.
            dtype, torch_dtype: of the convolutions, or its name; the quantizers stay in float32. Default, and `"auto"`:
                float32.
            device_map: a device, its name, `"auto"` for the first there is, or `{"": device}`.
            kwargs: of the Hub, such as `revision`, `token`, `cache_dir`, `local_files_only`.

        Raises:
            ValueError: `config` is that of another model.
            TypeError: an argument is unknown.
            ModelNotFoundError, WeightsError: as `esdcodec.load` raises them.
        """
        hub = {name: kwargs.pop(name) for name in _HUB if kwargs.get(name) is not None}
        if unknown := sorted(set(kwargs) - _WITHOUT_EFFECT - set(_HUB)):
            raise TypeError(f"ESDCodecModel.from_pretrained does not take {', '.join(unknown)}")
        folder = _folder(pretrained_model_name_or_path, hub)
        codec = load(folder, device=_device(device_map), dtype=_dtype(dtype or torch_dtype))
        config = ESDCodecConfig(**codec.config) if config is None else config
        if config.settings != codec.config:
            differing = [name for name, value in codec.config.items() if value != config.settings[name]]
            raise ValueError(
                f"config is not that of {folder}: {', '.join(differing)}; leave it out, or train that model"
            )
        model = cls(config, codec)
        model.name_or_path = str(pretrained_model_name_or_path)
        return model.eval()

    def save_pretrained(self, save_directory: str | Path) -> None:  # type: ignore[override]
        """Write what `ESDCodec.save_pretrained` writes: `esdcodec.load` and the Auto classes both take it."""
        self.codec.save_pretrained(save_directory)

    def push_to_hub(  # type: ignore[override]
        self, repo_id: str, *, private: bool | None = None, token: str | None = None
    ) -> str:
        """Upload what `save_pretrained` writes; see `ESDCodec.push_to_hub`."""
        return self.codec.push_to_hub(repo_id, private=private, token=token)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoModel") -> None:
        """Nothing to do: the code stays in this package, and a saved folder imports it."""


def _lengths(padding_mask: Tensor) -> Tensor:
    """Samples ``[B]`` of each item of a mask ``[B, T]`` or ``[B, 1, T]``."""
    mask = padding_mask.reshape(padding_mask.shape[0], -1, padding_mask.shape[-1])[:, 0].bool()
    lengths = mask.sum(-1)
    if not torch.equal(mask, torch.arange(mask.shape[-1], device=mask.device) < lengths[:, None]):
        raise ValueError(
            "padding_mask must be ones, then zeros: pad on the right (the feature extractor's padding_side='right')"
        )
    return lengths


def _folder(source: str | Path, hub: dict[str, Any]) -> str | Path:
    """What `load` takes: the folder in the Hub's cache where `source` is a Hub id."""
    if is_named(source) or (Path(source).is_dir() and "subfolder" not in hub):
        return source
    _, weights = (Path(str(cached_file(source, name, **hub))) for name in (CONFIG, WEIGHTS))
    return weights.parent


def _device(device_map: Any) -> torch.device:
    if isinstance(device_map, dict):
        if set(device_map) != {""}:
            raise ValueError(
                f"device_map={device_map}: the model is in one place; give one device, as in {{'': 'cuda'}}"
            )
        device_map = device_map[""]
    return best_device() if device_map == "auto" else torch.device("cpu" if device_map is None else device_map)


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    if dtype is None or dtype == "auto":
        return torch.float32
    return getattr(torch, dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype

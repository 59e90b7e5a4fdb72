"""Weights, of whatever network: found by name, folder, file or Hub id, read, checked, and written."""

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import auto_classes, bundled, published
from .errors import ESDCodecError

BUNDLED = {name: bundled.FOLDERS[version] for name, version in bundled.NEWEST.items()} | bundled.FOLDERS
PUBLISHED = {"25hz_v1": published.REPOSITORY}
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_MODEL_TYPE = "esdcodec"
_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_MAX_CONFIG_BYTES = 2**20


class ModelNotFoundError(ESDCodecError, OSError):
    """No such model, here or on the Hub; the message says how to get one."""


class WeightsError(ESDCodecError, ValueError):
    """A file does not hold the weights it should; the message names it and what was expected."""


@dataclass(frozen=True)
class Weights:
    """What was read of a model."""

    file: Path  # of the tensors
    config_file: Path  # of the configuration; the same where that is embedded
    config: dict[str, Any]  # arguments of the network
    tensors: dict[str, Tensor]  # by the name that the network has for it
    is_published: bool  # the model 25hz_v1, whose configuration is the default one

    def check_fit(self, expected: Mapping[str, Tensor]) -> None:
        """
        Raises:
            WeightsError: names or shapes of the tensors are not those of the network's state dict `expected`.
        """
        found = self.tensors
        problems = [f"{name} {_shape(t)} is missing" for name, t in expected.items() if name not in found]
        problems += [f"{name} {_shape(t)} is not of this model" for name, t in found.items() if name not in expected]
        problems += [
            f"{name} is {_shape(t)}, expected {_shape(expected[name])}"
            for name, t in found.items()
            if name in expected and _shape(t) != _shape(expected[name])
        ]
        if problems:
            model = "the published model 25hz_v1" if self.is_published else "the model in its configuration"
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise WeightsError(f"{self.file} does not fit {model}: {'; '.join(problems[:3])}{more}")


def _shape(tensor: Tensor) -> str:
    return f"{list(tensor.shape)}" if tensor.is_floating_point() else f"{list(tensor.shape)} of {tensor.dtype}"


# ---- finding ---------------------------------------------------------------------------------------------------------


def is_named(source: str | Path) -> bool:
    """Whether this is the name of a bundled or published model."""
    return str(source) in BUNDLED or str(source) in PUBLISHED


def find(source: str | Path, revision: str | None = None) -> Path:
    """The weights' file that `read` would read, downloaded if it has to be.

    Raises:
        ModelNotFoundError: there is no such model, or no way to download it.
    """
    return _locate(source, revision)[1]


def _locate(source: str | Path, revision: str | None) -> tuple[Path | None, Path]:
    """Configuration file (None: it is in the weights' file, or beside it) and weights' file of a model."""
    name = str(source)
    if name in BUNDLED:
        return _in_folder(BUNDLED[name])
    path = Path(name).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return None, path
    if name in PUBLISHED:
        return None, _download(PUBLISHED[name], published.WEIGHTS, revision)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and path.suffix not in _FILE_SUFFIXES:
        return _on_hub(name, revision)
    if advice := bundled.how_to_get(name):
        raise ModelNotFoundError(advice)
    known = ", ".join([*bundled.NEWEST, *PUBLISHED])
    raise ModelNotFoundError(
        f"{name!r} is no model: give a name ({known}), an existing folder or file, or a Hub id like 'owner/name'"
    )


def _in_folder(folder: Path) -> tuple[Path | None, Path]:
    config = folder / CONFIG
    for weights in (folder / WEIGHTS, folder / published.WEIGHTS):
        if weights.is_file():
            return (config if config.is_file() and weights.name == WEIGHTS else None), weights
    raise ModelNotFoundError(f"{folder} holds neither {WEIGHTS} nor {published.WEIGHTS}")


def _on_hub(repo_id: str, revision: str | None) -> tuple[Path | None, Path]:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if repo_id == published.REPOSITORY:
        return None, _download(repo_id, published.WEIGHTS, revision)
    try:
        config = _download(repo_id, CONFIG, revision)
    except ModelNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
            return None, _download(repo_id, published.WEIGHTS, revision)
        raise
    return config, _download(repo_id, WEIGHTS, revision)


def _download(repo_id: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id, file, revision=revision))
    except Exception as error:  # the client's own errors, and those of whichever HTTP library it uses
        raise ModelNotFoundError(
            f"{file} of {repo_id} cannot be downloaded ({_first_line(error)}). With a network: "
            f"`hf download {repo_id} --local-dir FOLDER`, then load FOLDER (HF_ENDPOINT chooses a mirror, "
            "HF_HUB_OFFLINE=1 the cache alone). Without: "
            f"`esdcodec.load({next(iter(BUNDLED))!r})` is bundled and needs none"
        ) from error


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(source: str | Path, revision: str | None = None) -> Weights:
    """The weights of a model, as `esdcodec.load` takes its `source`.

    Raises:
        ModelNotFoundError: there is no such model, or no way to download it.
        WeightsError: the file is damaged or holds something else.
    """
    config_file, file = _locate(source, revision)
    tensors, embedded = read_tensors(file)
    if any(name.startswith(published.PREFIX) for name in tensors):
        ours = {published.our_name(k): v for k, v in tensors.items() if k not in published.CONSTANTS}
        return Weights(file, file, {}, ours, is_published=True)
    if config_file is None and embedded is not None:
        return Weights(file, file, _parse_config(embedded.encode(), file), tensors, is_published=False)
    config_file = config_file or file.with_name(CONFIG)
    if not config_file.is_file():
        raise WeightsError(f"{file}: neither published weights nor an ESDCodec file with its configuration")
    with open(config_file, "rb") as stream:
        text = stream.read(_MAX_CONFIG_BYTES + 1)
    return Weights(file, config_file, _parse_config(text, config_file), tensors, is_published=False)


def _parse_config(text: bytes, file: Path) -> dict[str, Any]:
    if len(text) > _MAX_CONFIG_BYTES:
        raise WeightsError(f"{file}: not the configuration of an ESDCodec, which is no longer than 1 MiB")
    try:
        config: dict[str, Any] = json.loads(text)
        if config.pop("model_type") != _MODEL_TYPE:
            raise ValueError(f"model_type is not {_MODEL_TYPE!r}")
        for entry in auto_classes.WRITTEN_BY_TRANSFORMERS:
            config.pop(entry, None)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{file}: not the configuration of an ESDCodec ({error!r})") from error
    return config


def read_tensors(file: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors of a weights' file by name, and the configuration embedded in it, if any.

    The format (safetensors, torch zip, torch pickle) is recognised by the content, whatever the name. Of a pickle only
    tensors are read: anything else in it is refused, and nothing of it is run. What is read takes no more memory than
    the file.

    Raises:
        WeightsError: the file is damaged, or holds more than named tensors of finite numbers.
    """
    with open(file, "rb") as stream:
        head = stream.read(9)
    config: str | None = None
    try:
        with torch.device("cpu"):
            if head[8:9] == b"{":
                with safe_open(file, "pt") as archive:
                    config = (archive.metadata() or {}).get("config")
                    tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
            else:
                if head.startswith(b"PK"):
                    _check_archive(file)
                with open(file, "rb") as stream:  # not by name: torch takes what is called safetensors for one
                    tensors = torch.load(stream, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise WeightsError(f"{file}: damaged, or not a weights file ({_first_line(error)})") from error
    except Exception as error:  # pickle.UnpicklingError and whatever else a hostile or cut file makes the reader raise
        raise WeightsError(
            f"{file}: refused: it is damaged, or holds more than tensors ({_refusal(error)}); nothing of it was run"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()
    ):
        raise WeightsError(f"{file}: expected a dict of parameter name -> tensor")
    _check_tensors(file, tensors)
    return tensors, config


def _check_archive(file: Path) -> None:
    """Refuse a zip archive that unpacks to more than it is; torch's own are not compressed."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > file.stat().st_size:
        raise WeightsError(f"{file}: refused: it would unpack to {unpacked} bytes, which are more than it has itself")


def _check_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type == "meta":
            kind = "meta tensor" if tensor.device.type == "meta" else "sparse, quantized or nested tensor"
            raise WeightsError(f"{file}: {name} is a {kind}, expected one with all its values")
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    claimed = sum(t.numel() * t.element_size() for t in tensors.values())
    if claimed > sum(stored.values()):
        raise WeightsError(
            f"{file}: its tensors share memory: {claimed} bytes of values, of which {sum(stored.values())} are stored"
        )
    for name, tensor in tensors.items():
        values = tensor.float() if tensor.is_floating_point() else tensor  # as the network will have them
        if not torch.isfinite(values).all():
            raise WeightsError(
                f"{file}: {name} contains NaN or infinite values, as float32: train it anew, or take another file"
            )


def _refusal(error: Exception) -> str:
    """What a reader of pickles refused, without torch's advice on how to run it all the same."""
    reason = re.search(r"WeightsUnpickler error: ([^\n.]+(?:\.\w[^\n.]*)*)", str(error))
    return reason[1] if reason else _first_line(error)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(
    folder: str | Path, config: dict[str, Any], tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None
) -> None:
    """Write `config.json` and `model.safetensors` into `folder`; `read` takes them, or the second file alone.

    Beside them go `preprocessor_config.json` and `modeling_esdcodec.py`, for the Auto classes of `transformers`.

    Args:
        dtype: of the stored weights. Default: as they are. `torch.float16` halves the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    embedded = {"model_type": _MODEL_TYPE, **config}
    texts = {
        CONFIG: _json({**embedded, **auto_classes.CONFIG_ENTRIES}),
        auto_classes.FEATURE_EXTRACTOR: _json(auto_classes.feature_extractor(config["sample_rate"])),
        auto_classes.CODE: auto_classes.CODE_TEXT,
    }
    stored = {name: t.detach().to("cpu", dtype or t.dtype).contiguous() for name, t in tensors.items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        save_file(stored, Path(partial) / WEIGHTS, metadata={"format": "pt", "config": _json(embedded)})
        for name, text in texts.items():
            (Path(partial) / name).write_text(text, encoding="utf-8")
        (Path(partial) / WEIGHTS).chmod((Path(partial) / CONFIG).stat().st_mode)  # not for its owner alone
        for name in (WEIGHTS, *texts):
            os.replace(Path(partial) / name, folder / name)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1) + "\n"


def upload(folder: str | Path, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Upload what `write` wrote to the Hub, making the repository if need be; returns the commit's URL."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload ESDCodec").commit_url)

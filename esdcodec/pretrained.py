"""Trained codecs: found by name, folder, file or Hub id, checked, loaded; and written back."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import published
from .model_codec.codec import ESDCodec
from .precision import fastest_dtype

BUNDLED = {"25hz_nano": Path(__file__).parent / "assets" / "25hz_nano"}
PUBLISHED = {"25hz_v1": published.REPOSITORY}
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_MODEL_TYPE = "esdcodec"
_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


class ModelNotFoundError(OSError):
    """No such model, here or on the Hub; the message says how to get one."""


class WeightsError(ValueError):
    """A file does not hold the weights it should; the message names it and what was expected."""


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
    config, weights = _locate(source, revision)
    codec = _build(config, weights).eval()
    codec.name = str(source) if str(source) in (*BUNDLED, *PUBLISHED) else Path(source).name
    device = best_device() if device is None else torch.device(device)
    if dtype == "auto":
        dtype = fastest_dtype(device)
    fingerprint = None if dtype in (None, torch.float32) else codec.fingerprint
    codec.to(device=device, dtype=dtype)
    if fingerprint is not None:
        codec.keep_fingerprint(fingerprint)
    return codec


def find(source: str | Path, revision: str | None = None) -> Path:
    """The weights' file that `load` would read, downloaded if it has to be.

    Raises:
        ModelNotFoundError: there is no such model, or no way to download it.
    """
    return _locate(source, revision)[1]


def best_device() -> torch.device:
    """CUDA, else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


# ---- finding ---------------------------------------------------------------------------------------------------------


def _locate(source: str | Path, revision: str | None) -> tuple[Path | None, Path]:
    """Configuration file (None where the weights' file has to tell) and weights' file of a model."""
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
    raise ModelNotFoundError(
        f"{name!r} is no model: give a name ({', '.join([*BUNDLED, *PUBLISHED])}), an existing folder or file, or a "
        "Hub id like 'owner/name'"
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


# ---- loading ---------------------------------------------------------------------------------------------------------


def _build(config_file: Path | None, weights: Path) -> ESDCodec:
    tensors, embedded = read_tensors(weights)
    is_published = any(name.startswith(published.PREFIX) for name in tensors)
    config: dict[str, Any] = {}
    if is_published:
        tensors = {published.our_name(k): v for k, v in tensors.items() if k not in published.CONSTANTS}
    elif config_file is not None:
        config = _read_config(config_file.read_bytes(), config_file)
    elif embedded is not None:
        config = _read_config(embedded, weights)
    elif weights.with_name(CONFIG).is_file():
        config = _read_config(weights.with_name(CONFIG).read_bytes(), weights.with_name(CONFIG))
    else:
        raise WeightsError(f"{weights}: neither published weights nor an ESDCodec file with its configuration")
    try:
        codec = ESDCodec(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{config_file or weights}: no codec can have this configuration ({error})") from error
    _check_parameters(weights, tensors, codec.state_dict(), is_published)
    codec.load_state_dict(tensors)
    return codec


def _read_config(text: str | bytes, file: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
        if config.pop("model_type") != _MODEL_TYPE:
            raise ValueError(f"model_type is not {_MODEL_TYPE!r}")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise WeightsError(f"{file}: not the configuration of an ESDCodec ({error!r})") from error
    unknown = sorted(set(config) - set(ESDCodec.__init__.__kwdefaults__ or ()))
    if unknown:
        raise WeightsError(
            f"{file}: unknown settings {', '.join(unknown)}; a newer esdcodec may have written it: upgrade"
        )
    return config


def read_tensors(file: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors of a weights' file by name, and the configuration embedded in it, if any.

    The format (safetensors, torch zip, torch pickle) is told by the content, whatever the name. Of a pickle only
    tensors are read: anything else in it is refused, and nothing of it is run.

    Raises:
        WeightsError: the file is damaged, or holds more than named tensors.
    """
    with open(file, "rb") as stream:
        head = stream.read(9)
    try:
        if head[8:9] == b"{":
            with safe_open(file, "pt") as archive:
                metadata = archive.metadata() or {}
                return {name: archive.get_tensor(name) for name in archive.keys()}, metadata.get("config")  # noqa: SIM118
        with open(file, "rb") as stream:  # not by name: torch takes what is called safetensors for one
            tensors = torch.load(stream, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise WeightsError(f"{file}: damaged, or not a weights file ({_first_line(error)})") from error
    except Exception as error:  # pickle.UnpicklingError and whatever else a hostile or cut file makes the reader raise
        raise WeightsError(
            f"{file}: refused: it is damaged, or holds more than tensors ({_first_line(error)}); nothing of it was run"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()
    ):
        raise WeightsError(f"{file}: expected a dict of parameter name -> tensor")
    return tensors, None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _check_parameters(file: Path, found: dict[str, Tensor], expected: dict[str, Tensor], is_published: bool) -> None:
    def shape(tensor: Tensor) -> str:
        return f"{list(tensor.shape)}" if tensor.is_floating_point() else f"{list(tensor.shape)} of {tensor.dtype}"

    problems = [f"{name} {shape(t)} is missing" for name, t in expected.items() if name not in found]
    problems += [f"{name} {shape(t)} is not of this model" for name, t in found.items() if name not in expected]
    problems += [
        f"{name} is {shape(t)}, expected {shape(expected[name])}"
        for name, t in found.items()
        if name in expected and shape(t) != shape(expected[name])
    ]
    if problems:
        model = "the published model 25hz_v1" if is_published else "the model in its configuration"
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise WeightsError(f"{file} does not fit {model}: {'; '.join(problems[:3])}{more}")


# ---- writing ---------------------------------------------------------------------------------------------------------


def save(codec: ESDCodec, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write `config.json` and `model.safetensors` into `folder`; `load` reads them, or the second file alone.

    Args:
        dtype: of the stored weights. Default: as they are. `torch.float16` halves the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps({"model_type": _MODEL_TYPE, **codec.config}, indent=1)
    tensors = {name: t.detach().to("cpu", dtype or t.dtype).contiguous() for name, t in codec.state_dict().items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        save_file(tensors, Path(partial) / WEIGHTS, metadata={"format": "pt", "config": config})
        (Path(partial) / CONFIG).write_text(config + "\n", encoding="utf-8")
        (Path(partial) / WEIGHTS).chmod((Path(partial) / CONFIG).stat().st_mode)  # not for its owner alone
        for name in (WEIGHTS, CONFIG):
            os.replace(Path(partial) / name, folder / name)


def push(codec: ESDCodec, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Upload what `save` writes to the Hub, making the repository if need be; returns the commit's URL."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save(codec, folder)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload ESDCodec").commit_url)

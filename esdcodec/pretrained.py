"""Old name of what is now in `esdcodec.codec` and `esdcodec.weights`."""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

_HOME = {
    "load": "codec",
    "best_device": "codec",
    **dict.fromkeys(("find", "read_tensors", "BUNDLED", "PUBLISHED", "CONFIG", "WEIGHTS"), "weights"),
    **dict.fromkeys(("ModelNotFoundError", "WeightsError"), "weights"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is now in esdcodec.{_HOME[name]}", DeprecationWarning, stacklevel=2)
    return getattr(import_module(f"esdcodec.{_HOME[name]}"), name)


def save(codec: Any, folder: str | Path, **options: Any) -> None:
    warnings.warn("use `codec.save_pretrained(folder)`", DeprecationWarning, stacklevel=2)
    codec.save_pretrained(folder, **options)


def push(codec: Any, repo_id: str, **options: Any) -> str:
    warnings.warn("use `codec.push_to_hub(repo_id)`", DeprecationWarning, stacklevel=2)
    return str(codec.push_to_hub(repo_id, **options))

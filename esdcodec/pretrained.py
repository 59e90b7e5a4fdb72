"""Old name of what is now in `esdcodec.codec` and `esdcodec.weights`."""

import warnings
from importlib import import_module
from typing import Any

_HOME = {
    "load": "codec",
    "best_device": "codec",
    "save": "codec",
    "push": "codec",
    **dict.fromkeys(("find", "read_tensors", "BUNDLED", "PUBLISHED", "CONFIG", "WEIGHTS"), "weights"),
    **dict.fromkeys(("ModelNotFoundError", "WeightsError"), "weights"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is now in esdcodec.{_HOME[name]}", DeprecationWarning, stacklevel=2)
    return getattr(import_module(f"esdcodec.{_HOME[name]}"), name)

"""The network and its objective: torch only, no files."""

from typing import Any

from .network import Network, Reconstruction

__all__ = ["Network", "Reconstruction"]


def __getattr__(name: str) -> Any:
    if name == "ESDCodec":  # where it was
        import warnings

        from ..codec import ESDCodec

        warnings.warn("ESDCodec is now in esdcodec: `from esdcodec import ESDCodec`", DeprecationWarning, stacklevel=2)
        return ESDCodec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

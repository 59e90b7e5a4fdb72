"""Old name of `esdcodec.bitstream`."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    from .. import bitstream

    if name not in bitstream.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is now in esdcodec.bitstream", DeprecationWarning, stacklevel=2)
    return getattr(bitstream, name)

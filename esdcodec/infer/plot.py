"""Old name of `esdcodec.evaluation.plot`."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    from ..evaluation import plot

    warnings.warn("esdcodec.infer.plot is now esdcodec.evaluation.plot", DeprecationWarning, stacklevel=2)
    return getattr(plot, name)

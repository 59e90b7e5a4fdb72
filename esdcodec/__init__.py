"""ESDCodec: a 24 kHz neural speech codec with 25 frames of discrete codes a second.

    import esdcodec
    codec = esdcodec.load()
    codes = codec.encode(audio, sample_rate, n_quantizers=3)   # [B, 3, L]
    audio = codec.decode(codes)                                # [B, 1, T] at 24 kHz

Names are imported when first used, so that `import esdcodec` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .infer.compat import Inference, get_model
    from .loudness import gain_for
    from .model_codec.codec import ESDCodec
    from .pretrained import load

__version__ = "0.1.0"
__all__ = ["ESDCodec", "Inference", "gain_for", "get_model", "load"]

_HOME = {
    "ESDCodec": ".model_codec.codec",
    "load": ".pretrained",
    "gain_for": ".loudness",
    "get_model": ".infer.compat",
    "Inference": ".infer.compat",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

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
    from .audio import AudioFileError
    from .bitstream import BitstreamError
    from .codec import ESDCodec, load
    from .errors import ESDCodecError
    from .infer.compat import Inference, get_model
    from .loudness import gain_for
    from .weights import ModelNotFoundError, WeightsError

__version__ = "0.1.0"
__all__ = [
    "AudioFileError",
    "BitstreamError",
    "ESDCodec",
    "ESDCodecError",
    "Inference",
    "ModelNotFoundError",
    "WeightsError",
    "gain_for",
    "get_model",
    "load",
]

_HOME = {
    "ESDCodec": ".codec",
    "load": ".codec",
    "gain_for": ".loudness",
    "get_model": ".infer.compat",
    "Inference": ".infer.compat",
    "ESDCodecError": ".errors",
    "AudioFileError": ".audio",
    "BitstreamError": ".bitstream",
    "ModelNotFoundError": ".weights",
    "WeightsError": ".weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

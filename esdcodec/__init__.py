"""ESDCodec: a 24 kHz neural speech codec with 25 frames of discrete codes a second.

    import esdcodec
    codec = esdcodec.load()
    codes = codec.encode(audio, sample_rate, n_quantizers=3)   # [B, 3, L]
    audio = codec.decode(codes)                                # [B, 1, T] at 24 kHz

Names are imported when first used, so that `import esdcodec` takes no time.
"""

from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from . import tts
    from .audio import AudioFileError
    from .bitstream import BitstreamError
    from .codec import ESDCodec, load
    from .errors import ESDCodecError
    from .infer.compat import Inference, get_model
    from .infer.tts import load_tts
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
    "load_tts",
    "tts",
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
    "load_tts": ".infer.tts.load",
    "tts": ".tts",
}
__getattr__, __dir__ = lazy_names(__name__, _HOME)

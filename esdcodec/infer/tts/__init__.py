"""Speech from text, and speech in another voice: models, voices, and what they give.

The public names are those of `esdcodec.tts`.
"""

from .load import load_tts
from .voice import Voice

__all__ = ["Voice", "load_tts"]

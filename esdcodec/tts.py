"""Speech from text: what is imported by name.

    from esdcodec.tts import Voice, load_tts
    tts = load_tts()
    speech = tts("Text.", voice=Voice.load("me.voice"))
    speech.save("text.wav")

`docs/tts.md` is the guide.
"""

from .infer.tts.folder import SpeechModelError, bundle_tts
from .infer.tts.load import load_tts
from .infer.tts.settings import SpeechSettings
from .infer.tts.speech import Speech, SpeechStream
from .infer.tts.synthesis import TextToSpeech
from .infer.tts.voice import Voice, VoiceError
from .model_tts.acoustic_generation import AcousticSettings
from .model_tts.decoding import DecodingSettings

__all__ = [
    "AcousticSettings",
    "DecodingSettings",
    "Speech",
    "SpeechModelError",
    "SpeechSettings",
    "SpeechStream",
    "TextToSpeech",
    "Voice",
    "VoiceError",
    "bundle_tts",
    "load_tts",
]

"""The model that speaks is that of `tests/infer/tts`."""

from tests.infer.tts.conftest import parts, talk, tts_folder, voice

__all__ = ["parts", "talk", "tts_folder", "voice"]

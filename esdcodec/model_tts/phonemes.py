"""How the words of a text are said, by the packages that know it."""

import importlib.util
import re
import unicodedata
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any


class Phonemizer(ABC):
    """Text to phonemes.

    Args:
        language: a name such as `en-us`.

    Raises:
        ImportError: the package is not installed; the message says which.
        ValueError: it does not know the language.
    """

    @abstractmethod
    def __init__(self, language: str) -> None: ...

    @abstractmethod
    def phonemes(self, text: str) -> str:
        """The text in the International Phonetic Alphabet, with its punctuation.

        Raises:
            ValueError: a word cannot be said.
        """


class GruutPhonemizer(Phonemizer):
    """A lexicon, and a model for the words that it has not; numbers, dates and amounts of money are read out.

    By the package `gruut` (MIT), which needs nothing of the system. British and American sound the same.
    """

    def __init__(self, language: str) -> None:
        try:
            import gruut
        except ImportError as error:
            raise ImportError('phonemes by gruut need the package: pip install "esdcodec[tts]"') from error
        known = gruut.get_supported_languages()
        if language not in known:
            raise ValueError(f"gruut has no phonemes of language={language!r}: {', '.join(sorted(known))}")
        name = language.partition("-")[0]
        if importlib.util.find_spec(f"gruut_lang_{name}") is None:
            raise ImportError(f"phonemes of {language} need its lexicon: pip install gruut-lang-{name}")
        self.language, self._sentences = language, gruut.sentences
        self._known = lru_cache(1 << 16)(self._phonemes)  # a training reads the same texts again and again

    def phonemes(self, text: str) -> str:
        return self._known(text)

    def _phonemes(self, text: str) -> str:
        for pattern, written in REWRITTEN:
            text = pattern.sub(written, text)
        if self.language.startswith("en"):
            text = _without_accents(text)  # the lexicon has none
        sentences = self._sentences(text, lang=self.language)
        return " ".join(" ".join("".join(map(_said, sentence)) for sentence in sentences).split())


REWRITTEN = [  # what gruut does not say, or takes for a part of the word
    (re.compile(r"(?<=\d)\s*[–—]\s*(?=\d)"), " to "),
    (re.compile(r"\s*(?:[–—]|--+|(?<=\s)-(?=\s))\s*"), ", "),
    (re.compile(r"…"), "..."),
    (re.compile(r"(?<=[^\W\d])(?=\d)"), " "),  # x2
    (re.compile(r"(?<=[^\W\d])/(?=[^\W\d])"), " "),
]


def _without_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))


def _said(word: Any) -> str:
    """A word of gruut's in phonemes, with the space after it; a punctuation mark is itself."""
    if not word.is_spoken:
        return str(word.text_with_ws)
    if not word.phonemes:
        raise ValueError(f"{word.text!r} is no word that can be said: take it out, or write it in words")
    return "".join(word.phonemes) + " " * word.text_with_ws[-1].isspace()


class EspeakPhonemizer(Phonemizer):
    """Any of a hundred languages, by espeak-ng.

    Needs the package `phonemizer` (GPL), and espeak-ng as a system package or by `espeakng-loader` (GPL).
    """

    def __init__(self, language: str) -> None:
        try:
            from phonemizer.backend import EspeakBackend
        except ImportError as error:
            raise ImportError(
                "phonemes by espeak need phonemizer: pip install phonemizer espeakng-loader (GPL)"
            ) from error
        try:
            import espeakng_loader
            from phonemizer.backend.espeak.wrapper import EspeakWrapper

            EspeakWrapper.set_library(espeakng_loader.get_library_path())
            EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
        except ImportError:
            pass  # the system's
        try:
            self._backend = EspeakBackend(
                language, preserve_punctuation=True, with_stress=True, language_switch="remove-flags"
            )
        except RuntimeError as error:
            raise ValueError(f"no phonemes of language={language!r} ({error})") from error

    def phonemes(self, text: str) -> str:
        return str(self._backend.phonemize([text], strip=True)[0])


BACKENDS: dict[str, type[Phonemizer]] = {"gruut": GruutPhonemizer, "espeak": EspeakPhonemizer}

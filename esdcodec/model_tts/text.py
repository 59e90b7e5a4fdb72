"""Text to numbers: bytes, the tokenizer of a language model, or phonemes."""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from .phonemes import BACKENDS, Phonemizer

IPA = (  # what the backends write for any language: letters, then marks, of which some stand on the letter before
    *"abcdefghijklmnopqrstuvwxyzæðøħŋœƞǀǁǂǃβθχᵊᵻⱱ",
    *map(chr, range(0x250, 0x2B0)),
    *"ʰʲʷʼˈˌːˑ˞ˠˤ˥˦˧˨˩ⁿˡ",
    *map(chr, (0x303, 0x306, 0x308, 0x30A, 0x30D, 0x318, 0x319, 0x31A, 0x31C, 0x31D, 0x31E, 0x31F, 0x320, 0x324)),
    *map(
        chr, (0x325, 0x327, 0x329, 0x32A, 0x32C, 0x32F, 0x330, 0x334, 0x339, 0x33A, 0x33B, 0x33C, 0x33D, 0x35C, 0x361)
    ),
    *"0123456789",
)
PUNCTUATION = (*" ,.;:!?¡¿-–—…'\"‘’“”„«»()[]。、，！？；：",)
SYMBOLS = {symbol: i for i, symbol in enumerate((*PUNCTUATION, *IPA))}


class TextFrontEnd(ABC):
    """Text to the first tokens of a vocabulary, `n_tokens` of them."""

    n_tokens: int

    def ids(self, text: str) -> list[int]:
        """Tokens of a text. Letters are composed (NFC), and white space is one space.

        Raises:
            ValueError: the text is empty, or holds something that this front end does not know.
        """
        text = " ".join(unicodedata.normalize("NFC", text).split())
        found = self._ids(text) if text else []
        if not found:
            raise ValueError(f"the text {text!r} holds nothing to say: give at least a word")
        return found

    @abstractmethod
    def _ids(self, text: str) -> list[int]: ...

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What `make_text` makes it from."""

    @abstractmethod
    def tokenizer(self) -> Any:
        """A new tokenizer of `transformers` with the same tokens, to be exported."""


def make_text(config: Mapping[str, Any]) -> TextFrontEnd:
    """The front end that `config` names by its `kind`, with the arguments of its constructor.

    Raises:
        ValueError: there is none of this kind, or it has other arguments.
        OSError: its files are not there.
    """
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    if kind not in FRONT_ENDS:
        raise ValueError(f"text front end kind={kind!r} is not known: take one of {', '.join(FRONT_ENDS)}")
    try:
        return FRONT_ENDS[kind](**arguments)
    except TypeError as error:
        raise ValueError(f"text front end {kind}: {error}") from error


class ByteText(TextFrontEnd):
    """The bytes of UTF-8: any language, no dependency."""

    n_tokens = 256

    def _ids(self, text: str) -> list[int]:
        return list(text.encode())

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "bytes"}

    def tokenizer(self) -> Any:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        tokenizer = Tokenizer(models.BPE(_letters_of_bytes(), []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _letters_of_bytes() -> dict[str, int]:
    """The letter by which byte-level tokenizers write each byte: itself where it can be seen, else one above 255."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


class TokenizerText(TextFrontEnd):
    """The tokenizer of a language model, from its folder.

    Names of special tokens that occur in a text are text.

    Args:
        n_tokens: of them that are text, where codes were added. Default: all.
    """

    def __init__(self, path: str | Path, n_tokens: int | None = None) -> None:
        from transformers import AutoTokenizer

        self.path = str(path)
        self._tokenizer = AutoTokenizer.from_pretrained(self.path)
        self.n_tokens = max(self._tokenizer.get_vocab().values()) + 1 if n_tokens is None else n_tokens

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "tokenizer", "path": self.path}

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.path)


class PhonemeText(TextFrontEnd):
    """Phonemes of a text, a token for each letter and mark of the International Phonetic Alphabet.

    Args:
        language: as the `backend` names it, such as `en-us`.
        backend: which package knows the words, one of `BACKENDS`.
    """

    n_tokens = len(SYMBOLS)

    def __init__(self, language: str, backend: str = "gruut") -> None:
        if backend not in BACKENDS:
            raise ValueError(f"phonemes by backend={backend!r} are not known: take one of {', '.join(BACKENDS)}")
        self.language, self.backend = language, backend

    def _ids(self, text: str) -> list[int]:
        phonemes = self.phonemes(text)
        return self.ids_of_phonemes(phonemes) if any(letter.isalpha() for letter in phonemes) else []

    def ids_of_phonemes(self, phonemes: str) -> list[int]:
        """Tokens of phonemes that were written before.

        Raises:
            ValueError: there is a letter that no language has.
        """
        symbols = unicodedata.normalize("NFD", phonemes)
        unknown = sorted(set(symbols) - SYMBOLS.keys())
        if unknown:
            raise ValueError(f"{phonemes!r} holds {unknown}, no phonemes: take them out, or write other words")
        return [SYMBOLS[symbol] for symbol in symbols]

    def phonemes(self, text: str) -> str:
        """The text in the International Phonetic Alphabet, with its punctuation.

        Raises:
            ValueError: the backend does not know the language, or how to say a word.
            ImportError: it is not installed.
        """
        return self._phonemizer.phonemes(text)

    @cached_property
    def _phonemizer(self) -> Phonemizer:
        return BACKENDS[self.backend](self.language)

    def __getstate__(self) -> dict[str, Any]:
        return self.arguments

    @property
    def arguments(self) -> dict[str, str]:
        return {"language": self.language, "backend": self.backend}

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "phonemes", **self.arguments}

    def tokenizer(self) -> Any:
        """Takes phonemes, not text."""
        from tokenizers import Tokenizer, decoders, models, normalizers
        from transformers import PreTrainedTokenizerFast

        tokenizer = Tokenizer(models.BPE(SYMBOLS, []))
        tokenizer.normalizer = normalizers.NFD()
        tokenizer.decoder = decoders.Fuse()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


FRONT_ENDS: dict[str, type[Any]] = {"bytes": ByteText, "tokenizer": TokenizerText, "phonemes": PhonemeText}

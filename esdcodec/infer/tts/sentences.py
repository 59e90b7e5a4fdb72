"""Long text as sentences, each short enough for a model."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_CHARACTERS = 100_000  # of a text; about two hours of speech
SHORTEST = 20  # characters; a shorter sentence is said together with the one before it
LONGEST = 300  # a longer one is cut where a comma is, else between words
_PARAGRAPH = re.compile(r"\n\s*\n")
_CLAUSE = re.compile(r"(?<=[,;:、，；：—–])\s*")


@dataclass(frozen=True)
class Sentence:
    """What is said in one breath."""

    text: str
    ends_paragraph: bool


def clean_text(text: str, *, most: int = MAX_CHARACTERS) -> str:
    """The text without what cannot be said: control characters, and white space at its ends.

    Raises:
        ValueError: it is empty, too long, or is no text.
    """
    if not isinstance(text, str):
        raise ValueError(f"the text is {type(text).__name__}: give a str; bytes by `data.decode('utf-8')`")
    if len(text) > most:
        raise ValueError(f"the text has {len(text):,} characters, and {most:,} are the most: give it in parts")
    for i, character in enumerate(text):
        if "\ud800" <= character <= "\udfff":
            raise ValueError(f"the text is not UTF-8 at character {i}: convert it, such as by `iconv -t UTF-8`")
    text = "".join(c if c in "\n\t" or c.isprintable() or c.isspace() else " " for c in text).strip()
    if not any(character.isalnum() for character in text):
        raise ValueError(f"the text {text[:40]!r} holds nothing to say: give at least a word")
    return text


def sentences(text: str, language: str = "en") -> Iterator[Sentence]:
    """The sentences of a clean text, in their order; none is longer than `LONGEST` characters.

    Args:
        language: code of two letters; of one that is not known, by the rules that most have.

    Raises:
        ImportError: the package that splits is not there.
    """
    for paragraph in _PARAGRAPH.split(text):
        parts = [piece for each in _grouped(_split(paragraph, language)) for piece in _shortened(each)]
        for i, part in enumerate(parts):
            yield Sentence(part, ends_paragraph=i == len(parts) - 1)


def _split(paragraph: str, language: str) -> list[str]:
    try:
        from sentencex import segment
    except ImportError as error:
        raise ImportError('speech from text needs sentencex: `pip install "esdcodec[tts]"`') from error
    stripped = (" ".join(each.split()) for each in segment(language, paragraph))
    return [each for each in stripped if each]


def _grouped(split: list[str]) -> list[str]:
    """With the shortest said together: a word alone, or marks alone, is what models say worst."""
    grouped: list[str] = []
    for each in split:
        short = len(each) < SHORTEST or (grouped and len(grouped[-1]) < SHORTEST)
        if grouped and short and len(grouped[-1]) + len(each) < LONGEST:
            grouped[-1] += f" {each}"
        elif any(character.isalnum() for character in each):
            grouped.append(each)
    return grouped


def _shortened(sentence: str) -> Iterator[str]:
    """A sentence in pieces of at most `LONGEST` characters."""
    while len(sentence) > LONGEST:
        head = sentence[: LONGEST + 1]
        clauses = [match.end() for match in _CLAUSE.finditer(head) if LONGEST // 3 < match.end() <= LONGEST]
        cut = clauses[-1] if clauses else head.rfind(" ")
        cut = cut if cut > 0 else LONGEST
        yield sentence[:cut].strip()
        sentence = sentence[cut:].strip()
    if any(character.isalnum() for character in sentence):
        yield sentence

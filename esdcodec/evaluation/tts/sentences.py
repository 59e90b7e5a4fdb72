"""Lists of sentences that are to be said, in which voices."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FORMATS = "text, text|voice, text|voice|recording, or Seed-TTS-eval's utt|prompt text|prompt wav|text"


@dataclass(frozen=True)
class ListedSentence:
    """A sentence, and what is known of how it should sound."""

    name: str  # of its audio files, without an extension
    text: str
    voice: str | None = None  # a name that the model knows, a voice's file, or a recording; None: the model's own
    voice_text: str | None = None  # what is said in that recording
    recording: Path | None = None  # of this sentence in this voice


def read_sentences(file: Path) -> list[ListedSentence]:
    """The sentences of a list, one a line, empty ones left out.

    Lines have the fields `text`, `text|voice` or `text|voice|recording`, and are called by their number, as
    `esdcodec speak --lines` calls its files: 00001, 00002, … Those of four or five fields are Seed-TTS-eval's
    `utt|prompt text|prompt wav|text` with the recording of the text, if there is one. Paths are relative to the list.

    Raises:
        ValueError: a line has other fields, or a file that is not there; the message names it.
        OSError: the list cannot be read.
    """
    sentences = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            try:
                sentences.append(_sentence(line, number, file.parent))
            except ValueError as error:
                raise ValueError(f"{file}:{number}: {error}") from error
    if not sentences:
        raise ValueError(f"{file} has no sentences: write one a line ({FORMATS})")
    twice = [name for name, n in Counter(sentence.name for sentence in sentences).items() if n > 1]
    if twice:
        raise ValueError(f"{file} has several sentences called {', '.join(twice[:3])}: give each its own name")
    return sentences


def _sentence(line: str, number: int, folder: Path) -> ListedSentence:
    fields = [field.strip() for field in line.split("|")]
    if len(fields) > 5 or not fields[3 if len(fields) > 3 else 0]:
        raise ValueError(f"{line!r} is no sentence: write {FORMATS}")
    if len(fields) > 3:
        name, voice_text, prompt, text, *recording = fields
        return ListedSentence(name, text, str(_existing(prompt, folder)), voice_text, _recording(recording, folder))
    text, *others = fields
    voice = (others[0] if others else "") or None
    if voice is not None and (folder / voice).is_file():
        voice = str(folder / voice)
    return ListedSentence(f"{number:05d}", text, voice, None, _recording(others[1:], folder))


def _recording(fields: list[str], folder: Path) -> Path | None:
    return _existing(fields[0], folder) if fields and fields[0] else None


def _existing(name: str, folder: Path) -> Path:
    if not (folder / name).is_file():
        raise ValueError(f"there is no file {folder / name}")
    return folder / name

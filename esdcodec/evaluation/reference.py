"""The recordings that systems are scored on, and what is known of each."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import Waveform, opened, resample

SAMPLE_RATE = 24000  # Hz, at which systems are compared
SILENCE = 2e-4  # peak, full scale 1.0 (-74 dBFS), up to which a recording is silent


@dataclass(frozen=True)
class Reference:
    """A recording below the folder that is evaluated.

    What is known of it comes from files beside it: `NAME.json` with `text`, `language` and `speaker`, as corpora in
    the Emilia format have it, and `NAME.txt` with the text alone. `NAME.wav.json` is for `NAME.wav` and no other.
    """

    path: Path
    name: str  # its path relative to the folder
    content: str  # hash of the file
    text: str | None = None
    language: str | None = None  # code such as "en"
    speaker: str | None = None

    @property
    def waveform(self) -> Waveform:
        """Samples ``[T]`` at `SAMPLE_RATE`, channels averaged.

        Raises:
            AudioFileError: the file cannot be read.
        """
        return self._audio[0]

    @property
    def problems(self) -> list[str]:
        """What is missing or damaged in the file."""
        return self._audio[1]

    @cached_property
    def _audio(self) -> tuple[Waveform, list[str]]:
        return read_audio(self.path)

    def group(self, by: str) -> str:
        """The group that the recording belongs to: its first folder, or its speaker."""
        if by == "folder":
            first, *rest = Path(self.name).parts
            return first if rest else "."
        return self.speaker or "unknown"


def read_reference(file: Path, folder: Path) -> Reference:
    """What is known of a recording; its samples are read when they are needed.

    Raises:
        ValueError: a file beside it is not what it should be.
        OSError: a file cannot be read.
    """
    known: dict[str, Any] = {}
    if beside := _beside(file, ".json"):
        try:
            known = json.loads(beside.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"{beside}: not JSON in UTF-8 ({error}); mend it or take it away") from error
        known = known if isinstance(known, dict) else {}
    if beside := _beside(file, ".txt"):
        try:
            known["text"] = beside.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{beside}: no text in UTF-8 ({error}); convert it or take it away") from error
    about = {name: str(known[name]) for name in ("text", "language", "speaker") if known.get(name) is not None}
    return Reference(file, file.relative_to(folder).as_posix(), content_hash(file), **about)


def read_audio(file: Path) -> tuple[Waveform, list[str]]:
    """Samples ``[T]`` of a file at `SAMPLE_RATE`, and what is missing or damaged in it.

    Raises:
        AudioFileError: it cannot be read.
    """
    problems: list[str] = []
    with opened(file, problems=problems) as (rate, blocks):
        waveform = np.concatenate(list(blocks))
    return resample(waveform, rate, SAMPLE_RATE), problems


def _beside(file: Path, suffix: str) -> Path | None:
    """`NAME.wav.txt` or else `NAME.txt` of `NAME.wav`."""
    candidates = (file.with_name(file.name + suffix), file.with_suffix(suffix))
    return next((path for path in candidates if path.is_file()), None)


def content_hash(file: Path) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:32]


def text_hash(*texts: object) -> str:
    """Of what the texts say."""
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:32]


def is_silent(waveform: Waveform) -> bool:
    return bool(np.abs(waveform).max(initial=0.0) <= SILENCE)

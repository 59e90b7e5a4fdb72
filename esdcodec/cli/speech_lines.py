"""What `esdcodec speak` says: the text of the command line, of a pipe, or of each line of a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ..infer.files import CodedFile
from ..pipes import STDIN, STDOUT, is_stream, open_source
from .options import AUDIO_FORMATS, UsageError, names_folder
from .outcome import Outcome
from .paths import Job
from .speech_model import check_text

MOST_BYTES = 2**26  # of a text, or a file of lines


@dataclass(frozen=True)
class Line:
    """A text, who says it, and where it goes."""

    source: Path  # what it is called
    text: str
    voice: str | None
    target: Path

    def outcome(self, result: CodedFile | str) -> Outcome:
        return Outcome(Job(self.source, self.target), [self.target], result)


def text_of(text: str, output: str | None, format: str, voice: str | None) -> Line:
    """The text of the command line, or with `-` of the standard input.

    Raises:
        UsageError: it cannot be said, or there is nowhere to write.
    """
    source, name = Path("text"), output or f"speech.{format}"
    if text == "-":
        source, name = STDIN, output or "-"
        with open_source(STDIN) as stream:
            text = _decoded(stream.read(MOST_BYTES + 1), "the text")
    text = check_text(text)
    target = STDOUT if name == "-" else Path(name)
    if target == STDOUT and sys.stdout.isatty():
        raise UsageError("this would write binary data to the terminal: give --output, or a pipe")
    if names_folder(name):
        target = target / f"speech.{format}"
    elif not is_stream(target) and target.suffix[1:].lower() not in AUDIO_FORMATS:
        known = ", ".join(f".{each}" for each in AUDIO_FORMATS)
        raise UsageError(f"--output {name}: no such format; known are {known} (a folder: end it with /)")
    return Line(source, text, voice, target)


def lines_of(file: str, output: str | None, format: str, voice: str | None) -> tuple[list[Line], list[Outcome]]:
    """The lines of a file, and those of them that cannot be said.

    Raises:
        UsageError: there is none, or nowhere to write.
        OSError: there is no such file.
    """
    if output is None or output == "-" or not (names_folder(output) or Path(output).suffix[1:] not in AUDIO_FORMATS):
        raise UsageError("--lines writes several files: name a folder with --output (end it with /)")
    with open_source(STDIN if file == "-" else Path(file)) as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UsageError(f"{file} is larger than {MOST_BYTES // 2**20} MiB: split it")
    good, bad = [], []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        source, target = Path(f"{file}:{number}"), Path(output) / f"{number:05d}.{format}"
        try:
            text, own, *_ = [*_decoded(line, "this line").split("|"), ""]  # as `evaluate-tts` reads them
            good.append(Line(source, check_text(text), own.strip() or voice, target))
        except ValueError as error:
            bad.append(Outcome(Job(source, target), [target], str(error)))
    if not good and not bad:
        raise UsageError(f"{file} holds no text: write one in each line")
    return good, bad


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{what} is not UTF-8 at byte {error.start}: convert it, such as by `iconv -f LATIN1 -t UTF-8`"
        ) from error

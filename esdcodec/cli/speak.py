"""`esdcodec speak`: text to speech."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..pipes import STDIN, STDOUT, is_stream, open_source, output
from .options import AUDIO_FORMATS, FileSettings, UsageError, add_existing, format_of, names_folder
from .outcome import Outcome, reason_of, summarise
from .parsing import Command, Commands, add_command
from .paths import FoundFiles, Job
from .plan import wanted
from .speech_model import SpeechModelChoice, add_speech_model, check_text

if TYPE_CHECKING:
    from ..infer.files import CodedFile
    from ..tts import Speech, TextToSpeech

GROUP = 16  # lines that are said together
MOST_BYTES = 2**26  # of a file of lines
EXAMPLES = """  esdcodec speak "Something to say." -o said.wav            in the model's own voice
  esdcodec speak "The same." --voice me.voice -o me.flac    in one that `esdcodec voice` made
  esdcodec speak - -o chapter.mp3 < chapter.txt             a text of any length
  esdcodec speak --lines texts.txt -o said/                 a file for each line: said/00001.wav, …
  esdcodec speak "As it comes." --stream -o - | aplay
A line may end with |NAME, the voice that says it. Files say in their metadata that they were generated."""


def add_parser(commands: Commands[Command]) -> None:
    command = add_command(commands, "speak", "text to speech (extra [tts])", EXAMPLES, start)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("text", nargs="?", metavar="TEXT", help="what is said, or - for a pipe")
    what.add_argument("--lines", metavar="FILE", help="a text in each line, or - for a pipe; --output is a folder")
    group = command.add_argument_group("files")
    group.add_argument("-o", "--output", help="file, folder/, or - for a pipe (default: speech.wav; of a pipe, a pipe)")
    group.add_argument("--format", choices=AUDIO_FORMATS, help="of what is written (default: that of --output, or wav)")
    add_existing(group)
    group = command.add_argument_group("stream")
    group.add_argument("--stream", action="store_true", help="write wav as it is generated")
    group.add_argument(
        "--look-ahead-ms", type=float, default=120.0, help="of the decoder: what less costs is in docs/live.md"
    )
    add_speech_model(command, decoding=True)


@dataclass(frozen=True)
class Line:
    """A text, who says it, and where it goes."""

    source: Path  # what it is called
    text: str
    voice: str | None
    target: Path


def start(args: argparse.Namespace) -> int:
    if args.overwrite and args.skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other")
    format = format_of(args.output, args.format, AUDIO_FORMATS)
    choice = SpeechModelChoice.of(args)
    lines, outcomes = _lines(args, format) if args.lines else ([_one(args, format)], [])
    if args.stream and (args.lines or format != "wav"):
        raise UsageError("--stream writes one text, as wav")
    if any(line.target == STDOUT for line in lines) and args.json:
        raise UsageError("--json and the result would both go to the standard output: give --output a file")
    todo, skipped = [], 0
    for line in lines:
        try:
            is_wanted = wanted([line.target], overwrite=args.overwrite, skip_existing=args.skip_existing)
        except ValueError as error:
            outcomes.append(_outcome(line, str(error)))
            continue
        todo += [line] * is_wanted
        skipped += not is_wanted
    description, results = None, iter(outcomes)
    if todo:
        choice.check()
        tts = choice.load()
        description = choice.describe(tts)
        speaker = Speaker(tts, choice, format, not args.no_tag)
        results = chain(
            results, [speaker.stream(todo[0], args.look_ahead_ms)] if args.stream else speaker.say_all(todo)
        )
    done = []
    for outcome in results:
        done.append(outcome)
        if args.json:
            print(outcome.to_json(), flush=True)
    settings = FileSettings((args.lines or args.text,), args.output or str(lines[0].target), json=args.json)
    piped = any(line.target == STDOUT for line in lines)
    found = FoundFiles([])
    summarise(settings, done, skipped=skipped, found=found, description=description, piped=piped, problem="check")
    return 0 if all(outcome.is_whole for outcome in done) else 1


# ---- what is said ----------------------------------------------------------------------------------------------------


def _one(args: argparse.Namespace, format: str) -> Line:
    """The text of the command line, or of the standard input."""
    if args.text == "-":
        with open_source(STDIN) as stream:
            text = check_text(_decoded(stream.read(MOST_BYTES + 1), "the text"))
    else:
        text = check_text(args.text)
    name = args.output or ("-" if args.text == "-" else f"speech.{format}")
    target = STDOUT if name == "-" else Path(name)
    if names_folder(name):
        target = target / f"speech.{format}"
    elif not is_stream(target) and target.suffix[1:].lower() not in AUDIO_FORMATS:
        raise UsageError(
            f"--output {name}: no such format; known are .{', .'.join(AUDIO_FORMATS)} (a folder: end it with /)"
        )
    if target == STDOUT and sys.stdout.isatty():
        raise UsageError("this would write binary data to the terminal: give --output, or a pipe")
    return Line(STDIN if args.text == "-" else Path("text"), text, args.voice, target)


def _lines(args: argparse.Namespace, format: str) -> tuple[list[Line], list[Outcome]]:
    """The lines of a file, and those that cannot be said."""
    if args.output is None or is_stream(Path(args.output)) or args.output == "-" or Path(args.output).is_file():
        raise UsageError("--lines writes several files: name a folder with --output")
    if Path(args.output).suffix[1:].lower() in AUDIO_FORMATS and not names_folder(args.output):
        raise UsageError(f"--output {args.output}: --lines writes several files: name a folder (end it with /)")
    with open_source(STDIN if args.lines == "-" else Path(args.lines)) as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UsageError(f"{args.lines} is larger than {MOST_BYTES // 2**20} MiB: split it")
    good, bad = [], []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        source, target = Path(f"{args.lines}:{number}"), Path(args.output) / f"{number:05d}.{format}"
        try:
            text, _, voice = _decoded(line, "this line").partition("|")
            good.append(Line(source, check_text(text), voice.strip() or args.voice, target))
        except ValueError as error:
            bad.append(Outcome(Job(source, target), [target], str(error)))
    if not good and not bad:
        raise UsageError(f"{args.lines} holds no text: write one in each line")
    return good, bad


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{what} is not UTF-8 at byte {error.start}: convert it, such as by `iconv -f LATIN1 -t UTF-8`"
        ) from error


# ---- saying it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speaker:
    """A model with all that was chosen."""

    tts: TextToSpeech
    choice: SpeechModelChoice
    format: str
    tag: bool

    def say_all(self, lines: Sequence[Line]) -> Iterator[Outcome]:
        """Lines in groups; one that cannot be said does not keep the others from it."""
        for start in range(0, len(lines), GROUP):
            group = lines[start : start + GROUP]
            began = time.perf_counter()
            said: Sequence[Speech | str]
            try:
                voices = [line.voice for line in group]
                said = self.tts.batch([line.text for line in group], voices, **self.choice.changes)
            except Exception:  # of one of them
                said = [self._attempt(line) for line in group]
            spent = (time.perf_counter() - began) / len(group)
            for line, speech in zip(group, said):
                yield _outcome(line, speech if isinstance(speech, str) else self._write(line, speech, spent))

    def stream(self, line: Line, look_ahead_ms: float) -> Outcome:
        """One text, written as it is generated."""
        from ..infer.files import CodedFile
        from ..infer.sinks import sink_into
        from ..infer.tts.speech import TAG

        n_samples, began = 0, time.perf_counter()
        stream = self.tts.stream(line.text, line.voice, look_ahead_ms=look_ahead_ms, **self.choice.changes)
        with (
            output(line.target) as target,
            sink_into(target, "wav", TAG if self.tag else None)(stream.sample_rate, None) as write,
        ):
            for piece in stream:
                write(piece.numpy())
                target.flush()
                n_samples += len(piece)
        spent = time.perf_counter() - began
        problems = _problems(stream.stops)
        return _outcome(line, CodedFile(n_samples / stream.sample_rate, 0, generate_seconds=spent, problems=problems))

    def _attempt(self, line: Line) -> Speech | str:
        try:
            return self.tts(line.text, line.voice, **self.choice.changes)
        except Exception as error:  # a letter that is not known, no such voice, or a fault in this program
            return reason_of(error, line.source)

    def _write(self, line: Line, speech: Speech, spent: float) -> CodedFile | str:
        from ..infer.files import CodedFile

        try:
            with output(line.target) as target:
                speech.write(target, self.format, tag=self.tag)
        except OSError as error:
            return reason_of(error, line.source)
        return CodedFile(speech.seconds, 0, generate_seconds=spent, problems=_problems(speech.stops))


def _outcome(line: Line, result: CodedFile | str) -> Outcome:
    return Outcome(Job(line.source, line.target), [line.target], result)


def _problems(stops: Sequence[str]) -> list[str]:
    """Sentences that may not be what they should."""
    words = {"length": "became too long and was cut off", "loop": "repeated itself and was cut off"}
    return [f"sentence {i} of {len(stops)} {words[stop]}" for i, stop in enumerate(stops, 1) if stop in words]

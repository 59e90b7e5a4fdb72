"""How `esdcodec speak` says lines, and what it reports."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ..infer.files import CodedFile
from ..infer.sinks import sink_into
from ..infer.tts.speech import TAG
from ..pipes import STDOUT, output
from ..tts import Speech, TextToSpeech
from .options import FileSettings
from .outcome import Outcome, reason_of, summarise
from .paths import FoundFiles
from .plan import wanted
from .speech_lines import Line
from .speech_model import SpeechModelChoice

GROUP = 16  # lines that are said together


@dataclass(frozen=True)
class Speaking:
    """How lines are said, and what happens to files that exist."""

    model: SpeechModelChoice
    format: str  # one of AUDIO_FORMATS
    tag: bool = True
    look_ahead_ms: float | None = None  # of a stream; None: files appear when they are complete
    output: str | None = None  # as it was given
    overwrite: bool = False
    skip_existing: bool = False
    json: bool = False  # what is printed


def run(settings: Speaking, lines: Sequence[Line], refused: Sequence[Outcome]) -> int:
    """Say lines, and report on them and on those that were `refused` before; returns the exit code.

    Raises:
        OSError, ValueError, ImportError: there is no such model, voice or setting.
    """
    todo, outcomes = _to_be_said(settings, lines)
    skipped = len(lines) - len(todo) - len(outcomes)
    results: Iterable[Outcome] = chain(refused, outcomes)
    description = None
    if todo:
        settings.model.check()
        speaker = Speaker(settings.model.load(), settings)
        description = settings.model.describe(speaker.tts)
        results = chain(results, speaker.say_all(todo) if settings.look_ahead_ms is None else map(speaker.stream, todo))
    done = []
    for outcome in results:
        done.append(outcome)
        if settings.json:
            print(outcome.to_json(), flush=True)
    summarise(
        FileSettings((), settings.output, json=settings.json),
        done,
        skipped=skipped,
        found=FoundFiles([]),
        description=description,
        piped=any(line.target == STDOUT for line in lines),
        problem="check",
    )
    return 0 if all(outcome.is_whole for outcome in done) else 1


def _to_be_said(settings: Speaking, lines: Iterable[Line]) -> tuple[list[Line], list[Outcome]]:
    """Lines whose files are wanted, and those whose files are in the way."""
    todo, refused = [], []
    for line in lines:
        try:
            if wanted([line.target], overwrite=settings.overwrite, skip_existing=settings.skip_existing):
                todo.append(line)
        except ValueError as error:
            refused.append(line.outcome(str(error)))
    return todo, refused


@dataclass(frozen=True)
class Speaker:
    """A model with all that was chosen."""

    tts: TextToSpeech
    settings: Speaking

    def say_all(self, lines: Sequence[Line]) -> Iterator[Outcome]:
        """Lines in groups; one that cannot be said does not keep the others from it."""
        for start in range(0, len(lines), GROUP):
            group = lines[start : start + GROUP]
            began = time.perf_counter()
            said: Sequence[Speech | str]
            try:
                voices = [line.voice for line in group]
                said = self.tts.batch([line.text for line in group], voices, **self.settings.model.changes)
            except Exception:  # of one of them
                said = [self._attempt(line) for line in group]
            spent = (time.perf_counter() - began) / len(group)
            for line, speech in zip(group, said):
                yield line.outcome(speech if isinstance(speech, str) else self._write(line, speech, spent))

    def stream(self, line: Line) -> Outcome:
        """A text, written as it is generated."""
        began = time.perf_counter()
        try:
            n_samples, stops = self._write_stream(line)
        except BrokenPipeError:
            raise
        except Exception as error:
            return line.outcome(reason_of(error, line.source))
        seconds, spent = n_samples / self.tts.sample_rate, time.perf_counter() - began
        return line.outcome(CodedFile(seconds, 0, generate_seconds=spent, problems=_problems(stops)))

    def _write_stream(self, line: Line) -> tuple[int, Sequence[str]]:
        """Samples, and why each sentence ended."""
        settings, n_samples = self.settings, 0
        stream = self.tts.stream(line.text, line.voice, look_ahead_ms=settings.look_ahead_ms, **settings.model.changes)
        with (
            output(line.target) as target,
            sink_into(target, "wav", TAG if settings.tag else None)(stream.sample_rate, None) as write,
        ):
            for piece in stream:
                write(piece.numpy())
                target.flush()
                n_samples += len(piece)
        return n_samples, stream.stops

    def _attempt(self, line: Line) -> Speech | str:
        try:
            return self.tts(line.text, line.voice, **self.settings.model.changes)
        except Exception as error:  # a letter that is not known, no such voice, or a fault in this program
            return reason_of(error, line.source)

    def _write(self, line: Line, speech: Speech, spent: float) -> CodedFile | str:
        try:
            with output(line.target) as target:
                speech.write(target, self.settings.format, tag=self.settings.tag)
        except OSError as error:
            return reason_of(error, line.source)
        return CodedFile(speech.seconds, 0, generate_seconds=spent, problems=_problems(speech.stops))


def _problems(stops: Sequence[str]) -> list[str]:
    """Sentences that may not be what they should."""
    words = {"length": "became too long and was cut off", "loop": "repeated itself and was cut off"}
    return [f"sentence {i} of {len(stops)} {words[stop]}" for i, stop in enumerate(stops, 1) if stop in words]

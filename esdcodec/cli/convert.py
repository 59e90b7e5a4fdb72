"""`esdcodec convert`: the same words in another voice."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .file_task import FileTask, named_or_seekable
from .options import AUDIO_FORMATS, SOURCES, FileSettings, UsageError, add_files, format_of
from .parsing import Command, Commands, add_command
from .speech_model import SpeechModelChoice, add_speech_model

if TYPE_CHECKING:
    from ..infer.files import CodedFile

EXAMPLES = """  esdcodec convert talk.wav --voice me.voice -o me.wav     a voice that `esdcodec voice` made
  esdcodec convert talks/ --voice NAME -o converted/       a folder, mirrored
  esdcodec convert - -o - < talk.wav > other.wav           the model's own voice"""


def add_parser(commands: "Commands[Command]") -> None:
    command = add_command(commands, "convert", "the same words in another voice (extra [tts])", EXAMPLES, start)
    add_files(command, SOURCES, "file, folder/, or - for a pipe")
    command.add_argument(
        "--format", choices=AUDIO_FORMATS, help="of what is written (default: that of --output, or wav)"
    )
    add_speech_model(command, decoding=False)
    command.reads_audio = True


def start(args: argparse.Namespace) -> int:
    from ..audio import EXTENSIONS
    from .many_files import run

    files = FileSettings.of(args)
    if files.output is None:
        raise UsageError("say with --output where to write")
    task = Convert(SpeechModelChoice.of(args), format_of(args.output, args.format, AUDIO_FORMATS), not args.no_tag)
    return run(files, task, EXTENSIONS, AUDIO_FORMATS)


@dataclass
class Convert(FileTask):
    """Audio to audio in another voice."""

    model: SpeechModelChoice
    format: str = "wav"  # one of AUDIO_FORMATS
    tag: bool = True

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (f".{self.format}",)

    def prepare(self) -> None:
        self.model.check()

    def start(self, threads: int | None) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.tts = self.model.load()

    def check(self, source: Path) -> None:
        from ..audio import probe

        probe(source)

    def describe(self) -> str:
        return self.model.describe(self.tts)

    def run(self, source: Path, targets: list[Path]) -> "CodedFile":
        from ..infer.files import CodedFile, stated_seconds
        from ..infer.sinks import sink_into
        from ..infer.tts.speech import TAG
        from ..pipes import output

        problems: list[str] = []
        rate, n_samples, spent = self.tts.sample_rate, 0, -time.perf_counter()
        with named_or_seekable(source) as audio, output(targets[0]) as target:
            stated = stated_seconds(audio) if self.progress is not None else None
            pieces = self.tts.convert_pieces(audio, self.model.voice, problems=problems, **self.model.changes)
            with sink_into(target, self.format, TAG if self.tag else None)(rate, None) as write:
                for piece in pieces:
                    write(piece.numpy())
                    n_samples += len(piece)
                    if self.progress is not None:
                        self.progress(n_samples / rate, stated)
        spent += time.perf_counter()
        return CodedFile(n_samples / rate, 0, generate_seconds=spent, problems=problems)

"""`esdcodec decode`: .esd files to audio."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .file_task import CodecFileTask, seekable
from .options import AUDIO_FORMATS, SOURCES, CodecSettings, FileSettings, UsageError, add_files, add_model, format_of
from .parsing import Command, Commands, add_command

if TYPE_CHECKING:
    from ..infer.files import CodedFile

EXAMPLES = """  esdcodec decode talk.esd                          writes talk.wav, at the recording's own rate
  esdcodec decode talk.esd -o talk.mp3              the format of the extension
  esdcodec decode coded/ -o decoded --format flac   a folder, mirrored
  esdcodec decode damaged.esd --recover             lost parts become silence, and are named
  esdcodec encode - < talk.wav | esdcodec decode - > decoded.wav"""


def add_parser(commands: "Commands[Command]") -> None:
    command = add_command(commands, "decode", ".esd files to audio", EXAMPLES, start)
    add_files(command, SOURCES, None)
    command.add_argument(
        "--format", choices=AUDIO_FORMATS, help="of what is written (default: that of --output, or wav)"
    )
    command.add_argument("--sample-rate", type=int, help="Hz of what is written (default: the recording's)")
    command.add_argument("--recover", action="store_true", help="decode what is whole of a damaged file")
    add_model(command)


def start(args: argparse.Namespace) -> int:
    from .many_files import run

    task = Decode(
        CodecSettings.of(args),
        format=format_of(args.output, args.format, AUDIO_FORMATS),
        sample_rate=args.sample_rate,
        recover=args.recover,
    )
    return run(FileSettings.of(args), task, (".esd",), AUDIO_FORMATS)


@dataclass
class Decode(CodecFileTask):
    """`.esd` to audio."""

    format: str = "wav"  # one of AUDIO_FORMATS
    sample_rate: int | None = None  # Hz; None: the recording's
    recover: bool = False

    def __post_init__(self) -> None:
        from ..bitstream import MAX_RATE, MIN_RATE
        from ..infer.sinks import FORMATS

        super().__post_init__()
        rate = self.sample_rate
        if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
            raise UsageError(f"--sample-rate {rate} must be {MIN_RATE} to {MAX_RATE} Hz")
        rates = FORMATS[self.format].rates
        if rate and rates and rate not in rates:
            raise UsageError(f"--sample-rate {rate}: {self.format} has {', '.join(map(str, rates))} Hz alone")

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (f".{self.format}",)

    def run(self, source: Path, targets: list[Path]) -> "CodedFile":
        from ..bitstream import read_header
        from ..infer.files import decode_file
        from ..infer.sinks import FORMATS, sink_into
        from ..pipes import output

        format, rate = FORMATS[self.format], self.sample_rate
        with seekable(source, only_if=self.recover or bool(format.rates)) as file:
            if rate is None and format.rates:
                rate = format.nearest_rate(read_header(file).original_rate)
                file.seek(0)
            with output(targets[0]) as target:
                return decode_file(
                    self.codec,
                    file,
                    sink_into(target, self.format),
                    sample_rate=rate,
                    recover=self.recover,
                    pieces=self.pieces,
                    progress=self.progress,
                )

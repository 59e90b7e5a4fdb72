"""`esdcodec encode`: audio to .esd files, or to arrays of codes."""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .file_task import EncodingTask, named_or_seekable
from .options import (
    CODE_FORMATS,
    SOURCES,
    CodecSettings,
    FileSettings,
    add_files,
    add_gain,
    add_model,
    add_n_quantizers,
    format_of,
)
from .parsing import Command, Commands, add_command

if TYPE_CHECKING:
    from ..infer.files import CodedFile

EXAMPLES = """  esdcodec encode talk.mp3                          writes talk.esd beside it
  esdcodec encode talk.mp3 -n 3                     three codebooks, 850 bit/s; 1: the semantic codes alone
  esdcodec encode corpus/ -o coded --jobs 4         a folder, mirrored below coded/
  esdcodec encode corpus/ -o coded --skip-existing  the same again: only what is missing
  esdcodec encode corpus/ -o codes --format npy     arrays [n, L] for training language models
  sox talk.wav -t wav - | esdcodec encode - > talk.esd"""


def add_parser(commands: "Commands[Command]") -> None:
    command = add_command(commands, "encode", "audio to .esd files", EXAMPLES, start)
    add_files(command, SOURCES, None)
    add_n_quantizers(command)
    add_gain(command)
    command.add_argument(
        "--format",
        choices=CODE_FORMATS,
        help="npy: the codes alone, uint16 [n, L] (default: that of --output, or esd)",
    )
    add_model(command)
    command.reads_audio = True


def start(args: argparse.Namespace) -> int:
    from ..audio import EXTENSIONS
    from .many_files import run

    task = Encode(
        CodecSettings.of(args),
        n_quantizers=args.n_quantizers,
        format=format_of(args.output, args.format, CODE_FORMATS),
        gain_db=args.gain,
    )
    return run(FileSettings.of(args), task, EXTENSIONS, CODE_FORMATS)


@dataclass
class Encode(EncodingTask):
    """Audio to `.esd`, or to the codes alone as an array."""

    format: str = "esd"  # one of CODE_FORMATS
    gain_db: float | None = None  # None: what brings each file to the codec's level; arrays can't keep that

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (f".{self.format}",)

    def run(self, source: Path, targets: list[Path]) -> "CodedFile":
        from ..pipes import output

        with output(targets[0]) as target, named_or_seekable(source) as audio:
            return (self._write_array if self.format == "npy" else self._write_esd)(audio, target)

    def _write_esd(self, audio: Path | BinaryIO, target: BinaryIO) -> "CodedFile":
        from ..infer.files import encode_file

        return encode_file(
            self.codec,
            audio,
            target,
            self.n_quantizers,
            self.pieces,
            gain_db=self.gain_db,
            progress=self.progress,
        )

    def _write_array(self, audio: Path | BinaryIO, target: BinaryIO) -> "CodedFile":
        import numpy as np

        from ..infer.files import encode_array

        codes, result = encode_array(
            self.codec, audio, self.n_quantizers, self.pieces, gain_db=self.gain_db or 0.0, progress=self.progress
        )
        array = io.BytesIO()  # numpy writes into no pipe
        np.save(array, codes)
        target.write(array.getbuffer())
        return result

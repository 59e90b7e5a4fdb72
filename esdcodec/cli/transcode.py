"""`esdcodec transcode`: .esd files with fewer codebooks, without decoding."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .file_task import FileTask, seekable
from .options import FileSettings, UsageError, add_files
from .parsing import Command, Commands, add_command

if TYPE_CHECKING:
    from ..infer.files import CodedFile

EXAMPLES = """  esdcodec transcode talk.esd -n 1 -o semantic.esd
  esdcodec transcode coded/ -n 3 -o smaller"""


def add_parser(commands: "Commands[Command]") -> None:
    help = "drop codebooks from .esd files, without decoding"
    command = add_command(commands, "transcode", help, EXAMPLES, start)
    add_files(command, ".esd files, folders, globs, lists, or -", "file, folder, or -")
    command.add_argument("-n", "--n-quantizers", type=int, required=True, help="codebooks to keep")


def start(args: argparse.Namespace) -> int:
    from .many_files import run

    if args.output is None:
        raise UsageError("say with --output where to write")
    return run(FileSettings.of(args), Transcode(args.n_quantizers), (".esd",), ("esd",))


@dataclass
class Transcode(FileTask):
    """`.esd` to `.esd` with fewer codebooks."""

    n_quantizers: int

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".esd",)

    def run(self, source: Path, targets: list[Path]) -> "CodedFile":
        from ..bitstream import Reader, transcode
        from ..infer.files import CodedFile
        from ..pipes import output

        with seekable(source) as file, output(targets[0]) as target:
            reader = Reader(file)
            return CodedFile(reader.duration, transcode(reader, target, self.n_quantizers))

"""`esdcodec roundtrip`: encode and decode, to hear what the codec does."""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .file_task import EncodingTask
from .options import (
    SOURCES,
    CodecSettings,
    FileSettings,
    add_existing,
    add_gain,
    add_model,
    add_n_quantizers,
)
from .parsing import Command, Commands, add_command

if TYPE_CHECKING:
    from ..infer.files import CodedFile

ASSETS = Path(__file__).parents[1] / "assets"
SAMPLE = ASSETS / "sample.flac"
EXAMPLES = """  esdcodec roundtrip                                 the bundled recording from 3 codebooks, and a picture
  esdcodec roundtrip talk.mp3 -n 8                   one file, from 8 codebooks
  esdcodec roundtrip corpus/ more.lst --output out   a folder (mirrored) and a list of files
  esdcodec roundtrip talk.mp3 --model 25hz_v1        the published model, downloaded once"""


def add_parser(commands: "Commands[Command]") -> None:
    help = "encode and decode, to hear what the codec does"
    command = add_command(commands, "roundtrip", help, EXAMPLES, start)
    command.add_argument("sources", nargs="*", metavar="SOURCE", help=f"{SOURCES}; default: a bundled recording")
    add_n_quantizers(command)
    add_gain(command)
    command.add_argument("-o", "--output", default="reconstructed", help="folder (default: %(default)s)")
    command.add_argument("--jobs", type=int, default=1, help="processes, each with its share of the cores")
    command.add_argument("--plot", action="store_true", help="also write a PNG with both spectrograms and the codes")
    add_existing(command)
    add_model(command)
    command.reads_audio = True


def start(args: argparse.Namespace) -> int:
    from ..audio import EXTENSIONS
    from .many_files import run

    files = FileSettings.of(args)
    task = Roundtrip(CodecSettings.of(args), n_quantizers=args.n_quantizers, picture=args.plot, gain_db=args.gain)
    demonstration = not files.sources
    if demonstration:  # `python infer.py`, as often as one likes
        files = replace(files, sources=(str(SAMPLE),), overwrite=not files.skip_existing)
        n = 3 if task.n_quantizers is None else task.n_quantizers  # what the codec is for
        task = replace(task, n_quantizers=n, picture=task.picture or find_spec("matplotlib") is not None)
    code = run(files, task, EXTENSIONS, ())
    if demonstration and not files.json:
        print("The published model, of 110 M parameters, sounds better: add `--model 25hz_v1` (downloads 0.4 GB once).")
    return code


@dataclass
class Roundtrip(EncodingTask):
    """Audio to `.esd` and back to wav, with a picture if wanted."""

    takes_pipes = False

    picture: bool = False
    gain_db: float | None = None  # None: what brings each file to the codec's level

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".wav", ".esd", *[".png"] * self.picture)

    def prepare(self) -> None:
        from .plot import check_matplotlib

        if self.picture:
            check_matplotlib()
        super().prepare()

    def run(self, source: Path, targets: list[Path]) -> "CodedFile":
        from ..infer.files import decode_file, encode_file
        from ..infer.sinks import sink_into
        from ..whole_file import whole_file

        with ExitStack() as stack:
            decoded, coded, *picture = (stack.enter_context(whole_file(target)) for target in targets)
            encoding = encode_file(
                self.codec,
                source,
                coded,
                self.n_quantizers,
                self.pieces,
                gain_db=self.gain_db,
                progress=self.progress,
            )
            decoding = decode_file(
                self.codec,
                coded,
                sink_into(decoded, "wav"),
                sample_rate=self.codec.sample_rate,
                pieces=self.pieces,
                progress=self.progress,
            )
            if picture:
                self._draw(source, decoded, coded, picture[0])
        return replace(encoding, decode_seconds=decoding.decode_seconds, problems=encoding.problems + decoding.problems)

    def _draw(self, source: Path, decoded: BinaryIO, coded: BinaryIO, picture: BinaryIO) -> None:
        from ..audio import read
        from ..bitstream import Reader
        from .plot import draw

        decoded.seek(0)
        rate = self.codec.sample_rate
        reader = Reader(coded)
        original, reconstructed = read(source, rate)[0], read(decoded, rate)[0]
        draw(picture, self.codec, original, reconstructed, reader.read(), reader.header.gain_db, "png")

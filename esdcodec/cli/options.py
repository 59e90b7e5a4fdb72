"""Options that several commands share, and the settings that they become."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DTYPES = ("float32", "bfloat16", "auto")
CODE_FORMATS = ("esd", "npy")
AUDIO_FORMATS = ("wav", "flac", "mp3", "ogg", "opus")
SOURCES = "files, folders (mirrored), globs, lists of paths (.lst, or @FILE), or - for a pipe"


class UsageError(ValueError):
    """The command cannot be done as it was given; exit code 2."""


# ---- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CodecSettings:
    """Which codec, where, and how audio is cut for it."""

    model: str
    device: str | None = None  # None: the best there is
    dtype: str = "float32"  # one of DTYPES
    chunk_seconds: float = 20.0
    batch_seconds: float | None = None  # None: one chunk

    def __post_init__(self) -> None:
        if self.chunk_seconds <= 0 or (self.batch_seconds is not None and self.batch_seconds <= 0):
            raise UsageError("--chunk-seconds and --batch-seconds must be positive")

    @classmethod
    def of(cls, args: argparse.Namespace) -> "CodecSettings":
        return cls(args.model, args.device, args.dtype, args.chunk_seconds, args.batch_seconds)


def add_model_choice(command: argparse.ArgumentParser) -> Any:
    """Which codec, and where; returns the group of these options."""
    group = command.add_argument_group("model")
    group.add_argument("--model", default="25hz_nano", help="name, folder, file or Hub id (default: %(default)s)")
    group.add_argument("--device", help="cuda, mps, cpu (default: the first of these there is)")
    group.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the convolutions; auto: the fastest one here"
    )
    return group


def add_speaker(group: Any) -> None:
    """Which model speaks, if one is to."""
    group.add_argument("--tts", metavar="MODEL", help="also speak: name or folder of such a model (extra [tts])")


def add_model(command: argparse.ArgumentParser) -> None:
    group = add_model_choice(command)
    group.add_argument("--chunk-seconds", type=float, default=20.0, help="longer audio goes in chunks")
    group.add_argument("--batch-seconds", type=float, help="of one file that go together (default: one chunk)")


def add_n_quantizers(command: argparse.ArgumentParser) -> None:
    command.add_argument("-n", "--n-quantizers", type=int, help="codebooks to use (default: all that the model has)")


def add_gain(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--gain",
        type=_gain,
        default="auto",
        metavar="DB",
        help="amplification before encoding, that decoding takes back; auto: what brings each file to the loudness at "
        "which the codec codes best, and 0 for arrays (default: %(default)s)",
    )


def _gain(text: str) -> float | None:
    """dB; None for auto."""
    if text == "auto":
        return None
    try:
        gain = round(float(text), 2)
    except ValueError:
        gain = float("nan")
    if not -60 <= gain <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number of dB from -60 to 60")
    return gain


# ---- the files -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileSettings:
    """Which files, where the results go, and what happens to those that exist."""

    sources: tuple[str, ...]
    output: str | None = None  # file, folder, or - for a pipe; None: beside the source
    jobs: int = 1  # processes
    overwrite: bool = False
    skip_existing: bool = False
    json: bool = False  # what is printed

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"--jobs {self.jobs} must be at least 1")
        if self.overwrite and self.skip_existing:
            raise UsageError("--overwrite and --skip-existing exclude each other")

    @classmethod
    def of(cls, args: argparse.Namespace) -> "FileSettings":
        output = "-" if args.output is None and "-" in args.sources else args.output
        return cls(tuple(args.sources), output, args.jobs, args.overwrite, args.skip_existing, args.json)


def add_files(command: argparse.ArgumentParser, what: str, output: str | None) -> None:
    group = command.add_argument_group("files")
    command.add_argument("sources", nargs="+", metavar="SOURCE", help=what)
    group.add_argument("-o", "--output", help=output or "file, folder/, or - for a pipe (default: beside the source)")
    add_existing(group)
    group.add_argument("--jobs", type=int, default=1, help="processes, each with its share of the cores")


def add_existing(group: Any) -> None:
    existing = group.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace files that exist")
    existing.add_argument("--skip-existing", action="store_true", help="leave files that exist, and go on")
    group.add_argument("--json", action="store_true", help="one JSON object a file, and one for all, on stdout")


def names_folder(output: str) -> bool:
    """Whether --output is surely a folder: there is one, or it ends with a slash."""
    return Path(output).is_dir() or output.endswith(("/", os.sep))


def format_of(output: str | None, format: str | None, formats: Sequence[str]) -> str:
    """The format that --output names by its extension, or --format, or the first one.

    Raises:
        UsageError: the two differ.
    """
    named = "" if output is None or names_folder(output) else Path(output).suffix[1:].lower()
    if named not in formats:
        return str(format or formats[0])
    if format not in (None, named):
        raise UsageError(f"--output {output} and --format {format} are two formats: leave one out")
    return named

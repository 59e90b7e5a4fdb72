"""`esdcodec info`: what .esd files hold, without loading a model."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .parsing import Command, Commands, add_command
from .terminal import printable

EXAMPLES = "  esdcodec info talk.esd\n  esdcodec info coded/ --json"


def add_parser(commands: "Commands[Command]") -> None:
    command = add_command(commands, "info", "what .esd files hold, without a model", EXAMPLES, start)
    command.add_argument("sources", nargs="+", metavar="SOURCE", help=".esd files, folders, globs, lists")
    command.add_argument("--check", action="store_true", help="read every block and check it")
    command.add_argument("--json", action="store_true", help="one JSON object a file")


def start(args: argparse.Namespace) -> int:
    return run(args.sources, check=args.check, as_json=args.json)


def run(sources: Sequence[str], *, check: bool, as_json: bool) -> int:
    from ..bitstream import BitstreamError
    from .paths import find_jobs

    found = find_jobs(sources, (".esd",))
    failed = {str(path): why for path, why in found.failed.items()}
    for job in found:
        try:
            about = describe(job.source, check=check)
        except Exception as error:
            failed[str(job.source)] = str(error) if isinstance(error, BitstreamError | OSError) else repr(error)
            continue
        print(json.dumps(about) if as_json else table(about), flush=True)
    for line in found.report():
        print(f"left out   {printable(line)}", file=sys.stderr)
    for source, why in failed.items():
        print(f"failed     {printable(source)}: {printable(why)}", file=sys.stderr)
    return 1 if failed else 0


def describe(file: Path, *, check: bool = False) -> dict[str, Any]:
    """The header and sizes of a file, by name.

    Args:
        check: read and check every block, not the header and the end alone.

    Raises:
        BitstreamError: it is no `.esd` file, or damaged.
        OSError: it cannot be read.
    """
    from ..bitstream import Reader

    with open(file, "rb") as stream:
        reader = Reader(stream)
        if check:
            for _ in reader.read_blocks():
                pass
    header, size = reader.header, file.stat().st_size
    return {
        "file": str(file),
        "model": header.model,
        "fingerprint": header.fingerprint.hex(),
        "seconds": reader.duration,
        "original_rate": header.original_rate,
        "original_samples": reader.original_samples,
        "gain_db": header.gain_db,
        "sample_rate": header.sample_rate,
        "frame_rate": header.frame_rate,
        "frames": reader.n_frames,
        "blocks": reader.n_blocks,
        "codebooks": len(header.bits),
        "bits": list(header.bits),
        "bitrate": header.frame_rate * header.frame_bits,
        "bytes": size,
        "checked": check,
    }


def table(about: dict[str, Any]) -> str:
    """The output of `describe` as text."""
    lines = {
        "file": about["file"],
        "model": f"{about['model']} (fingerprint {about['fingerprint']})",
        "audio": f"{about['seconds']:.3f} s, {about['original_samples']} samples at {about['original_rate']} Hz",
        "gain": f"{about['gain_db']:+.2f} dB before encoding, taken back by decoding" if about["gain_db"] else "none",
        "decodes to": f"{about['sample_rate']} Hz",
        "codes": f"{about['codebooks']} codebooks of {', '.join(map(str, about['bits']))} bits, {about['frames']} "
        f"frames, {about['frame_rate']:g} a second: {about['bitrate']:.0f} bit/s",
        "size": f"{about['bytes']:,} bytes in {about['blocks']} blocks" + (", all whole" if about["checked"] else ""),
    }
    return "\n".join(f"{name:10} {printable(value)}" for name, value in lines.items())

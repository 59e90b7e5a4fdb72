"""`esdcodec index`: read through the shards of a corpus before a training does."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .parsing import Command, Commands, add_command
from .terminal import printable

EXAMPLES = """  esdcodec index data.list                     a training of this user finds all that is beside the shards
  esdcodec index data.list -o /shared/index    then train with data.manifests=/shared/index: nothing is read again"""


def add_parser(commands: "Commands[Command]") -> None:
    help = "read through tar shards once, before a training does (needs the extra [train])"
    command = add_command(commands, "index", help, EXAMPLES, start)
    command.add_argument("shards", nargs="+", metavar="SHARDS", help="lists, folders, tars, patterns, as data.train")
    command.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where the manifest is written")
    command.add_argument("-j", "--jobs", type=int, default=4, help="processes")


def start(args: argparse.Namespace) -> int:
    return run(args.shards, args.output, args.jobs)


def run(sources: Sequence[str], output: Path | None, n_processes: int) -> int:
    from ..dataset.index import index_all, user_cache
    from ..dataset.manifest import Manifest, manifest_folder, write_manifest
    from ..dataset.shards import list_shards, streams

    shards = list_shards(sources)
    elsewhere = [shard for shard in shards if streams(shard)]
    if elsewhere:
        raise ValueError(f"{elsewhere[0]}: only plain tars on a disk have an index, others are read as they come")
    folder = manifest_folder(shards, output or user_cache())
    if not (folder / "manifest.json").is_file():
        index_all(shards, n_processes, output)
        write_manifest(shards, folder, output)
    manifest = Manifest(folder)
    hours = float(manifest.column("durations").sum()) / 3600
    print(f"{printable(str(folder))}: {len(manifest):,} utterances, {hours:,.1f} hours, in {len(shards):,} shards")
    for reason, number in Counter(skip.reason for skip in manifest.broken).most_common():
        example = next(skip for skip in manifest.broken if skip.reason == reason)
        print(printable(f"broken: {number:,} × {reason}, as {example.key or 'all'} in {example.shard}"))
    return 1 if manifest.broken else 0

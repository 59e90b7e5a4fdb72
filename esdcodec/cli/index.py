"""`esdcodec index`: index the shards of a corpus before training."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from .parsing import Command, Commands, add_command
from .terminal import printable

EXAMPLES = """  esdcodec index data.list                     written beside the shards, where training finds it
  esdcodec index data.list -o /shared/index    then train with data.manifests=/shared/index: nothing is read again"""


def add_parser(commands: "Commands[Command]") -> None:
    help = "index tar shards before training (needs the extra [train])"
    command = add_command(commands, "index", help, EXAMPLES, start)
    command.add_argument("shards", nargs="+", metavar="SHARDS", help="lists, folders, tars, patterns, as data.train")
    command.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where the manifest is written, or FILE.manifest"
    )
    command.add_argument("-j", "--jobs", type=int, default=4, help="processes")


def start(args: argparse.Namespace) -> int:
    return run(args.shards, args.output, args.jobs)


def run(sources: Sequence[str], output: Path | None, n_processes: int) -> int:
    from ..dataset.index import index_corpus, manifest_in
    from ..dataset.manifest import SUFFIX
    from ..dataset.shards import list_shards, streams

    shards = list_shards(sources)
    elsewhere = [shard for shard in shards if streams(shard)]
    if elsewhere:
        raise ValueError(f"{elsewhere[0]}: only plain tars on a disk have an index, others are read as they come")
    is_file = output is not None and output.suffix == SUFFIX
    file = output if is_file or output is None else manifest_in(output, shards)
    with tqdm(total=len(shards), unit="shard", disable=None) as bar:

        def progress(done: int, total: int, utterances: int) -> None:
            bar.update(done - bar.n)
            bar.set_postfix(utterances=f"{utterances:,}", refresh=False)

        manifest = index_corpus(shards, file, processes=n_processes, progress=progress)
    hours = float(manifest.columns["duration"].sum(dtype="float64")) / 3600
    print(
        f"{printable(str(manifest.path))}: {len(manifest):,} utterances, {hours:,.1f} hours, in {len(shards):,} shards"
    )
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for row, shard in enumerate(manifest.shards):
        for key, reason in manifest.broken(row):
            reasons[reason] += 1
            examples.setdefault(reason, f"{key or 'all'} in {shard}")
    for reason, number in reasons.most_common():
        print(printable(f"broken: {number:,} × {reason}, as {examples[reason]}"))
    return 1 if reasons else 0

"""What it takes to open a corpus of 10,000 shards and 30 million utterances, and to find one of them.

    python benchmarks/corpus.py [FOLDER] [--shards 10000] [--per-shard 3000]

There are no tars: the manifest is written from made-up columns below FOLDER (2 GB) and removed.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from esdcodec.dataset.corpus import Corpus
from esdcodec.dataset.filters import Filters
from esdcodec.dataset.manifest import Manifest, ManifestWriter
from esdcodec.dataset.order import Order
from esdcodec.dataset.scan import ITEM_COLUMNS, ShardEntries
from esdcodec.dataset.strings import Strings

BATCH_SIZE = 12
RANKS, WORKERS = 64, 4
WINDOW = 200_000
SHAPES = {
    "all, one segment each": (Filters(), 1),
    "filtered, as many as it is long": (Filters(min_duration=4, min_dnsmos=2.5, languages=("en", "de")), None),
}


def made_up(folder: Path, number: int, size: int, keys: Strings) -> ShardEntries:
    rng = np.random.default_rng(number)
    sizes = rng.integers(20_000, 200_000, size)
    values = {
        "offset": np.cumsum(sizes + 2048), "metadata_offset": np.cumsum(sizes), "size": sizes, "metadata_size": 400,
        "duration": rng.uniform(1, 30, size), "dnsmos": rng.uniform(2, 4, size),
        "language": rng.integers(0, 3, size), "extension": 0,
    }  # fmt: skip
    columns = {name: np.broadcast_to(values[name], size).astype(kind) for name, kind in ITEM_COLUMNS.items()}
    shard = folder / "shards" / f"EN-B{number:06d}.tar"
    return ShardEntries(str(shard), 1 << 30, 1, columns, keys, ["en", "de", "fr"])


def memory() -> str:
    """Of this process: its own, and with the pages of the file that it shares."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return f"{int(status['RssAnon'].split()[0]) >> 10} MB own, {int(status['RssFile'].split()[0]) >> 10} MB mapped"


def write(path: Path, n_shards: int, per_shard: int) -> None:
    keys = Strings.join([f"EN_B00000_S{i:05d}_W000000" for i in range(per_shard)])
    writer = ManifestWriter(path)
    for number in range(n_shards):
        writer.add(made_up(path.parent, number, per_shard, keys))
    writer.publish()
    writer.close()


def read(path: Path, shape: str) -> None:
    """Open it, and find the utterances of two windows as one worker of one of many ranks does."""
    print(f"{shape}\n    before{memory():>56}")
    started = time.perf_counter()
    manifest = Manifest(path)
    opened = time.perf_counter()
    filters, per_utterance = SHAPES[shape]
    corpus = Corpus(manifest, manifest.shards, filters, per_utterance=per_utterance, segment_seconds=3.2)
    order = Order(corpus.counts, window=WINDOW, seed=0)
    ready = time.perf_counter()
    print(f"    open {opened - started:.3f} s, filter and count {ready - opened:.2f} s{memory():>40}")
    print(f"    {corpus.utterances:,} utterances, {corpus.hours:,.0f} hours, {order.size:,} segments")
    step = BATCH_SIZE * RANKS * WORKERS
    times = {"first": [], "later": []}
    shards: set[int] = set()
    for number, position in enumerate(range(0, 2 * WINDOW, step)):
        started = time.perf_counter()
        for i in range(BATCH_SIZE):
            _, shard, item = order[position + i]
            corpus.key(corpus.find(shard, item).row)
            shards.add(shard)
        times["first" if number < 20 else "later"].append((time.perf_counter() - started) / BATCH_SIZE)
    for name, values in times.items():
        median, mean = statistics.median(values), statistics.mean(values)
        print(
            f"    {name} batches: {1e6 * median:.0f} µs to find an utterance and its key (mean {1e6 * mean:.0f}), ",
            end="",
        )
        print(f"{1 / median:,.0f} a second")
    rng = random.Random(0)
    anywhere = [rng.randrange(order.size) for _ in range(200)]
    started = time.perf_counter()
    for position in anywhere:
        order[position]
    print(f"    anywhere in the epoch: {1e3 * (time.perf_counter() - started) / len(anywhere):.2f} ms (new windows)")
    a_batch = {order[position][1] for position in range(BATCH_SIZE * RANKS)}
    print(f"    {len(a_batch)} shards in a batch of all ranks, {len(shards)} in two windows{memory():>33}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--per-shard", type=int, default=3000)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)  # a fresh process for each shape
    args = parser.parse_args()
    if args.read:
        read(Path(args.read[0]), args.read[1])
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "corpus.manifest"
        started = time.perf_counter()
        write(path, args.shards, args.per_shard)
        seconds = time.perf_counter() - started
        print(f"write: {seconds:.0f} s, {path.stat().st_size / 1e9:.2f} GB{memory():>45}", flush=True)
        for shape in SHAPES:
            subprocess.run([sys.executable, __file__, "--read", str(path), shape], check=True)


if __name__ == "__main__":
    main()

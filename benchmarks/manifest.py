"""What it takes to open a corpus of 10,000 shards and 30 million utterances, and to find one of them.

    python benchmarks/manifest.py [FOLDER] [--shards 10000] [--per-shard 3000]

The indices are made up; the manifest is written below FOLDER (1.7 GB) and removed.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esdcodec.dataset import manifest
from esdcodec.dataset.corpus import Corpus
from esdcodec.dataset.filters import Filters
from esdcodec.dataset.index import ShardIndex
from esdcodec.dataset.order import Order


def made_up(number: int, size: int) -> ShardIndex:
    keys = [f"EN_B{number:05d}_S{i:05d}" for i in range(size)]
    return ShardIndex(
        1, 1, keys, [1000 * i for i in range(size)], [900] * size, [3 + i % 20 for i in range(size)],
        [2 + i % 30 / 20 for i in range(size)], ["en"] * size,
    )  # fmt: skip


def memory() -> float:
    """Peak of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measured(what: str, work: Callable[[], Any]) -> Any:
    started, before = time.perf_counter(), memory()
    result = work()
    print(f"{what:58}{time.perf_counter() - started:9.2f} s   peak +{memory() - before:6.0f} MB", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--per-shard", type=int, default=3000)
    args = parser.parse_args()
    shards = [f"{i:06d}.tar" for i in range(args.shards)]
    manifest.shard_index = lambda shard, cache: made_up(int(shard[:6]), args.per_shard)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        target = Path(folder) / "manifest"
        measured("write the manifest", lambda: manifest.write_manifest(shards, target))
        opened = measured("open it", lambda: manifest.Manifest(target))
        corpus = measured("all utterances, one segment each", lambda: Corpus(opened, Filters()))
        filters = Filters(min_duration=4, min_dnsmos=2.5)
        long = measured(
            "filtered, segments by length",
            lambda: Corpus(opened, filters, per_utterance=None, segment_seconds=3.2),
        )
        for name, each in (("one segment each", corpus), ("filtered, by length", long)):
            order = Order(each.size, window=200_000, seed=0)
            positions = range(0, 2_000_000, 512 * 12)  # of one of 512 loader processes
            started = time.perf_counter()
            for position in positions:
                for i in range(12):
                    each.find(order[position + i][1])
            each_one = (time.perf_counter() - started) / (12 * len(positions))
            print(f"find an utterance, {name}, of {len(opened):,}, in order: {1e6 * each_one:.0f} µs")
            numbers = [random.Random(0).randrange(each.size) for _ in range(1)] * 1000
            started = time.perf_counter()
            for number in numbers:
                each.find(number)
            print(f"{'':4}without the order: {1e3 * (time.perf_counter() - started):.1f} µs")


if __name__ == "__main__":
    main()

"""Which tar shards a corpus has, and which of them a process and its workers read in which order."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
import webdataset

REMOTE = ("pipe:", "http://", "https://", "hf://", "s3://", "gs://")


def list_shards(source: str | Path | Sequence[str]) -> list[str]:
    """Shards of a corpus: a list file (one shard a line), a tar, a folder, a glob or brace pattern, a URL, or several.

    Relative paths in a list file are looked up from the working directory, then from the list's own folder.

    Raises:
        FileNotFoundError: a shard or the list is not there; the message names it.
    """
    if not isinstance(source, str | Path):
        return [shard for part in source for shard in list_shards(part)]
    name = str(source)
    if name.startswith(REMOTE):
        return list(webdataset.shardlists.expand_urls(name))
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted(str(p) for p in path.glob("*.tar"))
    elif path.suffix == ".tar" and path.exists():
        found = [str(path)]
    elif path.is_file():
        found = [shard for line in path.read_text().splitlines() for shard in _list_entry(line.strip(), path)]
    else:
        found = []
        for pattern in webdataset.shardlists.expand_urls(name):
            matches = sorted(str(p) for p in Path(Path(pattern).anchor or ".").glob(str(_unrooted(pattern))))
            if not matches:
                raise FileNotFoundError(
                    f"no shard at {pattern}: give a list file, a folder, a tar or a pattern that exists"
                )
            found += matches
    if not found:
        raise FileNotFoundError(f"{name} names no tar shard")
    return found


def _list_entry(line: str, list_file: Path) -> list[str]:
    if not line or line.startswith("#"):
        return []
    beside = list_file.parent / line
    return list_shards(str(beside) if not Path(line).exists() and beside.exists() else line)


def _unrooted(pattern: str) -> Path:
    path = Path(pattern)
    return path.relative_to(path.anchor) if path.is_absolute() else path


def share(shards: Sequence[str], seed: int | str, epoch: int, rank: int, n_ranks: int, *, shuffle: bool) -> list[str]:
    """Shards that this worker of this process reads in an epoch.

    The order of an epoch is the same everywhere, and ranks and workers take turns in it, so that together they read
    each shard once. With fewer shards than workers some shards are read by several, or nobody could fill a batch.
    """
    worker = torch.utils.data.get_worker_info()
    n_readers = n_ranks * (worker.num_workers if worker else 1)
    reader = rank * (worker.num_workers if worker else 1) + (worker.id if worker else 0)
    order = list(shards)
    if shuffle:
        random.Random(f"{seed}/{epoch}").shuffle(order)
    while len(order) < n_readers:
        order += order
    return order[reader::n_readers]

"""Which tar shards a corpus has."""

import re
from collections.abc import Sequence
from pathlib import Path

import webdataset

from .manifest import SUFFIX, Manifest

REMOTE = ("pipe:", "http://", "https://", "hf://")
COMMANDS = {  # of storage that nothing here speaks to
    "s3": "aws s3 cp {} -",
    "gs": "gcloud storage cat {}",
    "az": "az storage blob download --blob-url {} --file /dev/stdout",
}
ARCHIVES = (".tar", ".tar.gz", ".tgz")


def list_shards(source: str | Path | Sequence[str]) -> list[str]:
    """Shards of a corpus: a list file (one shard a line), a tar, a folder, a glob or brace pattern, a URL, or several.

    A manifest, as `esdcodec index` makes it, names the shards that it has.

    Relative paths in a list file are looked up from the working directory, then from the list's own folder.

    Raises:
        FileNotFoundError: a shard or the list is not there; the message names it.
        ValueError: it is in storage that is not read directly; the message gives a `pipe:` for it.
    """
    if not isinstance(source, str | Path):
        return [shard for part in source for shard in list_shards(part)]
    name = str(source)
    if name.startswith(REMOTE):
        return list(webdataset.shardlists.expand_urls(name))
    if scheme := re.match(r"([a-z][a-z0-9+.-]*)://", name):
        command = COMMANDS.get(scheme[1], "COMMAND {}").format(name)
        raise ValueError(f"{name} cannot be read by itself: give pipe:{command}")
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted(str(p) for p in path.iterdir() if p.name.endswith(ARCHIVES))
    elif name.endswith(SUFFIX) and path.exists():
        found = Manifest(path).shards
    elif name.endswith(ARCHIVES) and path.exists():
        found = [str(path)]
    elif path.is_file():
        found = [shard for line in _lines(path) for shard in _list_entry(line.strip(), path)]
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


def _lines(list_file: Path) -> list[str]:
    try:
        return list_file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{list_file} is neither a tar nor a list of them: give a folder, a tar or a list") from None


def _list_entry(line: str, list_file: Path) -> list[str]:
    if not line or line.startswith("#"):
        return []
    beside = list_file.parent / line
    return list_shards(str(beside) if not Path(line).exists() and beside.exists() else line)


def _unrooted(pattern: str) -> Path:
    path = Path(pattern)
    return path.relative_to(path.anchor) if path.is_absolute() else path


def streams(shard: str) -> bool:
    """Whether a shard can only be read from front to back: it is elsewhere, or compressed as a whole."""
    return shard.startswith(REMOTE) or not shard.endswith(".tar")


def free_key(name: str, taken: set[str]) -> str:
    """`name`, numbered if it is among those `taken`, to which it is added."""
    key, number = name, 1
    while key in taken:
        number += 1
        key = f"{name}-{number}"
    taken.add(key)
    return key

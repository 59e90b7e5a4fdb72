"""What is in the shards of a corpus: one file a column, mapped into memory and shared by all who read it.

Made once of the shards' indices. Its folder is named after the shards, their sizes and times, so that it is never of
others. 30 million utterances are 1.6 GB on the disk, and open at once.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .batch import Skip
from .index import FORMAT, shard_index

COLUMNS = {  # of each utterance
    "offsets": np.int64,  # of the audio's content in its shard
    "sizes": np.int64,  # bytes of it
    "durations": np.float64,  # seconds
    "dnsmos": np.float64,
    "languages": np.uint16,  # which of `Manifest.languages`
    "key_ends": np.int64,  # in `keys`
    "keys": np.uint8,  # UTF-8 of all keys, one after the other
}


@dataclass(frozen=True)
class Entry:
    """Where the audio of an utterance is."""

    shard: int
    key: str
    offset: int
    size: int  # bytes


class Manifest:
    """The utterances of some shards, as `open_manifest` gives it.

    Args:
        folder: with the columns and `manifest.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        self.shards: list[str] = content["shards"]
        self.stamps = [tuple(stamp) for stamp in content["stamps"]]  # sizes and times of the shards
        self.starts = np.array(content["starts"])  # number of the first utterance of each shard, and of all
        self.languages: list[str] = content["languages"]
        self.broken = [Skip(*skip) for skip in content["broken"]]
        self._columns = {name: _mapped(folder / name, dtype) for name, dtype in COLUMNS.items()}

    def __reduce__(self) -> tuple:
        return Manifest, (self.folder,)  # processes share the mapped files, not copies of them

    def __len__(self) -> int:
        return int(self.starts[-1])

    def column(self, name: str) -> np.ndarray:
        """One of `COLUMNS`, read when used."""
        return self._columns[name]

    def __getitem__(self, i: int) -> Entry:
        ends = self._columns["key_ends"]
        key = self._columns["keys"][int(ends[i - 1]) if i else 0 : int(ends[i])].tobytes().decode()
        shard = int(np.searchsorted(self.starts, i, side="right")) - 1
        return Entry(shard, key, int(self._columns["offsets"][i]), int(self._columns["sizes"][i]))


def _mapped(file: Path, dtype: type) -> np.ndarray:
    return np.memmap(file, dtype, "r") if file.stat().st_size else np.zeros(0, dtype)


def manifest_folder(shards: Sequence[str], cache: Path) -> Path:
    """Where in `cache` the manifest of these shards belongs, as they are now.

    Raises:
        OSError: a shard is not there.
    """
    digest = hashlib.sha256(FORMAT.encode())
    for shard, stamp in zip(shards, _stamps(shards)):
        digest.update(f"{Path(shard).resolve()} {stamp}\n".encode())
    return cache / f"manifest-{digest.hexdigest()[:24]}"


def _stamps(shards: Sequence[str]) -> list[tuple[int, int]]:
    """Size and time of each; many at once, for disks that answer slowly."""

    def stamp(shard: str) -> tuple[int, int]:
        status = os.stat(shard)
        return status.st_size, status.st_mtime_ns

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(stamp, shards))


def write_manifest(shards: Sequence[str], folder: Path, index_cache: Path | None = None) -> None:
    """Join the indices of `shards` to a manifest, in memory of one shard's; whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        content = _write_columns(shards, partial, index_cache)
        (partial / "manifest.json").write_text(json.dumps(content))
        partial.chmod(0o755)
        try:
            os.replace(partial, folder)
        except OSError:
            if not (folder / "manifest.json").is_file():  # else another process was faster: its is the same
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_columns(shards: Sequence[str], folder: Path, index_cache: Path | None) -> dict[str, Any]:
    starts, broken, languages = [0], [], {"unknown": 0}
    key_end = 0
    stamps = []
    files = {name: open(folder / name, "wb") for name in COLUMNS}  # noqa: SIM115
    try:
        for shard, index in _indices(shards, index_cache):
            keys = [key.encode() for key in index.keys]
            ends = key_end + np.cumsum([len(key) for key in keys], dtype=np.int64)
            key_end = int(ends[-1]) if keys else key_end
            numbers = [languages.setdefault(language, len(languages)) for language in index.languages]
            values = {"offsets": index.offsets, "sizes": index.sizes, "durations": index.durations}
            values |= {"dnsmos": index.dnsmos, "languages": numbers, "key_ends": ends}
            for name, column in values.items():
                files[name].write(np.asarray(column, COLUMNS[name]).tobytes())
            files["keys"].write(b"".join(keys))
            starts.append(starts[-1] + len(index))
            stamps.append((index.size, index.modified))
            broken += [(shard, key, reason) for key, reason in index.broken]
    finally:
        for file in files.values():
            file.close()
    return {
        "shards": list(shards), "stamps": stamps, "starts": starts, "languages": list(languages), "broken": broken
    }  # fmt: skip


def _indices(shards: Sequence[str], index_cache: Path | None) -> Iterator[tuple[str, Any]]:
    for shard in tqdm(shards, desc="manifest", unit="shard", disable=len(shards) < 100):
        yield shard, shard_index(shard, index_cache)

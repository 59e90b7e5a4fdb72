"""The index of a whole corpus: one file of columns, mapped into memory and so shared by all processes.

The file is in the safetensors format (8 bytes of length, a JSON header, arrays one behind the other), so anybody can
read it. With it one read gets any utterance, filters are comparisons of columns, and the order of an epoch is
known before it begins. 30 million utterances take 2 GB on disk and a few MB of memory.
"""

import json
import os
import shutil
import struct
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .members import AUDIO
from .scan import ITEM_COLUMNS, ShardEntries
from .strings import Strings

FORMAT = "esdcodec-manifest-1"
SUFFIX = ".manifest"

_COLUMNS: dict[str, type] = {
    **ITEM_COLUMNS,
    "shard_size": np.int64,
    "shard_modified": np.int64,
    "shard_end": np.int64,  # items in all shards up to this one
    "broken_end": np.int64,  # broken entries in all shards up to this one
    "broken_reason": np.int32,  # position in the list of reasons
    **{f"{name}.ends": np.int64 for name in ("key", "shard", "broken_key")},
    **{f"{name}.data": np.uint8 for name in ("key", "shard", "broken_key")},
}
_ORDER = sorted(_COLUMNS, key=lambda name: -np.dtype(_COLUMNS[name]).itemsize)  # so that all are aligned
_TYPES: dict[type, str] = {np.int64: "I64", np.uint32: "U32", np.float32: "F32", np.int32: "I32", np.uint8: "U8"}


class ManifestError(ValueError):
    """A file is no manifest, a damaged one, one of another version, or no longer the one that it was."""


class Manifest:
    """A manifest on disk.

    Args:
        identity: of the file that is meant, where it was open before.

    Raises:
        ManifestError: see there.
        OSError: there is no such file.
    """

    def __init__(self, path: str | Path, identity: str | None = None) -> None:
        self.path = Path(path).absolute()
        with open(self.path, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
            size = self.path.stat().st_size
            try:
                header = json.loads(stream.read(length if length <= size else 0))
                about: dict[str, str] = header.pop("__metadata__")
                kept = about["format"] == FORMAT and set(header) == set(_COLUMNS)
                whole = kept and 8 + length + max(array["data_offsets"][1] for array in header.values()) == size
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                whole = False
        if not whole:
            raise ManifestError(f"{self.path} is no manifest of this version, or a damaged one: make it again")
        self.identity = about["identity"]
        if identity not in (None, self.identity):
            raise ManifestError(f"{self.path} was made again since it was opened: start again")
        self.items: tuple[str, ...] = tuple(json.loads(about["items"]))
        self.languages: list[str] = json.loads(about["languages"])
        self.reasons: list[str] = json.loads(about["reasons"])
        mapped = np.memmap(self.path, np.uint8, mode="r")
        self.columns: dict[str, np.ndarray] = {}
        for name, kind in _COLUMNS.items():
            first, last = header[name]["data_offsets"]
            self.columns[name] = np.asarray(mapped[8 + length + first : 8 + length + last]).view(kind)
        self.keys, self._paths, self._broken_keys = map(self._strings, ("key", "shard", "broken_key"))

    def _strings(self, name: str) -> Strings:
        return Strings(self.columns[f"{name}.data"], self.columns[f"{name}.ends"])

    def __reduce__(self) -> tuple:
        return Manifest, (self.path, self.identity)

    def __len__(self) -> int:
        """Utterances."""
        return len(self.columns["offset"])

    @property
    def shards(self) -> list[str]:
        """Absolute paths; those below the manifest's folder follow it when it moves."""
        return list(map(self._path, range(len(self._paths))))

    def _path(self, row: int) -> str:
        return os.path.normpath(self.path.parent / self._paths[row])

    def range(self, row: int) -> tuple[int, int]:
        """The first utterance of a shard, and the one after its last."""
        return _range(self.columns["shard_end"], row)

    def version(self, row: int) -> tuple[int, int]:
        """Bytes and time of change, in nanoseconds, of a shard when it was read."""
        return int(self.columns["shard_size"][row]), int(self.columns["shard_modified"][row])

    def broken(self, row: int) -> list[tuple[str, str]]:
        """What of a shard cannot be used: key and reason; without a key it is the rest of the shard."""
        first, last = _range(self.columns["broken_end"], row)
        return [(self._broken_keys[i], self.reasons[self.columns["broken_reason"][i]]) for i in range(first, last)]

    def entries(self, row: int) -> ShardEntries:
        """One shard, as it was scanned."""
        first, last = self.range(row)
        columns = {name: self.columns[name][first:last] for name in ITEM_COLUMNS}
        used, columns["language"] = np.unique(columns["language"], return_inverse=True)
        broken = self.broken(row)
        return ShardEntries(
            self._path(row),
            *self.version(row),
            columns,
            self.keys.part(first, last),
            [self.languages[i] for i in used],
            Strings.join([key for key, _ in broken]),
            [reason for _, reason in broken],
        )


def _range(ends: np.ndarray, i: int) -> tuple[int, int]:
    return int(ends[i - 1]) if i else 0, int(ends[i])


class ManifestWriter:
    """Collects shards on disk, column by column, and writes manifests of what there is so far.

    Args:
        path: of the manifest, whose folder must exist.
    """

    def __init__(self, path: str | Path, items: Sequence[str] = AUDIO) -> None:
        self.path, self.items = Path(path).absolute(), list(items)
        self._spool = tempfile.TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name}-")
        self._files = {name: open(Path(self._spool.name) / name, "w+b") for name in _COLUMNS}  # noqa: SIM115
        self._languages: dict[str, int] = {}
        self._reasons: dict[str, int] = {}
        self._ends = dict.fromkeys((name for name in _COLUMNS if name.endswith("end")), 0)
        self._bytes = dict.fromkeys((name for name in _COLUMNS if name.endswith(".data")), 0)

    def add(self, shard: ShardEntries) -> None:
        languages = np.array(_numbers(shard.languages, self._languages), np.int32)
        for name in ITEM_COLUMNS:
            column = shard.columns[name]
            self._append(name, languages[column] if name == "language" and len(column) else column)
        path = Path(os.path.abspath(shard.path))
        below = self.path.parent in path.parents
        stored = path.relative_to(self.path.parent).as_posix() if below else str(path)
        self._append_strings("key", shard.keys)
        self._append_strings("shard", Strings.join([stored]))
        self._append_strings("broken_key", shard.broken_keys)
        self._append("broken_reason", _numbers(shard.broken_reasons, self._reasons))
        self._ends["shard_end"] += len(shard)
        self._ends["broken_end"] += len(shard.broken_keys)
        for name, value in {**self._ends, "shard_size": shard.size, "shard_modified": shard.modified}.items():
            self._append(name, [value])

    def _append(self, name: str, values: Any) -> None:
        self._files[name].write(np.ascontiguousarray(values, _COLUMNS[name]).tobytes())

    def _append_strings(self, name: str, strings: Strings) -> None:
        self._append(f"{name}.data", strings.data)
        self._append(f"{name}.ends", strings.ends + self._bytes[f"{name}.data"])
        self._bytes[f"{name}.data"] += len(strings.data)

    def publish(self) -> Manifest:
        """Write what was added so far; the file appears when it is whole.

        Raises:
            OSError: the disk is full, or the file may not be replaced.
        """
        header: dict[str, Any] = {
            "__metadata__": {
                "format": FORMAT,
                "identity": uuid.uuid4().hex,
                "items": json.dumps(self.items),
                "languages": json.dumps(list(self._languages)),
                "reasons": json.dumps(list(self._reasons)),
            }
        }
        position = 0
        for name in _ORDER:
            size = self._files[name].tell()
            kind = _COLUMNS[name]
            shape = [size // np.dtype(kind).itemsize]
            header[name] = {"dtype": _TYPES[kind], "shape": shape, "data_offsets": [position, position + size]}
            position += size
        encoded = json.dumps(header).encode()
        encoded += b" " * (-len(encoded) % 8)
        partial = Path(self._spool.name) / "manifest"
        with open(partial, "wb") as target:
            target.write(struct.pack("<Q", len(encoded)) + encoded)
            for name in _ORDER:
                self._files[name].seek(0)
                shutil.copyfileobj(self._files[name], target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, self.path)
        return Manifest(self.path)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._spool.cleanup()


def _numbers(names: Sequence[str], known: dict[str, int]) -> list[int]:
    return [known.setdefault(name, len(known)) for name in names]

"""Where the utterances of a shard of codes are, in whichever format: what the index of a corpus has of each.

| column | tar | packed | Parquet |
| --- | --- | --- | --- |
| `offset`, `size` | of `KEY.codes.npy` | of the codes in `.bin` | row group; bytes that the codes have |
| `metadata_offset`, `metadata_size` | of `KEY.json` | of the line in `.jsonl` | row in the row group; 0 |
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .scan import ITEM_COLUMNS, ShardEntries, scan_shard
from .strings import Strings
from .token_shards import CODES, PACKED, PACKED_INDEX, PACKED_METADATA, PARQUET, TAR, pyarrow_parquet

ITEMS = (CODES,)
BESIDES = {TAR: 128, PACKED: 0, PARQUET: 0}  # bytes of `size` that are no codes, in shards with these first files

_Row = tuple[str, int, int, int, int]  # key, offset, size, metadata_offset, metadata_size


def scan_tokens(shard: str) -> ShardEntries:
    """Read a shard of codes through.

    Args:
        shard: the first of its files, as `SUFFIXES` has them.

    Raises:
        ImportError: it is Parquet, and pyarrow is not installed.
    """
    path = Path(shard)
    if path.suffix == TAR:
        return scan_shard(shard, ITEMS)
    rows: list[_Row] = []
    broken = []
    size = modified = 0
    try:
        status = path.stat()
        size, modified = status.st_size, status.st_mtime_ns
        rows.extend(_parquet_rows(path) if path.suffix == PARQUET else _packed_rows(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        broken = [f"shard cannot be read ({error})"]
    columns: dict[str, np.ndarray] = {name: np.zeros(len(rows), kind) for name, kind in ITEM_COLUMNS.items()}
    for i, name in enumerate(("offset", "size", "metadata_offset", "metadata_size"), 1):
        columns[name][:] = [row[i] for row in rows]
    keys = Strings.join([row[0] for row in rows])
    return ShardEntries(shard, size, modified, columns, keys, ["unknown"], Strings.join([""] * len(broken)), broken)


def _packed_rows(file: Path) -> Iterator[_Row]:
    name = file.name.removesuffix(PACKED)
    first = np.load(file.with_name(name + PACKED_INDEX))
    frame = file.stat().st_size // max(1, int(first[-1]))  # bytes
    position = 0
    with open(file.with_name(name + PACKED_METADATA), "rb") as lines:
        for start, end, line in zip(first[:-1].tolist(), first[1:].tolist(), lines, strict=True):
            yield json.loads(line)["key"], start * frame, (end - start) * frame, position, len(line)
            position += len(line)


def _parquet_rows(file: Path) -> Iterator[_Row]:
    with pyarrow_parquet().ParquetFile(file) as parquet:
        n_quantizers = sum(name.startswith("codes_") for name in parquet.schema_arrow.names)
        for group in range(parquet.num_row_groups):
            columns = parquet.read_row_group(group, columns=["key", "frames"], use_threads=False).to_pydict()
            for row, (key, frames) in enumerate(zip(columns["key"], columns["frames"])):
                yield key, group, 2 * n_quantizers * frames, row, 0

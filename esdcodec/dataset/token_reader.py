"""Reads single utterances of shards of codes, in whichever format; files stay open between the reads."""

import io
import json
import os
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .open_files import ChangedFile, OpenFiles, as_indexed
from .token_shards import PACKED, PACKED_METADATA, PARQUET, TAR, TokenItem, pyarrow_parquet

ROW_GROUPS = 256  # of Parquet that are in memory, of some 100 kB each: as many as the shards that are read in turns


class TokenEntry(NamedTuple):
    """What an index has of an utterance, as `token_index` says."""

    file: str  # the first of its shard's
    file_size: int
    modified: int  # nanoseconds
    key: str
    offset: int
    size: int
    metadata_offset: int
    metadata_size: int
    stored: int  # codebooks


class TokenReader:
    """Reads the utterances of shards that an index knows, each process with files of its own.

    Args:
        n_quantizers: codebooks to read.
    """

    def __init__(self, n_quantizers: int) -> None:
        self.n_quantizers = n_quantizers
        self._files = OpenFiles()
        self._tables = _RowGroups([f"codes_{k}" for k in range(n_quantizers)])

    def read(self, entry: TokenEntry) -> TokenItem:
        """An utterance.

        Raises:
            OSError: the shard is not there, cannot be read, or has changed.
        """
        if entry.file.endswith(PARQUET):
            codes, metadata = self._tables.read(entry)
        elif entry.file.endswith(PACKED):
            codes, metadata = self._packed(entry)
        else:
            assert entry.file.endswith(TAR)
            codes = np.load(io.BytesIO(self._bytes(entry, entry.offset, entry.size)))
            metadata = json.loads(self._bytes(entry, entry.metadata_offset, entry.metadata_size))
        return TokenItem(entry.key, codes[: self.n_quantizers], metadata)

    def _bytes(self, entry: TokenEntry, offset: int, size: int) -> bytes:
        return self._files.read(entry.file, offset, size, file_size=entry.file_size, modified=entry.modified)

    def _packed(self, entry: TokenEntry) -> tuple[NDArray[np.uint16], dict[str, Any]]:
        codes = np.frombuffer(self._bytes(entry, entry.offset, entry.size), "<u2").reshape(-1, entry.stored)
        beside = entry.file.removesuffix(PACKED) + PACKED_METADATA
        line = self._files.read(beside, entry.metadata_offset, entry.metadata_size)
        try:
            item = json.loads(line)
            same = item["key"] == entry.key and len(codes) == item["metadata"]["frames"]
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise ChangedFile(beside)
        return codes.T, item["metadata"]


class _RowGroups:
    """Row groups of Parquet files; the last `ROW_GROUPS` of them are kept."""

    def __init__(self, codes: list[str]) -> None:
        self.codes, self.process = codes, os.getpid()
        self._groups: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"codes": self.codes, "process": -1, "_groups": OrderedDict()}

    def read(self, entry: TokenEntry) -> tuple[NDArray[np.uint16], dict[str, Any]]:
        if self.process != os.getpid():  # a fork has arrow's locks as they were
            self.process, self._groups = os.getpid(), OrderedDict()
        name = entry.file, entry.offset
        group = self._groups.pop(name, None)
        if group is None:
            group = self._load(entry)
        self._groups[name] = group
        while len(self._groups) > ROW_GROUPS:
            self._groups.popitem(last=False)
        row = entry.metadata_offset
        codes = [group[column][row].values.to_numpy() for column in self.codes]
        return np.stack(codes), json.loads(group["metadata"][row].as_py())

    def _load(self, entry: TokenEntry) -> Any:
        with open(entry.file, "rb") as stream:
            if not as_indexed(os.fstat(stream.fileno()), entry.file_size, entry.modified):
                raise ChangedFile(entry.file)
            with pyarrow_parquet().ParquetFile(stream) as parquet:
                columns = ["metadata", *self.codes]
                return parquet.read_row_group(entry.offset, columns=columns, use_threads=False).combine_chunks()

"""Codes and metadata of utterances as output shards. Each writer knows the files that it writes; nothing else does."""

import io
import json
import math
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from ...dataset.token_shards import CODES, SUFFIXES, pyarrow_parquet

COLUMNS = ("text", "speaker", "language")  # of the metadata that have a column of their own in Parquet
ROW_GROUP = 2**16  # codes after which a row group is written: it is what is read to get one utterance


class ShardWriter(Protocol):
    """Writes the utterances of one unit, in their order. The same utterances give the same bytes."""

    def write(self, key: str, codes: NDArray[np.uint16], metadata: Mapping[str, Any]) -> None:
        """Add an utterance with codes ``[n, L]``."""
        ...

    def close(self) -> None:
        """Write what is still to be written."""
        ...


class TarWriter:
    """`KEY.codes.npy` (uint16 ``[n, L]``) and `KEY.json` in a tar, as webdataset reads it."""

    def __init__(self, streams: Sequence[BinaryIO], n_quantizers: int) -> None:
        self.tar = tarfile.open(fileobj=streams[0], mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def write(self, key: str, codes: NDArray[np.uint16], metadata: Mapping[str, Any]) -> None:
        array = io.BytesIO()
        np.save(array, codes)
        self._add(f"{key}.{CODES}", array.getvalue())
        self._add(f"{key}.json", _json(metadata).encode())

    def _add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # no time and no owner: the same codes are the same bytes
        member.size = len(content)
        self.tar.addfile(member, io.BytesIO(content))
        self.tar.members = []  # type: ignore[attr-defined]  # it would grow

    def close(self) -> None:
        self.tar.close()


class ParquetWriter:
    """A row for each utterance: `codes_0` … (lists of uint16), `key`, and what is known of it.

    All metadata is in the column `metadata`, as JSON: its fields and types may differ between utterances, but all
    files of a data set need one schema.
    """

    def __init__(self, streams: Sequence[BinaryIO], n_quantizers: int) -> None:
        parquet = pyarrow_parquet()
        import pyarrow

        self.arrow = pyarrow
        codes = [(f"codes_{k}", pyarrow.list_(pyarrow.uint16())) for k in range(n_quantizers)]
        known = [(name, pyarrow.string()) for name in COLUMNS]
        numbers = [("frames", pyarrow.int64()), ("seconds", pyarrow.float64()), ("gain_db", pyarrow.float64())]
        self.schema = pyarrow.schema(
            [("key", pyarrow.string()), *codes, *numbers, *known, ("metadata", pyarrow.string())]
        )
        self.writer = parquet.ParquetWriter(
            streams[0],
            self.schema,
            compression="zstd",
            use_dictionary=["speaker", "language"],  # one for the codes of each small row group would be larger
            column_encoding={f"{name}.list.element": "DELTA_BINARY_PACKED" for name, _ in codes},
        )
        self.rows: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        self.waiting = 0

    def write(self, key: str, codes: NDArray[np.uint16], metadata: Mapping[str, Any]) -> None:
        row = {"key": key, "metadata": _json(metadata), **{f"codes_{k}": each for k, each in enumerate(codes)}}
        row |= {name: metadata[name] for name in ("frames", "seconds", "gain_db")}
        row |= {name: value for name in COLUMNS if isinstance(value := metadata.get(name), str)}
        for name, values in self.rows.items():
            values.append(row.get(name))
        self.waiting += codes.size
        if self.waiting >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self.rows["key"]:
            self.writer.write_table(self.arrow.table(self.rows, self.schema))
        for values in self.rows.values():
            values.clear()
        self.waiting = 0

    def close(self) -> None:
        self._flush()
        self.writer.close()


class PackedWriter:
    """Codes as a memory map reads them: uint16 ``[frames, n]``, utterance after utterance, without padding.

    Its index has the first frame of each utterance, and the end (int64); the metadata is a line of JSON for each.
    """

    def __init__(self, streams: Sequence[BinaryIO], n_quantizers: int) -> None:
        self.codes, self.index, self.metadata = streams
        self.first = [0]

    def write(self, key: str, codes: NDArray[np.uint16], metadata: Mapping[str, Any]) -> None:
        self.codes.write(codes.T.astype("<u2").tobytes())
        self.first.append(self.first[-1] + codes.shape[1])
        self.metadata.write(_json({"key": key, "metadata": metadata}).encode() + b"\n")

    def close(self) -> None:
        np.save(self.index, np.array(self.first, "<i8"))


def _json(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, sort_keys=True)


def _finite(value: Any) -> Any:
    """`value` with null for each number that is none, or infinite: JSON has no word for these."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


WRITERS: dict[str, type[TarWriter] | type[ParquetWriter] | type[PackedWriter]] = {
    "tar": TarWriter, "parquet": ParquetWriter, "packed": PackedWriter,
}  # fmt: skip
assert WRITERS.keys() == SUFFIXES.keys()

"""Shards of codes, as `esdcodec tokenise` writes them: which files each format has, and their items in order."""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MANIFEST = ".manifest.json"
TAR, PARQUET = ".tar", ".parquet"
PACKED, PACKED_INDEX, PACKED_METADATA = ".bin", ".index.npy", ".jsonl"
SUFFIXES = {"tar": (TAR,), "parquet": (PARQUET,), "packed": (PACKED, PACKED_INDEX, PACKED_METADATA)}
BATCH = 64  # items of a Parquet file that are in memory together


class TokenItem(NamedTuple):
    """An utterance as codes."""

    key: str
    codes: NDArray[np.uint16]  # [n, L]
    metadata: dict[str, Any]


def shard_files(manifest: Path, format: str) -> dict[str, Path]:
    """The files of the shard that a manifest is of, by suffix."""
    name = manifest.name.removesuffix(MANIFEST)
    return {suffix: manifest.with_name(name + suffix) for suffix in SUFFIXES[format]}


def read_shard(manifest: Path, told: Mapping[str, Any] | None = None) -> Iterator[TokenItem]:
    """The items of a shard in their order; one at a time is in memory, of Parquet a few.

    Args:
        told: the manifest's content, where it was read already.

    Raises:
        OSError, ValueError, KeyError, tarfile.TarError: the shard is not there or is damaged.
        ImportError: it is Parquet, and pyarrow is not installed.
    """
    told = json.loads(manifest.read_bytes()) if told is None else told
    settings = told["settings"]
    files = shard_files(manifest, settings["format"])
    if settings["format"] == "tar":
        yield from _read_tar(files[TAR])
    elif settings["format"] == "parquet":
        yield from _read_parquet(files[PARQUET], settings["n_quantizers"])
    else:
        yield from _read_packed(files, settings["n_quantizers"])


def packed_codes(file: Path, n_quantizers: int) -> NDArray[np.uint16]:
    """Codes ``[frames, n]`` of a packed file, utterance after utterance, as a memory map."""
    if not file.stat().st_size:
        return np.zeros((0, n_quantizers), np.uint16)  # which cannot be mapped
    return np.memmap(file, "<u2", "r").reshape(-1, n_quantizers)


def pyarrow_parquet() -> Any:
    """The module `pyarrow.parquet`.

    Raises:
        ImportError: it is not installed; the message says how it gets there.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'esdcodec[parquet]'") from error
    return pyarrow.parquet


def _read_tar(file: Path) -> Iterator[TokenItem]:
    codes = None
    with tarfile.open(file) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            content = b"" if stream is None else stream.read()
            if member.name.endswith(".codes.npy"):
                codes = np.load(io.BytesIO(content))
            elif codes is None:
                raise ValueError(f"{member.name} comes before its codes")
            else:
                yield TokenItem(member.name.removesuffix(".json"), codes, json.loads(content))
                codes = None
            tar.members = []  # type: ignore[attr-defined]  # it would grow


def _read_parquet(file: Path, n_quantizers: int) -> Iterator[TokenItem]:
    columns = [f"codes_{k}" for k in range(n_quantizers)]
    with pyarrow_parquet().ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(BATCH, columns=["key", "metadata", *columns]):
            rows = zip(batch["key"], batch["metadata"], *(batch[column] for column in columns))
            for key, metadata, *codes in rows:
                arrays = [each.values.to_numpy() for each in codes]
                yield TokenItem(key.as_py(), np.stack(arrays), json.loads(metadata.as_py()))


def _read_packed(files: Mapping[str, Path], n_quantizers: int) -> Iterator[TokenItem]:
    codes = packed_codes(files[PACKED], n_quantizers)
    first = np.load(files[PACKED_INDEX], mmap_mode="r")
    if first[-1] != len(codes):
        raise ValueError(f"its index ends at frame {first[-1]} of {len(codes)}")
    with open(files[PACKED_METADATA], encoding="utf-8") as lines:
        for i, line in enumerate(lines):
            item = json.loads(line)
            yield TokenItem(item["key"], np.array(codes[first[i] : first[i + 1]].T, np.uint16), item["metadata"])

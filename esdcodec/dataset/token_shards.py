"""Shards of codes, as `esdcodec tokenise` writes them: which files each format has, and their items in order."""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .metadata import LARGEST

FORMAT = "esdcodec-tokens-1"  # of manifests
MANIFEST = ".manifest.json"
HISTOGRAM = ".histogram.npy"
CODES = "codes.npy"  # extension of a member in a tar
TAR, PARQUET = ".tar", ".parquet"
PACKED, PACKED_INDEX, PACKED_METADATA = ".bin", ".index.npy", ".jsonl"
SUFFIXES = {"tar": (TAR,), "parquet": (PARQUET,), "packed": (PACKED, PACKED_INDEX, PACKED_METADATA)}
BATCH = 64  # items of a Parquet file that are in memory together
OURS = {"frames", "n_quantizers", "gain_db", "fingerprint"}  # of the metadata that `tokenise` writes


class TokenItem(NamedTuple):
    """An utterance as codes."""

    key: str
    codes: NDArray[np.uint16]  # [n, L]
    metadata: dict[str, Any]


def shard_files(manifest: Path, format: str) -> dict[str, Path]:
    """The files of the shard that a manifest is of, by suffix."""
    name = manifest.name.removesuffix(MANIFEST)
    return {suffix: manifest.with_name(name + suffix) for suffix in SUFFIXES[format]}


def is_manifest(told: object) -> bool:
    """Whether a JSON value is the manifest of a shard of codes, of this version or another."""
    return isinstance(told, dict) and str(told.get("format")).startswith(FORMAT.rpartition("-")[0])


def histogram_file(manifest: Path) -> Path:
    """How often each code occurs in the shard that a manifest is of: an integer for each, codebook after codebook."""
    return manifest.with_name(manifest.name.removesuffix(MANIFEST) + HISTOGRAM)


def read_histograms(manifest: Path, told: Mapping[str, Any] | None = None) -> list[NDArray[np.int64]]:
    """How often each entry of each codebook occurs in a shard.

    Args:
        told: the manifest's content, where it was read already.

    Raises:
        OSError, ValueError, KeyError: it is not there or is damaged.
    """
    told = json.loads(manifest.read_bytes()) if told is None else told
    counts = np.load(histogram_file(manifest)).astype(np.int64)
    sizes = told["codebook_sizes"]
    if counts.shape != (sum(sizes),):
        raise ValueError(f"{histogram_file(manifest).name} has {list(counts.shape)} numbers, not [{sum(sizes)}]")
    return np.split(counts, np.cumsum(sizes)[:-1])


def holds_codes(file: Path) -> bool:
    """Whether a file is surely one of a shard of codes; only its beginning, or its index, is read."""
    suffix = next((s for of_format in SUFFIXES.values() for s in of_format if file.name.endswith(s)), "")
    if not suffix or not file.is_file():
        return False
    try:
        if suffix == TAR:
            known = next(_read_tar(file)).metadata
        elif suffix == PARQUET:
            known = next(_read_parquet(file, 1)).metadata
        else:
            with open(file.with_name(file.name.removesuffix(suffix) + PACKED_METADATA), "rb") as lines:
                known = json.loads(lines.readline(LARGEST))["metadata"]
        return known.keys() >= OURS
    except Exception:  # whatever a foreign file makes of its reader
        return False


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
            is_codes = member.name.endswith(f".{CODES}")
            if not is_codes and codes is None:
                raise ValueError(f"{member.name} comes before its codes")
            stream = tar.extractfile(member)
            content = b"" if stream is None else stream.read()
            if is_codes or codes is None:
                codes = np.load(io.BytesIO(content))
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

"""Whether what `tokenise` wrote is whole and agrees with its manifests."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...dataset.token_manifests import files_below, unfinished_files
from ...dataset.token_shards import (
    FORMAT,
    HISTOGRAM,
    MANIFEST,
    histogram_file,
    is_manifest,
    read_histograms,
    read_shard,
    shard_files,
)
from .work import digest


def verify(folder: str | Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each manifest below `folder`, and each file of a shard without one, with what is wrong with it.

    Where nothing is, the list is empty. Shards are read item by item, of whichever format they are. Files of other
    kinds, whatever their names, are not looked at.
    """
    known: set[Path] = set()
    for manifest in files_below(Path(folder), (MANIFEST,)):
        try:
            told = json.loads(manifest.read_bytes())
            if not is_manifest(told):
                continue  # somebody else's
            known.update(shard_files(manifest, told["settings"]["format"]).values())
            yield manifest, list(_problems(manifest, told))
        except Exception as error:  # whatever a damaged file makes of its reader
            yield manifest, [f"cannot be read ({type(error).__name__}: {error})"]
    for file in unfinished_files(Path(folder), known):
        yield file, ["it has no manifest: it is of no finished run"]


def _problems(manifest: Path, told: Mapping[str, Any]) -> Iterator[str]:
    if told["format"] != FORMAT:
        yield f"its format is {told['format']!r}, not {FORMAT!r}"
        return
    files = shard_files(manifest, told["settings"]["format"])
    for suffix, file in {**files, HISTOGRAM: histogram_file(manifest)}.items():
        with open(file, "rb") as stream:
            if digest(stream) != told["sha256"][suffix]:
                yield f"{file.name} is not the one that the manifest is of"
                return
    size = sum(file.stat().st_size for file in files.values())
    if size != told["bytes"]:
        yield f"its files have {size} bytes; the manifest says {told['bytes']}"
    yield from _content_problems(manifest, told)


def _content_problems(manifest: Path, told: Mapping[str, Any]) -> Iterator[str]:
    histograms = read_histograms(manifest, told)
    counts = [np.zeros_like(histogram) for histogram in histograms]
    utterances = frames = 0
    for key, codes, _ in read_shard(manifest, told):
        if codes.dtype != np.uint16 or codes.ndim != 2 or len(codes) != len(counts):
            yield f"{key}: {codes.dtype} {list(codes.shape)} are no codes of {len(counts)} codebooks"
            continue
        utterances, frames = utterances + 1, frames + codes.shape[1]
        for k, row in enumerate(codes):
            found = np.bincount(row, minlength=len(counts[k]))
            if len(found) > len(counts[k]):
                yield f"{key}: code {row.max()} is outside of codebook {k}"
            else:
                counts[k] += found
    if (utterances, frames) != (told["utterances"], told["frames"]):
        yield f"{utterances} utterances of {frames} frames; the manifest says {told['utterances']} of {told['frames']}"
    if not all(map(np.array_equal, counts, histograms)):
        yield "its codes are not those that were counted"

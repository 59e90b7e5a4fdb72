"""Whether what `tokenise` wrote is whole and agrees with its manifests."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...dataset.token_shards import MANIFEST, SUFFIXES, read_shard, shard_files
from .work import FORMAT, digest


def verify(folder: str | Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each manifest, and each shard without one, below `folder`, with what is wrong with it (nothing: []).

    Shards are read item by item, of whichever format they are.
    """
    files = sorted(Path(folder).rglob("*"))
    known: set[Path] = set()
    for manifest in (file for file in files if file.name.endswith(MANIFEST)):
        try:
            told = json.loads(manifest.read_bytes())
            known.update(shard_files(manifest, told["settings"]["format"]).values())
            yield manifest, list(_problems(manifest, told))
        except Exception as error:  # whatever a damaged file makes of its reader
            yield manifest, [f"cannot be read ({type(error).__name__}: {error})"]
    suffixes = tuple(suffix for of_format in SUFFIXES.values() for suffix in of_format)
    for shard in (file for file in files if file.name.endswith(suffixes)):
        if shard not in known and not shard.name.startswith("."):
            yield shard, ["it has no manifest: it is of no finished run"]


def _problems(manifest: Path, told: Mapping[str, Any]) -> Iterator[str]:
    if told["format"] != FORMAT:
        yield f"its format is {told['format']!r}, not {FORMAT!r}"
        return
    size = 0
    for suffix, file in shard_files(manifest, told["settings"]["format"]).items():
        with open(file, "rb") as stream:
            if digest(stream) != told["sha256"][suffix]:
                yield f"{file.name} is not the one that the manifest is of"
                return
            size += stream.tell()
    if size != told["bytes"]:
        yield f"its files have {size} bytes; the manifest says {told['bytes']}"
    yield from _content_problems(manifest, told)


def _content_problems(manifest: Path, told: Mapping[str, Any]) -> Iterator[str]:
    counts = [np.zeros(len(histogram), np.int64) for histogram in told["histograms"]]
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
    if [count.tolist() for count in counts] != told["histograms"]:
        yield "its codes are not those that the manifest has counted"

"""What the manifests of a tokenised corpus say, without what only a check of it needs."""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .token_shards import MANIFEST, SUFFIXES, holds_codes, is_manifest, shard_files

THREADS = 16  # a server answers many questions at a time


class FinishedShard(NamedTuple):
    """A shard of codes that is whole."""

    file: Path  # the first of its files
    format: str
    n_quantizers: int
    utterances: int
    frames: int
    seconds: float
    fingerprint: str  # of the weights
    model: str

    @property
    def files(self) -> list[Path]:
        """All its files but the manifest."""
        first, *more = SUFFIXES[self.format]
        return [self.file, *(self.file.with_name(self.file.name.removesuffix(first) + suffix) for suffix in more)]


def finished_shards(folder: Path) -> list[FinishedShard]:
    """The shards below a folder that have a manifest, in the order of their paths.

    Raises:
        FileNotFoundError: there is none.
        OSError, ValueError: a manifest cannot be read; the message names it.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        shards = [shard for shard in pool.map(_finished, files_below(folder, (MANIFEST,))) if shard]
    if not shards:
        raise FileNotFoundError(f"no finished shard in {folder}: give a folder that `esdcodec tokenise` wrote")
    return shards


def _finished(manifest: Path) -> FinishedShard | None:
    """What a manifest says; None: it is a foreign file."""
    try:
        told = json.loads(manifest.read_bytes())
        if not is_manifest(told):
            return None
        form = sys.intern(told["settings"]["format"])  # one object for equal names: there may be 100,000 shards
        return FinishedShard(
            file=shard_files(manifest, form)[SUFFIXES[form][0]],
            format=form,
            n_quantizers=told["settings"]["n_quantizers"],
            utterances=told["utterances"],
            frames=told["frames"],
            seconds=told["seconds"],
            fingerprint=sys.intern(told["fingerprint"]),
            model=sys.intern(told["model"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{manifest} is no manifest of a shard of codes, or a damaged one: tokenise again") from error


def unfinished_files(folder: Path, known: set[Path]) -> Iterator[Path]:
    """Files below a folder that are surely of shards of codes, but not `known`: of a run that did not end.

    Files of other kinds are nobody's fault, whatever their names.
    """
    suffixes = tuple(suffix for of_format in SUFFIXES.values() for suffix in of_format)
    return (file for file in files_below(folder, suffixes) if file not in known and holds_codes(file))


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files in `folder` and below it whose names end so, in the order of their paths; hidden ones are left out."""
    return sorted(
        Path(path, name)
        for path, _, names in os.walk(folder)
        for name in names
        if name.endswith(suffixes) and not name.startswith(".")
    )

"""What there is to tokenise, as units of work: a unit becomes one output shard."""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...audio import audio_files
from ...dataset import tar_stream
from ...dataset.members import AUDIO
from ...dataset.shards import ARCHIVES, REMOTE, free_key, list_shards
from ...dataset.token_shards import pyarrow_parquet

TABLES = (".jsonl", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class SpeechItem:
    """A recording, or a part of one, and what is known of it."""

    key: str
    audio: Path | bytes
    metadata: Mapping[str, Any] = field(default_factory=dict)
    start: float = 0.0  # seconds
    end: float | None = None  # None: to the end of the recording


@dataclass(frozen=True)
class Unit:
    """One output shard's worth of utterances: a tar shard, or a group of files."""

    name: str  # path below the output folder, without extension
    shard: str | None = None
    utterances: tuple[SpeechItem, ...] = ()

    @property
    def source(self) -> str:
        """Where the utterances come from, for messages."""
        return self.shard or f"{len(self.utterances)} files"


@dataclass
class FoundUnits:
    """Units in a fixed order, and what was found beside them and left out."""

    units: list[Unit] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # a line for each reason


def find_units(sources: Sequence[str | Path], group_size: int) -> FoundUnits:
    """Units of tar shards (list, glob, folder, brace, URL), folders of audio, and tables with a `path` column.

    Shards keep their path below the folder that all have in common, so that equal names do not collide. Folders and
    tables (`.jsonl`, `.csv`, `.tsv`, `.parquet`) are cut into numbered groups of `group_size`.

    Raises:
        FileNotFoundError: a source is not there, or holds nothing to tokenise.
        ValueError: a table has no `path` column, or two units have one name.
    """
    corpus = FoundUnits()
    shards: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            tars = [str(tar) for tar in sorted(path.rglob("*")) if tar.name.endswith(ARCHIVES) and tar.is_file()]
            found = audio_files(path)
            if tars:
                shards += tars
                corpus.left_out += [f"audio files beside shards in {path}: {len(found.files)}"] * bool(found.files)
            else:
                utterances = _of_files(path, found.files)
                corpus.units += _groups(utterances, path.resolve().name, group_size)
                corpus.left_out += found.report()
        elif path.suffix in TABLES and path.is_file():
            corpus.units += _groups(_of_table(path), path.stem, group_size)
        else:
            shards += list_shards(str(source))
    corpus.units = _of_shards(shards) + corpus.units
    if not corpus.units:
        raise FileNotFoundError(f"nothing to tokenise in {', '.join(map(str, sources))}")
    names = [unit.name for unit in corpus.units]
    if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
        raise ValueError(f"two sources would be written to {twice[0]}: tokenise them into different folders")
    return corpus


def _of_shards(shards: Iterable[str]) -> list[Unit]:
    unique = list(dict.fromkeys(shards))
    parts = {shard: _path_of(shard).parts for shard in unique}
    levels = list(zip(*(path[:-1] for path in parts.values())))
    n_common = next((i for i, level in enumerate(levels) if len(set(level)) > 1), len(levels))
    return [Unit(str(PurePosixPath(*path[n_common:])), shard) for shard, path in parts.items()]


def _path_of(shard: str) -> PurePosixPath:
    """A path that names a shard, without its extension; a command's is the last word that looks like a tar."""
    if shard.startswith("pipe:"):
        tars = [word for word in re.split(r"[\s'\"]+", shard) if word.endswith(ARCHIVES)]
        shard = tars[-1] if tars else f"pipe-{hashlib.sha256(shard.encode()).hexdigest()[:12]}"
    if shard.startswith(REMOTE) or "://" in shard:
        shard = shard.split("://", 1)[1].split("?")[0]
    else:
        shard = os.path.abspath(shard)
    path = PurePosixPath(*[part for part in Path(shard).parts if part not in ("/", "..")])
    extension = next((each for each in sorted(ARCHIVES, key=len, reverse=True) if path.name.endswith(each)), "")
    return path.with_name(path.name.removesuffix(extension))


def _groups(utterances: Iterable[SpeechItem], name: str, size: int) -> list[Unit]:
    everything = list(utterances)
    pieces = [everything[i : i + size] for i in range(0, len(everything), size)]
    return [Unit(f"{name}-{i:06d}", None, tuple(piece)) for i, piece in enumerate(pieces)]


def _of_files(folder: Path, files: Sequence[Path]) -> Iterator[SpeechItem]:
    """Files of a folder; a file `NAME.txt` or `NAME.json` beside one is its text or its metadata."""
    taken: set[str] = set()
    for file in files:
        key = _free_key(file.relative_to(folder).with_suffix("").as_posix(), taken)
        metadata: dict[str, Any] = {}
        text, known = file.with_suffix(".txt"), file.with_suffix(".json")
        if known.is_file():
            metadata |= json.loads(known.read_text(encoding="utf-8"))
        if text.is_file() and "text" not in metadata:
            metadata["text"] = text.read_text(encoding="utf-8").strip()
        yield SpeechItem(key, file, metadata)


def _of_table(table: Path) -> Iterator[SpeechItem]:
    taken: set[str] = set()
    for number, row in enumerate(_rows(table)):
        if not row.get("path"):
            raise ValueError(f"{table}, row {number}: it has no `path`; known columns are {', '.join(row)}")
        path, start, end = str(row.pop("path")), row.pop("start", None), row.pop("end", None)
        stem = str(row.get("id") or PurePosixPath(path).with_suffix(""))
        key = _free_key(stem if start in (None, "") else f"{stem}-{float(start):.2f}", taken)
        metadata = {name: value for name, value in row.items() if value not in (None, "")}
        yield SpeechItem(key, table.parent / path, metadata, float(start or 0), float(end) if end else None)


def _rows(table: Path) -> Iterator[dict[str, Any]]:
    if table.suffix == ".parquet":
        for batch in pyarrow_parquet().ParquetFile(table).iter_batches():
            yield from batch.to_pylist()
        return
    with open(table, encoding="utf-8-sig", newline="") as stream:
        if table.suffix == ".jsonl":
            yield from (json.loads(line) for line in stream if line.strip())
        else:
            yield from csv.DictReader(stream, delimiter="\t" if table.suffix == ".tsv" else ",")


def _free_key(name: str, taken: set[str]) -> str:
    """A key for a tar, where a dot would end it, that no other utterance has."""
    return free_key(re.sub(r"[^\w/-]+", "_", name.lstrip("./")), taken)


def utterances_of(unit: Unit, skipped: list[tuple[str, str]]) -> Iterator[SpeechItem]:
    """The utterances of a unit, in its order; what has no audio goes to `skipped` as key and reason.

    Raises:
        ShardBroken: the shard cannot be had now. (What is damaged in one that is here is skipped.)
    """
    if unit.shard is None:
        yield from unit.utterances
        return

    try:
        for sample in tar_stream.utterances(unit.shard):
            key = str(sample["__key__"])
            content = next((sample[name] for name in sample if name.lower() in AUDIO), None)
            if content is None:
                skipped.append((key, "no audio member"))
                continue
            try:
                metadata = json.loads(sample["json"]) if "json" in sample else {}
                if not isinstance(metadata, dict):
                    raise ValueError("no object")
            except (ValueError, RecursionError):
                skipped.append((key, "json member is damaged"))
                continue
            yield SpeechItem(key, content, metadata)
    except tar_stream.ShardBroken as error:
        if unit.shard.startswith(REMOTE) or not Path(unit.shard).is_file():
            raise
        skipped.append(("", f"shard cannot be read to its end ({error})"))

"""What there is to tokenise, as units of work: a unit becomes one output shard."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...audio import FolderContent, audio_files
from ...dataset import tar_stream
from ...dataset.members import AUDIO
from ...dataset.metadata import LARGEST, MetadataError, parse_fields
from ...dataset.shards import ARCHIVES, REMOTE, free_key, list_shards
from .item import SpeechItem, item_key, metadata_problem, unusable
from .tables import TABLES, items_of_table

BESIDE = (".json", ".txt")  # of files with metadata, or the text, of the recording of the same name


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

    @property
    def digest(self) -> str:
        """Of what a group of files holds: whether its shard, written before, is of the same; of a tar shard empty."""
        if self.shard is not None:
            return ""
        rows = [(item.key, item.start, item.end, item.metadata, item.problem) for item in self.utterances]
        return hashlib.sha256(json.dumps(rows, default=str, sort_keys=True).encode()).hexdigest()


@dataclass
class FoundUnits:
    """Units in a fixed order, and what was found beside them and left out."""

    units: list[Unit] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # a line for each reason


def find_units(sources: Sequence[str | Path], group_size: int, output: Path | None = None) -> FoundUnits:
    """Units of tar shards (list, glob, folder, brace, URL), folders of audio, and tables with a `path` column.

    Shards keep their path below the folder that all have in common, so that equal names do not collide. Folders and
    tables (`.jsonl`, `.csv`, `.tsv`, `.parquet`) are cut into numbered groups of `group_size`. `output` may lie in
    a folder that is read: what was written there before is no source.

    Raises:
        FileNotFoundError: a source is not there, or holds nothing to tokenise.
        ValueError: a table is of another format or has no `path`, two units have one name, or `output` is where the
            sources are.
    """
    corpus = FoundUnits()
    shards: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            shards += _of_folder(path, group_size, output, corpus)
        elif path.suffix.lower() in TABLES and path.is_file():
            corpus.units += _groups(items_of_table(path), path.stem, group_size)
        elif path.is_file():
            shards += list_shards(path)
        else:
            found = list_shards(str(source))
            shards += [shard for shard in found if not _is_below(shard, output)] or found
    corpus.units = _of_shards(shards) + corpus.units
    if not corpus.units:
        raise FileNotFoundError(f"nothing to tokenise in {', '.join(map(str, sources))}")
    names = [unit.name for unit in corpus.units]
    if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
        raise ValueError(f"two sources would be written to {twice[0]}: tokenise them into different folders")
    for unit in corpus.units:
        if output and unit.shard and _same(output / f"{unit.name}.tar", Path(unit.shard)):
            raise ValueError(_among_sources(output))
    return corpus


def _of_folder(path: Path, group_size: int, output: Path | None, corpus: FoundUnits) -> list[str]:
    """The shards in a folder; where there are none, its audio goes to the units of `corpus`."""
    if output and output.resolve() == path.resolve():
        raise ValueError(_among_sources(output))
    written = output if _is_below(output, path) else None
    tars = [str(tar) for tar in sorted(path.rglob("*")) if tar.name.endswith(ARCHIVES) and tar.is_file()]
    shards = [tar for tar in tars if not _is_below(tar, written)]
    found = audio_files(path)
    if shards:
        corpus.left_out += [f"audio files beside shards in {path}: {len(found.files)}"] * bool(found.files)
        return shards
    corpus.units += _groups(_of_files(path, found.files), path.resolve().name, group_size)
    beside = {file.with_suffix(suffix) for file in found.files for suffix in BESIDE}
    left_out = {
        file: reason for file, reason in found.left_out.items() if file not in beside and not _is_below(file, written)
    }
    corpus.left_out += FolderContent(found.files, left_out).report()
    return []


def _among_sources(output: Path) -> str:
    return f"{output} is where the sources are: write into a folder of its own, so that nothing of them is lost"


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _is_below(file: str | Path | None, folder: Path | None) -> bool:
    """Whether a file of this machine is in a folder."""
    if file is None or folder is None or str(file).startswith(REMOTE):
        return False
    return Path(file).resolve().is_relative_to(folder.resolve())


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
        key = item_key(file.relative_to(folder).with_suffix("").as_posix(), taken)
        metadata: dict[str, Any] = {}
        beside = file.with_suffix(".json")
        try:
            if beside.is_file():
                metadata = parse_fields(_content(beside))
            beside = file.with_suffix(".txt")
            if beside.is_file() and "text" not in metadata:
                metadata["text"] = _content(beside).decode("utf-8").strip()
        except (OSError, ValueError) as error:
            yield unusable(key, f"{beside.suffix[1:]} file is damaged: {error}")
            continue
        yield SpeechItem(key, file, metadata)


def _content(file: Path) -> bytes:
    """The bytes of a file beside a recording.

    Raises:
        ValueError: they are more than `LARGEST`.
    """
    with open(file, "rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MiB")
    return content


def utterances_of(unit: Unit) -> Iterator[SpeechItem]:
    """The utterances of a unit, in its order; those that cannot be coded have a problem.

    Raises:
        ShardBroken: the shard cannot be had now. (What is damaged in one that is here is a problem.)
    """
    taken: set[str] = set()
    for item in unit.utterances if unit.shard is None else _of_shard(unit.shard):
        problem = item.problem or metadata_problem(item.metadata)
        # a shard may have a key twice
        yield unusable(item.key, problem) if problem else replace(item, key=free_key(item.key, taken))


def _of_shard(shard: str) -> Iterator[SpeechItem]:
    try:
        for sample in tar_stream.utterances(shard):
            key = str(sample["__key__"])
            content = next((sample[name] for name in sample if name.lower() in AUDIO), None)
            if content is None:
                yield unusable(key, "no audio member")
                continue
            try:
                metadata = parse_fields(sample.get("json", b"{}"))
            except MetadataError as error:
                yield unusable(key, str(error))
                continue
            yield SpeechItem(key, content, metadata)
    except tar_stream.ShardBroken as error:
        if shard.startswith(REMOTE) or not Path(shard).is_file():
            raise
        yield unusable("", f"shard cannot be read to its end: {error}")

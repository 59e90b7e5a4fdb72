"""What is inside a tar shard and where: read once, the items themselves left out."""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .members import AUDIO, LARGEST_ITEM, METADATA, TWICE, BoundedTarInfo, choose, read_metadata, split_name
from .metadata import Metadata, MetadataError
from .strings import Strings

ITEM_COLUMNS: dict[str, type] = {
    "offset": np.int64,  # of the item in the tar
    "metadata_offset": np.int64,  # of its json
    "size": np.uint32,  # bytes
    "metadata_size": np.uint32,
    "duration": np.float32,  # seconds
    "dnsmos": np.float32,  # 0: nobody rated it
    "language": np.int32,  # position in the list of languages
    "extension": np.uint8,  # position in the list of the items' extensions
}


@dataclass(frozen=True)
class ShardEntries:
    """The utterances of one shard in columns of length n, and what in it is broken."""

    path: str
    size: int  # bytes of the tar when it was read; another size or time means another shard
    modified: int  # nanoseconds
    columns: dict[str, np.ndarray]  # as `ITEM_COLUMNS`
    keys: Strings
    languages: list[str]
    broken_keys: Strings = field(default_factory=lambda: Strings.join([]))  # an empty key: the rest of the shard
    broken_reasons: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass
class _Found:
    """The members of one key: offset and size of each."""

    items: dict[str, tuple[int, int]] = field(default_factory=dict)
    metadata: tuple[int, int] = (0, 0)
    content: bytes | None = None
    problem: str = ""


def scan_shard(shard: str | Path, items: Sequence[str] = AUDIO) -> ShardEntries:
    """Read a tar through.

    Args:
        items: extensions of what is indexed; of several in one sample the first of these.
    """
    path = Path(shard)
    broken: list[tuple[str, str]] = []
    found: dict[str, _Found] = {}
    size = modified = 0
    try:
        status = path.stat()
        size, modified = status.st_size, status.st_mtime_ns
        with tarfile.open(path, "r:", tarinfo=BoundedTarInfo) as tar:
            for member in tar:
                key, extension = split_name(member.name)
                if not member.isfile() or not key:
                    continue
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                _take(tar, member, extension, found.setdefault(key, _Found()), items)
    except (tarfile.TarError, EOFError, UnicodeError, ValueError) as error:
        reason = "file of zero bytes" if size == 0 else str(error) or type(error).__name__
        broken.append(("", f"tar is damaged ({reason})"))
    except OSError as error:
        broken.append(("", f"shard cannot be read ({error.strerror or error})"))
    rows: list[tuple] = []
    keys: list[str] = []
    languages: dict[str, int] = {}
    for key, sample in found.items():
        try:
            rows.append(_row(sample, items, languages))
            keys.append(key)
        except MetadataError as error:
            broken.append((key, str(error)))
            continue
        if sample.problem:
            broken.append((key, sample.problem))
    columns: dict[str, np.ndarray] = {
        name: np.array([row[i] for row in rows], kind) for i, (name, kind) in enumerate(ITEM_COLUMNS.items())
    }
    broken_keys = Strings.join([key for key, _ in broken])
    reasons = [reason for _, reason in broken]
    return ShardEntries(str(shard), size, modified, columns, Strings.join(keys), list(languages), broken_keys, reasons)


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, extension: str, sample: _Found, items: Sequence[str]) -> None:
    where = member.offset_data, member.size
    if extension == METADATA:
        sample.metadata, sample.content = where, read_metadata(tar, member)
    elif extension in items and not member.issparse():  # a sparse file is not stored as it is read
        if sample.items:
            sample.problem = TWICE
        sample.items.setdefault(extension, where)


def _metadata(content: bytes | None, is_audio: bool) -> Metadata:
    """What a json member says; audio cannot be used without it, other items are chosen by nothing that it says.

    Raises:
        MetadataError: as `Metadata.parse`; of other items only where there is none.
    """
    try:
        return Metadata.parse(content)
    except MetadataError:
        if is_audio or content is None:
            raise
        return Metadata(0.0, 0.0, "unknown")


def _row(sample: _Found, items: Sequence[str], languages: dict[str, int]) -> tuple:
    """The values of `ITEM_COLUMNS`; a language that is new is added to `languages`.

    Raises:
        MetadataError: the sample cannot be used.
    """
    is_audio = tuple(items) == AUDIO
    name = "audio" if is_audio else items[0]
    extension = choose(list(sample.items), items)
    if extension is None:
        raise MetadataError(f"no {name} member")
    offset, size = sample.items[extension]
    if size == 0:
        raise MetadataError(f"{name} member is empty")
    if size > LARGEST_ITEM:
        raise MetadataError(f"{name} member is larger than 4 GiB")
    known = _metadata(sample.content, is_audio)
    language = languages.setdefault(known.language, len(languages))
    return (
        offset, sample.metadata[0], size, sample.metadata[1], known.duration, known.dnsmos, language,
        items.index(extension),
    )  # fmt: skip

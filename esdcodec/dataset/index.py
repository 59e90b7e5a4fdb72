"""What is inside a tar shard and where: read once, cached beside it.

With it any utterance can be had by one seek, filters cost nothing, and the order of an epoch is known before it begins.
"""

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from .filters import AUDIO_MEMBERS, Metadata, MetadataError

FORMAT = "esdcodec-index-3"  # 1 knew fewer kinds of audio, 2 took any duration and distinguished EN from en


@dataclass(frozen=True)
class ShardIndex:
    """The utterances of a shard, one entry each in every list, and what in it is broken."""

    size: int = 0  # bytes of the tar when it was read; another size or time means another shard
    modified: int = 0  # nanoseconds
    keys: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)  # of the audio member's content
    sizes: list[int] = field(default_factory=list)  # bytes of it
    durations: list[float] = field(default_factory=list)  # seconds
    dnsmos: list[float] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)  # key, reason; without a key: of the shard

    def __len__(self) -> int:
        return len(self.keys)

    def metadata(self, i: int) -> Metadata:
        return Metadata(self.durations[i], self.dnsmos[i], self.languages[i])


def shard_index(shard: str | Path, cache_folder: Path | None = None) -> ShardIndex:
    """The index of a local shard, from its cache where that is up to date.

    The cache is beside the shard, or where nothing can be written there, in `cache_folder` or that of the user.
    """
    path = Path(shard)
    status = path.stat()
    for cache in _caches(path, cache_folder):
        found = _read(cache)
        if found is not None and (found.size, found.modified) == (status.st_size, status.st_mtime_ns):
            return found
    index = build(path)
    for cache in _caches(path, cache_folder):
        if _write(index, cache):
            break
    return index


def index_all(shards: Sequence[str], processes: int = 1, cache_folder: Path | None = None) -> None:
    """Make the indices that are not there yet, with several processes."""
    ensure = partial(_ensure, cache_folder)
    if processes > 1 and len(shards) > 1:
        with ProcessPoolExecutor(processes) as pool:
            done = pool.map(ensure, shards, chunksize=4)
            for _ in tqdm(done, "index", len(shards), unit="shard", disable=len(shards) < 100):
                pass
    else:
        for shard in shards:
            ensure(shard)


def _ensure(cache_folder: Path | None, shard: str) -> None:
    shard_index(shard, cache_folder)


def build(shard: Path) -> ShardIndex:
    """Read a tar through, its audio left out."""
    status = shard.stat()
    index = ShardIndex(size=status.st_size, modified=status.st_mtime_ns)
    audio: dict[str, tuple[int, int]] = {}
    metadata: dict[str, bytes] = {}
    order: dict[str, None] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if not member.isfile() or not stem:
                    continue
                if member.offset_data + member.size > status.st_size:
                    raise tarfile.ReadError("unexpected end of data")
                order[key] = None
                if extension.lower() in AUDIO_MEMBERS:
                    if key in audio:
                        index.broken.append((key, "key occurs twice in its shard"))
                    audio[key] = member.offset_data, member.size
                elif extension.lower() == "json":
                    stream = tar.extractfile(member)
                    metadata[key] = stream.read() if stream else b""
    except (tarfile.TarError, OSError, EOFError, UnicodeError, ValueError) as error:
        index.broken.append(("", f"tar is damaged ({_reason(error, status.st_size)})"))
    for key in order:
        offset, size = audio.get(key, (0, 0))
        if key not in audio:
            index.broken.append((key, "no audio member"))
        elif size == 0:
            index.broken.append((key, "audio member is empty"))
        else:
            try:
                known = Metadata.parse(metadata.get(key))
            except MetadataError as error:
                index.broken.append((key, str(error)))
                continue
            index.keys.append(key)
            index.offsets.append(offset)
            index.sizes.append(size)
            index.durations.append(known.duration)
            index.dnsmos.append(known.dnsmos)
            index.languages.append(known.language)
    return index


def _reason(error: Exception, size: int) -> str:
    return "file of zero bytes" if size == 0 else str(error) or type(error).__name__


def _caches(shard: Path, folder: Path | None) -> list[Path]:
    name = hashlib.sha256(str(shard.resolve()).encode()).hexdigest()[:24]
    folders = [user_cache() / "index"] if folder is None else [folder, user_cache() / "index"]
    return [shard.with_name(f"{shard.name}.index"), *(each / f"{name}.index" for each in folders)]


def user_cache() -> Path:
    """The folder of this package in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "esdcodec"


def _read(cache: Path) -> ShardIndex | None:
    try:
        fields = json.loads(cache.read_bytes())
        if fields.pop("format") != FORMAT:
            return None
        index = ShardIndex(**{**fields, "broken": [(key, reason) for key, reason in fields["broken"]]})
        whole = all(isinstance(c, list) and len(c) == len(index.keys) for c in _columns(index))
        return index if whole else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # not there, of another version, or damaged: it is made again


def _columns(index: ShardIndex) -> tuple[list, ...]:
    return index.keys, index.offsets, index.sizes, index.durations, index.dnsmos, index.languages


def _write(index: ShardIndex, cache: Path) -> bool:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=cache.parent, prefix=f".{cache.name}-")
        with open(handle, "w", encoding="utf-8") as stream:
            json.dump({"format": FORMAT, **asdict(index)}, stream, separators=(",", ":"))
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, cache)
    except OSError:
        return False  # a folder one may not write to
    return True

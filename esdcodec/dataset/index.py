"""Makes the manifest of a corpus from its shards: only shards that are new or have changed are read."""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from ..processes import in_processes
from .manifest import SUFFIX, Manifest, ManifestError, ManifestWriter
from .members import AUDIO
from .open_files import same_file
from .scan import ShardEntries, scan_shard

log = logging.getLogger(__name__)

IndexProgress = Callable[[int, int, int], None]  # shards that are done, of how many, and the utterances in them
PER_PROCESS = 8  # shards at least, as a process takes seconds to start
PUBLISH_EVERY = 600.0  # seconds: what a killed index loses


def index_corpus(
    shards: Sequence[str],
    output: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    items: Sequence[str] = AUDIO,
    scan: Callable[[str], ShardEntries] | None = None,
    processes: int = 1,
    progress: IndexProgress | None = None,
) -> Manifest:
    """The manifest of local tars, made or brought up to date where it is not.

    A shard that cannot be read gets an entry with the reason. An index that ends early keeps what it has read.

    Args:
        output: the file; None: `corpus.manifest` in the shards' folder, or, where that is not to be written, one in
            `cache`, in the user's cache or in the system's folder for temporary files.
        items: extensions of what is indexed in each sample.
        scan: reads a shard that is no tar of these items. Default: `scan_shard`.
        processes: that read shards.

    Raises:
        OSError: nothing can be written where it should be.
    """
    paths = list(dict.fromkeys(map(os.path.abspath, shards)))
    candidates = [Path(output).absolute()] if output is not None else manifest_paths(paths, cache)
    known = {path: entry for file in reversed(candidates) for path, entry in _known(file, items).items()}
    current = _current(paths, known)
    new = [path for path in paths if path not in current]
    if not new:
        for file in candidates:
            manifest = _opened(file, items)
            if manifest is not None and set(paths) <= set(manifest.shards):
                rows = {path: i for i, path in enumerate(manifest.shards)}
                if all(manifest.version(rows[path]) == known[path][0].version(known[path][1]) for path in paths):
                    return manifest
    wanted = set(paths)
    others = [path for path in known if path not in wanted and os.path.exists(path)] if output is None else []
    with closing(_writer(candidates, items)) as writer:
        for path in [*current, *_current(others, known)]:
            manifest, row = known[path]
            writer.add(manifest.entries(row))
        scan = partial(scan_shard, items=items) if scan is None else scan
        return _scan(new, writer, scan, processes, progress, len(paths))


def _scan(
    new: Sequence[str],
    writer: ManifestWriter,
    scan: Callable[[str], ShardEntries],
    processes: int,
    progress: IndexProgress | None,
    n: int,
) -> Manifest:
    n_items = 0
    published = time.monotonic()
    try:
        for number, entries in enumerate(_scanned(new, scan, processes), n - len(new) + 1):
            writer.add(entries)
            n_items += len(entries)
            if progress is not None:
                progress(number, n, n_items)
            if time.monotonic() - published > PUBLISH_EVERY:
                writer.publish()
                published = time.monotonic()
    except BaseException:
        with suppress(OSError):
            writer.publish()
        raise
    return writer.publish()


def _scanned(shards: Sequence[str], scan: Callable[[str], ShardEntries], processes: int) -> Iterator[ShardEntries]:
    processes = min(processes, len(shards) // PER_PROCESS)
    if processes < 2:
        yield from map(scan, shards)
        return
    with closing(in_processes(processes, scan, shards, _nothing)) as results:
        for _, entries in results:
            if isinstance(entries, Exception):
                raise entries
            yield entries


def _nothing() -> None:
    """Processes that scan need no preparation."""


def find_manifest(shards: Sequence[str], *, cache: str | Path | None = None, items: Sequence[str] = AUDIO) -> Manifest:
    """The newest of the manifests that `index_corpus` may have made of these shards.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = set(map(os.path.abspath, shards))
    candidates = manifest_paths(list(paths), cache)
    found = [manifest for file in candidates if (manifest := _opened(file, items)) and paths <= set(manifest.shards)]
    if not found:
        raise FileNotFoundError(f"no manifest of these {len(paths)} shards at {' or '.join(map(str, candidates))}")
    return max(found, key=lambda manifest: manifest.path.stat().st_mtime_ns)


def check_current(manifest: Manifest) -> None:
    """Refuse a manifest whose shards have changed.

    Raises:
        ValueError: they have; the message names one and says what to do.
    """
    shards = manifest.shards
    current = _current(shards, {path: (manifest, row) for row, path in enumerate(shards)})
    changed = [path for path in shards if path not in current]
    if changed:
        raise ValueError(
            f"{len(changed)} of {len(shards)} shards have changed or gone since {manifest.path} was made (the first: "
            f"{changed[0]}): bring it up to date with `esdcodec index SHARDS --output {manifest.path}`"
        )


def manifest_paths(shards: Sequence[str], cache: str | Path | None = None) -> list[Path]:
    """Where the manifest of these shards may be, the best first: with them, in `cache`, with the user, the system."""
    common, is_theirs = _common_folder(shards)
    user = getattr(os, "getuid", lambda: "cache")()
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "esdcodec" / "corpora"
    folders = [] if cache is None else [Path(cache)]
    folders += [home, Path(tempfile.gettempdir()) / f"esdcodec-{user}"]
    beside = [Path(common) / f"corpus{SUFFIX}"] if is_theirs else []
    return [*beside, *(manifest_in(folder, shards) for folder in folders)]


def manifest_in(folder: Path, shards: Sequence[str]) -> Path:
    """The manifest of these shards in a folder that has those of others, too."""
    name = hashlib.sha256(_common_folder(shards)[0].encode(errors="surrogateescape")).hexdigest()[:24]
    return folder.absolute() / f"{name}{SUFFIX}"


def _common_folder(shards: Sequence[str]) -> tuple[str, bool]:
    """The folder below which all shards are, and whether some are directly in it."""
    folders = sorted({os.path.dirname(os.path.abspath(shard)) for shard in shards})
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # on several drives
        common = os.pathsep.join(folders)
    return common, common in folders


def _writer(candidates: Sequence[Path], items: Sequence[str]) -> ManifestWriter:
    """For the first of the files that can be written."""
    for file in candidates:
        try:
            if file.is_dir():
                raise IsADirectoryError(f"{file} is a folder")
            file.parent.mkdir(parents=True, exist_ok=True)
            return ManifestWriter(file, items)
        except OSError as error:
            failure = error
    raise OSError(
        f"no manifest can be written at {' or '.join(map(str, candidates))} ({failure}): make one where it can, with "
        "`esdcodec index SHARDS -o FOLDER`, and set data.manifests=FOLDER"
    )


def _known(file: Path, items: Sequence[str]) -> dict[str, tuple[Manifest, int]]:
    manifest = _opened(file, items)
    return {path: (manifest, row) for row, path in enumerate(manifest.shards)} if manifest else {}


def _opened(file: Path, items: Sequence[str]) -> Manifest | None:
    try:
        manifest = Manifest(file)
    except (OSError, ManifestError):
        return None  # not there, of another version, or damaged: it is made again
    return manifest if manifest.items == tuple(items) else None


def _current(paths: Sequence[str], known: dict[str, tuple[Manifest, int]]) -> dict[str, None]:
    """Those of the shards that are as they were when they were read."""

    def is_current(path: str) -> bool:
        if path not in known:
            return False
        manifest, row = known[path]
        size, modified = manifest.version(row)
        gone = size == modified == 0
        return not os.path.exists(path) if gone else same_file(path, size, modified)

    with ThreadPoolExecutor(16) as pool:  # a server answers many questions at a time
        return dict.fromkeys(path for path, same in zip(paths, pool.map(is_current, paths)) if same)

"""The utterances of some shards of a manifest that pass the filters."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np

from .batch import SkippedUtterance
from .filters import Filters, n_segments
from .manifest import Manifest

CACHED = 1024  # shards of which it is kept which utterances pass: 10 to 40 kB each, in every worker


@dataclass(frozen=True)
class Location:
    """Where an item is."""

    shard: str
    row: int  # of the manifest's columns
    offset: int  # bytes
    size: int
    version: tuple[int, int]  # size and time of the shard


class Corpus:
    """The utterances of local shards that pass the filters.

    What is kept in memory is a few numbers for each shard; the rest stays in the manifest on disk.

    Args:
        manifest: of these shards and perhaps of others.
        per_utterance: segments of each utterance in an epoch; None: as many as it is long.
        segment_seconds: of a segment.
    """

    def __init__(
        self,
        manifest: Manifest,
        shards: Sequence[str],
        filters: Filters,
        *,
        per_utterance: int | None = 1,
        segment_seconds: float = 1.0,
    ) -> None:
        self.manifest, self.filters = manifest, filters
        self.per_utterance, self.segment_seconds = per_utterance, segment_seconds
        known = {path: row for row, path in enumerate(manifest.shards)}
        self.shards = [os.path.abspath(shard) for shard in shards]
        self.rows = np.array([known[shard] for shard in self.shards], np.int64)  # in the manifest
        self.counts = np.zeros(len(self.rows), np.int64)  # segments of each shard
        self.whole = np.zeros(len(self.rows), bool)  # shards of which all utterances pass
        self.hours = 0.0
        self.utterances = 0
        self.dropped: Counter[str] = Counter()  # utterances that the filters drop, by reason
        self.n_broken: Counter[str] = Counter()  # entries of the manifest that cannot be used, by reason
        self.unreadable = 0  # shards of which nothing can be used
        for number, row in enumerate(self.rows.tolist()):
            self._count(number, row)
        self._passing = lru_cache(CACHED)(self._find_passing)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_passing"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._passing = lru_cache(CACHED)(self._find_passing)

    def _count(self, number: int, row: int) -> None:
        codes, duration = self._rejections(row)
        kept = duration[codes == 0]
        self.whole[number] = len(kept) == len(codes)
        self.counts[number] = n_segments(kept, self.per_utterance, self.segment_seconds).sum()
        self.hours += float(kept.sum(dtype=np.float64)) / 3600
        self.utterances += len(kept)
        for code, n in enumerate(np.bincount(codes, minlength=1)[1:].tolist()):
            if n:
                self.dropped[self.filters.reasons[code]] += n
        broken = self.manifest.broken(row)
        self.n_broken.update(reason for _, reason in broken)
        self.unreadable += not len(codes) and any(not key for key, _ in broken)

    def _rejections(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each utterance of a shard why it is dropped (0: it is not), and how long it is."""
        first, last = self.manifest.range(row)
        columns = self.manifest.columns
        duration, dnsmos, language = (columns[name][first:last] for name in ("duration", "dnsmos", "language"))
        return self.filters.rejections(duration, dnsmos, language, self.manifest.languages), duration

    def _find_passing(self, number: int) -> tuple[np.ndarray | None, np.ndarray | None, int]:
        """Utterances of a shard that pass (None: all), where the segments of each end (None: one each), first row."""
        row = int(self.rows[number])
        first, last = self.manifest.range(row)
        kept = None if self.whole[number] else np.flatnonzero(self._rejections(row)[0] == 0).astype(np.uint32)
        if self.per_utterance == 1:
            return kept, None, first
        duration = self.manifest.columns["duration"][first:last]
        copies = n_segments(duration if kept is None else duration[kept], self.per_utterance, self.segment_seconds)
        return kept, np.cumsum(copies), first

    def broken(self) -> Iterator[SkippedUtterance]:
        """Entries of the manifest that cannot be used."""
        for shard, row in zip(self.shards, self.rows.tolist()):
            for key, reason in self.manifest.broken(row):
                yield SkippedUtterance(shard, key, reason)

    def find(self, shard: int, segment: int) -> Location:
        """Where the item of a segment is."""
        kept, ends, first = self._passing(shard)
        i = segment if ends is None else int(np.searchsorted(ends, segment, side="right"))
        row = first + (i if kept is None else int(kept[i]))
        columns = self.manifest.columns
        version = self.manifest.version(int(self.rows[shard]))
        return Location(self.shards[shard], row, int(columns["offset"][row]), int(columns["size"][row]), version)

    def key(self, row: int) -> str:
        return self.manifest.keys[row]

    def digest(self) -> str:
        """The same where the same utterances are in the same order."""
        found = sha256(self.counts.tobytes())
        for row in self.rows.tolist():
            found.update(np.array(self.manifest.range(row)[1] - self.manifest.range(row)[0]).tobytes())
            found.update(np.array(self.manifest.version(row)[0]).tobytes())
        return found.hexdigest()

"""The loaders of a run, from its configuration."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..processes import leave_to_the_parent
from .batch import Batch, FeatureExtractor
from .corpus import Corpus, Segments
from .filters import Filters
from .index import index_all, user_cache
from .manifest import Manifest, manifest_folder, write_manifest
from .shards import list_shards, streams
from .stream import Stream
from .tally import Tally, check_share

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A corpus as the configuration names it."""

    shards: list[str]
    weight: float

    @classmethod
    def parse(cls, setting: Any) -> "list[Source]":
        """From shards as `list_shards` takes them, or a list of `{shards: …, weight: …}`.

        Raises:
            FileNotFoundError: a shard is not there.
            ValueError: a weight is missing or not positive.
        """
        if isinstance(setting, str) or not any(isinstance(part, Mapping) for part in setting):
            return [cls(list_shards(setting), 1.0)]
        sources = []
        for part in setting:
            if not isinstance(part, Mapping) or set(part) != {"shards", "weight"} or not part["weight"] > 0:
                raise ValueError(
                    f"data.train: every corpus of a mix needs `shards` and a positive `weight`, not {part}"
                )
            sources.append(cls(list_shards(part["shards"]), float(part["weight"])))
        return sources


@dataclass(frozen=True)
class Reader:
    """How segments are read, for training and validation alike."""

    filters: Filters
    sample_rate: int
    batch_size: int
    num_workers: int
    max_broken_share: float
    rank: int = 0
    n_ranks: int = 1
    barrier: Callable[[], None] = lambda: None  # waits for the other ranks
    cache: Path | None = None  # folder for manifests, which all ranks see; None: in the user's cache

    def training(
        self,
        sources: Sequence[Source],
        *,
        segment_length: int,
        per_utterance: int | None,
        shuffle_buffer: int,
        shuffle_window: int,
        seed: int,
        tally: Tally,
        extract: FeatureExtractor | None = None,
    ) -> "Training":
        """Endless shuffled batches of several corpora; broken entries found by indexing go to `tally`.

        Args:
            shuffle_buffer: segments that every worker holds to shuffle a stream.
            shuffle_window: items of indexed shards among which the order is random; it costs nothing.
        """
        shards = [shard for source in sources for shard in source.shards]
        common: dict[str, Any] = {
            "segment_length": segment_length,
            "sample_rate": self.sample_rate,
            "batch_size": self.batch_size,
            "extract": extract,
        }
        if any(map(streams, shards)):
            if len(sources) > 1:
                raise ValueError(
                    "corpora of remote, piped or compressed shards cannot be mixed by weight: download them"
                )

            tally.n_shards = len(shards)

            def stream(place: int) -> Dataset:
                return Stream(
                    shards,
                    self.filters,
                    per_utterance=per_utterance,
                    shuffle_buffer=max(1, shuffle_buffer),
                    seed=f"{seed}/{place}",
                    rank=self.rank,
                    n_ranks=self.n_ranks,
                    **common,
                )

            return Training(self, stream, epoch_size=None)
        seconds = segment_length / self.sample_rate
        corpora = [
            Corpus(manifest, self.filters, per_utterance=per_utterance, segment_seconds=seconds)
            for manifest in self._manifests([source.shards for source in sources])
        ]
        self._report(corpora, tally)
        weights = [source.weight for source in sources]
        self._check_window(shuffle_window, corpora)
        segments = Segments(corpora, weights=weights, shuffle_window=max(1, shuffle_window), seed=seed, **common)
        return Training(self, lambda place: segments, epoch_size=len(segments))

    def _report(self, corpora: Sequence[Corpus], tally: Tally) -> None:
        """Say what is in the corpora, and stop where too much is broken."""
        for corpus in corpora:
            log.info(
                "%d utterances, %.1f hours, in %d shards; dropped: %s; broken: %d",
                corpus.utterances,
                corpus.hours,
                len(corpus.shards),
                ", ".join(f"{n} {reason}" for reason, n in corpus.dropped.items()) or "none",
                len(corpus.broken),
            )
            tally.converted.update({f"dropped: {reason}": n for reason, n in corpus.dropped.items()})
            if self.rank == 0:
                tally.skip(corpus.broken)
        broken = Counter(skip.reason for corpus in corpora for skip in corpus.broken)
        for corpus in corpora:  # a shard that cannot be read is as many utterances as the others have
            readable = len(corpus.shards) - corpus.unreadable
            broken["in an unreadable shard"] += corpus.unreadable * (corpus.utterances // max(1, readable) - 1)
        check_share(broken, sum(corpus.utterances for corpus in corpora), self.max_broken_share)

    def _check_window(self, shuffle_window: int, corpora: Sequence[Corpus]) -> None:
        """Warn where a window has few batches, and these are alike."""
        enough = 100 * self.batch_size * self.n_ranks
        if self.rank == 0 and shuffle_window < min(enough, sum(corpus.size for corpus in corpora)):
            log.warning(
                "data.shuffle_window=%d is %d batches of all processes: with %d, a batch would see more of the corpus",
                shuffle_window,
                shuffle_window // (self.batch_size * self.n_ranks),
                enough,
            )

    def validation(self, shards: Sequence[str], *, segment_length: int) -> DataLoader:
        """Every utterance once, from its middle, shared between the ranks."""
        common: dict[str, Any] = {
            "segment_length": segment_length,
            "sample_rate": self.sample_rate,
            "batch_size": self.batch_size,
        }
        if any(map(streams, shards)):
            dataset: Dataset = Stream(shards, self.filters, rank=self.rank, n_ranks=self.n_ranks, **common)
            return DataLoader(dataset, batch_size=None)
        (manifest,) = self._manifests([shards])
        segments = Segments([Corpus(manifest, self.filters)], **common)
        places = range(self.rank * self.batch_size, len(segments), self.n_ranks * self.batch_size)
        return DataLoader(segments, batch_size=None, sampler=places)

    def _manifests(self, corpora: Sequence[Sequence[str]]) -> list[Manifest]:
        """One of each corpus: ranks share the shards that are not indexed yet, the first joins the indices."""
        cache = self.cache or user_cache()
        folders = [manifest_folder(shards, cache) for shards in corpora]
        missing = [i for i, folder in enumerate(folders) if not (folder / "manifest.json").is_file()]
        shards = [shard for i in missing for shard in corpora[i]]
        index_all(shards[self.rank :: self.n_ranks], max(1, self.num_workers), self.cache)
        self.barrier()
        if self.rank == 0:
            for i in missing:
                write_manifest(corpora[i], folders[i], self.cache)
        self.barrier()
        return [Manifest(folder) for folder in folders]


@dataclass(frozen=True)
class Training:
    """The training batches of one process, from any place on."""

    reader: Reader
    dataset: Callable[[int], Dataset]  # by the place at which a run goes on
    epoch_size: int | None  # segments; None where nobody knows: a resumed run then begins a new order

    def batches(self, place: int) -> Iterator[Batch]:
        """Batches from `place`: the segments that all ranks have read so far."""
        reader = self.reader
        step = reader.batch_size * reader.n_ranks
        sampler = count(place + reader.rank * reader.batch_size, step) if self.epoch_size else None
        yield from DataLoader(
            self.dataset(place),
            batch_size=None,
            sampler=sampler,
            num_workers=reader.num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )


def _start_worker(worker: int) -> None:
    leave_to_the_parent()

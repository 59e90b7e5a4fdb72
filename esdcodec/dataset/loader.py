"""The loaders of a run, from its configuration."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..processes import ignore_signals_in_worker
from .batch import Batch, FeatureExtractor
from .corpus import Corpus
from .filters import Filters
from .index import check_current, find_manifest, index_corpus
from .manifest import SUFFIX, Manifest
from .segments import Segments
from .shards import list_shards, streams
from .skip_counts import SkipCounts, check_share
from .stream import Stream

log = logging.getLogger(__name__)

FEW_STEPS = 100  # batches of all processes in a shuffle window; with fewer, a warning is logged


@dataclass(frozen=True)
class Source:
    """A corpus as the configuration names it."""

    shards: list[str]
    weight: float = 1.0
    manifest: Path | None = None  # where it was named by one

    @classmethod
    def parse(cls, setting: Any) -> "list[Source]":
        """From shards as `list_shards` takes them, or a list of `{shards: …, weight: …}`.

        Raises:
            FileNotFoundError: a shard is not there.
            ValueError: a weight is missing or not positive, or the shards are where nothing here can read them.
        """
        if isinstance(setting, str | Path) or not any(isinstance(part, Mapping) for part in setting):
            return [cls._named(setting, 1.0)]
        sources = []
        for part in setting:
            if not isinstance(part, Mapping) or set(part) != {"shards", "weight"} or not part["weight"] > 0:
                raise ValueError(
                    f"data.train: every corpus of a mix needs `shards` and a positive `weight`, not {part}"
                )
            sources.append(cls._named(part["shards"], float(part["weight"])))
        return sources

    @classmethod
    def _named(cls, shards: Any, weight: float) -> "Source":
        is_manifest = isinstance(shards, str | Path) and str(shards).endswith(SUFFIX)
        return cls(list_shards(shards), weight, Path(shards).expanduser() if is_manifest else None)


@dataclass(frozen=True)
class Loaders:
    """Makes the loaders of one process, for training and for validation.

    Args:
        rank, n_ranks: which process of how many this is.
        local_rank: which process of its machine.
        barrier: waits for the other processes.
        gather: the lists of all processes, one behind the other.
        cache: folder for manifests, which all processes see, for where none is with the shards.
    """

    filters: Filters
    sample_rate: int
    batch_size: int
    num_workers: int
    max_broken_share: float
    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0
    barrier: Callable[[], None] = lambda: None
    gather: Callable[[list[Any]], list[Any]] = list
    cache: Path | None = None

    def training(
        self,
        sources: Sequence[Source],
        *,
        segment_length: int,
        per_utterance: int | None,
        shuffle_buffer: int,
        shuffle_window: int,
        seed: int,
        skip_counts: SkipCounts,
        extract: FeatureExtractor | None = None,
    ) -> "TrainingBatches":
        """Endless shuffled batches of several corpora; broken entries found by indexing go to `skip_counts`.

        Args:
            shuffle_buffer: segments that every worker holds to shuffle a stream.
            shuffle_window: segments of local shards among which the order is random; it costs nothing.

        Raises:
            TooMuchIsBroken: by the index, too many utterances are.
            ValueError: nothing can be used, or the processes see different data.
        """
        common = self._common(segment_length) | {"extract": extract}
        if _any_streams(sources):
            if len(sources) > 1:
                raise ValueError(
                    "corpora of remote, piped or compressed shards cannot be mixed by weight: download them"
                )
            skip_counts.n_shards = len(sources[0].shards)

            def stream(position: int) -> Dataset:
                return Stream(
                    sources[0].shards,
                    self.filters,
                    per_utterance=per_utterance,
                    shuffle_buffer=max(1, shuffle_buffer),
                    seed=f"{seed}/{position}",
                    rank=self.rank,
                    n_ranks=self.n_ranks,
                    **common,
                )

            return TrainingBatches(self, stream, epoch_size=None, digest=None)
        corpora = self._corpora(sources, per_utterance=per_utterance, segment_seconds=segment_length / self.sample_rate)
        self._count(corpora, skip_counts)
        window = max(1, shuffle_window)
        segments = Segments(
            corpora, weights=[source.weight for source in sources], shuffle_window=window, seed=seed, **common
        )
        steps = window / (self.batch_size * self.n_ranks)
        if self.rank == 0 and steps < FEW_STEPS and len(segments) > window:
            log.warning(
                "data.shuffle_window=%d is %.1f batches of all processes: at least %d would mix them better",
                window, steps, FEW_STEPS * self.batch_size * self.n_ranks,
            )  # fmt: skip
        digest = sha256("".join(corpus.digest() for corpus in corpora).encode()).hexdigest()
        return TrainingBatches(self, lambda position: segments, epoch_size=len(segments), digest=digest)

    def validation(self, sources: Sequence[Source], *, segment_length: int) -> DataLoader:
        """Every utterance once, from its middle, shared between the ranks."""
        common = self._common(segment_length)
        if _any_streams(sources):
            shards = [shard for source in sources for shard in source.shards]
            dataset: Dataset = Stream(shards, self.filters, rank=self.rank, n_ranks=self.n_ranks, **common)
            return DataLoader(dataset, batch_size=None, generator=torch.Generator())
        segments = Segments(self._corpora(sources), **common)
        positions = range(self.rank * self.batch_size, len(segments), self.n_ranks * self.batch_size)
        return DataLoader(segments, batch_size=None, sampler=positions, generator=torch.Generator())

    def _common(self, segment_length: int) -> dict[str, Any]:
        return {"segment_length": segment_length, "sample_rate": self.sample_rate, "batch_size": self.batch_size}

    def _corpora(self, sources: Sequence[Source], **options: Any) -> list[Corpus]:
        """The sources' utterances, the same on all processes.

        Rank 0 brings the manifests up to date, then the first process of each other machine, which only reads shards
        itself where it does not see what rank 0 wrote.

        Raises:
            ValueError: the processes see different data.
        """
        if self.rank == 0:
            self._index(sources)
        self.barrier()
        if self.rank > 0 and self.local_rank == 0:
            self._index(sources)
        self.barrier()
        corpora = []
        for source in sources:
            manifest = Manifest(source.manifest) if source.manifest else find_manifest(source.shards, cache=self.cache)
            corpora.append(Corpus(manifest, source.shards, self.filters, **options))
        digests = self.gather([[corpus.digest() for corpus in corpora]])
        if any(digest != digests[0] for digest in digests):
            others = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
            raise ValueError(
                f"ranks {', '.join(others)} see other shards than rank 0: give all machines the same files, and name a "
                "folder that all of them see (`esdcodec index SHARDS -o FOLDER`, data.manifests=FOLDER)"
            )
        return corpora

    def _index(self, sources: Sequence[Source]) -> None:
        for source in sources:
            if source.manifest:
                check_current(Manifest(source.manifest))
            else:
                index_corpus(source.shards, cache=self.cache, processes=max(1, self.num_workers), progress=IndexLog())

    def _count(self, corpora: Sequence[Corpus], skip_counts: SkipCounts) -> None:
        """Log the size of the corpora, and stop where too much of them is broken."""
        broken: Counter[str] = Counter()
        for corpus in corpora:
            log.info(
                "%d utterances, %.1f hours, in %d shards; dropped: %s; broken: %d",
                corpus.utterances,
                corpus.hours,
                len(corpus.shards),
                ", ".join(f"{n} {reason}" for reason, n in corpus.dropped.items()) or "none",
                corpus.n_broken.total(),
            )
            skip_counts.converted.update({f"dropped: {reason}": n for reason, n in corpus.dropped.items()})
            if self.rank == 0:
                skip_counts.add_skipped(corpus.broken())
            # a shard that cannot be read is as many utterances as the others have
            readable = max(1, len(corpus.shards) - corpus.unreadable)
            broken += corpus.n_broken
            broken["in an unreadable shard"] += corpus.unreadable * (corpus.utterances // readable - 1)
        check_share(broken, sum(corpus.utterances for corpus in corpora), self.max_broken_share)


def _any_streams(sources: Sequence[Source]) -> bool:
    return any(streams(shard) for source in sources for shard in source.shards)


class IndexLog:
    """Progress of an index, a line each half minute."""

    def __init__(self, every: float = 30.0) -> None:
        self.every, self.started = every, time.monotonic()
        self.last = self.started

    def __call__(self, done: int, total: int, utterances: int) -> None:
        now = time.monotonic()
        if now - self.last < self.every and done < total:
            return
        self.last = now
        log.info("indexed %d of %d shards, %d utterances, %.0f s", done, total, utterances, now - self.started)


@dataclass(frozen=True)
class TrainingBatches:
    """The training batches of one process, from any position on."""

    loaders: Loaders
    dataset: Callable[[int], Dataset]  # by the position at which a run goes on
    epoch_size: int | None  # segments; None where it is not known: a resumed run then begins a new order
    digest: str | None  # the same where the same utterances are in the same order; None where nobody knows

    def batches(self, position: int) -> Iterator[Batch]:
        """Batches from `position`: the segments that all ranks have read so far."""
        loaders = self.loaders
        step = loaders.batch_size * loaders.n_ranks
        sampler = count(position + loaders.rank * loaders.batch_size, step) if self.epoch_size else None
        yield from DataLoader(
            self.dataset(position),
            batch_size=None,
            sampler=sampler,
            num_workers=loaders.num_workers,
            generator=torch.Generator(),  # else every start, and every validation, would draw from the run's numbers
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=ignore_signals_in_worker,
        )

"""Shards that cannot be indexed, remote or piped: read once from front to back, one generator per step."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from .batch import Batch, FeatureExtractor, Segment, SkippedUtterance, collate
from .decode import UnusableAudio, decode_segment
from .filters import Filters, n_segments
from .members import AUDIO
from .metadata import Metadata, MetadataError
from .tar_stream import ShardBroken, utterances

MAX_EMPTY_EPOCHS = 3


class Stream(IterableDataset):
    """Batches from shards that are read as they come; arguments as those of `Segments` and `Corpus`.

    Ranks and workers take turns in the shards of an epoch; where there are fewer shards than readers, in the utterances
    of a shard. After a resume give another `seed`: the corpus is then read in a new order.

    Args:
        rank, n_ranks: which process of how many this is.
    """

    def __init__(
        self,
        shards: Sequence[str],
        filters: Filters,
        *,
        segment_length: int,
        sample_rate: int,
        batch_size: int,
        per_utterance: int | None = 1,
        shuffle_buffer: int = 0,
        seed: object = 0,
        rank: int = 0,
        n_ranks: int = 1,
        extract: FeatureExtractor | None = None,
    ) -> None:
        super().__init__()
        self.shards, self.filters = list(shards), filters
        self.segment_length, self.sample_rate, self.batch_size = segment_length, sample_rate, batch_size
        self.per_utterance, self.shuffle_buffer = per_utterance, shuffle_buffer
        self.seed, self.rank, self.n_ranks = seed, rank, n_ranks
        self.extract = extract
        self.skipped: list[SkippedUtterance] = []  # since the last batch of this worker
        self.converted: Counter[str] = Counter()
        self.shards_seen: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        reader = self.rank * (worker.num_workers if worker else 1) + (worker.id if worker else 0)
        n_readers = self.n_ranks * (worker.num_workers if worker else 1)
        rng = random.Random(f"{self.seed}/{reader}")
        if self.shuffle_buffer:
            segments = shuffle(self._epochs(reader, n_readers, rng), self.shuffle_buffer, rng)
        else:
            segments = self._epoch(0, reader, n_readers, rng)
        waiting: list[Segment] = []
        for segment in segments:
            waiting.append(segment)
            if len(waiting) == self.batch_size:
                yield self._batch(waiting)
                waiting = []
        if waiting or self.skipped or self.shards_seen:
            yield self._batch(waiting)

    def _batch(self, segments: Sequence[Segment]) -> Batch:
        batch = collate(segments, self.segment_length, self.extract, self.skipped, self.converted, self.shards_seen)
        self.skipped, self.converted, self.shards_seen = [], Counter(), Counter()
        return batch

    def _epochs(self, reader: int, n_readers: int, rng: random.Random) -> Iterator[Segment]:
        empty = 0
        for epoch in count():
            segment = None
            for segment in self._epoch(epoch, reader, n_readers, rng):
                yield segment
            empty = 0 if segment else empty + 1
            if empty == MAX_EMPTY_EPOCHS:
                raise ValueError(
                    f"{empty} epochs in a row gave no segment: no utterance in {len(self.shards)} shards is readable "
                    f"and passes data.filters where reader {reader + 1} of {n_readers} reads (the last one skipped: "
                    f"{self.skipped[-1:]})"
                )

    def _epoch(self, epoch: int, reader: int, n_readers: int, rng: random.Random) -> Iterator[Segment]:
        for shard, part, n_parts in share(
            self.shards, reader, n_readers, random.Random(f"{self.seed}/{epoch}") if self.shuffle_buffer else None
        ):
            number = 0
            try:
                for number, sample in enumerate(utterances(shard), 1):
                    if number % n_parts == part:
                        yield from self._segments(sample, rng)
                self.shards_seen.update({"read": 1, "utterances of read": number})
            except ShardBroken as error:  # go on with the next
                self.skipped.append(SkippedUtterance(shard, "", f"shard cannot be read to its end ({error})"))
                self.shards_seen.update({"broken": 1, "utterances of broken": number})

    def _segments(self, sample: dict[str, Any], rng: random.Random) -> Iterator[Segment]:
        key, shard = sample["__key__"], sample["__url__"]
        content = next((sample[name] for name in AUDIO if name in sample), None)
        try:
            metadata = Metadata.parse(sample.get("json"))
            if content is None:
                raise MetadataError("no audio member")
            if not content:
                raise MetadataError("audio member is empty")
        except MetadataError as error:
            self.skipped.append(SkippedUtterance(shard, key, str(error)))
            return
        reason = self.filters.rejects(metadata)
        if reason is not None:
            self.converted[f"dropped: {reason}"] += 1
            return
        seconds = self.segment_length / self.sample_rate
        for _ in range(n_segments(np.array([metadata.duration]), self.per_utterance, seconds)[0]):
            crop = rng.random() if self.shuffle_buffer else 0.5
            try:
                waveform = decode_segment(
                    content,
                    self.segment_length,
                    self.sample_rate,
                    crop,
                    min_sample_rate=self.filters.min_sample_rate,
                    converted=self.converted,
                )
            except UnusableAudio as error:
                self.skipped.append(SkippedUtterance(shard, key, str(error)))
                return
            yield Segment(key, waveform)


def share(
    shards: Sequence[str], reader: int, n_readers: int, rng: random.Random | None
) -> Iterator[tuple[str, int, int]]:
    """Shards that one of `n_readers` reads in an epoch, and which part of how many of each one's utterances.

    All readers draw the same order from `rng`; None is as they are listed.
    """
    order = list(shards)
    if rng is not None:
        rng.shuffle(order)
    n_parts = -(-n_readers // len(order))
    pieces = [(shard, part, n_parts) for part in range(n_parts) for shard in order]
    yield from pieces[reader::n_readers]


def shuffle(segments: Iterable[Segment], buffer_size: int, rng: random.Random) -> Iterator[Segment]:
    """Segments in random order, as far as a buffer of `buffer_size` allows."""
    buffer: list[Segment] = []
    for segment in segments:
        if len(buffer) < buffer_size:
            buffer.append(segment)
            continue
        position = rng.randrange(buffer_size)
        buffer[position], segment = segment, buffer[position]
        yield segment
    rng.shuffle(buffer)
    yield from buffer

"""Batches of training segments, and the loader that makes them."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
import webdataset
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from . import stages
from .shards import list_shards, share

MAX_EMPTY_EPOCHS = 3

FeatureExtractor = Callable[[np.ndarray], dict[str, Tensor]]  # audio [B, T] -> what the teacher reads


@dataclass(frozen=True)
class Batch:
    """Segments of equal length."""

    audio: Tensor  # [B, 1, T]
    keys: list[str]
    teacher_inputs: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Batch":
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in self.teacher_inputs.items()}
        return Batch(self.audio.to(device, non_blocking=True), self.keys, inputs)

    def pin_memory(self) -> "Batch":
        inputs = {name: tensor.pin_memory() for name, tensor in self.teacher_inputs.items()}
        return Batch(self.audio.pin_memory(), self.keys, inputs)


class Segments(IterableDataset):
    """Segments of a corpus: endless and shuffled for training, once and in order for validation.

    Args:
        shards: as `list_shards` takes them.
        segment_length: samples of a segment.
        sample_rate: Hz, of the segments.
        filters: keyword arguments of `stages.wanted`.
        shuffle_buffer: segments among which the order is random; 0 reads once, in order, and crops at fixed places.
        segments_per_utterance: null takes as many as an utterance is long.
        seed: of the order and the crops.
        rank, n_ranks: which process of how many this is.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        *,
        segment_length: int,
        sample_rate: int,
        filters: dict[str, Any] | None = None,
        shuffle_buffer: int = 0,
        segments_per_utterance: int | None = 1,
        seed: int | str = 0,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        super().__init__()
        self.shards = list_shards(shards)
        self.segment_length = segment_length
        self.sample_rate = sample_rate
        self.filters = filters or {}
        self.shuffle_buffer = shuffle_buffer
        self.segments_per_utterance = segments_per_utterance
        self.seed, self.rank, self.n_ranks = seed, rank, n_ranks

    def __iter__(self) -> Iterator[stages.Item]:
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(f"{self.seed}/{self.rank}/{worker.id if worker else 0}")
        if self.shuffle_buffer:
            return stages.shuffle(self._epochs(rng), self.shuffle_buffer, rng)
        return self._epoch(0, rng)

    def _epochs(self, rng: random.Random) -> Iterator[stages.Item]:
        empty = 0
        for epoch in count():
            segment = None
            for segment in self._epoch(epoch, rng):
                yield segment
            empty = 0 if segment else empty + 1
            if empty == MAX_EMPTY_EPOCHS:
                raise ValueError(
                    f"{empty} epochs in a row gave no segment: no utterance in {len(self.shards)} shards is readable "
                    f"and passes data.filters {self.filters}"
                )

    def _epoch(self, epoch: int, rng: random.Random) -> Iterator[stages.Item]:
        training = self.shuffle_buffer > 0
        shards = share(self.shards, self.seed, epoch, self.rank, self.n_ranks, shuffle=training)
        sources = ({"url": shard} for shard in shards)
        samples = webdataset.tariterators.tarfile_samples(sources, handler=webdataset.warn_and_continue)
        items = stages.decode(stages.wanted(samples, **self.filters), self.sample_rate)
        return stages.crop(items, self.segment_length, rng, self.segments_per_utterance)


def collate(items: Sequence[stages.Item], extract: FeatureExtractor | None = None) -> Batch:
    audio = np.stack([item.audio for item in items])
    return Batch(
        audio=torch.from_numpy(audio)[:, None],
        keys=[item.key for item in items],
        teacher_inputs=extract(audio) if extract else {},
    )


def loader(
    segments: Segments, batch_size: int, *, num_workers: int = 0, extract: FeatureExtractor | None = None
) -> DataLoader:
    """Batches of `segments`; `extract` computes the teacher's inputs in the workers."""
    return DataLoader(
        segments,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=partial(collate, extract=extract),
        pin_memory=torch.cuda.is_available(),
        drop_last=segments.shuffle_buffer > 0,
        persistent_workers=num_workers > 0,
    )

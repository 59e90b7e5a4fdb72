"""Batches of segments, and what was skipped while they were read."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..audio import Waveform

FeatureExtractor = Callable[[Sequence[Waveform]], dict[str, Tensor]]  # unpadded segments -> `Batch.features`


@dataclass(frozen=True)
class SkippedUtterance:
    """An utterance, or the rest of a shard, that could not be used."""

    shard: str
    key: str  # empty: the rest of the shard
    reason: str  # the same for all of its kind


@dataclass(frozen=True)
class Segment:
    """A piece of an utterance, as long as a segment or as the utterance, if that is shorter."""

    key: str
    waveform: Waveform  # [n]


@dataclass(frozen=True)
class Batch:
    """Segments of equal length, and what happened while they were read."""

    audio: Tensor  # [B, 1, T]; zeros complete what is shorter
    keys: list[str]
    features: dict[str, Tensor] = field(default_factory=dict)  # what else is read of the segments, by name
    skipped: list[SkippedUtterance] = field(default_factory=list)
    converted: Counter[str] = field(default_factory=Counter)  # what was done to how many segments
    shards_seen: Counter[str] = field(default_factory=Counter)  # of a stream: see `SkipCounts`

    def to(self, device: torch.device) -> "Batch":
        features = {name: tensor.to(device, non_blocking=True) for name, tensor in self.features.items()}
        return replace(self, audio=self.audio.to(device, non_blocking=True), features=features)

    def pin_memory(self) -> "Batch":
        features = {name: tensor.pin_memory() for name, tensor in self.features.items()}
        return replace(self, audio=self.audio.pin_memory(), features=features)


def collate(
    segments: Sequence[Segment],
    length: int,
    extract: FeatureExtractor | None = None,
    skipped: Sequence[SkippedUtterance] = (),
    converted: Counter[str] | None = None,
    shards_seen: Counter[str] | None = None,
) -> Batch:
    """`segments`, completed to `length` samples; `extract` sees them as they are."""
    audio = np.zeros((len(segments), length), np.float32)
    for row, segment in zip(audio, segments):
        row[: len(segment.waveform)] = segment.waveform
    return Batch(
        audio=torch.from_numpy(audio)[:, None],
        keys=[s.key for s in segments],
        features=extract([s.waveform for s in segments]) if extract and segments else {},
        skipped=list(skipped),
        converted=converted or Counter(),
        shards_seen=shards_seen or Counter(),
    )

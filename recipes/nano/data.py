"""Batches of segments of recordings, with what was measured of their frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from analysis import HOP, is_low
from recordings import AUDIO, LATENTS, LENGTHS, Arrays, Augmentation, DataSettings, waveform_of
from torch import Tensor

from esdcodec.audio import Waveform
from esdcodec.dataset.batch import Batch
from esdcodec.dataset.order import Order
from esdcodec.training.settings import ConfigurationError


@dataclass(frozen=True)
class Frames:
    """How a kind of values becomes a tensor ``[D, k · L]``: (values - mean) · scale; integers as they are."""

    kind: str
    mean: Any = 0.0  # [D]
    scale: Any = 1.0  # [D]

    def __call__(self, values: np.ndarray) -> Tensor:
        if values.dtype.kind == "i":
            return torch.from_numpy(values.T.astype(np.int64))
        values = (values.astype(np.float32) - self.mean) * self.scale
        return torch.from_numpy(np.ascontiguousarray(values.T))


class Segments:
    """Endless batches of segments of recordings, each a function of the seed and its position.

    A recording has as many segments in an epoch as it is long, one of a low voice `settings.low_repeats` times as
    many; where they begin is random. A batch holds audio
    ``[B, 1, T]``, and as `features` the given kinds ``[B, D, k · L]``, k values for each frame.

    Args:
        frames: what is read besides the audio, by its name in the batch.
        damage: what the audio goes through that is called `damaged` in the batch, `settings.damaged_share` of it.
    """

    def __init__(
        self,
        arrays: Arrays,
        frames: Mapping[str, Frames],
        settings: DataSettings,
        *,
        n_frames: int,
        batch_size: int,
        seed: Sequence[int],
        damage: Augmentation | None = None,
    ) -> None:
        self.arrays, self.frames, self.settings = arrays, frames, settings
        self.n_frames, self.batch_size, self.seed, self.damage = n_frames, batch_size, list(seed), damage
        self.recordings: list[tuple[str, int, int]] = []  # file, first frame, frames
        n_segments = []
        for name in arrays.names:
            lengths, latents = arrays.read(LENGTHS, name), arrays.read(LATENTS, name)
            for first, length in zip(lengths.cumsum() - lengths, lengths):
                if length >= n_frames:
                    self.recordings.append((name, int(first), int(length)))
                    repeats = settings.low_repeats if is_low(latents[first : first + length]) else 1
                    n_segments.append(repeats * max(1, round(length / n_frames)))
        if not n_segments:
            raise ConfigurationError(f"no {arrays.split} recording is as long as a segment, {n_frames} frames")
        self.ends = np.cumsum(n_segments)
        self.order = Order(self.ends[-1:], window=int(self.ends[-1]), seed=self.seed)

    @property
    def epoch_size(self) -> int:
        return self.order.size

    def batches(self, position: int) -> Iterator[Batch]:
        return (self[first] for first in count(position, self.batch_size))

    def __getitem__(self, position: int) -> Batch:
        """The batch whose first segment is at `position`."""
        segments = [self._segment(p) for p in range(position, position + self.batch_size)]
        names = segments[0].keys() - {"audio", "key"}
        return Batch(
            audio=torch.stack([segment["audio"] for segment in segments]),
            keys=[segment["key"] for segment in segments],
            features={name: torch.stack([segment[name] for segment in segments]) for name in names},
        )

    def _segment(self, position: int) -> dict[str, Any]:
        random = np.random.default_rng([*self.seed, position])
        _, _, item = self.order[position]
        name, first, length = self.recordings[int(np.searchsorted(self.ends, item, "right"))]
        start = first + int(random.integers(length - self.n_frames + 1))
        audio = waveform_of(self.arrays.read(AUDIO, name)[start * HOP : (start + self.n_frames) * HOP])
        segment: dict[str, Any] = {"key": f"{name}/{start}"}
        if self.damage is not None:
            damaged = self.damage(audio, random) if random.random() < self.settings.damaged_share else audio
            segment["damaged"] = self._dithered(damaged, random)
        segment["audio"] = self._dithered(audio, random)
        for label, frames in self.frames.items():
            values = self.arrays.read(frames.kind, name)
            k = len(values) // (len(self.arrays.read(AUDIO, name)) // HOP)
            segment[label] = frames(values[start * k : (start + self.n_frames) * k])
        return segment

    def _dithered(self, audio: Waveform, random: np.random.Generator) -> Tensor:
        """``[1, T]``; most recordings have digital silence above 8 kHz."""
        return torch.from_numpy(audio + self.settings.dither * random.standard_normal(len(audio), np.float32))[None]

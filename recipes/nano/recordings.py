"""Recordings from shards as arrays on disk, and beside them what was measured of each frame."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from analysis import HOP, RATE, analysis

from esdcodec.audio import Waveform
from esdcodec.dataset.batch import SkippedUtterance
from esdcodec.dataset.decode import UnusableAudio, decode_segment
from esdcodec.dataset.filters import Filters
from esdcodec.dataset.scan import scan_shard
from esdcodec.dataset.shards import list_shards, streams
from esdcodec.dataset.skip_counts import SkipCounts, check_share
from esdcodec.training.settings import ConfigurationError

AUDIO, LENGTHS, LATENTS = "analysis/audio", "analysis/lengths", "analysis/latents"
WHOLE = 10**9  # samples: more than any recording has

Augmentation = Callable[[Waveform, np.random.Generator], Waveform]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """`data` of the recipe."""

    filters: Filters
    max_broken_share: float
    dither: float  # standard deviation of the noise that is added to audio
    new_voices: int  # copies of the training recordings in voices that nobody has
    damaged_share: float  # of the segments that the encoder hears: noise, rooms, lossy formats
    low_repeats: int  # segments are drawn so many times more often from voices that are low

    def __post_init__(self) -> None:
        for name in ("dither", "new_voices"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name}={getattr(self, name)} must not be negative")
        if self.low_repeats < 1:
            raise ConfigurationError(f"low_repeats={self.low_repeats} must be at least 1")
        for name in ("damaged_share", "max_broken_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name}={getattr(self, name)} must be from 0 to 1")


class Arrays:
    """Arrays of the recordings of a split: a file for each shard and kind, whole or not there.

    A kind is `STAGE/NAME`; its files lie below the folder of the stage that makes it. A file holds the recordings of
    its shard one after the other, with a fixed number of values for each frame; `LENGTHS` tells their frames.
    """

    def __init__(self, folder: Path, split: str, names: Sequence[str]) -> None:
        if len(set(names)) < len(names):
            raise ConfigurationError(f"two {split} shards have one name: rename one of {', '.join(sorted(names))}")
        self.folder, self.split, self.names = folder, split, list(names)

    def path(self, kind: str, name: str) -> Path:
        return self.folder / kind / self.split / f"{name}.npy"

    def read(self, kind: str, name: str) -> np.ndarray:
        return _opened(self.path(kind, name))

    def write(self, kind: str, name: str, values: np.ndarray) -> None:
        path = self.path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.save(file, values)
        os.replace(partial, path)

    def convert(self, given: str, made: str, make: Callable[[np.ndarray], np.ndarray]) -> None:
        """Write as kind `made` what `make` makes of the values of each recording in kind `given`."""
        for name in self.names:
            if not self.path(made, name).exists():
                values, ends = self.read(given, name), self.read(LENGTHS, name).cumsum()
                per_frame = len(values) // max(1, ends[-1])
                each = [make(recording) for recording in np.split(values, per_frame * ends[:-1])]
                self.write(made, name, np.concatenate(each))

    def sample(self, kind: str) -> np.ndarray:
        """Every seventh frame ``[M, D]``, float32."""
        return np.concatenate([self.read(kind, name)[::7].astype(np.float32) for name in self.names])


@lru_cache(256)
def _opened(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def read_shards(
    folder: Path, split: str, list_file: Path, settings: DataSettings, new_voice: Augmentation | None, seed: int
) -> Arrays:
    """All recordings of some shards, completed to whole frames, and their analysis; what is there stays.

    Args:
        list_file: whatever `list_shards` takes.
        new_voice: what `settings.new_voices` copies are made with, before they are analysed.
    """
    shards = list_shards(list_file)
    if any(map(streams, shards)):
        raise ConfigurationError(f"{list_file} names shards that are remote or compressed: download and unpack them")
    copies = 1 + (settings.new_voices if new_voice else 0)
    sources = {f"{Path(s).stem}{f'.voice{c}' if c else ''}": (s, c) for c in range(copies) for s in shards}
    if len(sources) < copies * len(shards):
        raise ConfigurationError(f"two shards of {list_file} have one name: rename one")
    arrays, skip_counts = Arrays(folder, split, list(sources)), SkipCounts()
    for name, (shard, copy) in sources.items():
        if arrays.path(LATENTS, name).exists():
            continue
        audio, latents = [np.zeros(0, np.int16)], []
        for key, waveform in recordings(shard, settings.filters, skip_counts):
            if copy and new_voice:
                waveform = new_voice(waveform, np.random.default_rng([seed, copy, *key.encode()]))
            waveform = np.pad(waveform, (0, -len(waveform) % HOP))
            audio.append((waveform.clip(-1, 1) * 32767).astype(np.int16))
            latents.append(analysis(waveform))
        check_share(skip_counts.reasons(), skip_counts.used, settings.max_broken_share)
        if not latents:
            raise ConfigurationError(f"no recording in {shard} is readable and passes data.filters: leave it out")
        arrays.write(AUDIO, name, np.concatenate(audio))
        arrays.write(LENGTHS, name, np.array([len(each) for each in latents]))
        arrays.write(LATENTS, name, np.concatenate(latents))  # the last: with it all are there
    return arrays


def recordings(shard: str, filters: Filters, skip_counts: SkipCounts) -> Iterator[tuple[str, Waveform]]:
    """Key and waveform at 24 kHz of each recording in a shard; what cannot be used is counted and named."""
    entries = scan_shard(shard)
    broken = zip(entries.broken_keys, entries.broken_reasons)
    skip_counts.add_skipped(SkippedUtterance(shard, key, reason) for key, reason in broken)
    duration, dnsmos, language, offset, size = (
        entries.columns[name] for name in ("duration", "dnsmos", "language", "offset", "size")
    )
    dropped = filters.rejections(duration, dnsmos, language, entries.languages)
    with open(shard, "rb") as tar:
        for i, key in enumerate(entries.keys):
            if dropped[i]:
                continue
            tar.seek(int(offset[i]))
            content, rate = tar.read(int(size[i])), filters.min_sample_rate
            try:
                waveform = decode_segment(
                    content, WHOLE, RATE, 0.0, min_sample_rate=rate, converted=skip_counts.converted
                )
            except UnusableAudio as error:
                skip_counts.add_skipped([SkippedUtterance(shard, key, str(error))])
                continue
            skip_counts.used += 1
            yield key, waveform


def waveform_of(samples: np.ndarray) -> Waveform:
    return samples.astype(np.float32) / 32768

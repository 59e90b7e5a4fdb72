"""Corpora of local shards: any batch of a run by its place, from the shards' manifest."""

import errno
import os
import random
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from torch.utils.data import Dataset

from .batch import Batch, FeatureExtractor, Segment, Skip, collate
from .decode import UnusableAudio, decode_segment
from .filters import Filters
from .manifest import Entry, Manifest
from .order import Mix, Order

SUBSTITUTES = 1000  # other utterances to try where a whole batch is broken
ROWS = 2**20  # of the manifest that are looked at together
OPEN_FILES = 128  # of each loader process


class Corpus:
    """The utterances of some shards that pass the filters, and their segments.

    Args:
        manifest: of local tars.
        per_utterance: segments of each utterance in an epoch; None: as many as it is long.
        segment_seconds: of a segment.
    """

    def __init__(
        self,
        manifest: Manifest,
        filters: Filters,
        *,
        per_utterance: int | None = 1,
        segment_seconds: float = 1.0,
    ) -> None:
        self.manifest, self.filters, self.per_utterance = manifest, filters, per_utterance
        self.shards, self.broken = manifest.shards, manifest.broken
        self.hours = 0.0
        self.dropped: Counter[str] = Counter()  # utterances that the filters drop, by reason
        kept, copies = [], []
        for first in range(0, len(manifest), ROWS):
            durations, dnsmos, languages = (
                np.asarray(manifest.column(name)[first : first + ROWS]) for name in ("durations", "dnsmos", "languages")
            )
            wanted, dropped = filters.select(durations, dnsmos, languages, manifest.languages)
            self.dropped += dropped
            self.hours += float(durations[wanted].sum()) / 3600
            kept.append((first + np.flatnonzero(wanted)).astype(np.uint32))
            if per_utterance is None:
                copies.append(np.rint(durations[wanted] / segment_seconds).clip(min=1).astype(np.uint32))
        numbers = np.concatenate([np.zeros(0, np.uint32), *kept])
        self.utterances = len(numbers)
        # None where the number of an utterance, or of its first segment, can be computed
        self._kept = numbers if self.utterances < len(manifest) else None
        self._starts = np.concatenate([[0], *copies]).cumsum() if per_utterance is None else None
        self.size = int(self._starts[-1]) if self._starts is not None else self.utterances * (per_utterance or 1)
        damaged = {skip.shard for skip in self.broken}
        empty = np.flatnonzero(np.diff(manifest.starts) == 0)
        self.unreadable = sum(self.shards[i] in damaged for i in empty)  # shards of which nothing can be used
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()  # open shards

    def __getstate__(self) -> dict:
        return {**vars(self), "_files": OrderedDict()}

    def find(self, segment: int) -> Entry:
        """The utterance of a segment."""
        if self._starts is not None:
            utterance = int(np.searchsorted(self._starts, segment, side="right")) - 1
        else:
            utterance = segment // (self.per_utterance or 1)
        return self.manifest[int(self._kept[utterance]) if self._kept is not None else utterance]

    def read(self, entry: Entry) -> bytes:
        """The audio file of an utterance.

        Raises:
            OSError: the shard is gone, or another one.
        """
        file = self._files.pop(entry.shard, None) or self._open(entry.shard)
        self._files[entry.shard] = file  # the last used is the last to be closed
        if len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        if hasattr(os, "pread"):
            return os.pread(file.fileno(), entry.size, entry.offset)
        file.seek(entry.offset)
        return file.read(entry.size)

    def _open(self, shard: int) -> BinaryIO:
        file = open(self.shards[shard], "rb", buffering=0)  # noqa: SIM115
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != self.manifest.stamps[shard]:
            file.close()
            raise OSError(errno.ESTALE, "it has changed since the run began")
        return file  # type: ignore[return-value]


class Segments(Dataset):
    """Batches of segments, by the place at which they begin.

    A broken utterance is skipped and said in the batch; another segment of the same batch's utterances has its place,
    so all batches are of one size and nothing moves.

    Args:
        corpora: read in turns, with `weights` as their shares of the places.
        segment_length: samples of a segment.
        sample_rate: Hz, of the segments.
        batch_size: segments of a batch.
        shuffle_window: items among which the order is random; 0 reads as it lies, each once, from the middle.
        seed: of the order and the crops.
        extract: computes the teacher's inputs.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        *,
        segment_length: int,
        sample_rate: int,
        batch_size: int,
        weights: Sequence[float] = (1.0,),
        shuffle_window: int = 0,
        seed: int = 0,
        extract: FeatureExtractor | None = None,
    ) -> None:
        self.corpora = list(corpora)
        for corpus in self.corpora:
            if not corpus.utterances:
                raise ValueError(
                    f"no utterance in {len(corpus.shards)} shards ({corpus.shards[0]} …) is readable and passes "
                    f"data.filters (dropped: {dict(corpus.dropped)}, broken: {len(corpus.broken)})"
                )
        self.orders = [
            Order(corpus.size, window=shuffle_window, seed=f"{seed}/{i}") for i, corpus in enumerate(self.corpora)
        ]
        self.mix = Mix(weights, seed)
        self.segment_length, self.sample_rate, self.batch_size = segment_length, sample_rate, batch_size
        self.shuffled, self.seed, self.extract = shuffle_window > 0, seed, extract

    def __len__(self) -> int:
        """Segments in an epoch of all corpora."""
        return sum(order.size for order in self.orders)

    def __getitem__(self, place: int) -> Batch:
        end = place + self.batch_size
        if not self.shuffled:
            end = min(end, len(self))
        skipped: list[Skip] = []
        converted: Counter[str] = Counter()
        found = [self._segment(p, 0, skipped, converted) for p in range(place, end)]
        good = [p for p, segment in zip(range(place, end), found) if segment]
        if self.shuffled:
            for i, segment in enumerate(found):
                attempt = 0
                while segment is None:
                    attempt += 1
                    if attempt == SUBSTITUTES:
                        raise ValueError(
                            f"{SUBSTITUTES} utterances in a row could not be read, the last {skipped[-1].key} in "
                            f"{skipped[-1].shard} ({skipped[-1].reason}): are these shards what they should be?"
                        )
                    rng = random.Random(f"{self.seed}/{place + i}/{attempt}")
                    other = rng.choice(good) if good else rng.randrange(len(self))
                    segment = self._segment(other, place + i + 1, skipped if not good else [], Counter())
                found[i] = segment
        segments = [segment for segment in found if segment]
        return collate(segments, self.segment_length, self.extract, skipped, converted)

    def _segment(self, place: int, variant: int, skipped: list[Skip], converted: Counter[str]) -> Segment | None:
        """The segment at a place, or None, said in `skipped`; each `variant` is another crop of the utterance."""
        which, turn = self.mix[place] if self.shuffled else self._in_order(place)
        corpus = self.corpora[which]
        entry = corpus.find(self.orders[which][turn][1])
        where = random.Random(f"{self.seed}/{place}/{variant}").random() if self.shuffled else 0.5
        try:
            waveform = decode_segment(
                corpus.read(entry),
                self.segment_length,
                self.sample_rate,
                where,
                min_sample_rate=corpus.filters.min_sample_rate,
                converted=converted,
            )
        except OSError as error:
            skipped.append(Skip(corpus.shards[entry.shard], entry.key, f"shard cannot be read ({error.strerror})"))
            return None
        except UnusableAudio as error:
            skipped.append(Skip(corpus.shards[entry.shard], entry.key, str(error)))
            return None
        return Segment(entry.key, waveform)

    def _in_order(self, place: int) -> tuple[int, int]:
        for i, order in enumerate(self.orders):
            if place < order.size:
                return i, place
            place -= order.size
        raise IndexError(place)

"""Corpora of local shards: any batch of a run by its place, from the shards' indices."""

import errno
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from torch.utils.data import Dataset

from .batch import Batch, FeatureExtractor, Segment, Skip, collate
from .decode import UnusableAudio, decode_segment
from .filters import Filters
from .index import ShardIndex, shard_index
from .order import Mix, Order

SUBSTITUTES = 1000  # other utterances to try where a whole batch is broken


class Corpus:
    """The utterances of some shards that pass the filters.

    Args:
        shards: local tars.
        per_utterance: segments of each utterance in an epoch; None: as many as it is long.
        segment_seconds: of a segment.
    """

    def __init__(
        self,
        shards: Sequence[str],
        filters: Filters,
        *,
        per_utterance: int | None = 1,
        segment_seconds: float = 1.0,
    ) -> None:
        self.shards, self.filters = list(shards), filters
        self.per_utterance, self.segment_seconds = per_utterance, segment_seconds
        self.counts: list[int] = []  # segments of each shard
        self.hours = 0.0
        self.utterances = 0
        self.dropped: Counter[str] = Counter()  # utterances that the filters drop, by reason
        self.broken: list[Skip] = []
        self.unreadable = 0  # shards of which nothing can be used
        for shard in self.shards:
            index = shard_index(shard)
            reasons = [filters.rejects(index.metadata(i)) for i in range(len(index))]
            kept = [i for i, reason in enumerate(reasons) if reason is None]
            self.dropped.update(reason for reason in reasons if reason is not None)
            self.counts.append(self._starts(index, kept)[-1])
            self.hours += sum(index.durations[i] for i in kept) / 3600
            self.utterances += len(kept)
            self.unreadable += bool(index.broken) and not len(index)
            self.broken += [Skip(shard, key, reason) for key, reason in index.broken]
        self._cached = lru_cache(64)(self._load)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_cached"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._cached = lru_cache(64)(self._load)

    def _starts(self, index: ShardIndex, kept: Sequence[int]) -> list[int]:
        """Where the segments of each utterance begin among those of its shard, and their number."""
        copies = (index.metadata(i).n_segments(self.per_utterance, self.segment_seconds) for i in kept)
        return list(accumulate(copies, initial=0))

    def _load(self, shard: int) -> tuple[ShardIndex, list[int], list[int]]:
        index = shard_index(self.shards[shard])
        kept = [i for i in range(len(index)) if self.filters.rejects(index.metadata(i)) is None]
        return index, kept, self._starts(index, kept)

    def find(self, shard: int, item: int) -> tuple[str, int, int]:
        """Key of a segment's utterance, and offset and size of its audio in the shard.

        Raises:
            OSError: the shard is gone, or another one.
        """
        index, kept, starts = self._cached(shard)
        if starts[-1] != self.counts[shard]:
            raise OSError(errno.ESTALE, "it has changed since the run began")
        i = kept[bisect_right(starts, item) - 1]
        return index.keys[i], index.offsets[i], index.sizes[i]


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
            Order(corpus.counts, window=shuffle_window, seed=f"{seed}/{i}") for i, corpus in enumerate(self.corpora)
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
        _, shard, item = self.orders[which][turn]
        key = ""
        where = random.Random(f"{self.seed}/{place}/{variant}").random() if self.shuffled else 0.5
        try:
            key, offset, size = corpus.find(shard, item)
            with open(corpus.shards[shard], "rb") as tar:
                tar.seek(offset)
                content = tar.read(size)
            waveform = decode_segment(
                content,
                self.segment_length,
                self.sample_rate,
                where,
                min_sample_rate=corpus.filters.min_sample_rate,
                converted=converted,
            )
        except OSError as error:
            skipped.append(Skip(corpus.shards[shard], key, f"shard cannot be read ({error.strerror})"))
            return None
        except UnusableAudio as error:
            skipped.append(Skip(corpus.shards[shard], key, str(error)))
            return None
        return Segment(key, waveform)

    def _in_order(self, place: int) -> tuple[int, int]:
        for i, order in enumerate(self.orders):
            if place < order.size:
                return i, place
            place -= order.size
        raise IndexError(place)

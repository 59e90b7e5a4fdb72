"""Segments of corpora of local shards: any batch of a run by its position."""

import random
from collections import Counter
from collections.abc import Sequence

from torch.utils.data import Dataset

from .batch import Batch, FeatureExtractor, Segment, SkippedUtterance, collate
from .corpus import Corpus
from .decode import UnusableAudio, decode_segment
from .open_files import OpenFiles
from .order import Mix, Order

SUBSTITUTES = 1000  # other utterances to try where a whole batch is broken


class Segments(Dataset):
    """Batches of segments, by the position at which they begin.

    A broken utterance is skipped and listed in the batch. Another segment of an utterance of the same batch takes its
    position, so all batches have one size and the order does not change.

    Args:
        corpora: read in turns, with `weights` as their shares of the positions.
        segment_length: samples of a segment.
        sample_rate: Hz, of the segments.
        batch_size: segments of a batch.
        shuffle_window: items among which the order is random; 0: each once, in their order, from the middle.
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
                    f"data.filters (dropped: {dict(corpus.dropped)}, broken: {corpus.n_broken.total()})"
                )
        self.orders = [
            Order(corpus.counts, window=shuffle_window, seed=f"{seed}/{i}") for i, corpus in enumerate(self.corpora)
        ]
        self.mix = Mix(weights, seed)
        self.segment_length, self.sample_rate, self.batch_size = segment_length, sample_rate, batch_size
        self.shuffled, self.seed, self.extract = shuffle_window > 0, seed, extract
        self.files = OpenFiles()

    def __len__(self) -> int:
        """Segments in an epoch of all corpora."""
        return sum(order.size for order in self.orders)

    def __getitem__(self, position: int) -> Batch:
        end = position + self.batch_size
        if not self.shuffled:
            end = min(end, len(self))
        positions = range(position, end)
        skipped: list[SkippedUtterance] = []
        converted: Counter[str] = Counter()
        found = [self._segment(p, 0, skipped, converted) for p in positions]
        good = [p for p, segment in zip(positions, found) if segment]
        if self.shuffled:
            found = [segment or self._substitute(p, good, skipped) for p, segment in zip(positions, found)]
        segments = [segment for segment in found if segment]
        return collate(segments, self.segment_length, self.extract, skipped, converted)

    def _substitute(self, position: int, good: Sequence[int], skipped: list[SkippedUtterance]) -> Segment:
        """Another crop of one of the `good` positions, or of any where there is none.

        Raises:
            ValueError: `SUBSTITUTES` of them cannot be read.
        """
        for attempt in range(1, SUBSTITUTES):
            rng = random.Random(f"{self.seed}/{position}/{attempt}")
            other = rng.choice(good) if good else rng.randrange(len(self))
            segment = self._segment(other, position + 1, skipped if not good else [], Counter())
            if segment is not None:
                return segment
        raise ValueError(
            f"{SUBSTITUTES} utterances in a row could not be read, the last {skipped[-1].key} in "
            f"{skipped[-1].shard} ({skipped[-1].reason}): are these shards what they should be?"
        )

    def _segment(
        self, position: int, variant: int, skipped: list[SkippedUtterance], converted: Counter[str]
    ) -> Segment | None:
        """The segment at a position, or None, listed in `skipped`; each `variant` is another crop of the utterance."""
        which, turn = self.mix[position] if self.shuffled else self._in_order(position)
        corpus = self.corpora[which]
        _, shard, segment = self.orders[which][turn]
        where = corpus.find(shard, segment)
        crop = random.Random(f"{self.seed}/{position}/{variant}").random() if self.shuffled else 0.5
        file_size, modified = where.version
        try:
            content = self.files.read(where.shard, where.offset, where.size, file_size=file_size, modified=modified)
            waveform = decode_segment(
                content,
                self.segment_length,
                self.sample_rate,
                crop,
                min_sample_rate=corpus.filters.min_sample_rate,
                converted=converted,
            )
        except OSError as error:
            reason = f"shard cannot be read ({error.strerror})"
        except UnusableAudio as error:
            reason = str(error)
        else:
            return Segment(corpus.key(where.row), waveform)
        skipped.append(SkippedUtterance(where.shard, corpus.key(where.row), reason))
        return None

    def _in_order(self, position: int) -> tuple[int, int]:
        for i, order in enumerate(self.orders):
            if position < order.size:
                return i, position
            position -= order.size
        raise IndexError(position)

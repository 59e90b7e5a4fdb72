"""Utterances of a tokenised corpus that can be used, some with another one of the same speaker before them."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ..processes import ignore_signals_in_worker
from .batch import SkippedUtterance
from .order import Order
from .tokens import TokenStream
from .transcripts import Transcripts

TRIES = 8  # utterances of the same speaker that are looked at for a prompt


@dataclass(frozen=True, kw_only=True)
class VoicedBatch:
    """What all batches say of themselves: the utterances of one rank, and what all ranks have in this step."""

    keys: list[str]
    first: int  # position of the first utterance
    after: int  # where a run goes on that has used this step's batches on all ranks
    n_targets: int  # tokens to be learnt, on all ranks
    seconds: float  # of speech, on all ranks
    skipped: list[SkippedUtterance] = field(default_factory=list)
    converted: Counter[str] = field(default_factory=Counter)
    shards_seen: Counter[str] = field(default_factory=Counter)


class VoicedStream(TokenStream):
    """Endless shuffled batches; `TokenStream` says what is exact about them.

    Whether an utterance has a prompt, and which, depends on seed and position alone.

    Args:
        usable: which utterances ``[N]``.
        max_frames: what `length` may be in sum, of a batch.
        voice_share: of the utterances that have a prompt.
        voice_frames: fewest and most frames of it.
        shuffle_window: utterances among which the order is random; 0: as they lie.

    Raises:
        ValueError: no utterance can be used.
    """

    def __init__(
        self,
        transcripts: Transcripts,
        usable: NDArray[np.bool_],
        *,
        batch_size: int | None,
        max_frames: int,
        voice_share: float,
        voice_frames: tuple[int, int],
        shuffle_window: int,
        seed: int,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        super().__init__(
            transcripts.tokens, batch_size=batch_size, max_frames=max_frames, shuffle_window=shuffle_window,
            seed=seed, rank=rank, n_ranks=n_ranks,
        )  # fmt: skip
        self.transcripts, self.seed = transcripts, seed
        self.voice_share, self.voice_frames = voice_share, voice_frames
        self.usable = np.flatnonzero(usable)
        if not len(self.usable):
            raise ValueError(
                f"no utterance in {self.tokens.folder} can be used: {dict(transcripts.reasons())}, and the others are "
                "too long"
            )
        bounds = np.searchsorted(self.usable, np.cumsum([0, *self.tokens.counts]))
        self.first = bounds[:-1]
        self.order = Order(np.diff(bounds), window=shuffle_window, seed=seed)

    @property
    def epoch_size(self) -> int:
        return len(self.usable)

    def utterance(self, position: int) -> int:
        """Its number in the corpus."""
        _, shard, i = self.order[position]
        return int(self.usable[self.first[shard] + i])

    def frames(self, number: int) -> int:
        return int(self.transcripts.table["frames"][number])

    def voice(self, position: int) -> int | None:
        """The utterance that is its prompt, if it has one."""
        draws = random.Random(f"{self.seed}/voice/{position}")
        if draws.random() >= self.voice_share:
            return None
        number = self.utterance(position)
        others = self.transcripts.same_speaker(number)
        for _ in range(TRIES if len(others) > 1 else 0):
            other = int(others[draws.randrange(len(others))])
            if other != number and self.is_voice(number, other):
                return other
        return None

    def is_voice(self, number: int, other: int) -> bool:
        """Whether another utterance of the same speaker can be the prompt of one."""
        fewest, most = self.voice_frames
        return fewest <= self.frames(other) <= most

    def once(self) -> Iterator[Any]:
        """The batches of an epoch, each as if it were alone."""
        position = 0
        for number in range(self.epoch_size):
            end = min(self._end(position), self.epoch_size)
            if position == end:
                return
            if number % self.n_ranks == self.rank:
                yield self.batch(range(position, end), range(position, end))
            position = end


@dataclass(frozen=True)
class VoicedBatches:
    """The training batches of one process, from any position on."""

    stream: VoicedStream
    num_workers: int

    @property
    def epoch_size(self) -> int:
        return self.stream.epoch_size

    def batches(self, position: int) -> Iterator[Any]:
        self.stream.position = position
        yield from DataLoader(
            self.stream, batch_size=None, num_workers=self.num_workers, worker_init_fn=ignore_signals_in_worker
        )

"""Batches of text and semantic codes from a tokenised corpus, for a language model."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..model_tts.packing import PackedSequences, pack
from ..model_tts.sequence import SpeechVocabulary, SpokenText, TokenSequence, length_of, length_of_voice
from ..processes import ignore_signals_in_worker
from .batch import SkippedUtterance
from .order import Order
from .tokens import TokenStream
from .transcripts import Transcripts

TRIES = 8  # utterances of the same speaker that are looked at for a speaker prompt


@dataclass(frozen=True)
class PackedBatch:
    """Sequences of one rank, and what the batches of all ranks in this step have together."""

    sequences: PackedSequences
    keys: list[str]
    first: int  # position of the first utterance
    after: int  # where a run goes on that has used this step's batches on all ranks
    n_targets: int  # tokens to be learnt, on all ranks
    seconds: float  # of speech, on all ranks
    skipped: list[SkippedUtterance] = field(default_factory=list)
    converted: Counter[str] = field(default_factory=Counter)
    shards_seen: Counter[str] = field(default_factory=Counter)

    def to(self, device: torch.device) -> "PackedBatch":
        return replace(self, sequences=self.sequences.to(device))


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """How utterances become batches.

    Args:
        max_tokens: of a batch of one process, at most.
        batch_size: utterances of it, at most; None: as many as have so many tokens.
        row_tokens: of a row of the batch; a longer sequence makes all rows longer.
        max_sequence: tokens of a sequence; longer utterances are left out.
        voice_share: of the utterances that another one of the same speaker is put before.
        voice_frames: fewest and most of such a one.
    """

    max_tokens: int
    batch_size: int | None
    row_tokens: int
    max_sequence: int
    voice_share: float
    voice_frames: tuple[int, int]


class TextStream(TokenStream):
    """Endless shuffled batches of packed sequences; `TokenStream` says what is exact about them.

    Whether an utterance has a speaker prompt, and which, depends on seed and position alone.

    Args:
        shuffle_window: utterances among which the order is random; 0: as they lie.
        frame_rate: codes a second.

    Raises:
        ValueError: no utterance can be used.
    """

    def __init__(
        self,
        transcripts: Transcripts,
        vocabulary: SpeechVocabulary,
        sizes: BatchSizes,
        *,
        frame_rate: float,
        shuffle_window: int,
        seed: int,
        position: int = 0,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        super().__init__(
            transcripts.tokens, batch_size=sizes.batch_size, max_frames=sizes.max_tokens, shuffle_window=shuffle_window,
            seed=seed, position=position, rank=rank, n_ranks=n_ranks,
        )  # fmt: skip
        self.transcripts, self.vocabulary, self.sizes = transcripts, vocabulary, sizes
        self.frame_rate, self.seed = frame_rate, seed
        self.usable = np.flatnonzero(transcripts.usable(sizes.max_sequence, length_of(0, 0)))
        if not len(self.usable):
            raise ValueError(
                f"no utterance in {self.tokens.folder} can be used: {dict(transcripts.reasons())}, the others have "
                f"more than max_sequence={sizes.max_sequence} tokens"
            )
        bounds = np.searchsorted(self.usable, np.cumsum([0, *self.tokens.counts]))
        self.first = bounds[:-1]
        self.order = Order(np.diff(bounds), window=shuffle_window, seed=seed)

    @property
    def epoch_size(self) -> int:
        return len(self.usable)

    # ---- what is at a position --------------------------------------------------------------------------------------

    def utterance(self, position: int) -> int:
        """Its number in the corpus."""
        _, shard, i = self.order[position]
        return int(self.usable[self.first[shard] + i])

    def voice(self, position: int) -> int | None:
        """The utterance that is its speaker prompt, if it has one."""
        draws = random.Random(f"{self.seed}/voice/{position}")
        if draws.random() >= self.sizes.voice_share:
            return None
        number = self.utterance(position)
        others = self.transcripts.same_speaker(number)
        room = self.sizes.max_sequence - self._tokens(number)
        fewest, most = self.sizes.voice_frames
        for _ in range(TRIES if len(others) > 1 else 0):
            other = int(others[draws.randrange(len(others))])
            frames = int(self.transcripts.table["frames"][other])
            if other != number and fewest <= frames <= most and self._voice_tokens(other) <= room:
                return other
        return None

    def _tokens(self, number: int) -> int:
        row = self.transcripts.table[number]
        return length_of(int(row["n_text"]), int(row["frames"]))

    def _voice_tokens(self, number: int) -> int:
        row = self.transcripts.table[number]
        return length_of_voice(int(row["n_text"]), int(row["frames"]))

    def length(self, position: int) -> int:
        """Tokens of the sequence at a position."""
        voice = self.voice(position)
        return self._tokens(self.utterance(position)) + (0 if voice is None else self._voice_tokens(voice))

    def sequence(self, position: int) -> TokenSequence:
        voice = self.voice(position)
        spoken = self.spoken(self.utterance(position))
        return self.vocabulary.example(spoken, None if voice is None else self.spoken(voice))

    def spoken(self, number: int) -> SpokenText:
        item = self.tokens[number]
        return SpokenText(self.transcripts.front_end.ids(item[self.transcripts.text_field]), item["codes"][0])

    # ---- batches ----------------------------------------------------------------------------------------------------

    def batch(self, own: range, step: range) -> PackedBatch:
        sequences = [self.sequence(position) for position in own]
        frames = sum(int(self.transcripts.table["frames"][self.utterance(position)]) for position in step)
        return PackedBatch(
            sequences=pack(sequences, self.sizes.row_tokens, self.vocabulary.special_id("padding")),
            keys=[self.tokens.key(self.utterance(position)) for position in own],
            first=own.start,
            after=step.stop,
            n_targets=frames + len(step),
            seconds=frames / self.frame_rate,
        )

    def once(self) -> Iterator[PackedBatch]:
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
class TextBatches:
    """The training batches of one process, from any position on."""

    stream: TextStream
    num_workers: int

    @property
    def epoch_size(self) -> int:
        return self.stream.epoch_size

    def batches(self, position: int) -> Iterator[PackedBatch]:
        self.stream.position = position
        yield from DataLoader(
            self.stream, batch_size=None, num_workers=self.num_workers, worker_init_fn=ignore_signals_in_worker
        )

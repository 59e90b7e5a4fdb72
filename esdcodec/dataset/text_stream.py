"""Batches of text and semantic codes from a tokenised corpus, for a language model."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..model_tts.packing import PackedSequences, pack
from ..model_tts.sequence import SpeechVocabulary, SpokenText, TokenSequence, length_of, length_of_voice
from .transcripts import Transcripts
from .voiced_stream import VoicedBatch, VoicedStream


@dataclass(frozen=True, kw_only=True)
class PackedBatch(VoicedBatch):
    """Sequences of text and semantic codes."""

    sequences: PackedSequences

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


class TextStream(VoicedStream):
    """Batches of packed sequences, as `VoicedStream` draws the utterances.

    Args:
        frame_rate: codes a second.
        others: arguments of `VoicedStream`.

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
        **others: Any,
    ) -> None:
        super().__init__(
            transcripts, transcripts.usable(sizes.max_sequence, length_of(0, 0)), batch_size=sizes.batch_size,
            max_frames=sizes.max_tokens, voice_share=sizes.voice_share, voice_frames=sizes.voice_frames, **others,
        )  # fmt: skip
        self.vocabulary, self.sizes, self.frame_rate = vocabulary, sizes, frame_rate

    def is_voice(self, number: int, other: int) -> bool:
        room = self.sizes.max_sequence - length_of(*self._size(number))
        return super().is_voice(number, other) and length_of_voice(*self._size(other)) <= room

    def _size(self, number: int) -> tuple[int, int]:
        """Tokens of text, and frames."""
        return int(self.transcripts.table["n_text"][number]), self.frames(number)

    def length(self, position: int) -> int:
        """Tokens of the sequence at a position."""
        voice = self.voice(position)
        own = length_of(*self._size(self.utterance(position)))
        return own if voice is None else own + length_of_voice(*self._size(voice))

    def sequence(self, position: int) -> TokenSequence:
        voice = self.voice(position)
        spoken = self.spoken(self.utterance(position))
        return self.vocabulary.example(spoken, None if voice is None else self.spoken(voice))

    def spoken(self, number: int) -> SpokenText:
        item = self.tokens[number]
        return SpokenText(self.transcripts.text_ids(item), item["codes"][0])

    def batch(self, own: range, step: range) -> PackedBatch:
        sequences = [self.sequence(position) for position in own]
        frames = sum(self.frames(self.utterance(position)) for position in step)
        return PackedBatch(
            sequences=pack(sequences, self.sizes.row_tokens, self.vocabulary.special_id("padding")),
            keys=[self.tokens.key(self.utterance(position)) for position in own],
            first=own.start,
            after=step.stop,
            n_targets=frames + len(step),
            seconds=frames / self.frame_rate,
        )

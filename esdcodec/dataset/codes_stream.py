"""Batches of codes of all codebooks from a tokenised corpus, with prompts of the same speakers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .transcripts import Transcripts
from .voiced_stream import VoicedBatch, VoicedStream


@dataclass(frozen=True, kw_only=True)
class CodesBatch(VoicedBatch):
    """Segments of utterances, with prompts."""

    codes: Tensor  # [B, K, L] int64; -1 at the end fills up
    codebook: Tensor  # [B]: which one is to be learnt, 1 to K - 1
    prompt: Tensor  # [B, K, P]; -1 at the beginning fills up

    def to(self, device: torch.device) -> "CodesBatch":
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


class CodesStream(VoicedStream):
    """Batches of segments of utterances, as `VoicedStream` draws them; position and seed decide all that is drawn.

    Args:
        segment_frames: of an utterance, at most: a longer one is cut at random.
        voice_frames: fewest frames of a prompt, and most: a longer one is cut at random.
        frame_rate: frames a second.
        others: arguments of `VoicedStream`.
    """

    def __init__(
        self,
        transcripts: Transcripts,
        *,
        segment_frames: int,
        voice_frames: tuple[int, int],
        frame_rate: float,
        **others: Any,
    ) -> None:
        super().__init__(transcripts, transcripts.usable(2**62, 0), voice_frames=voice_frames, **others)
        self.segment_frames, self.frame_rate = segment_frames, frame_rate

    def is_voice(self, number: int, other: int) -> bool:
        return self.frames(other) >= self.voice_frames[0]

    def length(self, position: int) -> int:
        """Frames of the segment at a position, and of its prompt."""
        voice = self.voice(position)
        prompt = 0 if voice is None else min(self.frames(voice), self.voice_frames[1])
        return self._own(position) + prompt

    def _own(self, position: int) -> int:
        return min(self.frames(self.utterance(position)), self.segment_frames)

    def batch(self, own: range, step: range) -> CodesBatch:
        n_codebooks = self.tokens.n_quantizers
        codes, prompts, codebooks = [], [], []
        for position in own:
            draws = random.Random(f"{self.seed}/segment/{position}")
            codebooks.append(draws.randrange(1, n_codebooks))
            codes.append(self._segment(self.utterance(position), self.segment_frames, draws))
            voice = self.voice(position)
            none = torch.zeros(n_codebooks, 0, dtype=torch.int64)
            prompts.append(none if voice is None else self._segment(voice, self.voice_frames[1], draws))
        n_targets = sum(map(self._own, step))
        return CodesBatch(
            codes=filled(codes, at_the_end=True),
            codebook=torch.tensor(codebooks),
            prompt=filled(prompts, at_the_end=False),
            keys=[self.tokens.key(self.utterance(position)) for position in own],
            first=own.start,
            after=step.stop,
            n_targets=n_targets,
            seconds=n_targets / self.frame_rate,
        )

    def _segment(self, number: int, most: int, draws: random.Random) -> Tensor:
        codes: Tensor = self.tokens[number]["codes"]
        start = draws.randrange(max(0, codes.shape[-1] - most) + 1)
        return codes[:, start : start + most]


def filled(items: Sequence[Tensor], *, at_the_end: bool) -> Tensor:
    """Codes ``[K, L]`` of different lengths as a batch ``[B, K, L]``, with -1 at the end or at the beginning."""
    longest = max(item.shape[-1] for item in items)
    missing = [longest - item.shape[-1] for item in items]
    return torch.stack([F.pad(item, (0, n) if at_the_end else (n, 0), value=-1) for item, n in zip(items, missing)])

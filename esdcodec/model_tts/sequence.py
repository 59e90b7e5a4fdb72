"""How text and codes become one sequence of tokens: ``[speaker prompt: text, codes], text, codes, end``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..dataset.patterns import Vocabulary

SPECIAL = ("text", "codes", "end", "padding")  # tokens that begin text and codes, the end, and what fills up


@dataclass(frozen=True)
class SpokenText:
    """Text and the semantic codes of the speech that says it."""

    text: Sequence[int]  # as a front end numbers it
    codes: Tensor  # [L] int64


@dataclass(frozen=True)
class TokenSequence:
    """What a language model is trained on."""

    tokens: Tensor  # [N] int64
    positions: Tensor  # [N] int64: of each, as the network is told it
    n_given: int  # of them that come before the first code to be learnt

    def __len__(self) -> int:
        return len(self.tokens)


class Pace(NamedTuple):
    """The length that is expected of a text."""

    codes: float  # of no text: what is silent before and after it
    codes_per_token: float

    def of(self, n_text: int) -> float:
        """Codes of so many tokens of text."""
        return max(1.0, self.codes + self.codes_per_token * n_text)

    def slower(self, n_text: int, n_codes: int) -> float:
        """How much longer than expected a speaker took; at most twice as long, or half, as long pauses say little."""
        return min(max(n_codes / self.of(n_text), 0.5), 2.0)


class SpeechVocabulary(Vocabulary):
    """One vocabulary: text, special tokens, semantic codes, in this order.

    Args:
        pace: text and codes share their positions: a token of text has that of the codes which are expected to say it,
            so that attention finds it near. None: positions count tokens.
    """

    def __init__(self, n_text: int, codebook_size: int, pace: Pace | None = None) -> None:
        super().__init__((codebook_size,), n_text=n_text, special=SPECIAL)
        self.pace = pace

    @property
    def codebook_size(self) -> int:
        return self.codebook_sizes[0]

    @property
    def first_code(self) -> int:
        """Token of code 0."""
        return self.n_text + len(SPECIAL)

    def special_id(self, name: str) -> int:
        return self.special_ids[name]

    # ---- sequences --------------------------------------------------------------------------------------------------

    def given(self, text: Sequence[int], voice: SpokenText | None = None) -> Tensor:
        """All tokens before the first code, ``[N]``: what codes are generated after.

        Args:
            voice: the speaker prompt.
        """
        begin = torch.tensor([self.special_id("text")]), torch.tensor([self.special_id("codes")])
        parts = [] if voice is None else [begin[0], self._text(voice.text), begin[1], self._codes(voice.codes)]
        return torch.cat([*parts, begin[0], self._text(text), begin[1]])

    def example(self, spoken: SpokenText, voice: SpokenText | None = None) -> TokenSequence:
        """A sequence to learn: the codes and the end."""
        given = self.given(spoken.text, voice)
        end = torch.tensor([self.special_id("end")])
        tokens = torch.cat([given, self._codes(spoken.codes), end])
        return TokenSequence(tokens, self.positions(tokens), len(given))

    def positions(self, tokens: Tensor) -> Tensor:
        """Of the tokens ``[N]`` of a sequence, or of its beginning from `given` on. Those of further codes count on."""
        if self.pace is None:
            return torch.arange(len(tokens))
        starts = (tokens == self.special_id("text")).nonzero()[:, 0].tolist()
        middles = (tokens == self.special_id("codes")).nonzero()[:, 0].tolist()
        positions = torch.empty(len(tokens), dtype=torch.int64)
        slower, first = 1.0, 0
        for start, middle, after in zip(starts, middles, [*starts[1:], len(tokens)]):
            n_text, n_codes = middle - start - 1, after - middle - 1
            expected = self.pace.codes / 2 + self.pace.codes_per_token * torch.arange(n_text)
            positions[start] = first
            positions[start + 1 : middle] = first + 1 + (slower * expected).round().long()
            positions[middle:after] = first + torch.arange(n_codes + 1)
            first += n_codes + 1
            slower = self.pace.slower(n_text, n_codes)  # as the speaker prompt was
        return positions

    def _text(self, ids: Sequence[int]) -> Tensor:
        tokens = torch.tensor(list(ids), dtype=torch.int64)
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.n_text:
            raise ValueError(f"text tokens must be 0 to {self.n_text - 1}: take the front end of this vocabulary")
        return tokens

    def _codes(self, codes: Tensor) -> Tensor:
        return self.tokens(codes[None])[0]


def length_of(n_text: int, n_codes: int) -> int:
    """Tokens of a sequence without a speaker prompt."""
    return n_text + n_codes + 3


def length_of_voice(n_text: int, n_codes: int) -> int:
    """Tokens of a speaker prompt."""
    return n_text + n_codes + 2

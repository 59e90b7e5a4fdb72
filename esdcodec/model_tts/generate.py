"""Codes after text, one at a time, for a batch of texts of any lengths."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor

from .decoding import Chooser, DecodingSettings, repeats
from .sequence import SpeechVocabulary

Stop = Literal["end", "length", "loop"]


@dataclass(frozen=True)
class GeneratedCodes:
    """What was generated after a text."""

    codes: Tensor  # [L] int64
    stop: Stop  # the model's own end; none came; it repeated itself, which is cut off


@dataclass
class _Item:
    chooser: Chooser
    most: int
    codes: list[int] = field(default_factory=list)
    stop: Stop | None = None

    def add(self, choice: int, end: int) -> None:
        settings = self.chooser.settings
        if choice == end:
            self.stop = "end"
            return
        self.codes.append(choice)
        if repeats(self.codes, settings.loop_window, settings.loop_codes):
            self.stop = "loop"
        elif len(self.codes) >= self.most:
            self.stop = "length"

    def result(self) -> GeneratedCodes:
        assert self.stop is not None
        n = len(self.codes) - (self.chooser.settings.loop_window if self.stop == "loop" else 0)
        return GeneratedCodes(torch.tensor(self.codes[: max(1, n)], dtype=torch.int64), self.stop)


@torch.no_grad()
def generate(
    model: Any,
    vocabulary: SpeechVocabulary,
    given: Sequence[Tensor],
    expected: Sequence[float],
    settings: DecodingSettings,
    *,
    use_cache: bool = True,
) -> list[GeneratedCodes]:
    """Codes for each of `given`, as `SpeechVocabulary.given` makes them; each gets what it gets alone.

    Args:
        model: a causal language model of `transformers`.
        expected: codes that each text is expected to have.
        use_cache: keep keys and values of what was read; without, all is read again for each code.

    Raises:
        ValueError: what is given is too long for the model.
    """
    items = [_Item(Chooser(settings, n), settings.limits(n)[1]) for n in expected]
    _check_lengths(model, given, items)
    was_training = model.training
    model.eval()
    try:
        for logits in _steps(model, vocabulary, given, items, use_cache):
            for item, row in zip(items, logits):
                if item.stop is None:
                    item.add(item.chooser(row, item.codes), end=vocabulary.codebook_size)
    finally:
        model.train(was_training)
    return [item.result() for item in items]


class CodeStream(Iterator[int]):
    """Codes after one text, as they are chosen: those that `generate` gives.

    Where it stops by "loop", the codes that repeat themselves have been given.

    Args:
        model, vocabulary, settings: as `generate` takes them, the model in evaluation mode.
        given, expected: of one text.

    Raises:
        ValueError: what is given is too long for the model.
    """

    def __init__(
        self, model: Any, vocabulary: SpeechVocabulary, given: Tensor, expected: float, settings: DecodingSettings
    ) -> None:
        self._item = _Item(Chooser(settings, expected), settings.limits(expected)[1])
        _check_lengths(model, [given], [self._item])
        self._end = vocabulary.codebook_size
        self._logits = self._steps(model, vocabulary, given)

    @torch.no_grad()
    def _steps(self, model: Any, vocabulary: SpeechVocabulary, given: Tensor) -> Generator[Tensor, None, None]:
        yield from _steps(model, vocabulary, [given], [self._item], True)

    def __next__(self) -> int:
        item = self._item
        if item.stop is None:
            item.add(item.chooser(next(self._logits)[0], item.codes), end=self._end)
            if item.stop != "end":
                return item.codes[-1]
        raise StopIteration

    @property
    def stop(self) -> Stop | None:
        """Why it stopped; None: it has not."""
        return self._item.stop


def _check_lengths(model: Any, given: Sequence[Tensor], items: Sequence[_Item]) -> None:
    most = model.config.max_position_embeddings
    for tokens, item in zip(given, items):
        room = most - len(tokens)
        if room < item.chooser.expected:
            raise ValueError(
                f"text and voice are {len(tokens)} tokens and about {round(item.chooser.expected)} codes, but the "
                f"model reads {most}: split the text into sentences, or take a shorter voice"
            )
        item.most = min(item.most, room)


def _steps(
    model: Any, vocabulary: SpeechVocabulary, given: Sequence[Tensor], items: Sequence[_Item], use_cache: bool
) -> Iterator[Tensor]:
    """Logits ``[B, N + 1]`` of all codes and the end, until every item has stopped."""
    padding, end, first = vocabulary.special_id("padding"), vocabulary.special_id("end"), vocabulary.first_code
    device = model.device
    width = max(map(len, given))
    tokens = torch.full((len(given), width), padding)
    seen, positions = torch.zeros_like(tokens), torch.zeros_like(tokens)
    for row, mask, position, each in zip(
        tokens, seen, positions, given
    ):  # what is shorter is filled up before it begins
        row[width - len(each) :] = each
        mask[width - len(each) :] = 1
        position[width - len(each) :] = vocabulary.positions(each)
    tokens, seen, positions = tokens.to(device), seen.to(device), positions.to(device)
    read, options = tokens, _cache_options(model, use_cache)
    while True:
        output = model.model(
            input_ids=read, attention_mask=seen, position_ids=positions[:, -read.shape[1] :], **options
        )
        logits = model.lm_head(output.last_hidden_state[:, -1])
        yield torch.cat([logits[:, first : first + vocabulary.codebook_size], logits[:, end : end + 1]], dim=-1)
        if all(item.stop is not None for item in items):
            return
        last = [first + item.codes[-1] if item.stop is None else padding for item in items]
        new = torch.tensor(last, device=device)[:, None]
        tokens = torch.cat([tokens, new], dim=-1)
        seen = torch.cat([seen, torch.ones_like(new)], dim=-1)
        positions = torch.cat([positions, positions[:, -1:] + 1], dim=-1)
        read = new if use_cache else tokens


def _cache_options(model: Any, use_cache: bool) -> dict[str, Any]:
    """A new cache, under the name that this version of `transformers` has for it."""
    if not use_cache:
        return {"use_cache": False}
    from transformers import DynamicCache

    name = "cache" if "cache" in signature(model.model.forward).parameters else "past_key_values"
    return {"use_cache": True, name: DynamicCache()}

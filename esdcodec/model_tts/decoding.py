"""How the next code is chosen, and when there is none any more."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """What decides the next code and the end.

    Lengths are shares of the expected one, which follows from the text.

    Args:
        temperature: of the logits; 0 takes the most probable code.
        top_k: most probable codes to draw from. None: all.
        top_p: the fewest codes that hold this probability are drawn from.
        repetition_window, repetition_share: a code that makes up more than this share of so many generated codes
            before it is drawn again, from all codes (repetition-aware sampling; Chen et al. 2024, arXiv:2406.05370).
            0: never.
        min_length: before it there is no end.
        ramp_start, ramp: from this length on the end becomes more probable, by so many nats for each expected length.
        max_length: where it stops in any case.
        loop_window, loop_codes: it also stops where so many codes repeat themselves, or are at most `loop_codes`
            different ones, as in silence that goes on. 0: never.
        seed: each item of a batch is drawn from it as if it were alone.
    """

    temperature: float = 0.8
    top_k: int | None = 50
    top_p: float = 0.95
    repetition_window: int = 25
    repetition_share: float = 0.2
    min_length: float = 0.25
    ramp_start: float = 1.25
    ramp: float = 20.0
    max_length: float = 3.0
    loop_window: int = 60
    loop_codes: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [
            (self.temperature >= 0, "temperature", "at least 0"),
            (self.top_k is None or self.top_k >= 1, "top_k", "at least 1, or None"),
            (0 < self.top_p <= 1, "top_p", "above 0 and at most 1"),
            (self.repetition_window >= 0, "repetition_window", "at least 0"),
            (0 <= self.repetition_share <= 1, "repetition_share", "from 0 to 1"),
            (0 <= self.min_length <= self.max_length, "min_length", "from 0 to max_length"),
            (self.ramp_start > 0, "ramp_start", "positive"),
            (self.ramp >= 0, "ramp", "at least 0"),
            (self.loop_window == 0 or self.loop_window >= 6, "loop_window", "at least 6, or 0"),
        ]
        for holds, name, must in wrong:
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)} must be {must}")

    def limits(self, expected: float) -> tuple[int, int]:
        """Fewest and most codes of a text from which `expected` codes are expected."""
        return max(1, round(self.min_length * expected)), max(1, round(self.max_length * expected))

    def end_bias(self, n_codes: int, expected: float) -> float:
        """What the logit of the end is raised by after `n_codes`; infinite where it must not be."""
        fewest, _ = self.limits(expected)
        if n_codes < fewest:
            return -float("inf")
        return self.ramp * max(0.0, n_codes / max(1.0, expected) - self.ramp_start)


class Chooser:
    """Chooses codes for one item, of which the last is the end."""

    def __init__(self, settings: DecodingSettings, expected: float) -> None:
        self.settings, self.expected = settings, expected
        self.random = torch.Generator().manual_seed(settings.seed)

    def __call__(self, logits: Tensor, codes: Sequence[int]) -> int:
        """The next of the choices that `logits` ``[N + 1]`` rates, after the generated `codes`."""
        settings = self.settings
        logits = logits.double().cpu()
        logits[-1] += settings.end_bias(len(codes), self.expected)
        if settings.temperature == 0:
            return int(logits.argmax())
        numbers = torch.rand(2, generator=self.random, dtype=torch.float64).tolist()
        chosen = draw(logits / settings.temperature, numbers[0], settings.top_k, settings.top_p)
        recent = codes[len(codes) - settings.repetition_window :] if len(codes) > settings.repetition_window else codes
        if settings.repetition_window and recent.count(chosen) > settings.repetition_share * settings.repetition_window:
            chosen = draw(logits / settings.temperature, numbers[1], None, 1.0)
        return chosen


def draw(logits: Tensor, number: float, top_k: int | None, top_p: float) -> int:
    """The choice at the quantile `number` of those that are left, the most probable first."""
    probabilities, order = torch.softmax(logits, -1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    kept = before < top_p
    if top_k is not None:
        kept[top_k:] = False
    sums = (probabilities * kept).cumsum(-1)
    return int(order[min(int((sums <= number * sums[-1]).sum()), int(kept.sum()) - 1)])


def repeats(codes: Sequence[int], window: int, n_different: int) -> bool:
    """Whether the last `window` codes are at most `n_different` ones, or one after the other the same few again."""
    if window == 0 or len(codes) < window:
        return False
    last = list(codes[-window:])
    if len(set(last)) <= n_different:
        return True
    return any(last[period:] == last[:-period] for period in range(1, window // 3 + 1))

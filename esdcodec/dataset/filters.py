"""Which utterances are wanted, by what their metadata say."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .metadata import Metadata, language_code


@dataclass(frozen=True)
class Filters:
    """`data.filters` of the configuration; what does not pass is counted by reason."""

    min_duration: float = 0.0  # seconds
    max_duration: float = float("inf")
    min_dnsmos: float | None = None  # 0 is the score of what nobody rated
    languages: tuple[str, ...] | None = None
    min_sample_rate: int = 0  # Hz; known only when the audio is opened

    @cached_property
    def reasons(self) -> list[str]:
        """Why an utterance is not wanted; the first that applies is reported."""
        return [
            f"shorter than {self.min_duration:g} s",
            f"longer than {self.max_duration:g} s",
            f"dnsmos below {self.min_dnsmos or 0:g}",
            f"language not in {', '.join(self.languages or ())}",
        ]

    def rejections(
        self, duration: np.ndarray, dnsmos: np.ndarray, language: np.ndarray, languages: Sequence[str]
    ) -> np.ndarray:
        """Of each utterance 0 where it is wanted, otherwise the number of its reason from 1 on.

        Args:
            duration, dnsmos: float32 ``[n]``.
            language: positions in `languages` ``[n]``.
        """
        unwanted = [duration < np.float32(self.min_duration), duration > np.float32(self.max_duration)]
        none = np.zeros(len(duration), bool)
        unwanted.append(none if self.min_dnsmos is None else dnsmos < np.float32(self.min_dnsmos))
        if self.languages is None:
            unwanted.append(none)
        else:
            wanted = set(map(language_code, self.languages))
            unwanted.append(np.array([name not in wanted for name in languages], bool)[language])
        codes = np.zeros(len(duration), np.uint8)
        for code, is_unwanted in reversed(list(enumerate(unwanted, 1))):
            codes[is_unwanted] = code
        return codes

    def rejects(self, metadata: Metadata) -> str | None:
        """Why this utterance is not wanted; None if it is."""
        duration, dnsmos = (np.array([value], np.float32) for value in (metadata.duration, metadata.dnsmos))
        code = self.rejections(duration, dnsmos, np.zeros(1, np.int32), [metadata.language])[0]
        return self.reasons[code - 1] if code else None


def n_segments(duration: np.ndarray, per_utterance: int | None, seconds: float) -> np.ndarray:
    """Segments of each utterance in an epoch: `per_utterance`, or with None as many as it is long ``[n]``."""
    if per_utterance is not None:
        return np.full(len(duration), per_utterance, np.int64)
    return np.maximum(1, np.rint(duration / seconds)).astype(np.int64)

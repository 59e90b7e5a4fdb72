"""The input of a metric, and the error for pairs that it cannot score."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..audio import Waveform, resample

Scores = Mapping[str, float]  # column -> value


@dataclass(frozen=True)
class Pair:
    """A recording and what a codec made of it."""

    reference: Waveform  # [T]
    estimate: Waveform  # [T], as long as the reference
    sample_rate: int  # Hz, of both
    text: str | None = None  # of the speech, if it is known
    language: str | None = None  # in which, if it is known

    def at(self, sample_rate: int) -> tuple[Waveform, Waveform]:
        """Reference and estimate at another rate."""
        return (
            resample(self.reference, self.sample_rate, sample_rate),
            resample(self.estimate, self.sample_rate, sample_rate),
        )


class NotScorable(ValueError):
    """The metric is not defined for this pair; the message says why."""

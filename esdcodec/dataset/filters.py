"""Which utterances are wanted, by what their metadata say."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..audio import EXTENSIONS

_USUAL = ("mp3", "flac", "wav", "ogg", "opus")  # of several members of an utterance the first of these is taken
AUDIO_MEMBERS = (*_USUAL, *sorted(extension[1:] for extension in EXTENSIONS if extension[1:] not in _USUAL))


LONGEST = 86_400.0  # seconds: what says more isn't an utterance, and would be counted as millions of segments


class MetadataError(ValueError):
    """An utterance comes without the metadata it should have."""


@dataclass(frozen=True)
class Metadata:
    """What is known of an utterance."""

    duration: float  # seconds
    dnsmos: float  # 0 where nobody rated it
    language: str  # lower case

    def n_segments(self, per_utterance: int | None, seconds: float) -> int:
        """Segments of it in an epoch: `per_utterance`, or with None as many as it is long."""
        return per_utterance or max(1, round(self.duration / seconds))

    @classmethod
    def parse(cls, content: bytes | None) -> "Metadata":
        """The `KEY.json` of an utterance.

        Raises:
            MetadataError: it is missing, is no JSON, or says no duration that can be.
        """
        if content is None:
            raise MetadataError("no json member")
        try:
            fields: Any = json.loads(content)
            duration, dnsmos = float(fields["duration"]), float(fields.get("dnsmos") or 0)
            language = str(fields.get("language") or "unknown").lower()
        except KeyError as error:
            raise MetadataError("no duration in the json member") from error
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise MetadataError("json member is damaged") from error
        if not 0 <= duration <= LONGEST:  # NaN neither
            raise MetadataError(f"duration in the json member is not between 0 and {LONGEST:,.0f} s")
        return cls(duration, dnsmos if math.isfinite(dnsmos) else 0.0, language)


@dataclass(frozen=True)
class Filters:
    """`data.filters` of the configuration; what does not pass is counted by reason."""

    min_duration: float = 0.0  # seconds
    max_duration: float = float("inf")
    min_dnsmos: float | None = None
    languages: tuple[str, ...] | None = None
    min_sample_rate: int = 0  # Hz; known only when the audio is opened

    def rejects(self, metadata: Metadata) -> str | None:
        """Why this utterance is not wanted; None if it is."""
        spoken = metadata.language in self._languages()
        rules = self._rules(metadata.duration, metadata.dnsmos, spoken)
        return next((reason for reason, rejected in rules if rejected), None)

    def select(
        self, durations: np.ndarray, dnsmos: np.ndarray, languages: np.ndarray, names: Sequence[str]
    ) -> tuple[np.ndarray, Counter[str]]:
        """Which of many utterances are wanted, and for each reason how many are not.

        Args:
            languages: of each the place in `names`.
        """
        wanted = np.ones(len(durations), bool)
        dropped: Counter[str] = Counter()
        spoken = np.isin(languages, [i for i, name in enumerate(names) if name in self._languages()])
        for reason, rejected in self._rules(durations, dnsmos, spoken):
            dropped[reason] += int((wanted & rejected).sum())
            wanted &= ~rejected
        return wanted, +dropped

    def _languages(self) -> set[str]:
        return {name.lower() for name in self.languages or ()}

    def _rules(self, duration: Any, dnsmos: Any, spoken: Any) -> Iterator[tuple[str, Any]]:
        """Reasons, and whether they hold: for one utterance, or for arrays of many."""
        yield f"shorter than {self.min_duration:g} s", duration < self.min_duration
        yield f"longer than {self.max_duration:g} s", duration > self.max_duration
        if self.min_dnsmos is not None:
            yield f"dnsmos below {self.min_dnsmos:g}", dnsmos < self.min_dnsmos
        if self.languages is not None:
            yield f"language not in {', '.join(self.languages)}", np.logical_not(spoken)
